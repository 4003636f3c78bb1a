//! What was refused, and which field of it.

use std::fmt;

/// A field of a key block, an envelope or a key under a transport key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The letter of the key block version.
    Version,
    /// The length that a block says it has.
    Length,
    /// What the key is for.
    Usage,
    /// The algorithm that the key is of.
    Algorithm,
    /// Which half of an operation the key may do.
    Mode,
    /// The version or component number of the key.
    KeyVersion,
    /// Whether the key may leave again.
    Exportability,
    /// How many optional blocks there are, or how long they are together.
    OptionalBlocks,
    /// One optional block, counted from 1.
    OptionalBlock(usize),
    /// The key context, which was reserved before X9.143:2021.
    KeyContext,
    /// The encrypted key.
    Payload,
    /// The MAC over header and key.
    Mac,
    /// The key block protection key.
    Kbpk,
    /// The length of the wrapped key.
    KeyLength,
    /// The scheme, role and level of a purse key.
    PurseKey,
    /// A block cipher key.
    Key,
    /// A check value.
    Kcv,
    /// A fixed structure or its DER.
    Structure,
    /// The first integer of a structure, which tells its version or kind.
    StructureVersion,
    /// C1 of an SM2 ciphertext.
    Point,
    /// C3 of an SM2 ciphertext.
    Hash,
    /// C2 of an SM2 ciphertext.
    Ciphertext,
    /// An SM2 public key.
    PublicKey,
    /// An SM2 private key, in the clear or encrypted.
    PrivateKey,
    /// The algorithm that an enveloped private key is encrypted with.
    SymmetricAlgorithm,
    /// The key that an enveloped private key is encrypted with.
    SymmetricKey,
    /// The generator that the caller passed in.
    Randomness,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Version => "version",
            Self::Length => "length",
            Self::Usage => "usage",
            Self::Algorithm => "algorithm",
            Self::Mode => "mode",
            Self::KeyVersion => "key version",
            Self::Exportability => "exportability",
            Self::OptionalBlocks => "optional blocks",
            Self::OptionalBlock(number) => return write!(f, "optional block {number}"),
            Self::KeyContext => "key context",
            Self::Payload => "payload",
            Self::Mac => "mac",
            Self::Kbpk => "kbpk",
            Self::KeyLength => "key length",
            Self::PurseKey => "purse key",
            Self::Key => "key",
            Self::Kcv => "kcv",
            Self::Structure => "structure",
            Self::StructureVersion => "structure version",
            Self::Point => "point",
            Self::Hash => "hash",
            Self::Ciphertext => "ciphertext",
            Self::PublicKey => "public key",
            Self::PrivateKey => "private key",
            Self::SymmetricAlgorithm => "symmetric algorithm",
            Self::SymmetricKey => "symmetric key",
            Self::Randomness => "randomness",
        };
        f.write_str(word)
    }
}

/// Why something was refused. Holds words of this crate only, never a byte of what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct KeyBlockError {
    field: Field,
    reason: &'static str,
}

impl KeyBlockError {
    pub(crate) const fn new(field: Field, reason: &'static str) -> Self {
        Self { field, reason }
    }

    /// Which field was refused.
    pub fn field(&self) -> Field {
        self.field
    }
}

/// The caller's generator failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRandomness;

impl From<NoRandomness> for KeyBlockError {
    fn from(_: NoRandomness) -> Self {
        Self::new(Field::Randomness, "could not be had")
    }
}

/// Fills a slice with random bytes; the caller's generator, since this crate has none.
pub type Random<'a> = dyn FnMut(&mut [u8]) -> Result<(), NoRandomness> + 'a;
