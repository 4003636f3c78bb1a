//! Lines of a clearing file in CSV (RFC 4180), one record a line.
//!
//! A record never holds a line break, so a quote that is left open harms its own line only.

use super::block::{self, Block};
use super::line::{Line, LinePlan};
use super::{Columns, FormatError, LineFault, RecordSink, is_record_id};
use crate::ascii::has_either;
use crate::fields::Field;

/// Which column holds what.
#[derive(Debug, Clone)]
struct Header {
    /// Field of each column; `None` for the record id.
    columns: Vec<Option<Field>>,
    /// What a line with more cells than columns is blamed on: nobody can say which are right.
    last: Field,
    /// How plain lines are read.
    plan: LinePlan,
}

impl Header {
    /// Reads the header line.
    fn parse(line: &[u8], columns: &Columns) -> Result<Self, FormatError> {
        let line = std::str::from_utf8(line).map_err(|_| FormatError::NotText)?;
        let line = line.strip_prefix('\u{FEFF}').unwrap_or(line);
        let line = line.trim_end_matches(['\r', '\n']);
        if line.contains('\r') {
            return Err(FormatError::LineEnds);
        }
        let names = line.split(',').map(|name| name.trim().trim_matches('"'));
        let (_, columns) = columns.match_names(names)?;
        let last = columns.iter().flatten().copied().max().unwrap_or(Field::Tac);
        let plan = LinePlan::of(&columns);
        Ok(Self { columns, last, plan })
    }

    /// Reads a line cell by cell, whatever is in it; gives the record id, which is put together in `unquoted` if it has
    /// quotes. Every field is looked at, so that the fault reported is the first in column order whatever the order in the
    /// file.
    fn read_cells<'l>(&self, line: &'l [u8], block: &mut Block, unquoted: &'l mut Vec<u8>) -> &'l [u8] {
        let mut cells = Cells { rest: Some(line) };
        let mut id = None;
        block.begin(1);
        for column in &self.columns {
            let cell = cells.next().flatten();
            match column {
                None => id = cell,
                // A quote in a field is a fault, one or two of them.
                Some(field) => block.parse(*field, std::iter::once(cell.map(|cell| cell.bytes))),
            }
        }
        if cells.next().is_some() {
            block.blame(0, self.last);
        }
        block.settle();
        match id {
            Some(Cell { bytes, doubled: true }) => {
                unquoted.clear();
                let mut bytes = bytes.iter();
                while let Some(byte) = bytes.next() {
                    unquoted.push(*byte);
                    if *byte == b'"' {
                        bytes.next();
                    }
                }
                unquoted
            }
            cell => cell.map_or(&[], |cell| cell.bytes),
        }
    }

    /// Gives a line to the sink, read cell by cell.
    fn give_cells<S: RecordSink>(
        &self,
        line: &[u8],
        number: u64,
        alone: &mut Alone,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let id = self.read_cells(line, &mut alone.block, &mut alone.unquoted);
        alone.block.give(std::iter::once((id, number)), sink)
    }
}

/// Where a line is read that is read alone.
#[derive(Default)]
struct Alone {
    block: Block,
    unquoted: Vec<u8>,
}

/// Appends a record id as it is written into a CSV of verdicts.
pub fn append_record_id(id: &[u8], to: &mut Vec<u8>) {
    if !has_either(id, b',', b'"') {
        return to.extend_from_slice(id);
    }
    to.push(b'"');
    for byte in id {
        if *byte == b'"' {
            to.push(b'"');
        }
        to.push(*byte);
    }
    to.push(b'"');
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
    /// Plain lines that are read together.
    lines: Vec<Line>,
    block: Block,
    /// Another line.
    alone: Alone,
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
            alone: Alone::default(),
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
        loop {
            let end = self.plain(piece, from);
            let full = self.lines.len() == block::MOST;
            match self.give(piece, sink)? {
                Some(other) => from = other,
                None => {
                    from = end;
                    if full {
                        continue;
                    }
                }
            }
            let Some(len) = memchr::memchr(b'\n', &piece[from..]) else { break };
            self.line(&piece[from..from + len], sink)?;
            from += len + 1;
        }
        self.carry(&piece[from..]);
        Ok(())
    }

    /// Reads plain lines from a place on, as many as go into a block; says where it ends.
    fn plain(&mut self, piece: &[u8], mut from: usize) -> usize {
        let Some(header) = &self.header else { return from };
        for mut row in self.block.begin_rows() {
            let mut line = Line::at(from, self.line + 1);
            if !header.plan.read(piece, &mut line, &mut row) || line.len > self.longest_line {
                break;
            }
            from += line.len;
            self.line += 1;
            self.lines.push(line);
        }
        self.block.end_rows(self.lines.len());
        self.block.settle();
        from
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
        let result = self.line(&line, sink);
        line.clear();
        self.carry = line;
        result
    }

    /// Takes one line that is not plain.
    fn line<S: RecordSink>(&mut self, line: &[u8], sink: &mut S) -> Result<(), S::Error> {
        self.line += 1;
        if line.len() > self.longest_line {
            return sink.record(&[], Err(LineFault::NoId), self.line);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(header) = self.header.as_ref().filter(|_| !line.is_empty()) else { return Ok(()) };
        header.give_cells(line, self.line, &mut self.alone, sink)
    }

    /// Gives the plain lines that have been read; where one begins that was none, it and the rest are still to be read.
    fn give<S: RecordSink>(&mut self, piece: &[u8], sink: &mut S) -> Result<Option<usize>, S::Error> {
        let Self { header: Some(header), lines, block, alone, .. } = self else { return Ok(None) };
        for (line, record) in lines.drain(..).zip(block.records()) {
            match record {
                Ok(fields) if is_record_id(line.id(piece)) => sink.record(line.id(piece), Ok(fields), line.number)?,
                // A line break stood in the place of a digit.
                _ if memchr::memchr(b'\n', line.of(piece)).is_some() => {
                    self.line = line.number - 1;
                    return Ok(Some(line.from));
                }
                _ => header.give_cells(line.of(piece), line.number, alone, sink)?,
            }
        }
        Ok(None)
    }
}

/// A cell without the quotes around it.
#[derive(Clone, Copy)]
struct Cell<'a> {
    bytes: &'a [u8],
    /// Whether quotes stand twice in it, for one each.
    doubled: bool,
}

/// The cells of a line; `Some(None)` is a cell whose quotes are wrong.
struct Cells<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Option<Cell<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        if rest.first() == Some(&b'"') {
            return Some(self.quoted(&rest[1..]));
        }
        let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
        self.rest = rest.get(end + 1..);
        Some(Some(Cell { bytes: &rest[..end], doubled: false }))
    }
}

impl<'a> Cells<'a> {
    /// A cell from behind its first quote on.
    fn quoted(&mut self, from: &'a [u8]) -> Option<Cell<'a>> {
        self.rest = None;
        let (mut end, mut doubled) = (0, false);
        loop {
            end += memchr::memchr(b'"', &from[end..])?;
            match from.get(end + 1) {
                Some(b'"') => (end, doubled) = (end + 2, true),
                Some(b',') => {
                    self.rest = Some(&from[end + 2..]);
                    break;
                }
                None => break,
                Some(_) => return None,
            }
        }
        Some(Cell { bytes: &from[..end], doubled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::FieldSet;

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
        assert!(words("record_id,rand\r1,2\r3,4").contains("end with CR alone"));
        assert!(words("record_id,asn").contains("`city_code` is missing"));
    }
}
