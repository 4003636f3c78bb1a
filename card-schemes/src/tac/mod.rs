//! Bulk TAC verification: records to batches, outcomes to verdicts.

mod choices;
#[cfg(test)]
mod one_by_one;
mod plan;
mod verifier;

use std::fmt;
use std::io::Write;

use claviger_hsm_api::{Algorithm, Finish, Input, KeyVersion, Leg, Message, Recipe, Step, Verdict, When};

use crate::fields::{Field, FieldSet};
use crate::piece::Piece;
use crate::records::append_record_id;
use crate::scheme::CardScheme;

pub use verifier::{RunBatch, TacVerifier};

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

impl Verified {
    /// Appends the line `record_id,verdict,reason` of a CSV of verdicts, with its end.
    pub fn append_line(&self, id: &[u8], to: &mut Vec<u8>) {
        append_record_id(id, to);
        // Nearly every record: no formatting.
        if *self == (Self { verdict: Verdict::Valid, reason: Reason::None }) {
            to.extend_from_slice(b",valid,\n");
        } else {
            // Writing to memory cannot fail.
            let _ = writeln!(to, ",{},{}", self.verdict, self.reason);
        }
    }
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

    /// Whether selectors tell the keys of records that do not say them.
    fn has_selectors(&self) -> bool {
        !self.tables().selectors.is_empty()
    }

    /// A record that does not say its key version or algorithm id, with those of the selector that fits it.
    fn selected(&self, fields: &FieldSet) -> Option<FieldSet> {
        let said = |field| fields.get(field).is_some();
        if said(Field::KeyVersion) && said(Field::AlgId) {
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
