//! Bulk ciphers for card keys: many cards, each with a key of its own, in one call.
//!
//! A clearing day is tens of millions of short messages, each under its own key, so the unit here is
//! not the block but the *group*: [`LANES`] rows that run the same steps side by side, row `i` under
//! key `i`. DES is bitsliced, one machine word holding one bit of every row, so there are no tables, no
//! secret-dependent branch or address, and a key schedule is mere renaming.
//!
//! The crate knows nothing of keys' names, recipes or cards, and depends on no other room.

#![forbid(unsafe_code)]

pub mod des;

/// Rows that one group holds.
pub const LANES: usize = 64;
