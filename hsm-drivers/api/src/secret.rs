//! Secrets by type: what cannot be printed, cloned, serialised or compared with `==`.

use claviger_locked_memory::LockedBytes;
use zeroize::Zeroize;

/// A secret in locked memory, wiped on drop.
pub struct Secret(LockedBytes);

/// Why components could not be joined. Names the component by its place, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// Not hexadecimal digits in pairs.
    #[error("component {number} is not an even number of hexadecimal digits")]
    NotHex {
        /// Counted from one.
        number: usize,
    },
    /// Another length than the key's.
    #[error("component {number} has {found} bytes where the key has {wanted}")]
    Length {
        /// Counted from one.
        number: usize,
        /// Its bytes.
        found: usize,
        /// The key's bytes.
        wanted: usize,
    },
    /// Even parity where odd was demanded.
    #[error("component {number} has a byte of even parity")]
    EvenParity {
        /// Counted from one.
        number: usize,
    },
    /// Nothing but zeros: the others would be the key.
    #[error("component {number} is all zeros: whoever has the others would have the key")]
    Zero {
        /// Counted from one.
        number: usize,
    },
    /// The same as another: the two cancel each other out.
    #[error("component {number} is the same as another: the two cancel each other out")]
    Equal {
        /// Counted from one.
        number: usize,
    },
    /// Fewer than two.
    #[error("a key needs at least two components, so that nobody holds it alone")]
    TooFew,
}

impl Secret {
    /// `len` bytes, filled in place.
    pub fn init(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        Self(LockedBytes::init(len, fill))
    }

    /// A copy; the caller wipes the source.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(LockedBytes::copy_of(bytes))
    }

    /// Takes `bytes` over and wipes them.
    pub fn taking(mut bytes: Vec<u8>) -> Self {
        let secret = Self::copy_of(&bytes);
        bytes.zeroize();
        secret
    }

    /// Reads hexadecimal digits; `None` if they are not.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut bytes = LockedBytes::zeroed(digits.len() / 2);
        hex::decode_to_slice(digits, bytes.expose_mut()).ok()?;
        Some(Self(bytes))
    }

    /// The XOR of all `components`, each hexadecimal and of `len` bytes.
    ///
    /// # Errors
    /// A [`ComponentError`] that names the first bad component.
    pub fn from_components(components: &[Secret], len: usize, odd_parity: bool) -> Result<Self, ComponentError> {
        if components.len() < 2 {
            return Err(ComponentError::TooFew);
        }
        let mut joined = LockedBytes::zeroed(len);
        for (number, component) in (1..).zip(components) {
            let bytes = component.expose();
            if bytes.len() != len {
                return Err(ComponentError::Length { number, found: bytes.len(), wanted: len });
            }
            if odd_parity && bytes.iter().any(|byte| byte.count_ones() % 2 == 0) {
                return Err(ComponentError::EvenParity { number });
            }
            if bytes.iter().fold(0, |sum, byte| sum | byte) == 0 {
                return Err(ComponentError::Zero { number });
            }
            let same = |other: &Secret| other.expose().iter().zip(bytes).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0;
            if components[..number - 1].iter().any(same) {
                return Err(ComponentError::Equal { number });
            }
            joined.expose_mut().iter_mut().zip(bytes).for_each(|(sum, byte)| *sum ^= byte);
        }
        Ok(Self(joined))
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// The bytes themselves, to be written.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        self.0.expose_mut()
    }

    /// How many bytes; lengths are public.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_join_by_xor() {
        let parts = ["98796ECE2AFDECC4F837E5AD1C3BBA6D", "FA6F6012CD224893F3379AA1CC05D299"]
            .map(|p| Secret::from_hex(p).unwrap());
        let key = Secret::from_components(&parts, 16, false).unwrap();
        assert_eq!(hex::encode_upper(key.expose()), "62160EDCE7DFA4570B007F0CD03E68F4");
    }

    #[test]
    fn bad_components_are_named_by_place() {
        let [a, short, even] = ["0101010101010101", "01", "0301010101010101"].map(|p| Secret::from_hex(p).unwrap());
        let join = |parts: &[Secret], odd| Secret::from_components(parts, 8, odd).err();
        assert_eq!(join(std::slice::from_ref(&a), false), Some(ComponentError::TooFew));
        let parts = [a, short];
        assert_eq!(join(&parts, false), Some(ComponentError::Length { number: 2, found: 1, wanted: 8 }));
        let [a, _] = parts;
        assert_eq!(join(&[a, even], true), Some(ComponentError::EvenParity { number: 2 }));
    }
}
