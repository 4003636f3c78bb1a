//! The fields of cards and transactions, and a row of them in the bytes that cards use.

mod set;

use std::fmt;

pub use set::FieldSet;
pub(crate) use set::PACKED;

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
pub(crate) enum Form {
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

    pub(crate) const fn form(self) -> Form {
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
const TOTAL: usize = Field::TerminalRand.offset() + Field::TerminalRand.width();

/// Several fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fields(u32);

impl Fields {
    /// Those that are in both.
    pub(crate) fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// That one.
    pub(crate) fn one(field: Field) -> Self {
        Self(1 << field as u32)
    }

    /// Whether a field is among them.
    pub(crate) fn has(self, field: Field) -> bool {
        self.0 >> field as u32 & 1 == 1
    }

    /// These and others.
    pub(crate) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that are not among others.
    pub(crate) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The first in column order, if there is any.
    #[inline]
    pub(crate) fn first(self) -> Option<Field> {
        if self.0 == 0 {
            return None;
        }
        Field::ALL.get(self.0.trailing_zeros() as usize).copied()
    }

    pub(crate) fn add(&mut self, field: Field) {
        self.0 |= 1 << field as u32;
    }

    #[inline]
    pub(crate) fn add_if(&mut self, condition: bool, field: Field) {
        self.0 |= u32::from(condition) << field as u32;
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
