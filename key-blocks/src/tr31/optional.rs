//! Optional blocks (X9.143:2021 6.3.6): two characters of id, the length of the whole block, data.

use crate::error::{Field, KeyBlockError};
use crate::tr31::purse_key::PurseKey;

/// What the two digits after `00` count, in the long form of a length. Readings of TR-31:2018 A.5.6 differ, so it is
/// between partners; blocks of 255 characters or fewer do not need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedLength {
    /// Hexadecimal digits: `04` stands before `0190`.
    Digits,
    /// Pairs of them: `02` stands before `0190`.
    Pairs,
}

/// One optional block: Claviger's own, which is typed, or any other, kept as it came (KC and KP check values, KS, IK, CT,
/// HM, LB, TS, the padding PB and the rest).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalBlock {
    id: String,
    data: String,
    purse_key: Option<PurseKey>,
}

/// The id of the block that fills up the others.
pub(super) const PADDING: &str = "PB";

/// The longest length in two digits.
const SHORT: usize = 0xFF;

impl OptionalBlock {
    /// `id` is two letters or digits, `data` printable ASCII.
    ///
    /// # Errors
    /// `optional blocks`, if they are not; `purse key`, if it is Claviger's own and says nothing that a purse key is.
    pub fn new(id: &str, data: &str) -> Result<Self, KeyBlockError> {
        if id.len() != 2 || !id.bytes().all(|c| c.is_ascii_alphanumeric()) {
            return Err(KeyBlockError::new(Field::OptionalBlocks, "have ids of two letters or digits"));
        }
        if !data.bytes().all(|c| matches!(c, b' '..=b'~')) {
            return Err(KeyBlockError::new(Field::OptionalBlocks, "hold printable ASCII only"));
        }
        let purse_key = if id == PurseKey::ID { PurseKey::parse(data).transpose()? } else { None };
        Ok(Self { id: id.to_owned(), data: data.to_owned(), purse_key })
    }

    /// Its two characters.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it says.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// Which purse key it says that is, if it is Claviger's own.
    pub fn purse_key(&self) -> Option<&PurseKey> {
        self.purse_key.as_ref()
    }

    pub(super) fn text(&self, extended: ExtendedLength) -> Result<String, KeyBlockError> {
        let (id, data) = (&self.id, &self.data);
        let short = id.len() + 2 + data.len();
        if short <= SHORT {
            return Ok(format!("{id}{short:02X}{data}"));
        }
        let count = match extended {
            ExtendedLength::Digits => "04",
            ExtendedLength::Pairs => "02",
        };
        let long = short + 2 + 4;
        if long > 0xFFFF {
            return Err(KeyBlockError::new(Field::OptionalBlocks, "are longer than a key block can be"));
        }
        Ok(format!("{id}00{count}{long:04X}{data}"))
    }

    /// The block at the start of `text`, and how many characters it is.
    pub(super) fn parse(text: &str, extended: ExtendedLength, number: usize) -> Result<(Self, usize), KeyBlockError> {
        let refused = |reason| KeyBlockError::new(Field::OptionalBlock(number), reason);
        let short = KeyBlockError::new(Field::OptionalBlock(number), "does not end within the block");
        let id = text.get(..2).ok_or(short)?;
        let (len, head) = match upper_hex(text.get(2..4).ok_or(short)?) {
            None => return Err(refused("has no hexadecimal length")),
            Some(0) => extended_length(text, extended).ok_or(refused("has no hexadecimal length in the long form"))?,
            Some(len) => (len, 4),
        };
        let data = text.get(head..len).ok_or(refused("has a length that its own head or the block does not allow"))?;
        let block = Self::new(id, data).map_err(|error| match error.field() {
            Field::PurseKey => refused("is Claviger's, and no scheme, role and level"),
            _ => refused("has an id that is not two letters or digits, or holds other than printable ASCII"),
        })?;
        Ok((block, len))
    }
}

impl From<PurseKey> for OptionalBlock {
    fn from(key: PurseKey) -> Self {
        Self { id: PurseKey::ID.to_owned(), data: key.data(), purse_key: Some(key) }
    }
}

/// The long form's length, and how long the head with it is.
fn extended_length(text: &str, extended: ExtendedLength) -> Option<(usize, usize)> {
    let count = upper_hex(text.get(4..6)?)?;
    let digits = match extended {
        ExtendedLength::Digits => count,
        ExtendedLength::Pairs => count * 2,
    };
    let head = 6 + digits;
    Some((upper_hex(text.get(6..head)?)?, head))
}

/// A number in one to eight upper-case hexadecimal digits: more than any length needs, and no overflow.
fn upper_hex(text: &str) -> Option<usize> {
    let good = (1..=8).contains(&text.len()) && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'A'..=b'F'));
    if good { usize::from_str_radix(text, 16).ok() } else { None }
}
