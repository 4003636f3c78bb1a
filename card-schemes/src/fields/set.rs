//! A row of fields, in bytes.

use super::{Field, FieldError, Fields, Form, OFFSETS, TOTAL};
use crate::digits::{Digits, are_decimal, number, pack};

/// Bytes of a clearing record's fields, rounded up to whole vectors.
pub(crate) const PACKED: usize = FieldSet::RECORD_BYTES.next_multiple_of(16);

/// A row of fields, each in the bytes that cards use, with no allocation.
#[derive(Debug, Clone, Copy)]
pub struct FieldSet {
    /// Zeros where a field is not there.
    bytes: [u8; TOTAL],
    present: Fields,
}

impl Default for FieldSet {
    fn default() -> Self {
        Self { bytes: [0; TOTAL], present: Fields::default() }
    }
}

impl FieldSet {
    /// Bytes of all fields.
    pub(crate) const BYTES: usize = TOTAL;

    /// The bytes of a field that is there.
    pub fn get(&self, field: Field) -> Option<&[u8]> {
        self.present.has(field).then(|| self.bytes_at(field.place(), field.width()))
    }

    /// Bytes of all the fields of a clearing record.
    pub const RECORD_BYTES: usize = Field::Tac.offset() + Field::Tac.width();

    /// The fields of a clearing record in the order of their columns, zeros where one is not there; and which are there,
    /// from the lowest bit on.
    pub fn of_record(&self) -> (u16, &[u8]) {
        ((self.present.0 & ((2 << Field::Tac as u32) - 1)) as u16, &self.bytes[..Self::RECORD_BYTES])
    }

    /// The first in column order of some fields that is not there.
    #[inline]
    pub(crate) fn first_missing(&self, of: Fields) -> Option<Field> {
        of.without(self.present).first()
    }

    /// Bytes of a row from `at` on, as [`Field::place`] counts them.
    pub(crate) fn bytes_at(&self, at: usize, len: usize) -> &[u8] {
        &self.bytes[at..at + len]
    }

    /// As [`bytes_at`](Self::bytes_at), of a length that the compiler knows.
    #[inline]
    pub(crate) fn chunk_at<const LEN: usize>(&self, at: usize) -> Option<&[u8; LEN]> {
        self.bytes.get(at..)?.first_chunk()
    }

    /// A one-byte field that is there.
    #[inline]
    pub fn byte(&self, field: Field) -> Option<u8> {
        self.get(field).and_then(|bytes| bytes.first().copied())
    }

    /// Sets a field from its bytes; those of another length are refused.
    ///
    /// # Errors
    /// [`FieldError`].
    pub fn set(&mut self, field: Field, bytes: &[u8]) -> Result<(), FieldError> {
        let at = OFFSETS[field as usize];
        if bytes.len() != field.width() {
            return Err(FieldError { field, expected: field.expected() });
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.present.add(field);
        Ok(())
    }

    /// Sets a field from its bytes; those that its text could not say (a date that is none) are refused.
    ///
    /// # Errors
    /// [`FieldError`].
    pub fn set_checked(&mut self, field: Field, bytes: &[u8]) -> Result<(), FieldError> {
        if bytes.len() != field.width() || !can_be_said(field.form(), bytes) {
            return Err(FieldError { field, expected: field.expected() });
        }
        self.set(field, bytes)
    }

    /// Sets a field from its text; an empty text leaves it absent.
    ///
    /// # Errors
    /// [`FieldError`] if the text is not what the field's column says.
    pub fn parse(&mut self, field: Field, text: &[u8]) -> Result<(), FieldError> {
        if text.is_empty() {
            return Ok(());
        }
        let good = match (field.form(), field.width()) {
            (Form::Fen, _) => number(text).map(|fen| self.put(field, fen.to_be_bytes())),
            (form, 1) => read::<1>(form, text).map(|bytes| self.put(field, bytes)),
            (form, 2) => read::<2>(form, text).map(|bytes| self.put(field, bytes)),
            (form, 3) => read::<3>(form, text).map(|bytes| self.put(field, bytes)),
            (form, 4) => read::<4>(form, text).map(|bytes| self.put(field, bytes)),
            (form, 6) => read::<6>(form, text).map(|bytes| self.put(field, bytes)),
            (form, 8) => read::<8>(form, text).map(|bytes| self.put(field, bytes)),
            (form, _) => read::<9>(form, text).map(|bytes| self.put(field, bytes)),
        };
        good.ok_or(FieldError { field, expected: field.expected() })
    }

    /// Sets a field to bytes of its width, which are not checked.
    #[inline]
    pub(crate) fn put<const LEN: usize>(&mut self, field: Field, bytes: [u8; LEN]) {
        if let Some(place) = self.bytes[OFFSETS[field as usize]..].first_chunk_mut() {
            *place = bytes;
            self.present.add(field);
        }
    }

    /// Sets bytes of fields from a place on, as [`Field::place`] counts; whether they are there is said by
    /// [`add`](Self::add).
    #[inline]
    pub(crate) fn copy(&mut self, place: usize, bytes: &[u8]) {
        self.bytes[place..place + bytes.len()].copy_from_slice(bytes);
    }

    /// The same of bytes that are turned round.
    pub(crate) fn copy_reversed(&mut self, place: usize, bytes: &[u8]) {
        self.bytes[place..].iter_mut().zip(bytes.iter().rev()).for_each(|(to, byte)| *to = *byte);
    }

    /// Takes the bytes of a field of a clearing record back.
    #[inline]
    pub(crate) fn clear(&mut self, field: Field) {
        let at = OFFSETS[field as usize];
        match field.width() {
            1 => self.clear_at::<1>(at),
            2 => self.clear_at::<2>(at),
            3 => self.clear_at::<3>(at),
            4 => self.clear_at::<4>(at),
            6 => self.clear_at::<6>(at),
            _ => self.clear_at::<8>(at),
        }
    }

    #[inline]
    fn clear_at<const LEN: usize>(&mut self, at: usize) {
        if let Some(place) = self.bytes[at..].first_chunk_mut::<LEN>() {
            *place = [0; LEN];
        }
    }

    /// Says that fields whose bytes were set are there.
    #[inline]
    pub(crate) fn add(&mut self, fields: Fields) {
        self.present = self.present.with(fields);
    }

    /// Sets fields of a clearing record that are not there yet, all at once: their bytes as a row has them, zeros elsewhere.
    #[inline]
    pub(crate) fn merge(&mut self, fields: Fields, packed: &[u8; PACKED]) {
        self.bytes.iter_mut().zip(packed).for_each(|(byte, packed)| *byte |= packed);
        self.present = self.present.with(fields);
    }

    /// Sets the fields of another row that are not there.
    pub(crate) fn fill_in(&mut self, from: &Self) {
        for field in Field::ALL.iter().filter(|field| from.present.has(**field) && !self.present.has(**field)) {
            let (at, width) = (field.place(), field.width());
            self.bytes[at..at + width].copy_from_slice(&from.bytes[at..at + width]);
        }
        self.present = self.present.with(from.present);
    }

    /// The fields of a clearing record that are there and hold what no text of theirs says.
    #[inline]
    pub(crate) fn unsayable(&self) -> Fields {
        let mut found = Fields::default();
        // One by one, so that the compiler knows each form and width.
        let mut check = |field: Field, good: bool| {
            if self.present.has(field) && !good {
                found.add(field);
            }
        };
        check(Field::CityCode, self.says::<2>(Field::CityCode));
        check(Field::Asn, self.says::<8>(Field::Asn));
        check(Field::Date, self.says::<4>(Field::Date));
        check(Field::Time, self.says::<3>(Field::Time));
        found
    }

    #[inline(always)]
    fn says<const LEN: usize>(&self, field: Field) -> bool {
        self.chunk_at::<LEN>(field.place()).is_some_and(|bytes| can_be_said(field.form(), bytes))
    }
}

/// Bytes of a field from its text.
fn read<const LEN: usize>(form: Form, text: &[u8]) -> Option<[u8; LEN]> {
    let digits = match form {
        Form::Hex | Form::CardNumber => Digits::Hexadecimal,
        Form::Bcd | Form::Date | Form::Time | Form::Fen => Digits::Decimal,
    };
    pack(text, digits).filter(|bytes| can_be_said(form, bytes))
}

/// Whether there is a text for bytes of the field's width.
#[inline(always)]
fn can_be_said(form: Form, bytes: &[u8]) -> bool {
    match form {
        Form::Hex | Form::Fen => true,
        Form::Bcd => are_decimal(bytes),
        Form::Date => are_decimal(bytes) && bytes.first_chunk().is_some_and(is_date),
        Form::Time => are_decimal(bytes) && bytes.first_chunk().is_some_and(is_time),
        Form::CardNumber => are_decimal(bytes) || bytes.first_chunk().is_some_and(is_card_number),
    }
}

/// Decimal digits with F as fill: at the right (left-justified) or at the left, not in between.
fn is_card_number(number: &[u8; 8]) -> bool {
    let word = u64::from_be_bytes(*number);
    match ((!word).leading_zeros() / 4, (!word).trailing_zeros() / 4) {
        (0, fill) => are_decimal(&(word >> (4 * fill)).to_be_bytes()),
        (fill, 0) => are_decimal(&(word << (4 * fill)).to_be_bytes()),
        // At both ends, or of nothing else.
        _ => false,
    }
}

/// In BCD.
fn is_time(bcd: &[u8; 3]) -> bool {
    bcd[0] < 0x24 && bcd[1] < 0x60 && bcd[2] < 0x60
}

/// Proleptic Gregorian, in BCD.
fn is_date(bcd: &[u8; 4]) -> bool {
    let two = |byte: u8| u32::from(byte >> 4) * 10 + u32::from(byte & 15);
    let (year, month, day) = (two(bcd[0]) * 100 + two(bcd[1]), two(bcd[2]), two(bcd[3]));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}
