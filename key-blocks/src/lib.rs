//! Key blocks in and out: ANSI TR-31 and X9.143, ISO 20038, SM2 digital envelopes, and ECB under a transport key.
//!
//! Pure functions over bytes and text: no I/O, no generator of its own (randomness is passed in as a [`Random`]), no state.
//! What comes in is checked field by field, and errors name the field, never a byte of what was given. MACs, hashes and
//! check values are compared in constant time, before anything that they cover is believed.

#![forbid(unsafe_code)]

mod cipher;
mod ecb;
mod error;
mod kcv;
mod key_bytes;
pub mod sm2;
pub mod tr31;

pub use cipher::{BlockKey, Cipher};
pub use ecb::{EcbFormat, EcbKey, EcbPadding, ecb_unwrap, ecb_wrap};
pub use error::{Field, KeyBlockError, NoRandomness, Random};
pub use kcv::{KcvFunction, KcvInput, KcvRule, check_kcv, kcv};
pub use key_bytes::KeyBytes;
