//! The embedded backend: keys in the daemon's own memory, recipes run by the engine.
//!
//! Stored keys are wrapped under the storage master key with AES-256-GCM; everything public about the
//! key (name, version, usage, mode, exportability, state, KCV, ceiling) is the associated data, so a
//! changed row of the store does not open. Opened keys live in locked memory.

#![forbid(unsafe_code)]

mod config;
mod driver;
mod keys;
mod probe;
mod sealing;

pub use config::{CONFIG_EXAMPLE, Config, open};
pub use driver::SoftwareDriver;
