//! Keys that came out of a block.

use zeroize::Zeroizing;

/// The bytes of a key, wiped on drop. Neither printable, comparable nor clonable.
pub struct KeyBytes(Zeroizing<Vec<u8>>);

impl KeyBytes {
    /// A copy of `source`; wiping the source is the caller's duty.
    pub(crate) fn copy_of(source: &[u8]) -> Self {
        Self(Zeroizing::new(source.to_vec()))
    }

    /// The key itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Zeroizing<Vec<u8>>> for KeyBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}
