//! Layouts that a profile describes: records of fixed places, as text lines or packed binary.

use std::ops::Range;

use super::{LineFault, RecordSink, is_record_id};
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
    id: Vec<u8>,
    fields: FieldSet,
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

/// Bytes of the widest field.
const LONGEST_FIELD: usize = 9;
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
            id: Vec::new(),
            fields: FieldSet::default(),
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
        while self.carry.len() >= length {
            let block: Vec<u8> = self.carry.drain(..length).collect();
            self.one(&block, sink)?;
        }
        if !self.carry.is_empty() {
            let missing = (length - self.carry.len()).min(piece.len());
            self.carry.extend_from_slice(&piece[..missing]);
            piece = &piece[missing..];
            if self.carry.len() < length {
                return Ok(());
            }
            let mut block = std::mem::take(&mut self.carry);
            let result = self.one(&block, sink);
            block.clear();
            self.carry = block;
            result?;
        }
        let mut blocks = piece.chunks_exact(length);
        for block in &mut blocks {
            self.one(block, sink)?;
        }
        self.carry.extend_from_slice(blocks.remainder());
        Ok(())
    }

    /// One record of any length: a wrong one has no fields that could be trusted.
    fn one<S: RecordSink>(&mut self, record: &[u8], sink: &mut S) -> Result<(), S::Error> {
        self.number += 1;
        if record.is_empty() && self.kind == LayoutKind::Text && !self.too_long {
            return Ok(());
        }
        let whole = !std::mem::take(&mut self.too_long) && record.len() == self.length;
        let read = if whole { self.read(record) } else { Err(LineFault::NoId) };
        let id = if read == Err(LineFault::NoId) { &[][..] } else { &self.id };
        sink.record(id, read.map(|()| &self.fields), self.number)
    }

    fn read(&mut self, record: &[u8]) -> Result<(), LineFault> {
        self.fields = self.defaults;
        self.id.clear();
        let mut fault: Option<Field> = None;
        for Place { field, bytes, encoding, absent } in &self.places {
            // The layout's places lie within its length.
            let bytes = record.get(bytes.clone()).unwrap_or_default();
            match field {
                None => append_id(&mut self.id, bytes, *encoding),
                Some(_) if absent.as_deref() == Some(bytes) => {}
                Some(field) => {
                    if !set(&mut self.fields, *field, bytes, *encoding) {
                        fault = Some(fault.map_or(*field, |first| first.min(*field)));
                    }
                }
            }
        }
        match (is_record_id(&self.id), fault) {
            (false, _) => Err(LineFault::NoId),
            (true, Some(field)) => Err(LineFault::Field(field)),
            (true, None) => Ok(()),
        }
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

fn set(fields: &mut FieldSet, field: Field, bytes: &[u8], encoding: PlaceEncoding) -> bool {
    match encoding {
        PlaceEncoding::Text => fields.parse(field, bytes.trim_ascii()).is_ok(),
        PlaceEncoding::Bytes => fields.set_checked(field, bytes).is_ok(),
        PlaceEncoding::BytesReversed => {
            let mut reversed = [0; LONGEST_FIELD];
            // A place is as wide as its field: the profile was refused else.
            let Some(reversed) = reversed.get_mut(..bytes.len()) else { return false };
            reversed.copy_from_slice(bytes);
            reversed.reverse();
            fields.set_checked(field, reversed).is_ok()
        }
    }
}
