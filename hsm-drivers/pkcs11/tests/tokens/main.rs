//! The driver on real tokens: SoftHSM2 and NSS.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod conformance;
mod parts;
mod pin;
