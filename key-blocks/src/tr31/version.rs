//! Versions of key blocks, and what is between partners beside the version.

use crate::cipher::Cipher;
use crate::error::{Field, KeyBlockError};
use crate::tr31::optional::ExtendedLength;

/// How a block is protected (TR-31:2018, ISO 20038:2017).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Variants of a triple DES key, of 2005. Only ever read.
    A,
    /// Keys derived from a triple DES key by CMAC, a MAC of 8 bytes.
    B,
    /// As A, of 2010. Only ever read.
    C,
    /// Keys derived from an AES key by CMAC, CBC, a MAC of 16 bytes.
    D,
    /// As D, but CTR (ISO 20038).
    E,
}

/// A version that blocks are made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrapVersion {
    /// Under a triple DES key.
    B,
    /// Under an AES key.
    D,
    /// Under an AES key, by ISO 20038.
    E,
}

impl From<WrapVersion> for Version {
    fn from(version: WrapVersion) -> Self {
        match version {
            WrapVersion::B => Self::B,
            WrapVersion::D => Self::D,
            WrapVersion::E => Self::E,
        }
    }
}

impl Version {
    pub(super) fn parse(letter: u8) -> Result<Self, KeyBlockError> {
        match letter {
            b'A' => Ok(Self::A),
            b'B' => Ok(Self::B),
            b'C' => Ok(Self::C),
            b'D' => Ok(Self::D),
            b'E' => Ok(Self::E),
            _ => Err(KeyBlockError::new(Field::Version, "is none of A, B, C, D and E")),
        }
    }

    /// The letter that a block begins with.
    pub fn letter(self) -> char {
        match self {
            Self::A => 'A',
            Self::B => 'B',
            Self::C => 'C',
            Self::D => 'D',
            Self::E => 'E',
        }
    }

    pub(super) fn mac_len(self) -> usize {
        match self {
            Self::A | Self::C => 4,
            Self::B => 8,
            Self::D | Self::E => 16,
        }
    }

    /// What optional blocks are together a multiple of, and the payload too where it is chained.
    pub(super) fn block_len(self) -> usize {
        match self {
            Self::A | Self::B | Self::C => 8,
            Self::D | Self::E => 16,
        }
    }

    /// What the payload is a multiple of: anything where it is counted.
    pub(super) fn payload_unit(self) -> usize {
        if self == Self::E { 1 } else { self.block_len() }
    }
}

/// What sender and receiver must agree on beside the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    extended_length: ExtendedLength,
    sm4_local: bool,
}

impl Form {
    /// The published versions.
    pub fn published(extended_length: ExtendedLength) -> Self {
        Self { extended_length, sm4_local: false }
    }

    /// **No published standard.** Version D with SM4 in place of AES: the KBPK is an SM4 key, keys are derived under
    /// algorithm id 0005, and algorithm `S`, which is DSA elsewhere, is SM4. No Chinese adaptation of TR-31 is known, so
    /// this is Claviger's own; both sides must have agreed on it. Case `tr31-like-sm4-local` of `tests/vectors/tr31.json`.
    pub fn sm4_local(extended_length: ExtendedLength) -> Self {
        Self { extended_length, sm4_local: true }
    }

    pub(super) fn extended_length(self) -> ExtendedLength {
        self.extended_length
    }

    pub(super) fn is_sm4_local(self) -> bool {
        self.sm4_local
    }

    /// The cipher of the KBPK, and of the keys that come from it.
    pub(super) fn cipher(self, version: Version) -> Result<Cipher, KeyBlockError> {
        match (version, self.sm4_local) {
            (Version::D, true) => Ok(Cipher::Sm4),
            (_, true) => Err(KeyBlockError::new(Field::Version, "is D in the project-local form of SM4")),
            (Version::A | Version::B | Version::C, false) => Ok(Cipher::TripleDes),
            (Version::D | Version::E, false) => Ok(Cipher::Aes),
        }
    }
}

/// How long the encrypted key looks. What is added is random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPadding {
    /// Up to a whole block only.
    Minimal,
    /// As long as the longest key of the algorithm, then up to a whole block (X9.143:2021 7.3.1): 24 bytes for DES and
    /// triple DES, 32 for AES. Keys of other algorithms are padded minimally.
    Obfuscated,
    /// As long as a key of so many bytes, then up to a whole block; longer keys are padded minimally.
    AsIf(usize),
}
