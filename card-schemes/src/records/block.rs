//! Some records at a time, field by field: what a field is, is asked once for all of them.

use super::{LineFault, RecordSink, is_record_id};
use crate::fields::{Field, FieldSet, Fields};

/// Records that are read together; with their fields they stay in the first cache.
pub(super) const MOST: usize = 64;

/// The fields of some records, and what is wrong with them.
#[derive(Default)]
pub(super) struct Block {
    rows: Vec<FieldSet>,
    faults: Vec<Fields>,
}

impl Block {
    /// Begins with `rows` records that have the fields of `all` already.
    pub(super) fn begin(&mut self, rows: usize, all: &FieldSet) {
        self.rows.clear();
        self.rows.resize(rows, *all);
        self.faults.clear();
        self.faults.resize(rows, Fields::default());
    }

    /// Reads a field from the text of each record, empty where it is absent. `None` is wrong.
    #[inline]
    pub(super) fn parse<'a>(&mut self, field: Field, texts: impl Iterator<Item = Option<&'a [u8]>>) {
        let faults = &mut self.faults;
        FieldSet::parse_all(&mut self.rows, field, texts, |row| faults[row].add(field));
    }

    /// Reads a field from the bytes that each record has for it, or none.
    #[inline]
    pub(super) fn set<'a>(&mut self, field: Field, bytes: impl Iterator<Item = Option<&'a [u8]>>) {
        for ((row, fault), bytes) in self.rows.iter_mut().zip(&mut self.faults).zip(bytes) {
            if bytes.is_some_and(|bytes| row.set_checked(field, bytes).is_err()) {
                fault.add(field);
            }
        }
    }

    /// Says that a field of a record is wrong.
    pub(super) fn blame(&mut self, row: usize, field: Field) {
        self.faults[row].add(field);
    }

    /// Gives the records to the sink, with their ids and numbers.
    #[inline]
    pub(super) fn give<'a, S: RecordSink>(
        &self,
        records: impl Iterator<Item = (&'a [u8], u64)>,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        for ((row, fault), (id, number)) in self.rows.iter().zip(&self.faults).zip(records) {
            match (is_record_id(id), fault.first()) {
                (false, _) => sink.record(&[], Err(LineFault::NoId), number)?,
                (true, Some(field)) => sink.record(id, Err(LineFault::Field(field)), number)?,
                (true, None) => sink.record(id, Ok(row), number)?,
            }
        }
        Ok(())
    }
}
