//! Key blocks in and out: ANSI TR-31 and X9.143, ISO 20038, SM2 digital envelopes, and ECB under a transport key.
//!
//! Pure functions over bytes and text: no I/O, no generator of its own (randomness is passed in as a [`Random`]), no state.
//! What comes in is checked field by field, and errors name the field, never a byte of what was given. MACs, hashes and
//! check values are compared in constant time, before anything that they cover is believed.
//!
//! What the standards leave open, or print in several ways, is a parameter: the long form of optional blocks
//! ([`tr31::ExtendedLength`]), the order of integers in structures ([`sm2::IntegerOrder`]) and what stands first in
//! SDF's, the rule of a check value ([`KcvRule`]), the padding of keys in ECB ([`EcbPadding`]). SM4 in key blocks has no
//! standard at all and is asked for by name ([`tr31::Form::sm4_local`]).
//!
//! ```
//! use claviger_key_blocks::tr31::{ExtendedLength, Form, KeyBlock, Usage};
//!
//! // ISO 20038:2017 B.2, in which keys are words.
//! let kbpk = b"256-bit AES wrapping (ISO 20038)";
//! let block = "E0084B0TV16N0000B2AE5E26BBA7F246E84D5EA24167E208A6B66EF2E27E55A52DB52F0AEACB94C57547";
//! let opened = KeyBlock::parse(block, Form::published(ExtendedLength::Digits))?.unwrap(kbpk)?;
//! assert_eq!(opened.for_usage(Usage::BaseDerivation)?.expose(), b"wrapped 3DES key");
//! # Ok::<(), claviger_key_blocks::KeyBlockError>(())
//! ```

#![forbid(unsafe_code)]

mod cipher;
mod ecb;
mod error;
mod kcv;
mod key_bytes;
pub mod sm2;
pub mod tr31;

pub use cipher::{BlockKey, Cipher};
pub use ecb::{EcbFormat, EcbKey, EcbPadding, ecb_unwrap, ecb_unwrap_by, ecb_wrap};
pub use error::{Field, KeyBlockError, NoRandomness, Random};
pub use kcv::{KcvFunction, KcvInput, KcvRule, check_kcv, kcv};
pub use key_bytes::KeyBytes;
