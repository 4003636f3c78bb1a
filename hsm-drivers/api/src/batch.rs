//! Idea two: batch first. The columns that a recipe is run over, and what comes back.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::attributes::words;
use crate::{StoredKey, UnknownWord};

use std::str::FromStr;

words! {
    /// What verification says of one record. In order of precedence: the first that applies.
    Verdict {
        /// A field is not what its column says.
        Malformed = "malformed",
        /// Something that the MAC covers is missing.
        Unverifiable = "unverifiable",
        /// No key of ours made it.
        UnknownKey = "unknown_key",
        /// The MAC is wrong.
        Invalid = "invalid",
        /// The MAC is right.
        Valid = "valid",
    }
}

/// The columns of one recipe's inputs. A single request is a batch of one row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Batch {
    /// Rows of every column.
    pub rows: usize,
    /// Numbered as [`Input::Column`](crate::Input::Column) numbers them.
    pub columns: Vec<Column>,
    /// One for each key slot of the recipe.
    pub keys: Vec<KeyColumn>,
}

/// Bytes of one row of a column.
pub type Cell<'a> = &'a [u8];

/// One input for all rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Column {
    /// Every row has the same width.
    Fixed {
        /// Bytes a row.
        width: usize,
        /// Row after row.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Rows of their own lengths.
    Variable {
        /// Where each row ends in `bytes`.
        ends: Vec<usize>,
        /// Row after row.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
}

/// Which of the handles given to the driver each row uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyColumn {
    /// One for all.
    Same(u16),
    /// One for each row.
    PerRow(Vec<u16>),
}

/// What a driver answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// One for each leg.
    pub legs: Vec<LegOutcome>,
}

/// What one leg did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LegOutcome {
    /// Which rows ran: not those whose condition did not hold, and not those that did not decrypt.
    pub ran: Vec<bool>,
    /// What they gave.
    pub value: LegValue,
}

/// What a leg gives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LegValue {
    /// Bytes; of no meaning in rows that did not run.
    Bytes(Column),
    /// Whether the MAC or signature was right; `false` in rows that did not run.
    Verdicts(Vec<bool>),
    /// New stored keys, one for each row that ran, in order.
    Stored(Vec<StoredKey>),
}

/// A batch that does not fit its recipe. Says which part, never what it held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBatch {
    /// More or fewer rows than the batch says.
    #[error("column {column} has {found} rows where the batch has {wanted}")]
    Rows {
        /// Its number.
        column: usize,
        /// Its rows.
        found: usize,
        /// The batch's rows.
        wanted: usize,
    },
    /// The recipe speaks of a column that is not there.
    #[error("the recipe reads column {column}, the batch has {found}")]
    NoColumn {
        /// Its number.
        column: usize,
        /// Columns there are.
        found: usize,
    },
    /// A key column is missing or short, or names a key that was not given.
    #[error("key slot {slot} does not name one of the {keys} keys given in every row")]
    Keys {
        /// Its number.
        slot: usize,
        /// Handles given.
        keys: usize,
    },
    /// Bytes of the wrong length.
    #[error("{what} has {found} bytes where {wanted} are needed")]
    Length {
        /// Which input.
        what: &'static str,
        /// Its bytes.
        found: usize,
        /// In words or a number.
        wanted: &'static str,
    },
}

impl Column {
    fn wipe(&mut self) {
        let (Self::Fixed { bytes, .. } | Self::Variable { bytes, .. }) = self;
        bytes.zeroize();
    }

    /// An empty column of fixed width with room for `rows`.
    pub fn with_capacity(width: usize, rows: usize) -> Self {
        Self::Fixed { width, bytes: Vec::with_capacity(width * rows) }
    }

    /// A column of one row.
    pub fn one(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::Fixed { width: bytes.len(), bytes }
    }

    /// A column from its rows.
    pub fn from_rows<'a>(rows: impl IntoIterator<Item = Cell<'a>>) -> Self {
        let (mut ends, mut bytes) = (Vec::new(), Vec::new());
        for row in rows {
            bytes.extend_from_slice(row);
            ends.push(bytes.len());
        }
        Self::Variable { ends, bytes }
    }

    /// Rows there are; a column of width zero has none to count.
    pub fn rows(&self) -> usize {
        match self {
            Self::Fixed { width, bytes } => bytes.len().checked_div(*width).unwrap_or(0),
            Self::Variable { ends, .. } => ends.len(),
        }
    }

    /// Bytes a row, or zero where rows have their own lengths.
    pub fn width(&self) -> usize {
        match self {
            Self::Fixed { width, .. } => *width,
            Self::Variable { .. } => 0,
        }
    }

    /// The bytes of one row.
    pub fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Fixed { width, bytes } => &bytes[row * width..(row + 1) * width],
            Self::Variable { ends, bytes } => {
                let start = if row == 0 { 0 } else { ends[row - 1] };
                &bytes[start..ends[row]]
            }
        }
    }

    /// Adds a row. A row of another width than a fixed column's is refused by the batch check, since the
    /// rows then no longer add up.
    pub fn push(&mut self, row: Cell<'_>) {
        match self {
            Self::Fixed { bytes, .. } => bytes.extend_from_slice(row),
            Self::Variable { ends, bytes } => {
                bytes.extend_from_slice(row);
                ends.push(bytes.len());
            }
        }
    }

    /// Forgets the rows and keeps the room.
    pub fn clear(&mut self) {
        match self {
            Self::Fixed { bytes, .. } => bytes.clear(),
            Self::Variable { ends, bytes } => {
                ends.clear();
                bytes.clear();
            }
        }
    }
}

impl KeyColumn {
    /// The number of the handle that a row uses.
    pub fn at(&self, row: usize) -> u16 {
        match self {
            Self::Same(key) => *key,
            Self::PerRow(keys) => keys[row],
        }
    }

    /// Every number in use, at least once.
    pub fn used(&self) -> &[u16] {
        match self {
            Self::Same(key) => std::slice::from_ref(key),
            Self::PerRow(keys) => keys,
        }
    }
}

impl Batch {
    /// A batch of one row, under `keys` given handles, each in a slot of its own.
    pub fn one(columns: Vec<Column>, keys: u16) -> Self {
        Self { rows: 1, columns, keys: (0..keys).map(KeyColumn::Same).collect() }
    }

    /// Overwrites the columns: a PIN may be in one.
    pub fn wipe(&mut self) {
        self.columns.iter_mut().for_each(Column::wipe);
    }

    /// Whether columns and key columns have the rows they should, before anything indexes them.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check(&self, slots: usize, keys: usize) -> Result<(), MalformedBatch> {
        for (column, content) in self.columns.iter().enumerate() {
            let found = content.rows();
            let whole = match content {
                Column::Fixed { width: 0, .. } => true,
                Column::Fixed { width, bytes } => bytes.len() == width * self.rows,
                Column::Variable { ends, bytes } => {
                    found == self.rows && ends.is_sorted() && ends.last().copied().unwrap_or(0) == bytes.len()
                }
            };
            if !whole {
                return Err(MalformedBatch::Rows { column, found, wanted: self.rows });
            }
        }
        for slot in 0..slots {
            let good = self.keys.get(slot).is_some_and(|column| {
                let rows = match column {
                    KeyColumn::Same(_) => self.rows,
                    KeyColumn::PerRow(keys) => keys.len(),
                };
                rows == self.rows && column.used().iter().all(|key| usize::from(*key) < keys)
            });
            if !good {
                return Err(MalformedBatch::Keys { slot, keys });
            }
        }
        Ok(())
    }
}

impl Outcome {
    /// Overwrites the bytes that legs gave: a PIN may be among them.
    pub fn wipe(&mut self) {
        for leg in &mut self.legs {
            if let LegValue::Bytes(column) = &mut leg.value {
                column.wipe();
            }
        }
    }

    /// The verdicts of a leg, if it verified.
    pub fn verdicts(&self, leg: usize) -> Option<&[bool]> {
        match &self.legs.get(leg)?.value {
            LegValue::Verdicts(verdicts) => Some(verdicts),
            _ => None,
        }
    }

    /// The bytes of one row of a leg, if that row ran and gave bytes.
    pub fn bytes(&self, leg: usize, row: usize) -> Option<Cell<'_>> {
        let leg = self.legs.get(leg)?;
        match &leg.value {
            LegValue::Bytes(column) if *leg.ran.get(row)? => Some(column.cell(row)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uneven_batches_are_refused() {
        let good = Batch {
            rows: 2,
            columns: vec![Column::Fixed { width: 8, bytes: vec![0; 16] }],
            keys: vec![KeyColumn::Same(0)],
        };
        assert_eq!(good.check(1, 1), Ok(()));
        assert!(matches!(good.check(2, 1), Err(MalformedBatch::Keys { slot: 1, .. })));
        assert!(matches!(good.check(1, 0), Err(MalformedBatch::Keys { slot: 0, .. })));
        let short = Batch { columns: vec![Column::Fixed { width: 8, bytes: vec![0; 15] }], ..good.clone() };
        assert!(matches!(short.check(1, 1), Err(MalformedBatch::Rows { column: 0, .. })));
        let backwards = Batch { columns: vec![Column::Variable { ends: vec![3, 2], bytes: vec![0; 2] }], ..good };
        assert!(backwards.check(1, 1).is_err());
    }

    #[test]
    fn verdicts_are_ordered_by_precedence() {
        assert!(Verdict::Malformed < Verdict::Unverifiable && Verdict::UnknownKey < Verdict::Invalid);
    }
}
