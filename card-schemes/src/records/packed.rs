//! Fields that stand in records as cards write them: whatever follows one another there and in a row is one copy.

use std::ops::Range;

use crate::fields::{Field, FieldSet, Fields};

/// Where the fields of a layout's records stand.
#[derive(Default)]
pub(super) struct Packed {
    fields: Fields,
    runs: Vec<Run>,
    absent: Vec<Absent>,
}

/// Bytes of a record that are bytes of a row.
struct Run {
    bytes: Range<usize>,
    /// In the row, as [`Field::place`] counts.
    place: usize,
    reversed: bool,
}

/// What stands in the place of a field that is not there.
struct Absent {
    field: Field,
    /// Where it begins.
    at: usize,
    /// It as a little-endian word, and the bits that it has there.
    word: u64,
    mask: u64,
}

impl Packed {
    /// Adds the place of a field, and what stands there if it is absent; of at most eight bytes.
    pub(super) fn add(&mut self, field: Field, bytes: Range<usize>, absent: Option<&[u8]>) {
        self.add_field(field, bytes.start, absent);
        match self.runs.last_mut() {
            Some(Run { bytes: run, place, reversed: false })
                if run.end == bytes.start && *place + run.len() == field.place() =>
            {
                run.end = bytes.end;
            }
            _ => self.runs.push(Run { bytes, place: field.place(), reversed: false }),
        }
    }

    /// The same of a field whose bytes are turned round.
    pub(super) fn add_reversed(&mut self, field: Field, bytes: Range<usize>, absent: Option<&[u8]>) {
        self.add_field(field, bytes.start, absent);
        self.runs.push(Run { bytes, place: field.place(), reversed: true });
    }

    fn add_field(&mut self, field: Field, at: usize, absent: Option<&[u8]>) {
        self.fields.add(field);
        if let Some(absent) = absent {
            let mask = u64::MAX >> (64 - 8 * absent.len());
            self.absent.push(Absent { field, at, word: word_at(absent, 0), mask });
        }
    }

    /// Reads the fields of a record, which are not checked.
    #[inline]
    pub(super) fn read(&self, record: &[u8], to: &mut FieldSet) {
        for Run { bytes, place, reversed } in &self.runs {
            let bytes = record.get(bytes.clone()).unwrap_or_default();
            if *reversed { to.copy_reversed(*place, bytes) } else { to.copy(*place, bytes) }
        }
        let mut fields = self.fields;
        for Absent { field, at, word, mask } in &self.absent {
            if word_at(record, *at) & mask == *word {
                to.clear(*field);
                fields = fields.without(Fields::one(*field));
            }
        }
        to.add(fields);
    }
}

/// Eight bytes from a place on, or what there is of them, before zeros.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    match bytes[at..].first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => bytes[at..].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}
