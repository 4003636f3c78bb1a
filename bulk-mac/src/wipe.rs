//! Buffers of rows that held secrets.

use zeroize::optimization_barrier;

/// Overwrites bytes with zeros in a way that the compiler keeps. `Zeroize` writes one byte at a time, which for the
/// buffers of a run costs as much as a cipher.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    optimization_barrier(bytes);
}

/// A buffer that is wiped when it is given up.
pub(crate) struct Room(pub(crate) Vec<u8>);

impl Room {
    pub(crate) fn new(len: usize) -> Self {
        Self(vec![0; len])
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}
