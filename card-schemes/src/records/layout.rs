//! Layouts that a profile describes: records of fixed places, as text lines or packed binary.

use std::ops::Range;

use super::block::{self, Block};
use super::packed::Packed;
use super::{LineFault, RecordSink};
use crate::fields::{Field, FieldSet};
use crate::profile::{self, LayoutKind, PlaceEncoding, RecordLayout};

/// Records of one layout, in pieces of any size.
pub struct LayoutReader {
    kind: LayoutKind,
    /// Bytes of a record.
    length: usize,
    /// Where the record id stands.
    id: Range<usize>,
    id_encoding: PlaceEncoding,
    /// Fields as cards write them.
    packed: Packed,
    texts: Vec<TextPlace>,
    /// Records read so far, or lines of text.
    number: u64,
    /// The beginning of a record whose end has not come yet.
    carry: Vec<u8>,
    /// Whether the line has grown beyond any record: its rest is skipped.
    too_long: bool,
    block: Block,
    /// The record ids of a block, and where each ends.
    ids: Vec<u8>,
    ends: Vec<usize>,
    /// What every record has that its bytes do not say, if anything.
    defaults: Option<FieldSet>,
}

/// Where the text of a field stands in a record.
struct TextPlace {
    field: Field,
    bytes: Range<usize>,
    /// What stands there if the field is absent.
    absent: Option<Vec<u8>>,
}

/// Bytes that a line may have beyond its record before it is given up.
const SLACK: usize = 64;

impl LayoutReader {
    /// A reader; `before` records of the file are somewhere else.
    pub(crate) fn new(layout: RecordLayout, before: u64) -> Self {
        let mut defaults = None;
        for (field, text) in &layout.defaults {
            let defaults = defaults.get_or_insert_with(FieldSet::default);
            // They were checked when the profile was loaded.
            let _ = Field::named(field).map(|field| defaults.parse(field, text.as_bytes()));
        }
        let (mut id, mut id_encoding) = (0..0, PlaceEncoding::Text);
        let (mut packed, mut texts) = (Packed::default(), Vec::new());
        for profile::Place { field, offset, length, encoding, absent } in &layout.places {
            let bytes = *offset..offset + length;
            let absent = absent.as_deref().and_then(|absent| hex::decode(absent).ok());
            match (Field::named(field), encoding) {
                (None, encoding) => (id, id_encoding) = (bytes, *encoding),
                (Some(field), PlaceEncoding::Text) => texts.push(TextPlace { field, bytes, absent }),
                (Some(field), PlaceEncoding::Bytes) => packed.add(field, bytes, absent.as_deref()),
                (Some(field), PlaceEncoding::BytesReversed) => packed.add_reversed(field, bytes, absent.as_deref()),
            }
        }
        Self {
            kind: layout.kind,
            length: layout.length,
            id,
            id_encoding,
            packed,
            texts,
            number: before,
            carry: Vec::new(),
            too_long: false,
            block: Block::default(),
            ids: Vec::new(),
            ends: Vec::new(),
            defaults,
        }
    }

    /// There is no header: what has come is the beginning of the records.
    pub(super) fn open(&mut self, piece: &[u8]) -> bool {
        self.carry.extend_from_slice(piece);
        true
    }

    pub(super) fn feed<S: RecordSink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), S::Error> {
        match self.kind {
            LayoutKind::Text => {
                if memchr::memchr(b'\n', &self.carry).is_some() {
                    let first = std::mem::take(&mut self.carry);
                    self.lines(&first, sink)?;
                }
                self.lines(piece, sink)
            }
            LayoutKind::Binary => self.blocks(piece, sink),
        }
    }

    pub(super) fn end<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.feed(&[], sink)?;
        if self.carry.is_empty() && !self.too_long {
            return Ok(());
        }
        let rest = std::mem::take(&mut self.carry);
        let text = self.kind == LayoutKind::Text;
        self.one(if text { rest.strip_suffix(b"\r").unwrap_or(&rest) } else { &rest }, sink)
    }

    fn lines<S: RecordSink>(&mut self, mut piece: &[u8], sink: &mut S) -> Result<(), S::Error> {
        loop {
            if self.carry.is_empty() && !self.too_long {
                let (lines, stride) = self.lines_of_its_length(piece);
                let (together, rest) = piece.split_at(lines * stride);
                self.whole(together, stride, sink)?;
                piece = rest;
            }
            let Some(end) = memchr::memchr(b'\n', piece) else { break };
            self.carry.extend_from_slice(&piece[..end]);
            let mut line = std::mem::take(&mut self.carry);
            let result = self.one(line.strip_suffix(b"\r").unwrap_or(&line), sink);
            line.clear();
            self.carry = line;
            result?;
            piece = &piece[end + 1..];
        }
        if self.carry.len() + piece.len() > self.length + SLACK {
            self.too_long = true;
            self.carry.clear();
        } else if !self.too_long {
            self.carry.extend_from_slice(piece);
        }
        Ok(())
    }

    /// How many lines follow one another that are as long as a record, and how far apart they begin: all end as the first does.
    fn lines_of_its_length(&self, piece: &[u8]) -> (usize, usize) {
        let length = self.length;
        let stride = if piece.get(length) == Some(&b'\r') { length + 2 } else { length + 1 };
        // What is before the end of a line is not part of it, so that the line would be shorter.
        let fits = |line: &&[u8]| {
            let end = memchr::memchr(b'\n', line) == Some(stride - 1);
            end && (stride == length + 1 || line[length] == b'\r') && line[length - 1] != b'\r'
        };
        (piece.chunks_exact(stride).take_while(fits).count(), stride)
    }

    fn blocks<S: RecordSink>(&mut self, mut piece: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let length = self.length;
        if !self.carry.is_empty() {
            let missing = (length - self.carry.len() % length) % length;
            let (first, rest) = piece.split_at(missing.min(piece.len()));
            self.carry.extend_from_slice(first);
            piece = rest;
            let mut carry = std::mem::take(&mut self.carry);
            let whole = carry.len() / length * length;
            self.whole(&carry[..whole], length, sink)?;
            carry.drain(..whole);
            self.carry = carry;
        }
        let whole = piece.len() / length * length;
        self.whole(&piece[..whole], length, sink)?;
        self.carry.extend_from_slice(&piece[whole..]);
        Ok(())
    }

    /// One record of any length: a wrong one has no fields that could be trusted.
    fn one<S: RecordSink>(&mut self, record: &[u8], sink: &mut S) -> Result<(), S::Error> {
        if record.is_empty() && self.kind == LayoutKind::Text && !self.too_long {
            self.number += 1;
            return Ok(());
        }
        if !std::mem::take(&mut self.too_long) && record.len() == self.length {
            return self.whole(record, self.length, sink);
        }
        self.number += 1;
        sink.record(&[], Err(LineFault::NoId), self.number)
    }

    /// Records of the right length, each beginning so far after the one before.
    fn whole<S: RecordSink>(&mut self, records: &[u8], stride: usize, sink: &mut S) -> Result<(), S::Error> {
        for records in records.chunks(stride * block::MOST) {
            self.read(records, stride);
            let mut from = 0;
            let ids = self.ends.iter().map(|to| &self.ids[std::mem::replace(&mut from, *to)..*to]);
            let first = self.number + 1;
            self.number += self.ends.len() as u64;
            self.block.give(ids.zip(first..), sink)?;
        }
        Ok(())
    }

    /// Reads the fields and ids of some records.
    fn read(&mut self, records: &[u8], stride: usize) {
        let length = self.length;
        let records = || records.chunks_exact(stride).map(|record| &record[..length]);
        self.block.begin(records().len());
        self.ids.clear();
        self.ends.clear();
        for (row, record) in self.block.rows().zip(records()) {
            self.packed.read(record, row);
            append_id(&mut self.ids, record.get(self.id.clone()).unwrap_or_default(), self.id_encoding);
            self.ends.push(self.ids.len());
        }
        for TextPlace { field, bytes, absent } in &self.texts {
            // The layout's places lie within its length.
            let cells = records().map(|record| record.get(bytes.clone()).unwrap_or_default());
            let there = |cell: &[u8]| absent.as_deref() != Some(cell);
            self.block.parse(*field, cells.map(|cell| Some(if there(cell) { trim(cell) } else { &[] })));
        }
        self.block.settle();
        if let Some(defaults) = &self.defaults {
            self.block.fill_in(defaults);
        }
    }
}

fn append_id(id: &mut Vec<u8>, bytes: &[u8], encoding: PlaceEncoding) {
    match encoding {
        PlaceEncoding::Text => id.extend_from_slice(trim(bytes)),
        PlaceEncoding::Bytes => bytes.iter().for_each(|byte| append_digits(id, *byte)),
        PlaceEncoding::BytesReversed => bytes.iter().rev().for_each(|byte| append_digits(id, *byte)),
    }
}

/// A text without the blanks around it, of which most are spaces behind.
fn trim(mut text: &[u8]) -> &[u8] {
    const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
    while let Some((rest, last)) = text.split_last_chunk::<8>() {
        let spaces = (u64::from_le_bytes(*last) ^ SPACES).leading_zeros() as usize / 8;
        text = &text[..rest.len() + 8 - spaces];
        if spaces < 8 {
            break;
        }
    }
    text.trim_ascii()
}

fn append_digits(id: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    id.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
}
