//! Lines of a clearing file in CSV (RFC 4180), one record a line.
//!
//! A record never holds a line break, so a quote that is left open harms its own line only.

use std::borrow::Cow;

use wide::u8x16;

use super::block::{self, Block};
use super::{Columns, FormatError, LineFault, RecordSink};
use crate::fields::{Field, FieldSet};

/// Which column holds what.
#[derive(Debug, Clone)]
struct Header {
    /// Column of the record id.
    record_id: usize,
    /// Field of each column; `None` for the record id.
    columns: Vec<Option<Field>>,
    /// What a line with more cells than columns is blamed on: nobody can say which are right.
    last: Field,
}

impl Header {
    /// Reads the header line.
    fn parse(line: &[u8], columns: &Columns) -> Result<Self, FormatError> {
        let line = std::str::from_utf8(line).map_err(|_| FormatError::NotText)?;
        let line = line.strip_prefix('\u{FEFF}').unwrap_or(line);
        let names = line.trim_end_matches(['\r', '\n']).split(',').map(|name| name.trim().trim_matches('"'));
        let (record_id, columns) = columns.match_names(names)?;
        let last = columns.iter().flatten().copied().max().unwrap_or(Field::Tac);
        Ok(Self { record_id, columns, last })
    }

    /// Reads lines without quotes, and gives them to the sink. Every field is looked at, so that the fault reported is
    /// the first in column order whatever the order in the file.
    fn read_plain<S: RecordSink>(
        &self,
        text: &[u8],
        lines: &[Line],
        block: &mut Block,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        block.begin(lines.len(), &FieldSet::default());
        for (number, column) in self.columns.iter().enumerate() {
            if let Some(field) = column {
                block.parse(*field, lines.iter().map(|line| line.cell(number, text)));
            }
        }
        for (row, _) in lines.iter().enumerate().filter(|(_, line)| line.cells > self.columns.len()) {
            block.blame(row, self.last);
        }
        let id = |line: &Line| line.cell(self.record_id, text).unwrap_or_default();
        block.give(lines.iter().map(|line| (id(line), line.number)), sink)
    }

    /// Reads a line in which there are quotes.
    fn read_quoted<S: RecordSink>(
        &self,
        line: &[u8],
        number: u64,
        block: &mut Block,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let mut cells = Quoted { rest: Some(line) };
        let mut id = None;
        block.begin(1, &FieldSet::default());
        for column in &self.columns {
            let cell = cells.next().flatten();
            match column {
                None => id = cell,
                Some(field) => block.parse(*field, std::iter::once(cell.as_deref())),
            }
        }
        if cells.next().is_some() {
            block.blame(0, self.last);
        }
        block.give(std::iter::once((id.as_deref().unwrap_or_default(), number)), sink)
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
    /// Lines without quotes that wait to be read together.
    lines: Vec<Line>,
    block: Block,
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
            lines: Vec::with_capacity(block::MOST),
            block: Block::default(),
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
        if self.carry.is_empty() && !self.too_long { Ok(()) } else { self.end_of_carried(&[], sink) }
    }

    fn take<S: RecordSink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let mut from = 0;
        if !self.carry.is_empty() || self.too_long {
            let Some(end) = memchr::memchr(b'\n', piece) else {
                self.carry(piece);
                return Ok(());
            };
            self.end_of_carried(&piece[..end], sink)?;
            from = end + 1;
        }
        while let Some(len) = memchr::memchr(b'\n', &piece[from..]) {
            self.line(piece, from, from + len, sink)?;
            from += len + 1;
        }
        self.give(piece, sink)?;
        self.carry(&piece[from..]);
        Ok(())
    }

    /// Keeps the beginning of a line.
    fn carry(&mut self, piece: &[u8]) {
        if self.carry.len() + piece.len() > self.longest_line {
            self.too_long = true;
            self.carry.clear();
        } else if !self.too_long {
            self.carry.extend_from_slice(piece);
        }
    }

    /// The line that was carried ends with `rest`.
    fn end_of_carried<S: RecordSink>(&mut self, rest: &[u8], sink: &mut S) -> Result<(), S::Error> {
        self.carry(rest);
        if std::mem::take(&mut self.too_long) {
            self.line += 1;
            return sink.record(&[], Err(LineFault::NoId), self.line);
        }
        let mut line = std::mem::take(&mut self.carry);
        let result = self.line(&line, 0, line.len(), sink).and_then(|()| self.give(&line, sink));
        line.clear();
        self.carry = line;
        result
    }

    /// Takes one line of a text.
    fn line<S: RecordSink>(&mut self, text: &[u8], from: usize, to: usize, sink: &mut S) -> Result<(), S::Error> {
        self.line += 1;
        let line = &text[from..to];
        if line.len() > self.longest_line {
            self.give(text, sink)?;
            return sink.record(&[], Err(LineFault::NoId), self.line);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            // An empty line is no record: files end with one.
            return Ok(());
        }
        if memchr::memchr(b'"', line).is_none() {
            self.lines.push(Line::of(line, from, self.line));
            return if self.lines.len() == block::MOST { self.give(text, sink) } else { Ok(()) };
        }
        self.give(text, sink)?;
        match &self.header {
            Some(header) => header.read_quoted(line, self.line, &mut self.block, sink),
            None => Ok(()),
        }
    }

    /// Reads the lines that wait.
    fn give<S: RecordSink>(&mut self, text: &[u8], sink: &mut S) -> Result<(), S::Error> {
        if let Some(header) = self.header.as_ref().filter(|_| !self.lines.is_empty()) {
            header.read_plain(text, &self.lines, &mut self.block, sink)?;
        }
        self.lines.clear();
        Ok(())
    }
}

/// A line of a text, and where its cells end, as far as there can be columns.
struct Line {
    number: u64,
    from: usize,
    ends: [u32; Self::MOST],
    cells: usize,
}

impl Line {
    /// More than the columns that a file can have, each of them once.
    const MOST: usize = Field::ALL.len() + 2;

    /// A line that begins at `from` in a text.
    fn of(line: &[u8], from: usize, number: u64) -> Self {
        let mut found = Self { number, from, ends: [0; Self::MOST], cells: 0 };
        let (chunks, rest) = line.as_chunks::<16>();
        let mut at = from;
        for chunk in chunks {
            found.add(at, commas(chunk));
            at += 16;
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        found.add(at, commas(&last));
        found.end(from + line.len());
        found
    }

    #[inline]
    fn add(&mut self, first: usize, mut mask: u32) {
        while mask != 0 {
            self.end(first + mask.trailing_zeros() as usize);
            mask &= mask - 1;
        }
    }

    #[inline]
    fn end(&mut self, at: usize) {
        if let Some(end) = self.ends.get_mut(self.cells) {
            *end = at as u32;
            self.cells += 1;
        }
    }

    /// The cell of a column, if the line has it.
    #[inline]
    fn cell<'a>(&self, column: usize, text: &'a [u8]) -> Option<&'a [u8]> {
        if column >= self.cells {
            return None;
        }
        let from = match column.checked_sub(1) {
            Some(before) => self.ends[before] as usize + 1,
            None => self.from,
        };
        text.get(from..self.ends[column] as usize)
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

    struct Found(Option<Result<String, LineFault>>);

    impl RecordSink for Found {
        type Error = ();
        fn record(&mut self, id: &[u8], fields: Result<&FieldSet, LineFault>, _: u64) -> Result<(), ()> {
            self.0 = Some(fields.map(|_| String::from_utf8(id.to_vec()).unwrap()));
            Ok(())
        }
    }

    fn read(line: &str) -> Result<String, LineFault> {
        let mut reader = CsvReader::new(Columns::of_records(), 4096, 0);
        assert!(reader.open(format!("{HEADER}\n").as_bytes()).unwrap());
        let mut found = Found(None);
        reader.feed(line.as_bytes(), &mut found).unwrap();
        reader.end(&mut found).unwrap();
        found.0.unwrap()
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
