//! A profile that has shown its known answers, and what it says about keys and recipes.

use claviger_hsm_api::{
    Algorithm, Batch, Column, Exportability, Finish, Input, KcvRule, KeyAttributes, KeyPath, KeyRank, MacAlgorithm,
    MacSpec, NewKey, Padding, Recipe, Step, Truncation,
};

use crate::consistency::{self, Tables};
use crate::fields::{Field, FieldSet};
use crate::known_answers::KnownAnswer;
use crate::piece::{Piece, width};
use crate::profile::{
    CipherRules, LayoutKind, Level, Parameters, Profile, ProfileError, RecordLayout, RoleFinish, RoleRules,
    TransactionRules,
};
use crate::records::{LayoutReader, Reader};
use crate::role::{CardKey, Role, SchemeError};

/// A card scheme, ready for use.
pub struct CardScheme {
    profile: Profile,
    tables: Tables,
}

/// One kind of transaction.
#[derive(Clone, Copy)]
pub struct Transaction<'a> {
    pub(crate) rules: &'a TransactionRules,
    pub(crate) number: usize,
}

impl CardScheme {
    /// Reads a profile, checks that it is consistent and that it reproduces its known answers.
    ///
    /// # Errors
    /// [`ProfileError`], with the case that failed.
    pub fn load(text: &str) -> Result<Self, ProfileError> {
        let profile: Profile = toml::from_str(text).map_err(Box::new)?;
        let tables = consistency::check(&profile)?;
        let scheme = Self { profile, tables };
        for answer in &scheme.profile.known_answers {
            answer.check(&scheme)?;
        }
        Ok(scheme)
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
        self.profile.roles.iter().map(|(name, rules)| self.role_of(name, rules))
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
        let found = self.profile.roles.get_key_value(name).map(|(name, rules)| self.role_of(name, rules));
        found.ok_or_else(|| SchemeError::NoRole { scheme: self.id().to_owned(), role: name.to_owned() })
    }

    fn role_of<'a>(&'a self, name: &'a str, rules: &'a RoleRules) -> Role<'a> {
        Role { name, rules, levels: self.tables.role_levels.get(name).map_or(&[], Vec::as_slice) }
    }

    /// The role whose keys make TACs, if the scheme has TACs.
    pub fn tac_role(&self) -> Option<Role<'_>> {
        self.profile.tac.as_ref().and_then(|tac| self.role(&tac.role).ok())
    }

    /// The transaction of that name.
    ///
    /// # Errors
    /// [`SchemeError::Unknown`].
    pub fn transaction(&self, name: &str) -> Result<Transaction<'_>, SchemeError> {
        let found = self.transactions().find(|transaction| transaction.rules.name == name);
        found.ok_or_else(|| self.unknown("transaction", name))
    }

    /// The transaction of a type byte.
    pub fn transaction_of_type(&self, txn_type: u8) -> Option<Transaction<'_>> {
        let number = *self.tables.types.get(&txn_type)?;
        self.profile.transactions.get(number).map(|rules| Transaction { rules, number })
    }

    /// The algorithm of an algorithm id byte.
    pub fn algorithm(&self, alg_id: u8) -> Option<Algorithm> {
        self.tables.alg_ids.get(&alg_id).copied()
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
            return Err(self.no_algorithm(&role, algorithm));
        }
        let has = role.levels.len();
        let Some(left) = has.checked_sub(factors) else {
            return Err(SchemeError::Levels { scheme: self.id().to_owned(), has, claims: factors });
        };
        let rank = match (has, left) {
            (0, _) => KeyRank::Plain,
            (_, 0) => KeyRank::Card,
            (_, left) => KeyRank::Dispersion { steps_left: left as u8 },
        };
        let attributes = KeyAttributes {
            algorithm,
            usage: role.rules.usage,
            mode: role.rules.mode,
            exportability: Exportability::None,
            rank,
            ceiling: role.rules.ceiling,
        };
        let mut kcv = self.kcv_rule(algorithm);
        // What is shown of a key is public: no more than three bytes of what would disperse it, or of a MAC.
        if matches!(rank, KeyRank::Dispersion { .. }) || role.rules.usage.as_str().starts_with('M') {
            kcv.take = kcv.take.min(KcvRule::ZEROS.take);
        }
        Ok((attributes, kcv))
    }

    pub(crate) fn no_algorithm(&self, role: &Role<'_>, algorithm: Algorithm) -> SchemeError {
        SchemeError::NoAlgorithm { scheme: self.id().to_owned(), role: role.name.to_owned(), algorithm }
    }

    pub(crate) fn unknown(&self, what: &'static str, name: &str) -> SchemeError {
        SchemeError::Unknown { scheme: self.id().to_owned(), what, name: name.chars().take(40).collect() }
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

    pub(crate) fn level_width(&self, number: usize) -> usize {
        self.level(number).map_or(0, |level| width(&level.factor))
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn profile(&self) -> &Profile {
        &self.profile
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

    /// Bytes of the factor of a role's level, counted from the root.
    pub fn factor_width(&self, role: &Role<'_>, level: usize) -> Option<usize> {
        role.levels.get(level).map(|level| self.level_width(*level))
    }

    /// The path from a key of a role with `held` levels in it to a card's key; `column` says which column
    /// of the batch holds the factor of each of the scheme's levels.
    pub(crate) fn path(&self, slot: usize, key: CardKey<'_>, column: impl Fn(usize) -> usize) -> KeyPath {
        let rules = self.cipher(key.algorithm);
        let steps = key.remaining().iter().map(|level| Step::Disperse {
            rule: rules.map(|rules| rules.dispersion).unwrap_or_default().rule(),
            parity: rules.map(|rules| rules.parity).unwrap_or_default().rule(),
            factor: Input::Column(column(*level)),
        });
        KeyPath { slot, algorithm: key.algorithm, steps: steps.collect(), steps_left: 0 }
    }

    /// One column for each of the scheme's levels, with the factors that the keys still need; `Err` names
    /// the field that is missing.
    pub(crate) fn factor_columns(&self, keys: &[CardKey<'_>], fields: &FieldSet) -> Result<Vec<Column>, Field> {
        let needed = |level: &usize| keys.iter().any(|key| key.remaining().contains(level));
        let column = |level: usize| {
            let mut factor = Vec::with_capacity(16);
            if needed(&level) {
                self.append_factor(level, fields, &mut factor)?;
            }
            Ok(Column::one(factor))
        };
        (0..self.profile.levels.len()).map(column).collect()
    }

    /// The factors of every level above the card's, one after another: cards that share them share their keys.
    ///
    /// # Errors
    /// The field that is missing.
    pub fn append_factors_above_card(&self, fields: &FieldSet, to: &mut Vec<u8>) -> Result<(), Field> {
        let above = self.profile.levels.len().saturating_sub(1);
        (0..above).try_for_each(|level| self.append_factor(level, fields, to))
    }

    /// Every factor by which keys of a role are dispersed, root first; `Err` names the field that is missing.
    ///
    /// # Errors
    /// The field that is missing.
    pub fn factors(&self, role: &Role<'_>, fields: &FieldSet) -> Result<Vec<Vec<u8>>, Field> {
        let factor = |level: &usize| {
            let mut factor = Vec::with_capacity(16);
            self.append_factor(*level, fields, &mut factor).map(|()| factor)
        };
        role.levels.iter().map(factor).collect()
    }

    /// The layouts of clearing files and what they are for.
    pub fn layouts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.profile.layouts.iter().map(|layout| (layout.name.as_str(), layout.title.as_str()))
    }

    /// Bytes of a record of a layout of packed binary; `None` for one of text lines.
    ///
    /// # Errors
    /// If there is no such layout.
    pub fn layout_length(&self, name: &str) -> Result<Option<usize>, SchemeError> {
        let layout = self.layout(name)?;
        Ok((layout.kind == LayoutKind::Binary).then_some(layout.length))
    }

    /// A reader of a layout's records; `before` records of the file are somewhere else.
    ///
    /// # Errors
    /// If there is no such layout.
    pub fn layout_reader(&self, name: &str, before: u64) -> Result<Reader, SchemeError> {
        Ok(Reader::Layout(LayoutReader::new(self.layout(name)?.clone(), before)))
    }

    fn layout(&self, name: &str) -> Result<&RecordLayout, SchemeError> {
        let found = self.profile.layouts.iter().find(|layout| layout.name == name);
        found.ok_or_else(|| self.unknown("layout", name))
    }

    /// The fields that factors are made of, in the order of record columns.
    pub fn factor_fields(&self) -> Vec<Field> {
        let mut fields: Vec<Field> =
            self.profile.levels.iter().flat_map(|level| &level.factor).filter_map(Piece::field).collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// Stores `child` from a key of the same name that holds its first `held` factors.
    ///
    /// # Errors
    /// If the role does not keep children.
    pub fn disperse(&self, child: &NewKey, held: usize) -> Result<(Recipe, Batch), SchemeError> {
        let role = self.role(child.name.role())?;
        role.admit(RoleFinish::Store)?;
        let mut path = self.path(0, role.key(child.attributes.algorithm, held), |_| 0);
        path.steps.truncate(child.factors.len().saturating_sub(held));
        for (step, factor) in path.steps.iter_mut().zip(child.factors.iter().skip(held)) {
            if let Step::Disperse { factor: input, .. } = step {
                *input = Input::Constant(hex::decode(factor).unwrap_or_default());
            }
        }
        path.steps_left = role.levels.len().saturating_sub(child.factors.len()) as u8;
        let recipe = Recipe::single(path, Finish::Store { child: Box::new(child.clone()) });
        Ok((recipe, Batch::one(Vec::new(), 1)))
    }

    /// A purse MAC: CBC-MAC, 80 padding, four bytes.
    pub(crate) fn purse_mac(&self, truncation: Truncation) -> MacSpec {
        MacSpec { algorithm: MacAlgorithm::CbcMac, second: None, padding: Padding::One, initial: None, truncation }
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
