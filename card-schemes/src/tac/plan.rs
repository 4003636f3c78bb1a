//! What each transaction type needs, worked out once for a file: a record is then a few comparisons and copies.

use super::Reason;
use crate::fields::{Field, FieldSet, Fields};
use crate::piece::Piece;
use crate::scheme::CardScheme;

/// Every transaction type.
pub(super) struct Plan {
    /// Of each type byte.
    types: Vec<Type>,
    /// A record that does not say its type.
    untyped: Type,
}

/// What a transaction's TAC and key need.
#[derive(Clone, Copy)]
struct Type {
    needed: Fields,
    /// `None` where the TAC's layout is not known: then only what comes before the type is said to be missing.
    transaction: Option<u16>,
}

impl Plan {
    /// The TAC's key is dispersed by `levels`.
    pub(super) fn new(scheme: &CardScheme, levels: &[usize]) -> Self {
        let of_levels = levels.iter().filter_map(|level| scheme.level(*level)).flat_map(|level| &level.factor);
        let always = [Field::TxnType, Field::KeyVersion, Field::AlgId, Field::Tac];
        let always: Fields = of_levels.filter_map(Piece::field).chain(always).collect();
        let untyped = Type { needed: always.among(Fields::up_to(Field::TxnType)), transaction: None };
        let of_type = |byte: u8| {
            let transaction =
                scheme.transaction_of_type(byte).filter(|transaction| !transaction.rules.tac.is_empty())?;
            let of_tac = transaction.rules.tac.iter().filter_map(Piece::field).collect();
            Some(Type { needed: always.with(of_tac), transaction: u16::try_from(transaction.number).ok() })
        };
        Self { types: (0..=u8::MAX).map(|byte| of_type(byte).unwrap_or(untyped)).collect(), untyped }
    }

    /// The transaction of a record, or the first thing, in column order, for want of which its TAC cannot be checked.
    ///
    /// The TAC may cover what records have no column for (an overdraft limit): such a record cannot be checked.
    #[inline]
    pub(super) fn transaction(&self, fields: &FieldSet) -> Result<usize, Reason> {
        let known = fields.byte(Field::TxnType).and_then(|byte| self.types.get(usize::from(byte)));
        let Type { needed, transaction } = known.unwrap_or(&self.untyped);
        match (fields.first_missing(*needed), transaction) {
            (Some(field), _) => Err(Reason::Missing(field)),
            (None, Some(number)) => Ok(usize::from(*number)),
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
    Row {
        at: usize,
        len: usize,
    },
    Fixed(Vec<u8>),
}

impl Cells {
    pub(super) fn of(pieces: &[Piece]) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        for piece in pieces {
            match (piece, parts.last_mut()) {
                (Piece::Field { field, from, to }, Some(Part::Row { at, len }))
                    if *at + *len == field.place() + from =>
                {
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

    /// Bytes of a cell.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Appends the cells of some records, whose fields are there: part by part, each in every cell.
    pub(super) fn append(&self, rows: &[FieldSet], to: &mut Vec<u8>) {
        if self.width == 0 {
            return;
        }
        let first = to.len();
        to.resize(first + self.width * rows.len(), 0);
        let bytes = &mut to[first..];
        let mut offset = 0;
        for part in &self.parts {
            match part {
                Part::Row { at, len } => {
                    put(bytes, self.width, offset, rows, *at, *len);
                    offset += len;
                }
                Part::Fixed(fixed) => {
                    let cells = bytes.chunks_exact_mut(self.width);
                    cells.for_each(|cell| cell[offset..offset + fixed.len()].copy_from_slice(fixed));
                    offset += fixed.len();
                }
            }
        }
    }
}

/// Copies bytes of each row to one place in each cell, by a loop for each length that occurs in records: what the
/// compiler knows the length of costs a move, not a call.
fn put(cells: &mut [u8], width: usize, offset: usize, rows: &[FieldSet], at: usize, len: usize) {
    #[inline]
    fn exactly<const LEN: usize>(cells: &mut [u8], width: usize, offset: usize, rows: &[FieldSet], at: usize) {
        for (cell, row) in cells.chunks_exact_mut(width).zip(rows) {
            if let (Some(to), Some(from)) = (cell[offset..].first_chunk_mut::<LEN>(), row.chunk_at(at)) {
                *to = *from;
            }
        }
    }
    match len {
        1 => exactly::<1>(cells, width, offset, rows, at),
        2 => exactly::<2>(cells, width, offset, rows, at),
        3 => exactly::<3>(cells, width, offset, rows, at),
        4 => exactly::<4>(cells, width, offset, rows, at),
        6 => exactly::<6>(cells, width, offset, rows, at),
        8 => exactly::<8>(cells, width, offset, rows, at),
        17 => exactly::<17>(cells, width, offset, rows, at),
        _ => {
            for (cell, row) in cells.chunks_exact_mut(width).zip(rows) {
                cell[offset..offset + len].copy_from_slice(row.bytes_at(at, len));
            }
        }
    }
}
