//! What several people do with keys together: operations that others must approve, each with a key of their own.
#![forbid(unsafe_code)]

mod signature;
mod statement;

pub use signature::{PersonalKey, SignatureError, Signed};
pub use statement::{Fingerprint, Statement, Vote};
