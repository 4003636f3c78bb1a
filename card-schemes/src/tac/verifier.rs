//! Records to batches, and outcomes back to verdicts in the records' order.

use std::sync::Arc;

use claviger_hsm_api::{Algorithm, Batch, Column, KeyColumn, Outcome, Recipe, Verdict};

use super::choices::Choices;
use super::plan::{Cells, Plan};
use super::{Reason, SelectableKey, Verified};
use crate::fields::{Field, FieldSet, Fields};
use crate::piece::Piece;
use crate::records::LineFault;
use crate::scheme::CardScheme;

/// Sorts records into batches of one recipe each, and puts the verdicts back in order.
pub struct TacVerifier {
    scheme: Arc<CardScheme>,
    /// The levels by which keys of the TAC role are dispersed.
    role_levels: Vec<usize>,
    keys: Vec<SelectableKey>,
    plan: Plan,
    groups: Vec<Group>,
    /// For each transaction and key, the group of its records, once there is one.
    group_of: Vec<Option<usize>>,
    verdicts: Vec<Kept>,
    /// What is said of records that no batch takes.
    said: Vec<Verified>,
    /// Whether records need not say their key.
    has_selectors: bool,
    /// Keys by version, algorithm, and the factors of levels that some key holds.
    choices: Choices,
}

/// The verdict on a record that waits, in few bytes: there are as many as records.
#[derive(Clone, Copy)]
enum Kept {
    /// Its TAC is wrong, as far as is known.
    Wrong,
    /// It is right, by the alternative of that number, or by none.
    Right(u8),
    /// What stands there in [`TacVerifier::said`].
    Said(u32),
}

/// Records that take the same recipe.
struct Group {
    algorithm: Algorithm,
    transaction: usize,
    held: usize,
    recipe: Recipe,
    batch: Batch,
    /// How each column's cells are made.
    cells: Vec<Cells>,
    /// What they are made of.
    needed: Fields,
    /// Number of each row's record.
    records: Vec<u32>,
    /// The fields of the last rows, whose cells are not made yet.
    rows: Vec<FieldSet>,
}

/// Rows whose cells are made together, while their fields are in the first cache.
const TOGETHER: usize = 32;

/// Runs a recipe over a batch.
pub type RunBatch<'a, E> = dyn FnMut(&Recipe, &Batch) -> Result<Outcome, E> + 'a;

impl TacVerifier {
    /// A verifier for the keys of the scheme's TAC role; batches number them as given here.
    pub fn new(scheme: Arc<CardScheme>, keys: Vec<SelectableKey>) -> Self {
        let role_levels = scheme.tac_role().map(|role| role.levels.to_vec()).unwrap_or_default();
        let most_held = keys.iter().map(|key| key.factors.len()).max().unwrap_or(0);
        let whole = |field: Field| Piece::Field { field, from: 0, to: field.width() };
        let held = role_levels.iter().take(most_held).filter_map(|level| scheme.level(*level));
        let selector: Vec<Piece> = [Field::KeyVersion, Field::AlgId]
            .map(whole)
            .into_iter()
            .chain(held.flat_map(|level| level.factor.iter().cloned()))
            .collect();
        Self {
            plan: Plan::new(&scheme, &role_levels),
            group_of: vec![None; keys.len() * scheme.transactions().count()],
            has_selectors: scheme.has_selectors(),
            choices: Choices::new(keys.len(), &selector),
            scheme,
            role_levels,
            keys,
            groups: Vec::new(),
            verdicts: Vec::new(),
            said: Vec::new(),
        }
    }

    /// Records that wait for [`finish`](Self::finish).
    pub fn len(&self) -> usize {
        self.verdicts.len()
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.verdicts.is_empty()
    }

    /// Takes waiting records away from keys that may no longer be used: they are as if the key were not there.
    pub fn forget(&mut self, usable: &[bool]) {
        for group in &mut self.groups {
            group.make_cells();
            let [KeyColumn::PerRow(keys)] = group.batch.keys.as_mut_slice() else { continue };
            let stays: Vec<bool> = keys.iter().map(|key| usable.get(usize::from(*key)) == Some(&true)).collect();
            if stays.iter().all(|stays| *stays) {
                continue;
            }
            let verdict = Verified { verdict: Verdict::UnknownKey, reason: Reason::UnknownVersion };
            let gone = Kept::Said(self.said.len() as u32);
            self.said.push(verdict);
            for (record, _) in group.records.iter().zip(&stays).filter(|(_, stays)| !**stays) {
                self.verdicts[*record as usize] = gone;
            }
            let mut left = stays.iter();
            keys.retain(|_| left.next() == Some(&true));
            let mut left = stays.iter();
            group.records.retain(|_| left.next() == Some(&true));
            group.batch.columns.iter_mut().for_each(|column| keep(column, &stays));
        }
    }

    /// Takes a record that could not be read.
    pub fn push_fault(&mut self, fault: LineFault, line: u64) {
        let reason = match fault {
            LineFault::NoId => Reason::Line(line),
            LineFault::Field(field) => Reason::BadField(field),
        };
        self.say(Verified { verdict: Verdict::Malformed, reason });
    }

    /// Says at once what becomes of a record.
    fn say(&mut self, verified: Verified) {
        self.verdicts.push(Kept::Said(self.said.len() as u32));
        self.said.push(verified);
    }

    /// Takes a record.
    pub fn push(&mut self, fields: &FieldSet) {
        let placed = match self.has_selectors.then(|| self.scheme.selected(fields)).flatten() {
            Some(selected) => self.place(&selected),
            None => self.place(fields),
        };
        match placed {
            Ok(()) => self.verdicts.push(Kept::Wrong),
            Err(verified) => self.say(verified),
        }
    }

    /// Runs the batches and hands over the verdicts of all records taken since the last time, in order.
    ///
    /// # Errors
    /// That of `run`; the records then wait on, and may be tried again.
    pub fn finish<E>(&mut self, run: &mut RunBatch<'_, E>, mut each: impl FnMut(Verified)) -> Result<(), E> {
        for group in self.groups.iter_mut().filter(|group| !group.records.is_empty()) {
            group.make_cells();
            group.batch.rows = group.records.len();
            let outcome = run(&group.recipe, &group.batch)?;
            let remaining = self.role_levels.get(group.held..).unwrap_or_default();
            let numbers = self.scheme.alternatives(remaining).map(|(number, ..)| number);
            for (leg, number) in std::iter::once(0).chain(numbers).enumerate() {
                let valid = outcome.verdicts(leg).unwrap_or_default();
                for (record, _) in group.records.iter().zip(valid).filter(|(_, valid)| **valid) {
                    self.verdicts[*record as usize] = Kept::Right(number);
                }
            }
        }
        let said = &self.said;
        self.verdicts.drain(..).for_each(|kept| {
            each(match kept {
                Kept::Right(0) => Verified { verdict: Verdict::Valid, reason: Reason::None },
                Kept::Right(number) => Verified { verdict: Verdict::Valid, reason: Reason::MatchedAlternative(number) },
                Kept::Wrong => Verified { verdict: Verdict::Invalid, reason: Reason::Mac },
                Kept::Said(at) => said[at as usize],
            });
        });
        self.said.clear();
        for group in &mut self.groups {
            group.records.clear();
            group.batch.columns.iter_mut().for_each(Column::clear);
            if let [KeyColumn::PerRow(keys)] = group.batch.keys.as_mut_slice() {
                keys.clear();
            }
        }
        Ok(())
    }

    /// Puts a record into its group, or says why it has a verdict already.
    fn place(&mut self, fields: &FieldSet) -> Result<(), Verified> {
        let unverifiable = |reason| Verified { verdict: Verdict::Unverifiable, reason };
        let unknown = |reason| Verified { verdict: Verdict::UnknownKey, reason };
        let transaction = self.plan.transaction(fields).map_err(unverifiable)?;
        let key = self.key(fields).map_err(unknown)?;
        let group = match self.group_of[transaction * self.keys.len() + key] {
            Some(group) => group,
            None => self.group(transaction, key).map_err(unknown)?,
        };
        let group = &mut self.groups[group];
        // A record goes in whole or not at all.
        if let Some(field) = fields.first_missing(group.needed) {
            return Err(unverifiable(Reason::Missing(field)));
        }
        group.rows.push(*fields);
        if let [KeyColumn::PerRow(keys)] = group.batch.keys.as_mut_slice() {
            keys.push(key as u16);
        }
        group.records.push(self.verdicts.len() as u32);
        if group.rows.len() == TOGETHER {
            group.make_cells();
        }
        Ok(())
    }

    /// The key of a record.
    #[inline]
    fn key(&mut self, fields: &FieldSet) -> Result<usize, Reason> {
        if let Some(found) = self.choices.find(fields) {
            return found;
        }
        let found = self.select(fields);
        self.choices.remember(fields, found);
        found
    }

    /// Picks the key of a record, or says which part of the choice failed first in column order: city or
    /// issuer, version, algorithm.
    fn select(&self, fields: &FieldSet) -> Result<usize, Reason> {
        let version = fields.byte(Field::KeyVersion);
        let algorithm = fields.byte(Field::AlgId).and_then(|id| self.scheme.algorithm(id));
        let (mut ours, mut of_version, mut of_algorithm) = (false, false, false);
        let (mut best, mut factor) = (None::<usize>, Vec::new());
        for (number, key) in self.keys.iter().enumerate() {
            let mut levels = self.role_levels.iter().zip(&key.factors);
            let same_city = levels.all(|(level, held)| {
                factor.clear();
                self.scheme.append_factor(*level, fields, &mut factor).is_ok() && factor == *held
            });
            if !same_city {
                continue;
            }
            let (version, algorithm) = (Some(key.version.0) == version, Some(key.algorithm) == algorithm);
            if version && algorithm {
                // A city's own key goes before the root's.
                if best.is_none_or(|best| self.keys[best].factors.len() < key.factors.len()) {
                    best = Some(number);
                }
            }
            ours = true;
            of_version |= version;
            of_algorithm |= algorithm;
        }
        if let Some(number) = best {
            return Ok(number);
        }
        Err(match (ours, of_version, of_algorithm) {
            (false, ..) => Reason::ForeignIssuer,
            (_, false, _) => Reason::UnknownVersion,
            (.., false) => Reason::UnknownAlgorithm,
            // Both exist, though not together.
            _ => Reason::UnknownVersion,
        })
    }

    /// The group of a transaction's records under a key, made if there is none.
    fn group(&mut self, transaction: usize, key: usize) -> Result<usize, Reason> {
        let SelectableKey { algorithm, factors, .. } = &self.keys[key];
        let (algorithm, held) = (*algorithm, factors.len());
        let same = |group: &Group| (group.transaction, group.algorithm, group.held) == (transaction, algorithm, held);
        let group = match self.groups.iter().position(same) {
            Some(group) => group,
            None => {
                let group = Group::new(&self.scheme, &self.role_levels, transaction, algorithm, held);
                self.groups.push(group.ok_or(Reason::UnknownAlgorithm)?);
                self.groups.len() - 1
            }
        };
        self.group_of[transaction * self.keys.len() + key] = Some(group);
        Ok(group)
    }
}

impl Group {
    /// `None` if the scheme has no such cipher.
    fn new(
        scheme: &CardScheme,
        levels: &[usize],
        transaction: usize,
        algorithm: Algorithm,
        held: usize,
    ) -> Option<Self> {
        let recipe = scheme.tac_recipe(algorithm, held)?;
        let remaining = levels.get(held..).unwrap_or_default();
        let factors = remaining.iter().filter_map(|level| scheme.level(*level)).map(|level| level.factor.as_slice());
        let tac = [Piece::Field { field: Field::Tac, from: 0, to: Field::Tac.width() }];
        let message = scheme.transactions().nth(transaction)?.tac();
        let alternatives = scheme.alternatives(remaining).map(|(.., factor)| factor);
        let columns: Vec<&[Piece]> = factors.chain([message, tac.as_slice()]).chain(alternatives).collect();
        let cells: Vec<Cells> = columns.iter().map(|pieces| Cells::of(pieces)).collect();
        let keys = vec![KeyColumn::PerRow(Vec::new())];
        let empty = cells.iter().map(|cells| Column::with_capacity(cells.width(), 0)).collect();
        Some(Self {
            algorithm,
            transaction,
            held,
            recipe,
            batch: Batch { rows: 0, columns: empty, keys },
            needed: columns.iter().flat_map(|pieces| pieces.iter()).filter_map(Piece::field).collect(),
            cells,
            records: Vec::new(),
            rows: Vec::new(),
        })
    }

    /// Makes the cells of the rows that have none yet.
    fn make_cells(&mut self) {
        for (cells, column) in self.cells.iter().zip(&mut self.batch.columns) {
            if let Column::Fixed { bytes, .. } = column {
                cells.append(&self.rows, bytes);
            }
        }
        self.rows.clear();
    }
}

/// Keeps those rows of a column that stay.
fn keep(column: &mut Column, stays: &[bool]) {
    if let Column::Fixed { width: width @ 1.., bytes } = column {
        let kept = bytes.chunks_exact(*width).zip(stays).filter(|(_, stays)| **stays);
        *bytes = kept.flat_map(|(cell, _)| cell).copied().collect();
    }
}
