//! Lines of a clearing file in CSV (RFC 4180), one record a line.
//!
//! A record never holds a line break, so a quote that is left open harms its own line only.

use std::borrow::Cow;

use wide::u8x16;

use super::{Columns, FormatError, LineFault, RecordSink, is_record_id};
use crate::fields::{Field, FieldSet};

/// Which column holds what.
#[derive(Debug, Clone)]
struct Header {
    /// Field of each column; `None` for the record id.
    columns: Vec<Option<Field>>,
    /// What a line with too many cells is blamed on.
    last: Option<Field>,
}

impl Header {
    /// Reads the header line.
    fn parse(line: &[u8], columns: &Columns) -> Result<Self, FormatError> {
        let line = std::str::from_utf8(line).map_err(|_| FormatError::NotText)?;
        let line = line.strip_prefix('\u{FEFF}').unwrap_or(line);
        let names = line.trim_end_matches(['\r', '\n']).split(',').map(|name| name.trim().trim_matches('"'));
        let (_, columns) = columns.match_names(names)?;
        let last = columns.iter().flatten().copied().max();
        Ok(Self { columns, last })
    }

    /// Reads one line into `id` and `fields`. Every field is looked at, so that the fault reported is the
    /// first in column order whatever the order in the file.
    ///
    /// # Errors
    /// [`LineFault`].
    fn read(&self, line: &[u8], id: &mut Vec<u8>, fields: &mut FieldSet) -> Result<(), LineFault> {
        id.clear();
        fields.clear();
        let mut reading = Reading { columns: self.columns.iter(), id, fields, fault: None };
        let more = if memchr::memchr(b'"', line).is_some() {
            let mut cells = Quoted { rest: Some(line) };
            cells.by_ref().take(self.columns.len()).for_each(|cell| reading.take(cell.as_deref()));
            cells.next().is_some()
        } else {
            let commas = Commas::of(line);
            let mut from = 0;
            for to in commas.at[..commas.len].iter().take(self.columns.len()).map(|at| *at as usize) {
                reading.take(line.get(from..to));
                from = to + 1;
            }
            if commas.len < self.columns.len() {
                reading.take(line.get(from..));
            }
            commas.len >= self.columns.len()
        };
        while !reading.columns.as_slice().is_empty() {
            reading.take(None);
        }
        if more {
            // More cells than columns: nobody can say which are right.
            reading.blame(self.last.unwrap_or(Field::Tac));
        }
        match (reading.id.is_empty(), reading.fault) {
            (true, _) => Err(LineFault::NoId),
            (false, Some(field)) => Err(LineFault::Field(field)),
            (false, None) => Ok(()),
        }
    }
}

/// A line that is being read.
struct Reading<'a> {
    /// Those whose cells have not come yet.
    columns: std::slice::Iter<'a, Option<Field>>,
    id: &'a mut Vec<u8>,
    fields: &'a mut FieldSet,
    fault: Option<Field>,
}

impl Reading<'_> {
    /// Takes the next cell; `None` if there is none, or if its quotes are wrong.
    #[inline]
    fn take(&mut self, cell: Option<&[u8]>) {
        match (self.columns.next(), cell) {
            (Some(None), Some(cell)) if is_record_id(cell) => self.id.extend_from_slice(cell),
            (Some(Some(field)), cell) => {
                if cell.is_none_or(|cell| self.fields.parse(*field, cell).is_err()) {
                    self.blame(*field);
                }
            }
            _ => {}
        }
    }

    fn blame(&mut self, field: Field) {
        self.fault = Some(self.fault.map_or(field, |first| first.min(field)));
    }
}

/// A record id as it is written into a CSV of verdicts.
pub fn record_id_of(id: &[u8]) -> Cow<'_, [u8]> {
    if id.iter().fold(false, |special, c| special | matches!(c, b',' | b'"')) {
        let mut quoted = vec![b'"'];
        for c in id {
            if *c == b'"' {
                quoted.push(b'"');
            }
            quoted.push(*c);
        }
        quoted.push(b'"');
        return Cow::Owned(quoted);
    }
    Cow::Borrowed(id)
}

/// Lines as they come, in pieces of any size.
pub struct CsvReader {
    columns: Columns,
    header: Option<Header>,
    longest_line: usize,
    /// Number of the line that was read last; the header is the first.
    line: u64,
    /// The beginning of a line whose end has not come yet; before the header, all that has come.
    carry: Vec<u8>,
    /// Whether that line is beyond the limit: its rest is skipped.
    too_long: bool,
    id: Vec<u8>,
    fields: FieldSet,
}

impl CsvReader {
    /// A reader of lines of at most `longest_line` bytes; `lines_before` of the file are somewhere else (the
    /// header always counts).
    pub fn new(columns: Columns, longest_line: usize, lines_before: u64) -> Self {
        Self {
            columns,
            header: None,
            longest_line,
            line: lines_before.max(1),
            carry: Vec::new(),
            too_long: false,
            id: Vec::new(),
            fields: FieldSet::default(),
        }
    }

    pub(super) fn open(&mut self, piece: &[u8]) -> Result<bool, FormatError> {
        self.carry.extend_from_slice(piece);
        let Some(end) = memchr::memchr(b'\n', &self.carry) else {
            return if self.carry.len() > self.longest_line { Err(FormatError::LongHeader) } else { Ok(false) };
        };
        self.header = Some(Header::parse(&self.carry[..end], &self.columns)?);
        self.carry.drain(..=end);
        Ok(true)
    }

    pub(super) fn open_at_end(&mut self) -> Result<(), FormatError> {
        if self.carry.is_empty() {
            return Err(FormatError::Empty);
        }
        self.open(b"\n").map(drop)
    }

    pub(super) fn feed<S: RecordSink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), S::Error> {
        if memchr::memchr(b'\n', &self.carry).is_some() {
            // What came together with the header.
            let first = std::mem::take(&mut self.carry);
            self.take(&first, sink)?;
        }
        self.take(piece, sink)
    }

    pub(super) fn end<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.feed(&[], sink)?;
        if self.carry.is_empty() && !self.too_long { Ok(()) } else { self.end_of_line(&[], sink) }
    }

    fn take<S: RecordSink>(&mut self, mut piece: &[u8], sink: &mut S) -> Result<(), S::Error> {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            self.end_of_line(&piece[..end], sink)?;
            piece = &piece[end + 1..];
        }
        if self.carry.len() + piece.len() > self.longest_line {
            self.too_long = true;
            self.carry.clear();
        } else if !self.too_long {
            self.carry.extend_from_slice(piece);
        }
        Ok(())
    }

    fn end_of_line<S: RecordSink>(&mut self, rest: &[u8], sink: &mut S) -> Result<(), S::Error> {
        self.line += 1;
        if std::mem::take(&mut self.too_long) || self.carry.len() + rest.len() > self.longest_line {
            self.carry.clear();
            return sink.record(&[], Err(LineFault::NoId), self.line);
        }
        if self.carry.is_empty() {
            return self.read(rest, sink);
        }
        let mut line = std::mem::take(&mut self.carry);
        line.extend_from_slice(rest);
        let result = self.read(&line, sink);
        line.clear();
        self.carry = line;
        result
    }

    fn read<S: RecordSink>(&mut self, line: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(header) = self.header.as_ref().filter(|_| !line.is_empty()) else {
            // An empty line is no record: files end with one.
            return Ok(());
        };
        let read = header.read(line, &mut self.id, &mut self.fields);
        sink.record(&self.id, read.map(|()| &self.fields), self.line)
    }
}

/// Where the commas of a line are, as far as there can be columns.
struct Commas {
    at: [u32; Self::MOST],
    len: usize,
}

impl Commas {
    /// More than the columns that a file can have, each of them once.
    const MOST: usize = Field::ALL.len() + 2;

    fn of(line: &[u8]) -> Self {
        let mut found = Self { at: [0; Self::MOST], len: 0 };
        let (chunks, rest) = line.as_chunks::<16>();
        for (number, chunk) in (0..).zip(chunks) {
            found.add(16 * number, commas(chunk));
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        found.add(16 * chunks.len() as u32, commas(&last));
        found
    }

    #[inline]
    fn add(&mut self, first: u32, mut mask: u32) {
        while mask != 0 && self.len < Self::MOST {
            self.at[self.len] = first + mask.trailing_zeros();
            self.len += 1;
            mask &= mask - 1;
        }
    }
}

/// A bit for each comma, the first in the least significant.
#[inline]
fn commas(chunk: &[u8; 16]) -> u32 {
    u8x16::new(*chunk).simd_eq(u8x16::splat(b',')).to_bitmask()
}

/// The cells of a line in which there are quotes; `Some(None)` is a cell whose quotes are wrong.
struct Quoted<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Quoted<'a> {
    type Item = Option<Cow<'a, [u8]>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        if rest.first() == Some(&b'"') {
            return Some(self.quoted(&rest[1..]));
        }
        let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
        self.rest = rest.get(end + 1..);
        Some(Some(Cow::Borrowed(&rest[..end])))
    }
}

impl<'a> Quoted<'a> {
    fn quoted(&mut self, mut rest: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let mut cell = Vec::new();
        loop {
            let Some(end) = memchr::memchr(b'"', rest) else {
                self.rest = None;
                return None;
            };
            cell.extend_from_slice(&rest[..end]);
            match rest.get(end + 1) {
                Some(b'"') => {
                    cell.push(b'"');
                    rest = &rest[end + 2..];
                }
                Some(b',') => {
                    self.rest = Some(&rest[end + 2..]);
                    return Some(Cow::Owned(cell));
                }
                None => {
                    self.rest = None;
                    return Some(Cow::Owned(cell));
                }
                Some(_) => {
                    self.rest = None;
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "record_id,city_code,issuer_id,asn,txn_type,amount,balance_after,online_sn,terminal_id,ttc,date,time,key_version,alg_id,tac";
    const LINE: &str =
        "R1,1150,1009115000010000,1150491934206620,06,544,,,115366392864,00000001,20261121,071014,01,00,BA231E81";

    fn header(line: &str) -> Result<Header, FormatError> {
        Header::parse(line.as_bytes(), &Columns::of_records())
    }

    fn read(line: &str) -> Result<String, LineFault> {
        let (mut id, mut fields) = (Vec::new(), FieldSet::default());
        header(HEADER).unwrap().read(line.as_bytes(), &mut id, &mut fields)?;
        Ok(String::from_utf8(id).unwrap())
    }

    #[test]
    fn a_good_line_reads() {
        assert_eq!(read(LINE).unwrap(), "R1");
        assert_eq!(read(&LINE.replace("R1", "\"公交, \"\"1\"\"号\"")).unwrap(), "公交, \"1\"号");
    }

    #[test]
    fn the_first_fault_in_column_order_is_named() {
        assert_eq!(
            read(&LINE.replace("544", "x").replace("20261121", "20261341")),
            Err(LineFault::Field(Field::Amount))
        );
        assert_eq!(read("R1,1150"), Err(LineFault::Field(Field::IssuerId)));
        assert_eq!(read(&format!("{LINE},more")), Err(LineFault::Field(Field::Tac)));
        assert_eq!(read(&LINE.replace("1150,", "\"1150,")), Err(LineFault::Field(Field::CityCode)));
    }

    #[test]
    fn a_line_without_a_readable_id_says_so() {
        for id in ["", "\"R1", " ", "R\u{7}", &"x".repeat(65)] {
            assert_eq!(read(&LINE.replacen("R1", id, 1)), Err(LineFault::NoId), "{id:?}");
        }
    }

    #[test]
    fn columns_come_in_any_order_but_all_once() {
        let turned: Vec<&str> = HEADER.split(',').rev().collect();
        assert!(header(&turned.join(",")).is_ok());
        let words = |line| header(line).unwrap_err().to_string();
        assert!(words("record_id,asn,asn").contains("`asn` stands twice"));
        assert!(words("record_id,rand").contains("`rand` is not one of record_id, city_code"));
        assert!(words("record_id,asn").contains("`city_code` is missing"));
    }
}
