//! Whether a profile contradicts itself, and the tables that follow from it.

use std::collections::BTreeMap;

use claviger_hsm_api::{Algorithm, KeyName};

use crate::fields::{Field, FieldSet};
use crate::piece::{Piece, width};
use crate::profile::{
    CommandData, CommandRules, FactorAlternative, PlaceEncoding, Profile, ProfileError, Protection, RecordLayout,
    RoleRules, SelectorDefault,
};

/// What is looked up by number where the profile has text.
pub(crate) struct Tables {
    /// Algorithm of each algorithm id.
    pub(crate) alg_ids: BTreeMap<u8, Algorithm>,
    /// Transaction of each type.
    pub(crate) types: BTreeMap<u8, usize>,
    /// The levels by which each role is dispersed, root first.
    pub(crate) role_levels: BTreeMap<String, Vec<usize>>,
    /// What selects the keys of records that do not say it themselves.
    pub(crate) selectors: Vec<Selector>,
    /// Level and factor of each alternative of the TAC.
    pub(crate) alternatives: Vec<(usize, Vec<Piece>)>,
}

/// Key version and algorithm id for records of a range.
pub(crate) struct Selector {
    /// Field and its first and last value, in bytes.
    pub(crate) ranges: Vec<(Field, Vec<u8>, Vec<u8>)>,
    pub(crate) key_version: u8,
    pub(crate) alg_id: u8,
}

/// Dispersion levels that a scheme may have; four is what is met in practice.
pub(crate) const MOST_LEVELS: usize = 8;

/// Alternatives of the TAC: each costs a wrong record another verification.
const MOST_ALTERNATIVES: usize = 8;

/// Checks a profile.
///
/// # Errors
/// [`ProfileError::Inconsistent`] for the first contradiction.
pub(crate) fn check(profile: &Profile) -> Result<Tables, ProfileError> {
    KeyName::new("t", &profile.id, "R").map_err(|error| wrong("id", error))?;
    if profile.levels.len() > MOST_LEVELS {
        return Err(wrong("level", format!("a scheme has at most {MOST_LEVELS} levels")));
    }
    for level in &profile.levels {
        if !matches!(width(&level.factor), 8 | 16) {
            return Err(wrong(format!("level {}", level.name), "a factor has 8 or 16 bytes"));
        }
    }
    if (profile.tac.is_some() || !profile.transactions.is_empty()) && profile.known_answers.is_empty() {
        return Err(wrong("known_answer", "a profile shows at least one known answer"));
    }
    if profile.tac.as_ref().is_some_and(|tac| tac.alternatives.len() > MOST_ALTERNATIVES) {
        return Err(wrong("tac.alternative", format!("a scheme has at most {MOST_ALTERNATIVES} alternatives")));
    }
    let tables = Tables {
        alg_ids: alg_ids(profile)?,
        types: types(profile)?,
        role_levels: role_levels(profile)?,
        selectors: selectors(profile)?,
        alternatives: alternatives(profile)?,
    };
    if let Some(tac) = &profile.tac {
        has_role(profile, "tac.role", &tac.role)?;
    }
    if let Some(authentication) = &profile.internal_authentication {
        has_role(profile, "internal_authentication.role", &authentication.role)?;
    }
    profile.commands.iter().try_for_each(|command| check_command(profile, command))?;
    check_write_key(profile)?;
    check_key_sets(profile)?;
    profile.layouts.iter().try_for_each(check_layout)?;
    Ok(tables)
}

fn wrong(at: impl Into<String>, reason: impl ToString) -> ProfileError {
    ProfileError::Inconsistent { at: at.into(), reason: reason.to_string() }
}

fn byte(at: &str, text: &str) -> Result<u8, ProfileError> {
    let value = (text.len() == 2).then(|| u8::from_str_radix(text, 16).ok()).flatten();
    value.ok_or_else(|| wrong(at, format!("`{text}` is not two hexadecimal digits")))
}

fn has_role(profile: &Profile, at: &str, role: &str) -> Result<(), ProfileError> {
    if profile.roles.contains_key(role) {
        return Ok(());
    }
    Err(wrong(at, format!("`{role}` is not among the roles")))
}

fn alg_ids(profile: &Profile) -> Result<BTreeMap<u8, Algorithm>, ProfileError> {
    let mut alg_ids = BTreeMap::new();
    for (id, algorithm) in &profile.alg_ids {
        let at = format!("alg_ids.{id}");
        if !profile.ciphers.contains_key(algorithm) {
            return Err(wrong(at, "the algorithm has no [ciphers] table"));
        }
        alg_ids.insert(byte(&at, id)?, *algorithm);
    }
    Ok(alg_ids)
}

fn types(profile: &Profile) -> Result<BTreeMap<u8, usize>, ProfileError> {
    let mut types = BTreeMap::new();
    for (number, transaction) in profile.transactions.iter().enumerate() {
        let at = format!("transaction {}", transaction.name);
        has_role(profile, &at, &transaction.role)?;
        if width(&transaction.session) != 8 || !matches!(width(&transaction.second_session), 0 | 8) {
            return Err(wrong(at, "a session input has 8 bytes"));
        }
        if !matches!(width(&transaction.session_wide), 0 | 16) {
            return Err(wrong(at, "`session_wide` has 16 bytes"));
        }
        for text in &transaction.types {
            if types.insert(byte(&at, text)?, number).is_some() {
                return Err(wrong(at, "a type belongs to two transactions"));
            }
        }
        for (made, verified) in &transaction.after {
            if !transaction.make.contains_key(made) || !transaction.verify.contains_key(verified) {
                return Err(wrong(at, format!("`after`: no such MACs as `{made}` to make and `{verified}` to verify")));
            }
        }
    }
    Ok(types)
}

fn selectors(profile: &Profile) -> Result<Vec<Selector>, ProfileError> {
    let bound = |field: Field, text: &str| {
        let mut fields = FieldSet::default();
        fields.parse(field, text.as_bytes()).map_err(|error| wrong("tac.default", error))?;
        fields.get(field).map(<[u8]>::to_vec).ok_or_else(|| wrong("tac.default", "a range has two ends"))
    };
    let selector = |rules: &SelectorDefault| {
        let given = [(Field::CityCode, &rules.cities), (Field::IssuerId, &rules.issuers)];
        let ranges = given.into_iter().filter_map(|(field, range)| range.as_ref().map(|range| (field, range)));
        let range = |(field, [from, to]): (Field, &[String; 2])| Ok((field, bound(field, from)?, bound(field, to)?));
        Ok(Selector {
            ranges: ranges.map(range).collect::<Result<_, ProfileError>>()?,
            key_version: byte("tac.default.key_version", &rules.key_version)?,
            alg_id: byte("tac.default.alg_id", &rules.alg_id)?,
        })
    };
    profile.tac.iter().flat_map(|tac| &tac.defaults).map(selector).collect()
}

fn alternatives(profile: &Profile) -> Result<Vec<(usize, Vec<Piece>)>, ProfileError> {
    let alternative = |rules: &FactorAlternative| {
        let level = profile.levels.iter().position(|level| level.name == rules.level);
        let level = level.ok_or_else(|| wrong("tac.alternative", format!("`{}` is no level", rules.level)))?;
        if width(&rules.factor) != width(&profile.levels[level].factor) {
            return Err(wrong("tac.alternative", "a factor is as long as the one it stands for"));
        }
        let of_level = |piece: &Piece| {
            piece.field().is_none_or(|field| profile.levels[level].factor.iter().any(|own| own.field() == Some(field)))
        };
        if !rules.factor.iter().all(of_level) {
            return Err(wrong("tac.alternative", "a factor is made of the fields of the one it stands for"));
        }
        Ok((level, rules.factor.clone()))
    };
    profile.tac.iter().flat_map(|tac| &tac.alternatives).map(alternative).collect()
}

fn role_levels(profile: &Profile) -> Result<BTreeMap<String, Vec<usize>>, ProfileError> {
    let number = |role: &str, name: &String| {
        let found = profile.levels.iter().position(|level| level.name == *name);
        found.ok_or_else(|| wrong(format!("role.{role}.levels"), format!("`{name}` is no level")))
    };
    let of_role = |(name, role): (&String, &RoleRules)| {
        KeyName::new("t", "s", name).map_err(|error| wrong(format!("role.{name}"), error))?;
        if role.algorithms.is_empty() && profile.ciphers.is_empty() {
            return Err(wrong(format!("role.{name}"), "no algorithm: neither `algorithms` nor a [ciphers] table"));
        }
        let levels: Vec<usize> = match &role.levels {
            None => (0..profile.levels.len()).collect(),
            Some(names) => names.iter().map(|level| number(name, level)).collect::<Result<_, _>>()?,
        };
        if !levels.is_sorted_by(|a, b| a < b) {
            return Err(wrong(format!("role.{name}.levels"), "levels stand root first, each once"));
        }
        Ok((name.clone(), levels))
    };
    profile.roles.iter().map(of_role).collect()
}

fn check_command(profile: &Profile, command: &CommandRules) -> Result<(), ProfileError> {
    let at = format!("command {}", command.name);
    has_role(profile, &at, &command.role)?;
    if profile.commands.iter().filter(|other| other.name == command.name).count() > 1 {
        return Err(wrong(at, "a command of this name stands twice"));
    }
    if !matches!(hex::decode(&command.header).map(|header| header.len()), Ok(2 | 4)) {
        return Err(wrong(at, "`header` is CLA INS P1 P2, or CLA INS where the caller gives the rest"));
    }
    let fits = match command.protection {
        Protection::Mac => matches!(command.data, CommandData::None | CommandData::Bytes),
        Protection::EncryptAndMac => matches!(command.data, CommandData::Bytes | CommandData::Pin),
        Protection::DataMac => command.data == CommandData::Pin,
        Protection::Cryptogram => command.data == CommandData::Cryptogram,
    };
    if fits { Ok(()) } else { Err(wrong(at, "this data is not protected that way")) }
}

fn check_write_key(profile: &Profile) -> Result<(), ProfileError> {
    let Some(write_key) = &profile.write_key else { return Ok(()) };
    if !matches!(hex::decode(&write_key.instruction).map(|bytes| bytes.len()), Ok(2)) {
        return Err(wrong("write_key.instruction", "is CLA INS, two bytes"));
    }
    for role in write_key.protectors.iter().chain(write_key.headers.values().flat_map(BTreeMap::keys)) {
        has_role(profile, "write_key", role)?;
    }
    for (role, header) in write_key.headers.values().flatten() {
        if !matches!(hex::decode(&header.p1p2).map(|bytes| bytes.len()), Ok(2)) {
            return Err(wrong(format!("write_key.headers.{role}"), "`p1p2` is two bytes"));
        }
    }
    Ok(())
}

fn check_layout(layout: &RecordLayout) -> Result<(), ProfileError> {
    let at = format!("layout {}", layout.name);
    if !(1..=4096).contains(&layout.length) {
        return Err(wrong(at, "a record has 1 to 4096 bytes"));
    }
    let mut seen = Vec::new();
    for place in &layout.places {
        let known = place.field == "record_id"
            || Field::named(&place.field).is_some_and(|field| Field::OF_RECORDS.contains(&field));
        if !known || seen.contains(&&place.field) {
            return Err(wrong(at, format!("`{}` is no field of records, or stands twice", place.field)));
        }
        seen.push(&place.field);
        if place.length == 0 || place.offset.checked_add(place.length).is_none_or(|end| end > layout.length) {
            return Err(wrong(at, format!("`{}` does not lie within the record", place.field)));
        }
        let width = Field::named(&place.field).map(Field::width);
        if place.encoding != PlaceEncoding::Text && width.is_some_and(|width| width != place.length) {
            return Err(wrong(at, format!("`{}` has another length on a card", place.field)));
        }
        if place.absent.as_ref().is_some_and(|absent| absent.len() != 2 * place.length || hex::decode(absent).is_err())
        {
            return Err(wrong(at, format!("`absent` of `{}` is not as long as its place", place.field)));
        }
    }
    if !seen.iter().any(|field| *field == "record_id") {
        return Err(wrong(at, "has no `record_id`"));
    }
    for (name, text) in &layout.defaults {
        let field = Field::named(name).ok_or_else(|| wrong(&at, format!("`{name}` is not a field")))?;
        FieldSet::default().parse(field, text.as_bytes()).map_err(|error| wrong(&at, error))?;
    }
    Ok(())
}

fn check_key_sets(profile: &Profile) -> Result<(), ProfileError> {
    for set in &profile.key_sets {
        let at = format!("key_set {}", set.name);
        if !(1..=8).contains(&set.kcv_bytes) || set.entries.is_empty() {
            return Err(wrong(at, "needs entries, and check values of 1 to 8 bytes"));
        }
        for entry in &set.entries {
            match (&entry.role, &entry.fill) {
                (Some(role), None) => has_role(profile, &at, role)?,
                (None, Some(fill)) => drop(byte(&at, fill)?),
                _ => return Err(wrong(at, format!("entry `{}` needs either a role or a fill", entry.name))),
            }
        }
    }
    Ok(())
}
