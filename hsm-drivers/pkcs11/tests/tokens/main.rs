//! The driver on real tokens: SoftHSM2 and NSS.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod conformance;
mod keys;
mod parts;
mod pin;
#[expect(unsafe_code, reason = "what happens to a token is done to it by its C functions")]
mod raw;
mod sessions;
