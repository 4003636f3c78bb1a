//! Key sets: all keys of one card under a transport key, for whoever personalises it.

use claviger_hsm_api::{
    Algorithm, Batch, Column, Finish, KcvRule, KeyColumn, KeyPath, Leg, Message, Outcome, Padding, Recipe, When,
    WrapFormat,
};

use crate::consistency::MOST_LEVELS;
use crate::fields::{Field, FieldSet};
use crate::profile::{KeySetRules, RoleFinish};
use crate::request_error::RequestError;
use crate::role::{CardKey, Role};
use crate::scheme::CardScheme;

/// A layout of key sets.
#[derive(Clone, Copy)]
pub struct KeySet<'a> {
    scheme: &'a CardScheme,
    rules: &'a KeySetRules,
}

/// Turns cards into batches and outcomes into key sets of one algorithm.
pub struct KeySetMaker {
    recipe: Recipe,
    batch: Batch,
    /// Which of the scheme's levels each column is for; others are not needed.
    levels: Vec<bool>,
    /// Bytes of each entry: those of a key, or the fill of a place without one.
    entries: Vec<Option<u8>>,
    entry_len: usize,
    scratch: Vec<u8>,
}

impl CardScheme {
    /// The layouts of key sets and what they are for.
    pub fn key_sets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.profile().key_sets.iter().map(|set| (set.name.as_str(), set.title.as_str()))
    }

    /// The layout of that name, or the first if none is named.
    ///
    /// # Errors
    /// If there is none.
    pub fn key_set(&self, name: Option<&str>) -> Result<KeySet<'_>, RequestError> {
        let found = self.profile().key_sets.iter().find(|set| name.is_none_or(|name| set.name == name));
        let rules = found.ok_or_else(|| self.unknown("key set", name.unwrap_or("(any)")))?;
        Ok(KeySet { scheme: self, rules })
    }
}

impl<'a> KeySet<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.rules.name
    }

    /// Roles of the keys in it, in order.
    ///
    /// # Errors
    /// If one of them does not leave under a transport key.
    pub fn roles(&self) -> Result<Vec<Role<'a>>, RequestError> {
        let role = |name: &'a String| {
            let role = self.scheme.role(name)?;
            role.admit(RoleFinish::Wrap)?;
            Ok(role)
        };
        self.rules.entries.iter().filter_map(|entry| entry.role.as_ref()).map(role).collect()
    }

    /// A maker of key sets from keys as they are stored: those of [`roles`](Self::roles), in order, then
    /// the transport key.
    ///
    /// # Errors
    /// If the transport role does not wrap others, or the keys are of several algorithms.
    pub fn maker(
        &self,
        algorithm: Algorithm,
        keys: &[CardKey<'_>],
        (transport_role, transport): (&Role<'_>, CardKey<'_>),
    ) -> Result<KeySetMaker, RequestError> {
        transport_role.admit(RoleFinish::WrapOthers)?;
        let rules = self.scheme.cipher(algorithm);
        let rules = rules.ok_or_else(|| self.scheme.no_algorithm(transport_role, algorithm))?;
        let kcv = KcvRule { take: self.rules.kcv_bytes, ..rules.kcv };
        let under = self.scheme.path(keys.len(), transport, |level| level);
        let legs = keys.iter().enumerate().flat_map(|(slot, key)| {
            let path = self.scheme.path(slot, *key, |level| level);
            entry_legs(path, under.clone(), kcv)
        });
        let recipe = Recipe { legs: legs.collect() };
        let used = |level: usize| keys.iter().chain([&transport]).any(|key| key.remaining().contains(&level));
        let levels: Vec<bool> = (0..self.scheme.levels().len()).map(used).collect();
        let width = |(level, used): (usize, &bool)| if *used { self.scheme.level_width(level) } else { 0 };
        let batch = Batch {
            rows: 0,
            columns: levels.iter().enumerate().map(width).map(|width| Column::with_capacity(width, 0)).collect(),
            keys: (0..=keys.len() as u16).map(KeyColumn::Same).collect(),
        };
        let fill = |fill: &Option<String>| fill.as_ref().and_then(|digits| u8::from_str_radix(digits, 16).ok());
        Ok(KeySetMaker {
            recipe,
            batch,
            levels,
            entries: self.rules.entries.iter().map(|entry| fill(&entry.fill)).collect(),
            entry_len: algorithm.key_len() + usize::from(self.rules.kcv_bytes),
            scratch: Vec::with_capacity(16),
        })
    }
}

/// The key under the transport key, and its check value.
fn entry_legs(path: KeyPath, under: KeyPath, rule: KcvRule) -> [Leg; 2] {
    let wrap =
        Finish::Wrap { under, format: WrapFormat::Ecb { prefix: Message(Vec::new()), padding: Padding::OneIfNeeded } };
    [
        Leg { path: path.clone(), finish: wrap, when: When::Always },
        Leg { path, finish: Finish::Kcv { rule }, when: When::Always },
    ]
}

impl KeySetMaker {
    /// Takes a card; `Err` names the field for want of which its keys cannot be dispersed.
    ///
    /// # Errors
    /// The field; nothing was taken then.
    pub fn push(&mut self, scheme: &CardScheme, fields: &FieldSet) -> Result<(), Field> {
        self.scratch.clear();
        let mut ends = [0; MOST_LEVELS];
        for (level, end) in (0..self.levels.len()).zip(&mut ends) {
            if self.levels[level] {
                scheme.append_factor(level, fields, &mut self.scratch)?;
            }
            *end = self.scratch.len();
        }
        let mut from = 0;
        for (column, end) in self.batch.columns.iter_mut().zip(ends) {
            column.push(&self.scratch[from..end]);
            from = end;
        }
        self.batch.rows += 1;
        Ok(())
    }

    /// What is run for the cards taken so far.
    pub fn task(&self) -> (&Recipe, &Batch) {
        (&self.recipe, &self.batch)
    }

    /// Forgets the cards.
    pub fn clear(&mut self) {
        self.batch.rows = 0;
        self.batch.columns.iter_mut().for_each(Column::clear);
    }

    /// The key set of one card, appended; `None` if a leg did not run.
    pub fn append(&self, outcome: &Outcome, row: usize, to: &mut Vec<u8>) -> Option<()> {
        let mut leg = 0;
        for entry in &self.entries {
            if let Some(fill) = entry {
                to.resize(to.len() + self.entry_len, *fill);
                continue;
            }
            to.extend_from_slice(outcome.bytes(leg, row)?);
            to.extend_from_slice(outcome.bytes(leg + 1, row)?);
            leg += 2;
        }
        Some(())
    }
}
