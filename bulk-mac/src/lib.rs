//! Card keys and MACs in bulk: many cards, each with a key of its own, in one call.
//!
//! A clearing day is tens of millions of short messages, each under its own key, so the unit here is not the
//! block but the *column*: the factors, texts and MACs of many rows, which run the same steps side by side, each
//! row under its own key. [`BulkMac`] takes a whole leg of that work, from master keys to verdicts, on the best
//! [`Platform`] of the machine.
//!
//! Ciphers are bitsliced, one bit of every row in one vector, or keep bytes whole and use the processor's instructions for
//! them. There are no tables in memory that are read at a secret place, and no branch or address depends on a key, a factor
//! or a MAC. Keys, schedules and chains are wiped before a call returns; what the compiler spilled of registers to the stack is
//! its caller's to overwrite.
//!
//! The crate knows nothing of keys' names, recipes or cards, and depends on no other room.

mod bulk;
#[cfg(target_arch = "x86_64")]
mod bytewise;
pub mod des;
mod field;
#[cfg(target_arch = "x86_64")]
mod gfni;
mod job;
mod kernel;
mod platform;
mod run;
mod sliced;
mod sm4_constants;
mod transpose;
mod vector;
mod wipe;

pub use bulk::BulkMac;
pub use job::{Cipher, Expected, Keys, LastStep, Mac, Misfit, PerRow, Texts};
pub use platform::Platform;

/// Rows that one [`des::KeyGroup`] holds.
pub const LANES: usize = 64;
