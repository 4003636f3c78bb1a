//! A profile that has shown its known answers, and what it says about keys and recipes.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_hsm_api::{
    Algorithm, Exportability, Exposure, Input, KcvRule, KeyAttributes, KeyPath, KeyRank, KeyUsage, MacAlgorithm,
    MacSpec, ModeOfUse, Padding, Step, Truncation,
};

use crate::fields::{Field, FieldSet};
use crate::known_answers::KnownAnswer;
use crate::piece::{Piece, width};
use crate::profile::{CipherRules, Level, Parameters, Profile, ProfileError, RoleFinish, RoleRules, TransactionRules};

/// A card scheme, ready for use.
pub struct CardScheme {
    profile: Profile,
    alg_ids: BTreeMap<u8, Algorithm>,
    /// Transaction of each type.
    types: BTreeMap<u8, usize>,
}

/// What a scheme calls a key, and what it admits.
pub struct Role<'a> {
    name: &'a str,
    rules: &'a RoleRules,
}

/// One kind of transaction.
#[derive(Clone, Copy)]
pub struct Transaction<'a> {
    pub(crate) rules: &'a TransactionRules,
    pub(crate) number: usize,
}

/// A request that the scheme does not know how to serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// No such role.
    #[error("scheme `{scheme}` has no role `{role}`")]
    NoRole {
        /// The scheme.
        scheme: String,
        /// The role.
        role: String,
    },
    /// The role exists but not with this algorithm.
    #[error("role `{role}` of scheme `{scheme}` is not used with {algorithm}")]
    NoAlgorithm {
        /// The scheme.
        scheme: String,
        /// The role.
        role: String,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The role does not admit it.
    #[error("role `{role}` does not admit `{finish:?}`")]
    RoleRefuses {
        /// The role.
        role: String,
        /// What was to be done.
        finish: RoleFinish,
    },
    /// More levels than the scheme has.
    #[error("scheme `{scheme}` has {has} dispersion levels, the key claims {claims}")]
    Levels {
        /// The scheme.
        scheme: String,
        /// Its levels.
        has: usize,
        /// Those claimed.
        claims: usize,
    },
    /// No such transaction.
    #[error("scheme `{scheme}` has no transaction `{name}`")]
    NoTransaction {
        /// The scheme.
        scheme: String,
        /// The transaction.
        name: String,
    },
}

impl CardScheme {
    /// Reads a profile, checks that it is consistent and that it reproduces its known answers.
    ///
    /// # Errors
    /// [`ProfileError`], with the case that failed.
    pub fn load(text: &str) -> Result<Self, ProfileError> {
        let profile: Profile = toml::from_str(text).map_err(Box::new)?;
        let scheme = Self::compile(profile)?;
        for answer in &scheme.profile.known_answers {
            answer.check(&scheme)?;
        }
        Ok(scheme)
    }

    fn compile(profile: Profile) -> Result<Self, ProfileError> {
        let wrong = |at: String, reason: &str| ProfileError::Inconsistent { at, reason: reason.to_owned() };
        let byte = |at: &str, text: &str| {
            let value = (text.len() == 2).then(|| u8::from_str_radix(text, 16).ok()).flatten();
            value.ok_or_else(|| wrong(at.to_owned(), "not two hexadecimal digits"))
        };
        claviger_hsm_api::KeyName::new("t", &profile.id, "R")
            .map_err(|error| wrong("id".to_owned(), &error.to_string()))?;
        let mut alg_ids = BTreeMap::new();
        for (id, algorithm) in &profile.alg_ids {
            if !profile.ciphers.contains_key(algorithm) {
                return Err(wrong(format!("alg_ids.{id}"), "the algorithm has no [ciphers] table"));
            }
            alg_ids.insert(byte(&format!("alg_ids.{id}"), id)?, *algorithm);
        }
        for level in &profile.levels {
            if !matches!(width(&level.factor), 8 | 16) {
                return Err(wrong(format!("level {}", level.name), "a factor has 8 or 16 bytes"));
            }
        }
        for (name, role) in &profile.roles {
            claviger_hsm_api::KeyName::new("t", "s", name)
                .map_err(|error| wrong(format!("role.{name}"), &error.to_string()))?;
            if role.algorithms.is_empty() && profile.ciphers.is_empty() {
                return Err(wrong(format!("role.{name}"), "no algorithm: neither `algorithms` nor a [ciphers] table"));
            }
        }
        let mut types = BTreeMap::new();
        for (number, transaction) in profile.transactions.iter().enumerate() {
            let at = format!("transaction {}", transaction.name);
            if !profile.roles.contains_key(&transaction.role) {
                return Err(wrong(at, "its role is not among the roles"));
            }
            if width(&transaction.session) != 8 || !matches!(width(&transaction.second_session), 0 | 8) {
                return Err(wrong(at, "a session input has 8 bytes"));
            }
            for text in &transaction.types {
                if types.insert(byte(&at, text)?, number).is_some() {
                    return Err(wrong(at, "a type belongs to two transactions"));
                }
            }
        }
        if let Some(tac) = profile.tac.as_ref().filter(|tac| !profile.roles.contains_key(&tac.role)) {
            return Err(wrong("tac.role".to_owned(), &format!("`{}` is not among the roles", tac.role)));
        }
        Ok(Self { profile, alg_ids, types })
    }

    /// As keys and callers name it.
    pub fn id(&self) -> &str {
        &self.profile.id
    }

    /// For people.
    pub fn title(&self) -> &str {
        &self.profile.title
    }

    /// Of the profile.
    pub fn version(&self) -> &str {
        &self.profile.version
    }

    /// What the rules rest on, and how sure they are.
    pub fn basis(&self) -> &str {
        &self.profile.basis
    }

    /// The known answers it reproduced when it was loaded.
    pub fn known_answers(&self) -> &[KnownAnswer] {
        &self.profile.known_answers
    }

    /// Names of the dispersion levels, root first.
    pub fn levels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.profile.levels.iter().map(|level| level.name.as_str())
    }

    /// Every role.
    pub fn roles(&self) -> impl Iterator<Item = Role<'_>> {
        self.profile.roles.iter().map(|(name, rules)| Role { name, rules })
    }

    /// Every kind of transaction.
    pub fn transactions(&self) -> impl Iterator<Item = Transaction<'_>> {
        self.profile.transactions.iter().enumerate().map(|(number, rules)| Transaction { rules, number })
    }

    /// The role of that name.
    ///
    /// # Errors
    /// [`SchemeError::NoRole`].
    pub fn role(&self, name: &str) -> Result<Role<'_>, SchemeError> {
        let found = self.profile.roles.get_key_value(name).map(|(name, rules)| Role { name, rules });
        found.ok_or_else(|| SchemeError::NoRole { scheme: self.id().to_owned(), role: name.to_owned() })
    }

    /// The role whose keys make TACs, if the scheme has TACs.
    pub fn tac_role(&self) -> Option<Role<'_>> {
        self.profile.tac.as_ref().and_then(|tac| self.role(&tac.role).ok())
    }

    /// The transaction of that name.
    ///
    /// # Errors
    /// [`SchemeError::NoTransaction`].
    pub fn transaction(&self, name: &str) -> Result<Transaction<'_>, SchemeError> {
        let found = self.transactions().find(|transaction| transaction.rules.name == name);
        found.ok_or_else(|| SchemeError::NoTransaction { scheme: self.id().to_owned(), name: name.to_owned() })
    }

    /// The transaction of a type byte.
    pub fn transaction_of_type(&self, txn_type: u8) -> Option<Transaction<'_>> {
        let number = *self.types.get(&txn_type)?;
        self.profile.transactions.get(number).map(|rules| Transaction { rules, number })
    }

    /// The algorithm of an algorithm id byte.
    pub fn algorithm(&self, alg_id: u8) -> Option<Algorithm> {
        self.alg_ids.get(&alg_id).copied()
    }

    /// What a new key of a role is, with the first `factors` dispersion levels already in it.
    ///
    /// # Errors
    /// [`SchemeError`] for an unknown role, algorithm or level.
    pub fn attributes(
        &self,
        role: &str,
        algorithm: Algorithm,
        factors: usize,
    ) -> Result<(KeyAttributes, KcvRule), SchemeError> {
        let role = self.role(role)?;
        if !self.algorithms_of(&role).any(|allowed| allowed == algorithm) {
            let (scheme, role) = (self.id().to_owned(), role.name.to_owned());
            return Err(SchemeError::NoAlgorithm { scheme, role, algorithm });
        }
        let has = if role.rules.dispersed { self.profile.levels.len() } else { 0 };
        let Some(left) = has.checked_sub(factors) else {
            return Err(SchemeError::Levels { scheme: self.id().to_owned(), has, claims: factors });
        };
        let rank = match (role.rules.dispersed, left) {
            (false, _) => KeyRank::Plain,
            (true, 0) => KeyRank::Card,
            (true, left) => KeyRank::Dispersion { steps_left: left as u8 },
        };
        let attributes = KeyAttributes {
            algorithm,
            usage: role.rules.usage,
            mode: role.rules.mode,
            exportability: Exportability::None,
            rank,
            ceiling: role.rules.ceiling,
        };
        Ok((attributes, self.kcv_rule(algorithm)))
    }

    fn algorithms_of<'a>(&'a self, role: &Role<'a>) -> impl Iterator<Item = Algorithm> + 'a {
        let of_ciphers = role.rules.algorithms.is_empty().then(|| self.profile.ciphers.keys().copied());
        role.rules.algorithms.iter().copied().chain(of_ciphers.into_iter().flatten())
    }

    fn kcv_rule(&self, algorithm: Algorithm) -> KcvRule {
        use claviger_hsm_api::{KcvFunction, KcvInput};
        match (self.profile.ciphers.get(&algorithm), algorithm) {
            (Some(rules), _) => rules.kcv,
            (None, Algorithm::HmacSm3 | Algorithm::HmacSha256) => {
                KcvRule { function: KcvFunction::Hmac, input: KcvInput::Zero, take: 3 }
            }
            (None, Algorithm::Sm2) => KcvRule { function: KcvFunction::Fingerprint, input: KcvInput::Zero, take: 8 },
            (None, Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256) => {
                KcvRule { function: KcvFunction::Cmac, input: KcvInput::Zero, take: 5 }
            }
            (None, _) => KcvRule::ZEROS,
        }
    }

    pub(crate) fn level(&self, number: usize) -> Option<&Level> {
        self.profile.levels.get(number)
    }

    pub(crate) fn level_count(&self) -> usize {
        self.profile.levels.len()
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.profile.parameters
    }

    pub(crate) fn cipher(&self, algorithm: Algorithm) -> Option<&CipherRules> {
        self.profile.ciphers.get(&algorithm)
    }

    /// The dispersion factor of a level for a row, appended; `Err` names the missing field.
    pub(crate) fn append_factor(&self, level: usize, fields: &FieldSet, to: &mut Vec<u8>) -> Result<(), Field> {
        self.profile
            .levels
            .get(level)
            .into_iter()
            .flat_map(|level| &level.factor)
            .try_for_each(|piece| piece.append(fields, to))
    }

    /// Bytes of a level's factor.
    pub fn factor_width(&self, level: usize) -> Option<usize> {
        self.profile.levels.get(level).map(|level| width(&level.factor))
    }

    /// The path from a key with `held` levels in it to a card's key; factor columns start at `column`.
    pub fn path_to_card(&self, slot: usize, algorithm: Algorithm, held: usize, column: usize) -> KeyPath {
        let rules = self.cipher(algorithm);
        let steps = (held..self.profile.levels.len()).enumerate().map(|(at, _)| Step::Disperse {
            rule: rules.map(|rules| rules.dispersion).unwrap_or_default().rule(),
            parity: rules.map(|rules| rules.parity).unwrap_or_default().rule(),
            factor: Input::Column(column + at),
        });
        KeyPath { slot, algorithm, steps: steps.collect(), steps_left: 0 }
    }

    /// The factors that [`path_to_card`](Self::path_to_card) needs as columns, for a row; `Err` names the
    /// missing field.
    ///
    /// # Errors
    /// The field that is missing.
    pub fn factors(&self, held: usize, fields: &FieldSet) -> Result<Vec<Vec<u8>>, Field> {
        (held..self.profile.levels.len())
            .map(|level| {
                let mut factor = Vec::with_capacity(16);
                self.append_factor(level, fields, &mut factor).map(|()| factor)
            })
            .collect()
    }

    /// A purse MAC: CBC-MAC, 80 padding, four bytes.
    pub(crate) fn purse_mac(&self, truncation: Truncation) -> MacSpec {
        MacSpec { algorithm: MacAlgorithm::CbcMac, second: None, padding: Padding::One, initial: None, truncation }
    }
}

impl<'a> Role<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// For people.
    pub fn title(&self) -> &'a str {
        &self.rules.title
    }

    /// X9.143 usage.
    pub fn usage(&self) -> KeyUsage {
        self.rules.usage
    }

    /// X9.143 mode of use.
    pub fn mode(&self) -> ModeOfUse {
        self.rules.mode
    }

    /// Its default ceiling.
    pub fn ceiling(&self) -> Exposure {
        self.rules.ceiling
    }

    /// What it admits.
    pub fn finishes(&self) -> &'a [RoleFinish] {
        &self.rules.finishes
    }

    /// Whether it admits a finish.
    ///
    /// # Errors
    /// [`SchemeError::RoleRefuses`].
    pub fn admit(&self, finish: RoleFinish) -> Result<(), SchemeError> {
        if self.rules.finishes.contains(&finish) {
            return Ok(());
        }
        Err(SchemeError::RoleRefuses { role: self.name.to_owned(), finish })
    }
}

impl<'a> Transaction<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.rules.name
    }

    /// For people.
    pub fn title(&self) -> &'a str {
        &self.rules.title
    }

    /// Its types, two hex digits each.
    pub fn types(&self) -> &'a [String] {
        &self.rules.types
    }

    /// Role of the key that its session keys come from.
    pub fn role(&self) -> &'a str {
        &self.rules.role
    }

    /// What its TAC covers; empty if it has none.
    pub fn tac(&self) -> &'a [Piece] {
        &self.rules.tac
    }
}

/// The schemes that a daemon knows, by id.
#[derive(Clone, Default)]
pub struct Schemes(BTreeMap<String, Arc<CardScheme>>);

impl Schemes {
    /// Those that come with Claviger.
    ///
    /// # Errors
    /// If one does not reproduce its known answers on this machine.
    pub fn shipped() -> Result<Self, ProfileError> {
        let mut schemes = Self::default();
        for text in [
            include_str!("../profiles/pboc.toml"),
            include_str!("../profiles/cjt166.toml"),
            include_str!("../profiles/jtt978.toml"),
            include_str!("../profiles/generic.toml"),
        ] {
            schemes.add(CardScheme::load(text)?);
        }
        Ok(schemes)
    }

    /// Adds a scheme, or replaces the one of the same id.
    pub fn add(&mut self, scheme: CardScheme) {
        self.0.insert(scheme.id().to_owned(), Arc::new(scheme));
    }

    /// The scheme of that id.
    pub fn find(&self, id: &str) -> Option<&Arc<CardScheme>> {
        self.0.get(id)
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CardScheme>> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_profile_reproduces_its_known_answers() {
        let schemes = match Schemes::shipped() {
            Ok(schemes) => schemes,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(schemes.iter().count(), 4);
    }

    #[test]
    fn a_profile_with_a_wrong_answer_is_refused_by_name() {
        let text = include_str!("../profiles/cjt166.toml").replace("A5F32698", "A5F32699");
        let error = CardScheme::load(&text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("clearing-tac.json#purchase-mohurd-ep") && error.contains("`tac`"), "{error}");
    }

    #[test]
    fn a_profile_with_an_unknown_key_or_field_is_refused() {
        let text = include_str!("../profiles/pboc.toml");
        assert!(CardScheme::load(&text.replace("parity =", "partiy =")).is_err());
        assert!(CardScheme::load(&text.replace("\"ttc[2..4]\"", "\"ttc[2..6]\"")).is_err());
        assert!(CardScheme::load(&text.replace("types = [\"04\"]", "types = [\"06\"]")).is_err());
    }
}
