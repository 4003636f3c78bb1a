//! The embedded backend: keys in the daemon's own memory, recipes run by the engine.
//!
//! Stored keys are wrapped under the storage master key with AES-256-GCM; what a backend
//! must know about the key (name, version, factors, usage, mode, exportability, state, KCV, ceiling) is the
//! associated data, so a row of the store in which one of these was changed does not open. Opened keys live in locked memory.

#![forbid(unsafe_code)]

mod config;
mod driver;
mod probe;
mod sealing;

pub use config::{CONFIG_EXAMPLE, Config, open};
pub use driver::SoftwareDriver;
