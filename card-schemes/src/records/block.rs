//! Some records at a time, field by field: what a field is, is asked once for all of them.

use super::{LineFault, RecordSink, is_record_id};
use crate::digits::{DigitRow, number, number_in};
use crate::fields::{Field, FieldSet, Fields, Form};

/// Records that are read together; with their fields they stay in the first cache.
pub(super) const MOST: usize = 64;

/// The fields of some records, and what is wrong with them.
#[derive(Default)]
pub(super) struct Block {
    /// Records that there are; of rows there may be more.
    len: usize,
    rows: Vec<FieldSet>,
    faults: Vec<Fields>,
    /// Fields of each row that wait as digits, and these.
    waiting: Vec<Fields>,
    digits: Vec<DigitRow>,
}

impl Block {
    /// Begins with `rows` records that have no field yet.
    pub(super) fn begin(&mut self, rows: usize) {
        self.len = rows;
        self.rows.clear();
        self.rows.resize(rows, FieldSet::default());
        self.faults.clear();
        self.faults.resize(rows, Fields::default());
        self.waiting.clear();
    }

    /// Begins with as many records as are read, each by itself. Their digits are those of other records until all are laid,
    /// or none.
    #[inline]
    pub(super) fn begin_rows(&mut self) -> impl Iterator<Item = Row<'_>> {
        self.rows.resize(MOST, FieldSet::default());
        self.faults.resize(MOST, Fields::default());
        self.waiting.resize(MOST, Fields::default());
        self.digits.resize(MOST, DigitRow::EMPTY);
        let rows = self.rows.iter_mut().zip(&mut self.faults).zip(self.waiting.iter_mut().zip(&mut self.digits));
        rows.map(|((fields, faults), (waiting, digits))| {
            (*fields, *faults, *waiting) = Default::default();
            Row { fields, faults, waiting, digits }
        })
    }

    /// So many have been read.
    pub(super) fn end_rows(&mut self, rows: usize) {
        self.len = rows;
    }

    /// Reads a field of clearing records from the text of each record, empty where it is absent. `None` is wrong.
    #[inline]
    pub(super) fn parse<'a>(&mut self, field: Field, texts: impl Iterator<Item = Option<&'a [u8]>>) {
        match (field.form(), field.width()) {
            (Form::Fen, _) => self.numbers(field, texts),
            (_, 1) => self.digits::<2>(field, texts),
            (_, 2) => self.digits::<4>(field, texts),
            (_, 3) => self.digits::<6>(field, texts),
            (_, 4) => self.digits::<8>(field, texts),
            (_, 6) => self.digits::<12>(field, texts),
            _ => self.digits::<16>(field, texts),
        }
    }

    #[inline]
    fn numbers<'a>(&mut self, field: Field, texts: impl Iterator<Item = Option<&'a [u8]>>) {
        for ((row, faults), text) in self.rows.iter_mut().zip(&mut self.faults).zip(texts) {
            match text {
                Some([]) => {}
                Some(text) if let Some(fen) = number(text) => row.put(field, fen.to_be_bytes()),
                _ => faults.add(field),
            }
        }
    }

    #[inline]
    fn digits<'a, const LEN: usize>(&mut self, field: Field, texts: impl Iterator<Item = Option<&'a [u8]>>) {
        if self.waiting.is_empty() {
            self.waiting.resize(self.rows.len(), Fields::default());
            self.digits.clear();
            self.digits.resize(self.rows.len(), DigitRow::EMPTY);
        }
        let rows = self.digits.iter_mut().zip(&mut self.waiting).zip(&mut self.faults);
        for (((digits, waiting), faults), text) in rows.zip(texts) {
            match text {
                Some([]) => {}
                Some(text) if let Ok(text) = text.try_into() => {
                    digits.set::<LEN>(field.place(), text);
                    waiting.add(field);
                }
                _ => faults.add(field),
            }
        }
    }

    /// Reads a field from the bytes that each record has for it, or none.
    #[inline]
    pub(super) fn set<'a>(&mut self, field: Field, cells: impl Iterator<Item = Option<&'a [u8]>>) {
        match field.width() {
            1 => self.bytes::<1>(field, cells),
            2 => self.bytes::<2>(field, cells),
            3 => self.bytes::<3>(field, cells),
            4 => self.bytes::<4>(field, cells),
            6 => self.bytes::<6>(field, cells),
            _ => self.bytes::<8>(field, cells),
        }
    }

    #[inline]
    fn bytes<'a, const LEN: usize>(&mut self, field: Field, cells: impl Iterator<Item = Option<&'a [u8]>>) {
        for ((row, faults), cell) in self.rows.iter_mut().zip(&mut self.faults).zip(cells) {
            match cell.map(<[u8; LEN]>::try_from) {
                None => {}
                Some(Ok(bytes)) => row.put(field, bytes),
                Some(Err(_)) => faults.add(field),
            }
        }
    }

    /// The fields of each record, to be set.
    pub(super) fn rows(&mut self) -> impl Iterator<Item = &mut FieldSet> {
        self.rows.iter_mut().take(self.len)
    }

    /// All fields have been read: packs the digits, and checks what was read.
    pub(super) fn settle(&mut self) {
        for ((row, faults), (digits, waiting)) in
            self.rows.iter_mut().zip(&mut self.faults).zip(self.digits.iter().zip(&self.waiting)).take(self.len)
        {
            let (packed, all) = digits.pack();
            if !all {
                *faults = faults.with(not_digits(digits, *waiting));
            }
            row.merge(*waiting, &packed);
        }
        for (row, faults) in self.rows.iter().zip(&mut self.faults).take(self.len) {
            *faults = faults.with(row.unsayable());
        }
    }

    /// Gives each record what it does not have itself.
    pub(super) fn fill_in(&mut self, defaults: &FieldSet) {
        self.rows.iter_mut().take(self.len).for_each(|row| row.fill_in(defaults));
    }

    /// Says that a field of a record is wrong.
    pub(super) fn blame(&mut self, row: usize, field: Field) {
        self.faults[row].add(field);
    }

    /// The records that can be read, or what is wrong with each.
    #[inline]
    pub(super) fn records(&self) -> impl Iterator<Item = Result<&FieldSet, LineFault>> {
        self.rows.iter().zip(&self.faults).take(self.len).map(|(row, faults)| match faults.first() {
            Some(field) => Err(LineFault::Field(field)),
            None => Ok(row),
        })
    }

    /// Gives the records to the sink, with their ids and numbers.
    #[inline]
    pub(super) fn give<'a, S: RecordSink>(
        &self,
        ids: impl Iterator<Item = (&'a [u8], u64)>,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        for (record, (id, number)) in self.records().zip(ids) {
            match record {
                _ if !is_record_id(id) => sink.record(&[], Err(LineFault::NoId), number)?,
                record => sink.record(id, record, number)?,
            }
        }
        Ok(())
    }
}

/// A record of a block.
pub(super) struct Row<'a> {
    fields: &'a mut FieldSet,
    faults: &'a mut Fields,
    waiting: &'a mut Fields,
    digits: &'a mut DigitRow,
}

impl Row<'_> {
    /// Takes a field's digits, with what may be beyond them. Whoever lays fields lays all of a record, in their order.
    #[inline]
    pub(super) fn lay(&mut self, field: Field, digits: &[u8; 16]) {
        self.digits.lay(field.place(), digits);
        self.waiting.add(field);
    }

    /// The same for a field that has no digits.
    #[inline]
    pub(super) fn lay_none(&mut self, field: Field) {
        self.digits.lay(field.place(), &[b'0'; 16]);
    }

    /// The last field has been laid.
    #[inline]
    pub(super) fn end(&mut self) {
        self.digits.end();
    }

    /// There are no digits yet, and then not those of all fields.
    pub(super) fn lay_nothing(&mut self) {
        *self.digits = DigitRow::EMPTY;
    }

    /// Takes a field's digits.
    pub(super) fn copy(&mut self, field: Field, digits: &[u8]) {
        self.digits.copy(field.place(), digits);
        self.waiting.add(field);
    }

    /// Reads a number from the first `len` bytes of a cell, or none.
    #[inline]
    pub(super) fn number(&mut self, field: Field, cell: &[u8; 16], len: usize) {
        match number_in(cell, len) {
            Some(fen) => self.fields.put(field, fen.to_be_bytes()),
            None => self.faults.add_if(len != 0, field),
        }
    }
}

/// The fields among some whose digits are none.
#[cold]
fn not_digits(digits: &DigitRow, among: Fields) -> Fields {
    let wrong = |field: &Field| {
        among.has(*field) && !digits.get(field.place(), field.width()).iter().all(u8::is_ascii_hexdigit)
    };
    Field::OF_RECORDS.iter().copied().filter(wrong).collect()
}
