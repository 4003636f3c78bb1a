//! Layouts that a profile describes: records of fixed places, as text lines or packed binary.

use std::ops::Range;

use super::block::{self, Block};
use super::{LineFault, RecordSink};
use crate::fields::{Field, FieldSet};
use crate::profile::{self, LayoutKind, PlaceEncoding, RecordLayout};

/// Records of one layout, in pieces of any size.
pub struct LayoutReader {
    kind: LayoutKind,
    /// Bytes of a record.
    length: usize,
    places: Vec<Place>,
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
    /// A field of a block's records with its bytes turned round.
    reversed: Vec<u8>,
    /// What every record has that its bytes do not say.
    defaults: FieldSet,
}

/// Where something stands in a record.
struct Place {
    /// `None` for the record id.
    field: Option<Field>,
    bytes: Range<usize>,
    encoding: PlaceEncoding,
    /// What stands there if the field is absent.
    absent: Option<Vec<u8>>,
}

/// Bytes that a line may have beyond its record before it is given up.
const SLACK: usize = 64;

impl LayoutReader {
    /// A reader; `before` records of the file are somewhere else.
    pub(crate) fn new(layout: RecordLayout, before: u64) -> Self {
        let mut defaults = FieldSet::default();
        for (field, text) in &layout.defaults {
            // They were checked when the profile was loaded.
            let _ = Field::named(field).map(|field| defaults.parse(field, text.as_bytes()));
        }
        let place = |place: &profile::Place| Place {
            field: Field::named(&place.field),
            bytes: place.offset..place.offset + place.length,
            encoding: place.encoding,
            absent: place.absent.as_deref().and_then(|absent| hex::decode(absent).ok()),
        };
        Self {
            kind: layout.kind,
            length: layout.length,
            places: layout.places.iter().map(place).collect(),
            number: before,
            carry: Vec::new(),
            too_long: false,
            block: Block::default(),
            ids: Vec::new(),
            ends: Vec::new(),
            reversed: Vec::new(),
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
        while let Some(end) = memchr::memchr(b'\n', piece) {
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

    fn blocks<S: RecordSink>(&mut self, mut piece: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let length = self.length;
        if !self.carry.is_empty() {
            let missing = (length - self.carry.len() % length) % length;
            let (first, rest) = piece.split_at(missing.min(piece.len()));
            self.carry.extend_from_slice(first);
            piece = rest;
            let mut carry = std::mem::take(&mut self.carry);
            let whole = carry.len() / length * length;
            self.whole(&carry[..whole], sink)?;
            carry.drain(..whole);
            self.carry = carry;
        }
        let whole = piece.len() / length * length;
        self.whole(&piece[..whole], sink)?;
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
            return self.whole(record, sink);
        }
        self.number += 1;
        sink.record(&[], Err(LineFault::NoId), self.number)
    }

    /// Records of the right length, one after another.
    fn whole<S: RecordSink>(&mut self, records: &[u8], sink: &mut S) -> Result<(), S::Error> {
        for records in records.chunks(self.length * block::MOST) {
            let records = || records.chunks_exact(self.length);
            self.block.begin(records().len(), &self.defaults);
            self.ids.clear();
            for Place { field, bytes: at, encoding, absent } in &self.places {
                // The layout's places lie within its length.
                let cells = records().map(|record| record.get(at.clone()).unwrap_or_default());
                let there = |cell: &[u8]| absent.as_deref() != Some(cell);
                match (field, encoding) {
                    (None, encoding) => cells.for_each(|cell| {
                        append_id(&mut self.ids, cell, *encoding);
                        self.ends.push(self.ids.len());
                    }),
                    (Some(field), PlaceEncoding::Text) => {
                        let text = cells.map(|cell| Some(if there(cell) { cell.trim_ascii() } else { &[] }));
                        self.block.parse(*field, text);
                    }
                    (Some(field), PlaceEncoding::Bytes) => {
                        self.block.set(*field, cells.map(|cell| Some(cell).filter(|cell| there(cell))));
                    }
                    (Some(field), PlaceEncoding::BytesReversed) => {
                        self.reversed.clear();
                        cells.clone().for_each(|cell| self.reversed.extend(cell.iter().rev()));
                        let reversed = self.reversed.chunks_exact(at.len()).zip(cells);
                        self.block.set(*field, reversed.map(|(bytes, cell)| Some(bytes).filter(|_| there(cell))));
                    }
                }
            }
            let mut from = 0;
            let ids = self.ends.drain(..).map(|to| &self.ids[std::mem::replace(&mut from, to)..to]);
            let first = self.number + 1;
            self.number += records().len() as u64;
            self.block.give(ids.zip(first..), sink)?;
        }
        Ok(())
    }
}

fn append_id(id: &mut Vec<u8>, bytes: &[u8], encoding: PlaceEncoding) {
    match encoding {
        PlaceEncoding::Text => id.extend_from_slice(bytes.trim_ascii()),
        PlaceEncoding::Bytes => bytes.iter().for_each(|byte| append_digits(id, *byte)),
        PlaceEncoding::BytesReversed => bytes.iter().rev().for_each(|byte| append_digits(id, *byte)),
    }
}

fn append_digits(id: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    id.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
}
