//! A MAC is public once it is made, yet must be compared in constant time.

use subtle::ConstantTimeEq;

/// Bytes of a MAC, truncated as its rule says. `==` is constant-time in the contents.
#[derive(Clone)]
pub struct Mac(Vec<u8>);

impl Mac {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Lets the MAC be seen: done where it is answered to the caller who may have it, and nowhere else.
    pub fn into_public(self) -> Vec<u8> {
        self.0
    }
}

impl PartialEq<[u8]> for Mac {
    fn eq(&self, expected: &[u8]) -> bool {
        self.0.ct_eq(expected).into()
    }
}
