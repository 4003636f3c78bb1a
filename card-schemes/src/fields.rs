//! The fields of cards and transactions, and a row of them in the bytes that cards use.

use std::fmt;

use crate::digits::{Digits, are_decimal, number, pack};

/// A field by name. The names are those of CSV columns, JSON members and profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// City code, 2 bytes BCD (GB/T 2260 style or a JT/T city).
    CityCode,
    /// Issuer identifier, 8 bytes (JT/T EF15, bytes 0 to 7).
    IssuerId,
    /// Application serial number, low 8 bytes, digits with F as fill.
    Asn,
    /// Transaction type, 1 byte.
    TxnType,
    /// Amount in fen, unsigned 32 bits big-endian.
    Amount,
    /// Balance after the transaction in fen.
    BalanceAfter,
    /// Online serial number before the transaction, 2 bytes.
    OnlineSn,
    /// Terminal number of the PSAM, 6 bytes.
    TerminalId,
    /// Terminal transaction number, 4 bytes.
    Ttc,
    /// Date YYYYMMDD, 4 bytes BCD.
    Date,
    /// Time HHMMSS, 3 bytes BCD.
    Time,
    /// Key version, 1 byte.
    KeyVersion,
    /// Algorithm id as the card writes it, 1 byte.
    AlgId,
    /// TAC, 4 bytes.
    Tac,
    /// Balance before the transaction in fen.
    Balance,
    /// The card's random number, 4 bytes.
    Rand,
    /// Offline serial number, 2 bytes.
    OfflineSn,
    /// MOHURD security authentication id, 9 bytes.
    AuthId,
    /// Overdraft limit before, 3 bytes.
    OldLimit,
    /// Overdraft limit after, 3 bytes.
    NewLimit,
    /// The terminal's random number (grey lock), 4 bytes.
    TerminalRand,
}

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Hex,
    /// Decimal digits only.
    Bcd,
    /// Decimal digits, F as fill at one end.
    CardNumber,
    /// A decimal number of fen, unsigned 32 bits.
    Fen,
    Date,
    Time,
}

/// A value that is not what its field says. Never holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` is not {expected}")]
pub struct FieldError {
    /// Which.
    pub field: Field,
    /// What it should have been.
    pub expected: &'static str,
}

impl Field {
    /// Every field, those of clearing records first and in the order of their columns.
    pub const ALL: &'static [Self] = &[
        Self::CityCode,
        Self::IssuerId,
        Self::Asn,
        Self::TxnType,
        Self::Amount,
        Self::BalanceAfter,
        Self::OnlineSn,
        Self::TerminalId,
        Self::Ttc,
        Self::Date,
        Self::Time,
        Self::KeyVersion,
        Self::AlgId,
        Self::Tac,
        Self::Balance,
        Self::Rand,
        Self::OfflineSn,
        Self::AuthId,
        Self::OldLimit,
        Self::NewLimit,
        Self::TerminalRand,
    ];

    /// The columns of a clearing record, in the order in which faults are reported.
    pub const OF_RECORDS: &'static [Self] = Self::ALL.split_at(14).0;

    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CityCode => "city_code",
            Self::IssuerId => "issuer_id",
            Self::Asn => "asn",
            Self::TxnType => "txn_type",
            Self::Amount => "amount",
            Self::BalanceAfter => "balance_after",
            Self::OnlineSn => "online_sn",
            Self::TerminalId => "terminal_id",
            Self::Ttc => "ttc",
            Self::Date => "date",
            Self::Time => "time",
            Self::KeyVersion => "key_version",
            Self::AlgId => "alg_id",
            Self::Tac => "tac",
            Self::Balance => "balance",
            Self::Rand => "rand",
            Self::OfflineSn => "offline_sn",
            Self::AuthId => "auth_id",
            Self::OldLimit => "old_limit",
            Self::NewLimit => "new_limit",
            Self::TerminalRand => "terminal_rand",
        }
    }

    /// The field of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.as_str() == name)
    }

    /// Bytes that the field has on a card.
    pub const fn width(self) -> usize {
        match self {
            Self::TxnType | Self::KeyVersion | Self::AlgId => 1,
            Self::CityCode | Self::OnlineSn | Self::OfflineSn => 2,
            Self::Time | Self::OldLimit | Self::NewLimit => 3,
            Self::Amount
            | Self::BalanceAfter
            | Self::Balance
            | Self::Ttc
            | Self::Date
            | Self::Tac
            | Self::Rand
            | Self::TerminalRand => 4,
            Self::TerminalId => 6,
            Self::IssuerId | Self::Asn => 8,
            Self::AuthId => 9,
        }
    }

    const fn form(self) -> Form {
        match self {
            Self::CityCode => Form::Bcd,
            Self::Asn => Form::CardNumber,
            Self::Amount | Self::BalanceAfter | Self::Balance => Form::Fen,
            Self::Date => Form::Date,
            Self::Time => Form::Time,
            _ => Form::Hex,
        }
    }

    /// Where the field's bytes begin in a row: fields that follow one another in column order do so there.
    pub(crate) fn place(self) -> usize {
        OFFSETS[self as usize]
    }

    const fn offset(self) -> usize {
        let (mut offset, mut at) = (0, 0);
        while at < self as usize {
            offset += Self::ALL[at].width();
            at += 1;
        }
        offset
    }

    /// What a value of this field looks like, for people.
    pub fn expected(self) -> &'static str {
        match (self.form(), self.width()) {
            (Form::Bcd, _) => "4 decimal digits",
            (Form::CardNumber, _) => "16 decimal digits, F as fill at one end",
            (Form::Fen, _) => "a decimal number of fen from 0 to 4294967295",
            (Form::Date, _) => "a date as YYYYMMDD",
            (Form::Time, _) => "a time as HHMMSS",
            (Form::Hex, 1) => "2 hexadecimal digits",
            (Form::Hex, 2) => "4 hexadecimal digits",
            (Form::Hex, 3) => "6 hexadecimal digits",
            (Form::Hex, 4) => "8 hexadecimal digits",
            (Form::Hex, 6) => "12 hexadecimal digits",
            (Form::Hex, 8) => "16 hexadecimal digits",
            (Form::Hex, _) => "18 hexadecimal digits",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const OFFSETS: [usize; Field::ALL.len()] = {
    let mut offsets = [0; Field::ALL.len()];
    let mut at = 0;
    while at < offsets.len() {
        offsets[at] = Field::ALL[at].offset();
        at += 1;
    }
    offsets
};
/// Of each field, how it is written and its width.
const KINDS: [(Form, usize); Field::ALL.len()] = {
    let mut kinds = [(Form::Hex, 0); Field::ALL.len()];
    let mut at = 0;
    while at < kinds.len() {
        kinds[at] = (Field::ALL[at].form(), Field::ALL[at].width());
        at += 1;
    }
    kinds
};
const TOTAL: usize = Field::TerminalRand.offset() + Field::TerminalRand.width();

/// Several fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fields(u32);

impl Fields {
    /// Those that are in both.
    pub(crate) fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// The first in column order, if there is any.
    pub(crate) fn first(self) -> Option<Field> {
        Field::ALL.get(self.0.trailing_zeros() as usize).copied()
    }

    pub(crate) fn add(&mut self, field: Field) {
        self.0 |= 1 << field as u32;
    }

    /// A field and all that come before it in column order.
    pub(crate) fn up_to(last: Field) -> Self {
        Self((2 << last as u32) - 1)
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<T: IntoIterator<Item = Field>>(fields: T) -> Self {
        Self(fields.into_iter().fold(0, |fields, field| fields | 1 << field as u32))
    }
}

/// A row of fields, each in the bytes that cards use, with no allocation.
#[derive(Debug, Clone, Copy)]
pub struct FieldSet {
    bytes: [u8; TOTAL],
    present: u32,
}

impl Default for FieldSet {
    fn default() -> Self {
        Self { bytes: [0; TOTAL], present: 0 }
    }
}

impl FieldSet {
    /// The bytes of a field that is there.
    pub fn get(&self, field: Field) -> Option<&[u8]> {
        let at = OFFSETS[field as usize];
        (self.present >> field as u32 & 1 == 1).then(|| &self.bytes[at..at + field.width()])
    }

    /// Bytes of all the fields of a clearing record.
    pub const RECORD_BYTES: usize = Field::Tac.offset() + Field::Tac.width();

    /// The fields of a clearing record in the order of their columns, zeros where one is not there; and which are there,
    /// from the lowest bit on.
    pub fn of_record(&self) -> (u16, &[u8]) {
        ((self.present & ((2 << Field::Tac as u32) - 1)) as u16, &self.bytes[..Self::RECORD_BYTES])
    }

    /// The first in column order of some fields that is not there.
    pub(crate) fn first_missing(&self, of: Fields) -> Option<Field> {
        Fields(of.0 & !self.present).first()
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
        self.present |= 1 << field as u32;
        Ok(())
    }

    /// Sets a field from its bytes; those that its text could not say (a date that is none) are refused.
    ///
    /// # Errors
    /// [`FieldError`].
    pub fn set_checked(&mut self, field: Field, bytes: &[u8]) -> Result<(), FieldError> {
        let good = bytes.len() == field.width()
            && match field.form() {
                Form::Hex | Form::Fen => true,
                Form::Bcd => are_decimal(bytes),
                Form::Date => are_decimal(bytes) && bytes.first_chunk().is_some_and(is_date),
                Form::Time => are_decimal(bytes) && bytes.first_chunk().is_some_and(is_time),
                Form::CardNumber => {
                    let mut text = [0; 16];
                    are_decimal(bytes) || (hex::encode_to_slice(bytes, &mut text).is_ok() && is_card_number(&text))
                }
            };
        if good { self.set(field, bytes) } else { Err(FieldError { field, expected: field.expected() }) }
    }

    /// Sets a field from its text; an empty text leaves it absent.
    ///
    /// # Errors
    /// [`FieldError`] if the text is not what the field's column says.
    pub fn parse(&mut self, field: Field, text: &[u8]) -> Result<(), FieldError> {
        let mut result = Ok(());
        Self::parse_all(std::slice::from_mut(self), field, std::iter::once(Some(text)), |_| {
            result = Err(FieldError { field, expected: field.expected() });
        });
        result
    }

    /// Sets a field of each row from its text; an empty text leaves it absent. Tells of the rows whose text is not
    /// what the field's column says, or that have none.
    #[inline]
    pub(crate) fn parse_all<'a>(
        rows: &mut [Self],
        field: Field,
        texts: impl Iterator<Item = Option<&'a [u8]>>,
        mut wrong: impl FnMut(usize),
    ) {
        use Digits::{Decimal, Hexadecimal};
        let rows = rows.iter_mut().zip(texts).enumerate();
        let wrong = &mut wrong;
        match KINDS[field as usize] {
            (Form::Fen, _) => put_all(rows, field, |text| number(text).map(u32::to_be_bytes), wrong),
            (Form::Hex, 1) => put_all(rows, field, |text| pack::<1>(text, Hexadecimal), wrong),
            (Form::Hex, 2) => put_all(rows, field, |text| pack::<2>(text, Hexadecimal), wrong),
            (Form::Hex, 3) => put_all(rows, field, |text| pack::<3>(text, Hexadecimal), wrong),
            (Form::Hex, 4) => put_all(rows, field, |text| pack::<4>(text, Hexadecimal), wrong),
            (Form::Hex, 6) => put_all(rows, field, |text| pack::<6>(text, Hexadecimal), wrong),
            (Form::Hex, 8) => put_all(rows, field, |text| pack::<8>(text, Hexadecimal), wrong),
            (Form::Hex, _) => put_all(rows, field, |text| pack::<9>(text, Hexadecimal), wrong),
            (Form::Bcd, _) => put_all(rows, field, |text| pack::<2>(text, Decimal), wrong),
            (Form::CardNumber, _) => put_all(rows, field, card_number, wrong),
            (Form::Date, _) => put_all(rows, field, |text| pack::<4>(text, Decimal).filter(is_date), wrong),
            (Form::Time, _) => put_all(rows, field, |text| pack::<3>(text, Decimal).filter(is_time), wrong),
        }
    }

    /// Sets a field to bytes of its width, if there are any.
    #[inline]
    fn put<const LEN: usize>(&mut self, field: Field, bytes: Option<[u8; LEN]>) -> bool {
        let at = OFFSETS[field as usize];
        let Some((bytes, to)) = bytes.zip(self.bytes[at..].first_chunk_mut()) else { return false };
        *to = bytes;
        self.present |= 1 << field as u32;
        true
    }
}

/// Sets a field of rows from texts, all read the same way.
#[inline]
fn put_all<'a, 'b, const LEN: usize>(
    rows: impl Iterator<Item = (usize, (&'a mut FieldSet, Option<&'b [u8]>))>,
    field: Field,
    read: impl Fn(&[u8]) -> Option<[u8; LEN]>,
    wrong: &mut impl FnMut(usize),
) {
    for (number, (row, text)) in rows {
        match text {
            Some([]) => {}
            Some(text) if row.put(field, read(text)) => {}
            _ => wrong(number),
        }
    }
}

fn card_number(text: &[u8]) -> Option<[u8; 8]> {
    let digits = pack::<8>(text, Digits::Decimal);
    digits.or_else(|| pack::<8>(text, Digits::Hexadecimal).filter(|_| is_card_number(text)))
}

/// Digits with F as fill: at the right (left-justified) or at the left, not in between.
fn is_card_number(text: &[u8]) -> bool {
    let fill = |c: &u8| *c == b'F' || *c == b'f';
    let digits = match text.iter().position(|c| !fill(c)) {
        Some(0) => &text[..text.iter().rposition(|c| !fill(c)).map_or(0, |last| last + 1)],
        Some(first) => &text[first..],
        None => return false,
    };
    digits.iter().all(u8::is_ascii_digit)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parses(field: Field, text: &str) -> bool {
        FieldSet::default().parse(field, text.as_bytes()).is_ok()
    }

    #[test]
    fn the_order_of_the_list_is_the_order_of_the_enum() {
        for (at, field) in Field::ALL.iter().enumerate() {
            assert_eq!(*field as usize, at);
            assert_eq!(Field::named(field.as_str()), Some(*field));
        }
    }

    #[test]
    fn fields_do_not_overlap() {
        let mut set = FieldSet::default();
        for (at, field) in Field::ALL.iter().enumerate() {
            set.set(*field, &vec![at as u8; field.width()]).unwrap();
        }
        for (at, field) in Field::ALL.iter().enumerate() {
            assert_eq!(set.get(*field).unwrap(), vec![at as u8; field.width()], "{field}");
        }
    }

    #[test]
    fn bounds_of_each_form() {
        assert!(parses(Field::Amount, "4294967295") && !parses(Field::Amount, "4294967296"));
        assert!(!parses(Field::Amount, "-1") && !parses(Field::Amount, "+1") && !parses(Field::Amount, "1.0"));
        assert!(
            parses(Field::Date, "20240229") && !parses(Field::Date, "20260229") && !parses(Field::Date, "20261341")
        );
        assert!(parses(Field::Time, "235959") && !parses(Field::Time, "240000") && !parses(Field::Time, "256100"));
        assert!(parses(Field::Asn, "1234567890FFFFFF") && parses(Field::Asn, "FF00310012345678"));
        assert!(
            !parses(Field::Asn, "1000211743A36681")
                && !parses(Field::Asn, "10002F1743036681")
                && !parses(Field::Asn, "FFFFFFFFFFFFFFFF")
        );
        assert!(parses(Field::TerminalId, "FFFFFFFFFFFF") && !parses(Field::TerminalId, "FFFFFFFFFFF"));
        assert!(!parses(Field::Tac, "12G4ZZ01") && !parses(Field::CityCode, "12A4"));
    }
}
