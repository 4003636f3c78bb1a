//! Layouts that a profile describes: records of fixed places, as text lines or packed binary.

use super::{LineFault, RecordSink, is_record_id};
use crate::fields::{Field, FieldSet};
use crate::profile::{LayoutKind, PlaceEncoding, RecordLayout};

/// Records of one layout, in pieces of any size.
pub struct LayoutReader {
    layout: RecordLayout,
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
        Self {
            layout,
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
        match self.layout.kind {
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
        let text = self.layout.kind == LayoutKind::Text;
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
        if self.carry.len() + piece.len() > self.layout.length + SLACK {
            self.too_long = true;
            self.carry.clear();
        } else if !self.too_long {
            self.carry.extend_from_slice(piece);
        }
        Ok(())
    }

    fn blocks<S: RecordSink>(&mut self, mut piece: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let length = self.layout.length;
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
        if record.is_empty() && self.layout.kind == LayoutKind::Text && !self.too_long {
            return Ok(());
        }
        let whole = !std::mem::take(&mut self.too_long) && record.len() == self.layout.length;
        let read = if whole { self.read(record) } else { Err(LineFault::NoId) };
        let id = if read == Err(LineFault::NoId) { &[][..] } else { &self.id };
        sink.record(id, read.map(|()| &self.fields), self.number)
    }

    fn read(&mut self, record: &[u8]) -> Result<(), LineFault> {
        self.fields = self.defaults;
        self.id.clear();
        let mut fault: Option<Field> = None;
        for place in &self.layout.places {
            // The layout's places lie within its length.
            let bytes = record.get(place.offset..place.offset + place.length).unwrap_or_default();
            match Field::named(&place.field) {
                None => append_id(&mut self.id, bytes, place.encoding),
                Some(_) if place.absent.as_deref().is_some_and(|absent| is_absent(bytes, absent)) => {}
                Some(field) => {
                    if !set(&mut self.fields, field, bytes, place.encoding) {
                        fault = Some(fault.map_or(field, |first| first.min(field)));
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
        PlaceEncoding::Bytes => id.extend_from_slice(hex::encode_upper(bytes).as_bytes()),
        PlaceEncoding::BytesReversed => {
            let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
            id.extend_from_slice(hex::encode_upper(reversed).as_bytes());
        }
    }
}

fn is_absent(bytes: &[u8], absent: &str) -> bool {
    hex::decode(absent).is_ok_and(|absent| absent == bytes)
}

fn set(fields: &mut FieldSet, field: Field, bytes: &[u8], encoding: PlaceEncoding) -> bool {
    match encoding {
        PlaceEncoding::Text => fields.parse(field, bytes.trim_ascii()).is_ok(),
        PlaceEncoding::Bytes => fields.set_checked(field, bytes).is_ok(),
        PlaceEncoding::BytesReversed => {
            let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
            fields.set_checked(field, &reversed).is_ok()
        }
    }
}
