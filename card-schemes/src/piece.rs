//! Pieces of messages and factors, as profiles write them.

use std::str::FromStr;

use serde::Deserialize;

use crate::fields::{Field, FieldSet};

/// A field, a slice of one, or fixed bytes: `amount`, `ttc[2..4]`, `hex:8000`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Piece {
    /// Bytes of a field.
    Field {
        /// Which.
        field: Field,
        /// First byte.
        from: usize,
        /// Past the last byte.
        to: usize,
    },
    /// The same bytes always.
    Fixed(Vec<u8>),
}

impl Piece {
    /// Bytes it has.
    pub fn width(&self) -> usize {
        match self {
            Self::Field { from, to, .. } => to - from,
            Self::Fixed(bytes) => bytes.len(),
        }
    }

    /// The field it needs.
    pub fn field(&self) -> Option<Field> {
        match self {
            Self::Field { field, .. } => Some(*field),
            Self::Fixed(_) => None,
        }
    }

    /// Appends its bytes; `Err` names the field that is missing.
    pub(crate) fn append(&self, fields: &FieldSet, to: &mut Vec<u8>) -> Result<(), Field> {
        match self {
            Self::Field { field, from, to: end } => {
                to.extend_from_slice(&fields.get(*field).ok_or(*field)?[*from..*end]);
            }
            Self::Fixed(bytes) => to.extend_from_slice(bytes),
        }
        Ok(())
    }
}

/// Bytes of several pieces.
pub(crate) fn width(pieces: &[Piece]) -> usize {
    pieces.iter().map(Piece::width).sum()
}

impl FromStr for Piece {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(digits) = text.strip_prefix("hex:") {
            let bytes = hex::decode(digits).map_err(|_| format!("`{text}` is not `hex:` and hexadecimal digits"))?;
            return Ok(Self::Fixed(bytes));
        }
        let (name, range) = text.split_once('[').map_or((text, None), |(name, range)| (name, Some(range)));
        let field = Field::named(name).ok_or_else(|| format!("`{name}` is not a field"))?;
        let Some(range) = range else { return Ok(Self::Field { field, from: 0, to: field.width() }) };
        let bounds = range.strip_suffix(']').and_then(|range| range.split_once(".."));
        let bounds = bounds.and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?)));
        match bounds {
            Some((from, to)) if from < to && to <= field.width() => Ok(Self::Field { field, from, to }),
            _ => Err(format!("`{text}`: the slice must lie within the {} bytes of `{name}`", field.width())),
        }
    }
}

impl TryFrom<String> for Piece {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_parse() {
        assert_eq!("ttc[2..4]".parse(), Ok(Piece::Field { field: Field::Ttc, from: 2, to: 4 }));
        assert_eq!("hex:8000".parse(), Ok(Piece::Fixed(vec![0x80, 0])));
        for bad in ["ttc[4..2]", "ttc[2..5]", "ttc[2..4", "hex:8", "tcc", "ttc[]", ""] {
            assert!(bad.parse::<Piece>().is_err(), "{bad}");
        }
    }
}
