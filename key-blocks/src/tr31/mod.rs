//! Key blocks of ANSI TR-31:2018 and X9.143:2021, and of ISO 20038:2017 (version E).
//!
//! A block is text: a header in the clear, the encrypted key, and a MAC over both, the last two in upper-case hexadecimal.
//! Vectors with their sources are in `tests/vectors/tr31.json`.

mod block;
mod fields;
mod header;
mod optional;
mod protection;
mod purse_key;
mod usage;
mod version;

pub use block::{KeyBlock, UnwrappedKey, WrapOptions, wrap};
pub use fields::{Exportability, KeyAlgorithm, KeyContext, KeyVersion, ModeOfUse};
pub use header::Header;
pub use optional::{ExtendedLength, OptionalBlock};
pub use protection::CmacBy;
pub use purse_key::PurseKey;
pub use usage::Usage;
pub use version::{Form, KeyPadding, Version, WrapVersion};
