//! What each transaction type needs, worked out once for a file: a record is then a few comparisons and copies.

use claviger_hsm_api::Column;

use super::Reason;
use crate::fields::{Field, FieldSet, Fields};
use crate::piece::Piece;
use crate::scheme::CardScheme;

/// Every transaction type.
pub(super) struct Plan {
    /// The transaction of each type byte; `None` where the TAC's layout is not known.
    types: Vec<Option<usize>>,
    /// What each transaction's TAC and key need.
    needed: Vec<Fields>,
    /// What is said to be missing before it is said that the type is not known.
    before_type: Fields,
}

impl Plan {
    /// The TAC's key is dispersed by `levels`.
    pub(super) fn new(scheme: &CardScheme, levels: &[usize]) -> Self {
        let of_levels = levels.iter().filter_map(|level| scheme.level(*level)).flat_map(|level| &level.factor);
        let always = [Field::TxnType, Field::KeyVersion, Field::AlgId, Field::Tac];
        let always: Vec<Field> = of_levels.filter_map(Piece::field).chain(always).collect();
        let fields = |tac: &[Piece]| always.iter().copied().chain(tac.iter().filter_map(Piece::field)).collect();
        let known = |byte: u8| scheme.transaction_of_type(byte).filter(|transaction| !transaction.rules.tac.is_empty());
        let before_type: Fields = always.iter().copied().collect();
        Self {
            types: (0..=u8::MAX).map(|byte| known(byte).map(|transaction| transaction.number)).collect(),
            needed: scheme.transactions().map(|transaction| fields(&transaction.rules.tac)).collect(),
            before_type: before_type.among(Fields::up_to(Field::TxnType)),
        }
    }

    /// The transaction of a record, or the first thing, in column order, for want of which its TAC cannot be checked.
    ///
    /// The TAC may cover what records have no column for (an overdraft limit): such a record cannot be checked.
    pub(super) fn transaction(&self, fields: &FieldSet) -> Result<usize, Reason> {
        let known = fields.byte(Field::TxnType).and_then(|byte| self.types[usize::from(byte)]);
        let needed = known.map_or(self.before_type, |number| self.needed[number]);
        match (fields.first_missing(needed), known) {
            (Some(field), _) => Err(Reason::Missing(field)),
            (None, Some(number)) => Ok(number),
            (None, None) => Err(Reason::UnknownType),
        }
    }
}

/// How a column's cells are put together from a record.
pub(super) struct Cells {
    parts: Vec<Part>,
    width: usize,
}

enum Part {
    /// Bytes of a row of fields.
    Row { at: usize, len: usize },
    Fixed(Vec<u8>),
}

impl Cells {
    pub(super) fn of(pieces: &[Piece]) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        for piece in pieces {
            match (piece, parts.last_mut()) {
                (Piece::Field { field, from, to }, Some(Part::Row { at, len })) if *at + *len == field.place() + from => {
                    // Fields that follow one another in a row are one copy.
                    *len += to - from;
                }
                (Piece::Field { field, from, to }, _) => {
                    parts.push(Part::Row { at: field.place() + from, len: to - from });
                }
                (Piece::Fixed(bytes), _) => parts.push(Part::Fixed(bytes.clone())),
            }
        }
        Self { parts, width: crate::piece::width(pieces) }
    }

    pub(super) fn column(&self) -> Column {
        Column::with_capacity(self.width, 0)
    }

    /// Adds a record's cell. Its fields are there.
    #[inline]
    pub(super) fn push(&self, fields: &FieldSet, column: &mut Column) {
        let (Column::Fixed { bytes, .. } | Column::Variable { bytes, .. }) = column;
        self.append(fields, bytes);
    }

    /// Appends what a record's fields, which are there, make of the cell.
    #[inline]
    pub(super) fn append(&self, fields: &FieldSet, to: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Row { at, len } => append(fields.bytes_at(*at, *len), to),
                Part::Fixed(fixed) => append(fixed, to),
            }
        }
    }
}

/// Appends bytes of a length that occurs in records by a move, not a call.
#[inline]
fn append(piece: &[u8], to: &mut Vec<u8>) {
    #[inline]
    fn exactly<const LEN: usize>(piece: &[u8], to: &mut Vec<u8>) {
        if let Some(piece) = piece.first_chunk::<LEN>() {
            to.extend_from_slice(piece);
        }
    }
    match piece.len() {
        1 => exactly::<1>(piece, to),
        2 => exactly::<2>(piece, to),
        4 => exactly::<4>(piece, to),
        6 => exactly::<6>(piece, to),
        8 => exactly::<8>(piece, to),
        17 => exactly::<17>(piece, to),
        _ => to.extend_from_slice(piece),
    }
}
