//! Runs recipes on plain keys: all of them for the software driver, and the tail of a recipe for a
//! device that cannot run it to the end.
//!
//! MACs and dispersion, which a clearing day has by the million, run in bulk ([`bulk`]): a kernel takes a run of rows
//! from the keys above their cards to verdicts. Everything else, and whatever a kernel does not know, is done in
//! *groups* of up to 64 rows that take the same steps side by side ([`group::CipherGroup`]), with the same answers.
//! Derived keys that one leg leaves for another step live in locked memory for as long as a batch runs.

#![forbid(unsafe_code)]

mod blocks;
mod bulk;
mod cipher;
mod columns;
mod derive;
mod device;
mod exchange;
mod group;
mod input;
mod kcv;
mod kernels;
mod key_check;
pub mod lowering;
mod mac;
mod on_device;
mod open_keys;
mod padding;
mod run;
mod signature;
mod wrap;

pub use derive::KeyRows;
pub use device::{Derived, Device, Direction};
pub use exchange::{Opener, check_wrapped, open_wrapped};
pub use kcv::kcv;
pub use kernels::{KERNELS, platform};
pub use key_check::{NoKey, check_key};
pub use on_device::run_on;
pub use open_keys::OpenKeys;
pub use run::{EngineError, KeepChild, PlainKey, run};

/// Fills `bytes` from the operating system's generator.
///
/// # Errors
/// If the generator fails, which a running Linux kernel does not.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), EngineError> {
    getrandom::fill(bytes).map_err(|_| EngineError::Random)
}
