//! Plain lines of CSV: each cell as long as its field's digits, or empty. The columns then say where the separators are:
//! they are looked at, not looked for. A line that is not so is read cell by cell; and so is one that then has a fault,
//! for a separator in the place of a digit is one, and ends another cell or line than was thought.

use std::hint::cold_path;

use wide::u8x16;

use super::LONGEST_ID;
use super::block::Row;
use crate::digits::at_most;
use crate::fields::{Field, Form};

/// Bytes that are copied or looked at together: as many as a field has digits.
const WIDE: usize = 16;
/// No plain line has as many bytes: the longest id, all fields and their separators.
const LONGEST: usize = 256;
/// A line, and what may be read beyond it.
type Window = [u8; LONGEST + WIDE];

/// How plain lines are read, column by column.
#[derive(Debug, Clone)]
pub(super) struct LinePlan {
    columns: Vec<Column>,
    /// Whether all fields of a record stand in the order of a row: each may then be copied with what comes after it.
    in_order: bool,
}

#[derive(Debug, Clone, Copy)]
enum Column {
    Id,
    Number(Field),
    /// A field of so many digits.
    Digits(Field, u8),
}

/// A plain line.
pub(super) struct Line {
    /// Its first byte in the text.
    pub(super) from: usize,
    /// Bytes with its end.
    pub(super) len: usize,
    /// Where its record id begins, and its bytes.
    id: (usize, usize),
    pub(super) number: u64,
}

impl LinePlan {
    /// For a field in each column; `None` is the record id.
    pub(super) fn of(fields: &[Option<Field>]) -> Self {
        let column = |field: &Option<Field>| match *field {
            None => Column::Id,
            Some(field) if field.form() == Form::Fen => Column::Number(field),
            Some(field) => Column::Digits(field, 2 * field.width() as u8),
        };
        let in_order = fields.iter().flatten().eq(Field::OF_RECORDS);
        Self { columns: fields.iter().map(column).collect(), in_order }
    }

    /// Reads a line that ends within the text; says whether it is plain.
    #[inline]
    pub(super) fn read(&self, text: &[u8], line: &mut Line, row: &mut Row<'_>) -> bool {
        let rest = text.get(line.from..).unwrap_or_default();
        if let Some(window) = rest.first_chunk() {
            return self.read_in(window, row, line).is_some();
        }
        let mut window = [0; LONGEST + WIDE];
        window[..rest.len()].copy_from_slice(rest);
        self.read_in(&window, row, line).is_some()
    }

    fn read_in(&self, window: &Window, row: &mut Row<'_>, line: &mut Line) -> Option<()> {
        if !self.in_order {
            row.lay_nothing();
        }
        let mut at = 0;
        let (last, columns) = self.columns.split_last()?;
        for column in columns {
            at = self.read_cell(*column, window, at, |at| window[at % LONGEST] == b',', row, line)? + 1;
        }
        let ends = |at: usize| matches!(window[at % LONGEST], b'\n' | b'\r');
        at = self.read_cell(*last, window, at, ends, row, line)?;
        // An empty line is no record.
        let some = at > 0;
        at += usize::from(window[at % LONGEST] == b'\r');
        line.len = at + 1;
        row.end();
        (some && window[at % LONGEST] == b'\n').then_some(())
    }

    /// Reads a cell; gives where it ends.
    #[inline(always)]
    fn read_cell(
        &self,
        column: Column,
        window: &Window,
        at: usize,
        ends: impl Fn(usize) -> bool,
        row: &mut Row<'_>,
        line: &mut Line,
    ) -> Option<usize> {
        let cell = from(window, at);
        let end = match column {
            Column::Digits(field, len) => {
                let end = at + usize::from(len);
                if ends(end) {
                    if self.in_order {
                        row.lay(field, cell);
                    } else {
                        row.copy(field, cell.get(..usize::from(len))?);
                    }
                    return Some(end);
                }
                cold_path();
                if self.in_order {
                    row.lay_none(field);
                }
                at
            }
            Column::Number(field) => {
                let len = digits(cell);
                row.number(field, cell, len);
                if self.in_order {
                    row.lay_none(field);
                }
                at + len
            }
            Column::Id => {
                line.id = (at, id_len(window, at));
                at + line.id.1
            }
        };
        ends(end).then_some(end)
    }
}

/// The bytes from a place in a window on.
#[inline(always)]
fn from(window: &Window, at: usize) -> &[u8; WIDE] {
    window[at % LONGEST..].first_chunk().unwrap_or(&[0; WIDE])
}

/// How many decimal digits some bytes begin with.
#[inline]
fn digits(bytes: &[u8; WIDE]) -> usize {
    let digits = at_most(u8x16::new(*bytes) - u8x16::splat(b'0'), 9);
    (!digits.to_bitmask()).trailing_zeros() as usize
}

/// How many bytes there are before a comma, a quote or a control character; more than an id may have, if there is none.
#[inline]
fn id_len(window: &Window, at: usize) -> usize {
    let mut len = 0;
    while len <= LONGEST_ID {
        let bytes = u8x16::new(*from(window, at + len));
        let others = bytes.simd_eq(u8x16::splat(b',')) | bytes.simd_eq(u8x16::splat(b'"')) | at_most(bytes, 0x1F);
        match others.to_bitmask() {
            0 => len += WIDE,
            found => return len + found.trailing_zeros() as usize,
        }
    }
    len
}

impl Line {
    /// One that begins there, before it is read.
    pub(super) fn at(from: usize, number: u64) -> Self {
        Self { from, len: 0, id: (0, 0), number }
    }

    /// Its record id.
    pub(super) fn id<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let from = self.from + self.id.0;
        text.get(from..from + self.id.1).unwrap_or_default()
    }

    /// The line without its end.
    pub(super) fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let line = text.get(self.from..self.from + self.len - 1).unwrap_or_default();
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}
