//! Bulk TAC verification: records to batches, outcomes to verdicts.

use std::fmt;
use std::sync::Arc;

use claviger_hsm_api::{
    Algorithm, Batch, Column, Finish, Input, KeyColumn, KeyVersion, Leg, Message, Outcome, Recipe, Step, Verdict, When,
};

use crate::fields::{Field, FieldSet};
use crate::piece::{Piece, width};
use crate::records::LineFault;
use crate::scheme::{CardScheme, Transaction};

/// A key of the TAC role that records may select.
#[derive(Debug, Clone)]
pub struct SelectableKey {
    /// Selected by the record's algorithm id.
    pub algorithm: Algorithm,
    /// Selected by the record's key version.
    pub version: KeyVersion,
    /// Dispersion factors already in the key: other cities' records are foreign to it.
    pub factors: Vec<Vec<u8>>,
}

/// Why a record has its verdict: the closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Valid records have none, or the alternative that they matched.
    None,
    /// A field is not what its column says.
    BadField(Field),
    /// No readable record id; the number of the line, counted from one with the header.
    Line(u64),
    /// A field that the TAC covers, or that selects its key, is empty.
    Missing(Field),
    /// The TAC's layout for this transaction type is not known.
    UnknownType,
    /// No key of ours is of that city or issuer.
    ForeignIssuer,
    /// No key of that version.
    UnknownVersion,
    /// No key of that algorithm.
    UnknownAlgorithm,
    /// The TAC is wrong.
    Mac,
    /// The TAC is right under the alternative of that number, counted from one: a card of the past.
    MatchedAlternative(u8),
}

/// What verification says of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::BadField(field) => write!(f, "bad_field:{field}"),
            Self::Line(number) => write!(f, "line:{number}"),
            Self::Missing(field) => write!(f, "missing:{field}"),
            Self::UnknownType => f.write_str("unknown_type"),
            Self::ForeignIssuer => f.write_str("foreign_issuer"),
            Self::UnknownVersion => f.write_str("unknown_version"),
            Self::UnknownAlgorithm => f.write_str("unknown_algorithm"),
            Self::Mac => f.write_str("mac"),
            Self::MatchedAlternative(number) => write!(f, "matched_alternative:{number}"),
        }
    }
}

/// Sorts records into batches of one recipe each, and puts the verdicts back in order.
pub struct TacVerifier {
    scheme: Arc<CardScheme>,
    /// The levels by which keys of the TAC role are dispersed.
    role_levels: Vec<usize>,
    keys: Vec<SelectableKey>,
    groups: Vec<Group>,
    verdicts: Vec<Verified>,
    /// A record's columns one after another, and where each ends.
    scratch: Vec<u8>,
    ends: Vec<usize>,
}

/// Records that take the same recipe.
struct Group {
    transaction: usize,
    algorithm: Algorithm,
    held: usize,
    recipe: Recipe,
    batch: Batch,
    /// Number of each row's record.
    records: Vec<u32>,
}

/// Runs a recipe over a batch.
pub type RunBatch<'a, E> = dyn FnMut(&Recipe, &Batch) -> Result<Outcome, E> + 'a;

impl TacVerifier {
    /// A verifier for the keys of the scheme's TAC role; batches number them as given here.
    pub fn new(scheme: Arc<CardScheme>, keys: Vec<SelectableKey>) -> Self {
        let role_levels = scheme.tac_role().map(|role| role.levels.to_vec()).unwrap_or_default();
        let (scratch, ends) = (Vec::with_capacity(64), Vec::with_capacity(8));
        Self { scheme, role_levels, keys, groups: Vec::new(), verdicts: Vec::new(), scratch, ends }
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
            let [KeyColumn::PerRow(keys)] = group.batch.keys.as_mut_slice() else { continue };
            let stays: Vec<bool> = keys.iter().map(|key| usable.get(usize::from(*key)) == Some(&true)).collect();
            if stays.iter().all(|stays| *stays) {
                continue;
            }
            let verdict = Verified { verdict: Verdict::UnknownKey, reason: Reason::UnknownVersion };
            for (record, _) in group.records.iter().zip(&stays).filter(|(_, stays)| !**stays) {
                self.verdicts[*record as usize] = verdict;
            }
            for column in &mut group.batch.columns {
                let old = std::mem::replace(column, Column::with_capacity(column.width(), 0));
                (0..stays.len()).filter(|row| stays[*row]).for_each(|row| column.push(old.cell(row)));
            }
            let mut left = stays.iter();
            keys.retain(|_| left.next() == Some(&true));
            let mut left = stays.iter();
            group.records.retain(|_| left.next() == Some(&true));
        }
    }

    /// Takes a record that could not be read.
    pub fn push_fault(&mut self, fault: LineFault, line: u64) {
        let reason = match fault {
            LineFault::NoId => Reason::Line(line),
            LineFault::Field(field) => Reason::BadField(field),
        };
        self.verdicts.push(Verified { verdict: Verdict::Malformed, reason });
    }

    /// Takes a record.
    pub fn push(&mut self, fields: &FieldSet) {
        let selected = self.scheme.selected(fields);
        let verified = match self.place(selected.as_ref().unwrap_or(fields)) {
            // Holds until the batch has run.
            Ok(()) => Verified { verdict: Verdict::Invalid, reason: Reason::Mac },
            Err(verified) => verified,
        };
        self.verdicts.push(verified);
    }

    /// Runs the batches and hands over the verdicts of all records taken since the last time, in order.
    ///
    /// # Errors
    /// That of `run`; the records then wait on, and may be tried again.
    pub fn finish<E>(&mut self, run: &mut RunBatch<'_, E>, mut each: impl FnMut(Verified)) -> Result<(), E> {
        for group in self.groups.iter_mut().filter(|group| !group.records.is_empty()) {
            group.batch.rows = group.records.len();
            let outcome = run(&group.recipe, &group.batch)?;
            let remaining = self.role_levels.get(group.held..).unwrap_or_default();
            let numbers = self.scheme.alternatives(remaining).map(|(number, ..)| Reason::MatchedAlternative(number));
            for (leg, reason) in std::iter::once(Reason::None).chain(numbers).enumerate() {
                let valid = outcome.verdicts(leg).unwrap_or_default();
                for (record, _) in group.records.iter().zip(valid).filter(|(_, valid)| **valid) {
                    self.verdicts[*record as usize] = Verified { verdict: Verdict::Valid, reason };
                }
            }
        }
        self.verdicts.drain(..).for_each(&mut each);
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
        let scheme = Arc::clone(&self.scheme);
        let transaction = fields.byte(Field::TxnType).map(|byte| scheme.transaction_of_type(byte));
        let transaction = transaction.map(|found| found.filter(|transaction| !transaction.rules.tac.is_empty()));
        if let Some(reason) = first_missing(&scheme, &self.role_levels, transaction, fields) {
            return Err(unverifiable(reason));
        }
        let Some(Some(transaction)) = transaction else { return Err(unverifiable(Reason::UnknownType)) };
        let key = self.select(fields).map_err(unknown)?;
        let SelectableKey { algorithm, factors, .. } = &self.keys[key];
        let (algorithm, held) = (*algorithm, factors.len());
        let group = self.group(transaction, algorithm, held).map_err(unknown)?;
        // All is put together before anything is pushed: a record goes in whole or not at all.
        let remaining = self.role_levels.get(held..).unwrap_or_default();
        let missing = |field| unverifiable(Reason::Missing(field));
        self.scratch.clear();
        self.ends.clear();
        for level in remaining {
            scheme.append_factor(*level, fields, &mut self.scratch).map_err(missing)?;
            self.ends.push(self.scratch.len());
        }
        let tac = Piece::Field { field: Field::Tac, from: 0, to: Field::Tac.width() };
        let message = [transaction.rules.tac.as_slice(), std::slice::from_ref(&tac)];
        for pieces in message.into_iter().chain(scheme.alternatives(remaining).map(|(.., factor)| factor)) {
            pieces.iter().try_for_each(|piece| piece.append(fields, &mut self.scratch)).map_err(missing)?;
            self.ends.push(self.scratch.len());
        }
        let Group { batch, records, .. } = &mut self.groups[group];
        let mut from = 0;
        for (column, to) in batch.columns.iter_mut().zip(&self.ends) {
            column.push(&self.scratch[from..*to]);
            from = *to;
        }
        if let [KeyColumn::PerRow(keys)] = batch.keys.as_mut_slice() {
            keys.push(key as u16);
        }
        records.push(self.verdicts.len() as u32);
        Ok(())
    }

    /// Picks the key of a record, or says which part of the choice failed first in column order: city or
    /// issuer, version, algorithm.
    fn select(&mut self, fields: &FieldSet) -> Result<usize, Reason> {
        let version = fields.byte(Field::KeyVersion);
        let algorithm = fields.byte(Field::AlgId).and_then(|id| self.scheme.algorithm(id));
        let (mut ours, mut of_version, mut of_algorithm) = (false, false, false);
        let mut best: Option<usize> = None;
        for (number, key) in self.keys.iter().enumerate() {
            let mut levels = self.role_levels.iter().zip(&key.factors);
            let scratch = &mut self.scratch;
            let same_city = levels.all(|(level, held)| {
                scratch.clear();
                self.scheme.append_factor(*level, fields, scratch).is_ok() && scratch == held
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

    fn group(&mut self, transaction: Transaction<'_>, algorithm: Algorithm, held: usize) -> Result<usize, Reason> {
        let found = self.groups.iter().position(|group| {
            group.transaction == transaction.number && group.algorithm == algorithm && group.held == held
        });
        if let Some(found) = found {
            return Ok(found);
        }
        let recipe = self.scheme.tac_recipe(algorithm, held).ok_or(Reason::UnknownAlgorithm)?;
        let remaining = self.role_levels.get(held..).unwrap_or_default();
        let factors = remaining.iter().map(|level| self.scheme.level_width(*level));
        let alternatives = self.scheme.alternatives(remaining).map(|(.., factor)| width(factor));
        let widths = factors.chain([width(&transaction.rules.tac), Field::Tac.width()]).chain(alternatives);
        let columns = widths.map(|width| Column::with_capacity(width, 0)).collect();
        let batch = Batch { rows: 0, columns, keys: vec![KeyColumn::PerRow(Vec::new())] };
        self.groups.push(Group {
            transaction: transaction.number,
            algorithm,
            held,
            recipe,
            batch,
            records: Vec::new(),
        });
        Ok(self.groups.len() - 1)
    }
}

/// The first thing, in column order, for want of which the TAC cannot be checked.
fn first_missing(
    scheme: &CardScheme,
    levels: &[usize],
    transaction: Option<Option<Transaction<'_>>>,
    fields: &FieldSet,
) -> Option<Reason> {
    let needed = |field: Field| {
        matches!(field, Field::TxnType | Field::KeyVersion | Field::AlgId | Field::Tac)
            || levels
                .iter()
                .filter_map(|level| scheme.level(*level))
                .flat_map(|level| &level.factor)
                .any(|piece| piece.field() == Some(field))
            || matches!(transaction, Some(Some(t)) if t.rules.tac.iter().any(|piece| piece.field() == Some(field)))
    };
    // The TAC may cover what records have no column for (an overdraft limit): such a record cannot be checked.
    for field in Field::ALL {
        if needed(*field) && fields.get(*field).is_none() {
            return Some(Reason::Missing(*field));
        }
        if *field == Field::TxnType && matches!(transaction, Some(None)) {
            return Some(Reason::UnknownType);
        }
    }
    None
}

impl CardScheme {
    /// Verifies TACs under keys with `held` levels in them. Columns: the remaining factors root first, the
    /// message, the TAC. `None` if the scheme has no TAC or no such cipher.
    pub fn tac_recipe(&self, algorithm: Algorithm, held: usize) -> Option<Recipe> {
        let role = self.tac_role()?;
        role.admit(crate::RoleFinish::VerifyMac).ok()?;
        let rules = self.cipher(algorithm)?;
        let key = role.key(algorithm, held);
        let column = |level: usize| key.remaining().iter().position(|other| *other == level).unwrap_or(0);
        let mut path = self.path(0, key, column);
        path.steps.extend(rules.tac_key.fold().map(|rule| Step::FoldHalves { rule }));
        let message = key.remaining().len();
        let finish = Finish::VerifyMac {
            spec: self.purse_mac(rules.tac_truncation.rule()),
            message: Message::column(message),
            expected: Input::Column(message + 1),
        };
        let mut legs = vec![Leg { path: path.clone(), finish: finish.clone(), when: When::Always }];
        for (number, (_, step, _)) in self.alternatives(key.remaining()).enumerate() {
            let mut path = path.clone();
            if let Some(Step::Disperse { factor, .. }) = path.steps.get_mut(step) {
                *factor = Input::Column(message + 2 + number);
            }
            legs.push(Leg { path, finish: finish.clone(), when: When::AfterInvalid(number) });
        }
        Some(Recipe { legs })
    }

    /// The alternatives at levels that a key still lacks: their numbers in the profile, counted from one, which of
    /// the key's steps they change, and the other factor.
    fn alternatives<'a>(&'a self, remaining: &'a [usize]) -> impl Iterator<Item = (u8, usize, &'a [Piece])> {
        (1..).zip(&self.tables().alternatives).filter_map(|(number, (level, factor))| {
            let step = remaining.iter().position(|remaining| remaining == level)?;
            Some((number, step, factor.as_slice()))
        })
    }

    /// A record that does not say its key version or algorithm id, with those of the selector that fits it.
    fn selected(&self, fields: &FieldSet) -> Option<FieldSet> {
        let said = |field| fields.get(field).is_some();
        if self.tables().selectors.is_empty() || (said(Field::KeyVersion) && said(Field::AlgId)) {
            return None;
        }
        let within = |(field, from, to): &(Field, Vec<u8>, Vec<u8>)| {
            fields.get(*field).is_some_and(|value| (from.as_slice()..=to.as_slice()).contains(&value))
        };
        let selector = self.tables().selectors.iter().find(|selector| selector.ranges.iter().all(within))?;
        let mut selected = *fields;
        for (field, byte) in [(Field::KeyVersion, selector.key_version), (Field::AlgId, selector.alg_id)] {
            if !said(field) {
                // One byte, as the field has.
                let _ = selected.set(field, &[byte]);
            }
        }
        Some(selected)
    }
}
