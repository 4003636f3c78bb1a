//! What the engine asks of a device that keeps its keys to itself.

use claviger_hsm_api::{Algorithm, DriverError, NewKey, StoredKey, WrapFormat};

use crate::lowering::Capabilities;

/// Which way a cipher runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Plain text to cipher text.
    Encrypt,
    /// Cipher text to plain text.
    Decrypt,
}

/// What a key that is derived inside will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Derived {
    /// What it is a key of.
    pub algorithm: Algorithm,
    /// Whether it will leave wrapped, and so must be the bytes as computed.
    pub leaves: bool,
}

/// The primitives of a device, on keys that stay inside. A driver implements those that its
/// [`Capabilities`] claim; the others are never called.
pub trait Device: Capabilities {
    /// A key inside. One that was derived ends when it is dropped.
    type Key;

    /// Enciphers or deciphers whole blocks in place, in ECB.
    ///
    /// # Errors
    /// Of the device.
    fn ecb(&self, key: &Self::Key, direction: Direction, data: &mut [u8]) -> Result<(), DriverError>;

    /// Enciphers or deciphers whole blocks in place, chained from `initial`, one block.
    ///
    /// # Errors
    /// Of the device.
    fn cbc(&self, key: &Self::Key, direction: Direction, initial: &[u8], data: &mut [u8]) -> Result<(), DriverError>;

    /// The CMAC of a message (SP 800-38B), a whole block.
    ///
    /// # Errors
    /// Of the device.
    fn cmac(&self, key: &Self::Key, message: &[u8]) -> Result<Vec<u8>, DriverError>;

    /// The HMAC of a message with the key's hash, whole.
    ///
    /// # Errors
    /// Of the device.
    fn hmac(&self, key: &Self::Key, message: &[u8]) -> Result<Vec<u8>, DriverError>;

    /// The leftmost bytes, at least three, of a block of bytes `fill` enciphered.
    ///
    /// # Errors
    /// Of the device.
    fn check_block(&self, key: &Self::Key, fill: u8) -> Result<Vec<u8>, DriverError>;

    /// The key `E(key, block)`, kept inside; `block` has 16 bytes, which are two blocks of DES.
    ///
    /// # Errors
    /// Of the device.
    fn derive(&self, key: &Self::Key, made: Derived, block: &[u8; 16]) -> Result<Self::Key, DriverError>;

    /// The key `K' || K'` of a stored key `K' || K''`, for the retail MAC.
    ///
    /// # Errors
    /// If the key was made without one.
    fn left_half<'a>(&self, key: &'a Self::Key) -> Result<&'a Self::Key, DriverError>;

    /// A key under another, without a prefix.
    ///
    /// # Errors
    /// Of the device.
    fn wrap(&self, key: &Self::Key, under: &Self::Key, format: &WrapFormat) -> Result<Vec<u8>, DriverError>;

    /// The key `E(parent, block)`, kept as a stored key.
    ///
    /// # Errors
    /// Of the device.
    fn keep(&self, parent: &Self::Key, block: &[u8; 16], child: &NewKey) -> Result<StoredKey, DriverError>;
}
