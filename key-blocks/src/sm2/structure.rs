//! Structures of C as SDF and SKF devices have them, packed.

use crate::error::{Field, KeyBlockError};

/// In which order a structure's 32-bit integers have their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegerOrder {
    /// Least significant first.
    Little,
    /// Most significant first.
    Big,
}

impl IntegerOrder {
    pub(super) fn bytes(self, number: u32) -> [u8; 4] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    fn number(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// 32 bytes in the right half of 64.
pub(super) fn right_aligned(number: &[u8; 32]) -> [u8; 64] {
    let mut field = [0; 64];
    field.iter_mut().skip(32).zip(number).for_each(|(byte, number)| *byte = *number);
    field
}

/// Reads one field after the other.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    order: IntegerOrder,
}

const SHORT: KeyBlockError = KeyBlockError::new(Field::Structure, "ends before its last field");

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], order: IntegerOrder) -> Self {
        Self { rest: bytes, order }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], KeyBlockError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], KeyBlockError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn integer(&mut self) -> Result<u32, KeyBlockError> {
        Ok(self.order.number(*self.array()?))
    }

    /// 32 bytes, right-aligned in 64.
    pub(super) fn number(&mut self, field: Field) -> Result<[u8; 32], KeyBlockError> {
        let zeros = self.array::<32>()?;
        let number = *self.array()?;
        if *zeros == [0; 32] {
            Ok(number)
        } else {
            Err(KeyBlockError::new(field, "is not 32 bytes right-aligned in 64"))
        }
    }

    pub(super) fn finish(self) -> Result<(), KeyBlockError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(KeyBlockError::new(Field::Structure, "goes on after its last field"))
        }
    }
}
