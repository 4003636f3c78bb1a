//! What keys of no card scheme do.

use claviger_hsm_api::Padding;

use super::KeyRef;

/// What is asked of a key of no card scheme.
pub struct GenericRequest {
    /// The key.
    pub key: KeyRef,
    /// For each of how many rows, what.
    pub task: GenericTask,
}

/// Rows of generic work. The MAC algorithm is that of the key's usage.
pub enum GenericTask {
    /// Makes MACs.
    Mac {
        /// Of CBC-MACs.
        padding: Padding,
        /// Leftmost bytes that are kept; all if absent.
        length: Option<usize>,
        /// Over what.
        messages: Vec<Vec<u8>>,
    },
    /// Verifies MACs.
    VerifyMac {
        /// Of CBC-MACs.
        padding: Padding,
        /// Each message with its MAC; all MACs have one length.
        messages: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// Enciphers.
    Encrypt {
        /// How.
        mode: Mode,
        /// Of what is not authenticated.
        padding: Padding,
        /// What.
        texts: Vec<CipherText>,
    },
    /// Deciphers.
    Decrypt {
        /// How.
        mode: Mode,
        /// Taken off the texts of ECB and CBC.
        padding: Padding,
        /// What.
        texts: Vec<CipherText>,
    },
    /// Signs.
    Sign {
        /// Goes into `Z_A`.
        signer_id: String,
        /// What.
        messages: Vec<Vec<u8>>,
    },
    /// Verifies signatures.
    VerifySignature {
        /// Goes into `Z_A`.
        signer_id: String,
        /// Each message with its signature.
        messages: Vec<(Vec<u8>, Vec<u8>)>,
    },
}

/// A mode of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// SP 800-38A.
    Ecb,
    /// SP 800-38A.
    Cbc,
    /// SP 800-38D; RFC 8998 for SM4.
    Gcm,
}

/// A text with what its mode needs.
pub struct CipherText {
    /// Plain or enciphered; in GCM 16 bytes of tag follow the ciphertext.
    pub data: Vec<u8>,
    /// Initial value or nonce; drawn by the service if absent, and always in GCM encryption.
    pub iv: Option<Vec<u8>>,
    /// Authenticated, not enciphered.
    pub associated: Vec<u8>,
}
