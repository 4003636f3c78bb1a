//! HSMs that speak PKCS#11: on-prem or hosted, by their vendor's module.
//!
//! Keys are objects of the token. What the token can do inside it does there; what it cannot is lowered to bulk ECB over
//! all rows of a batch and finished by the engine, for keys whose ceiling lets that much out. Nothing is believed that a
//! known answer has not shown ([`probe`]).

mod attest;
mod config;
mod device;
mod driver;
mod findings;
#[expect(unsafe_code, reason = "a PKCS#11 module is a C library")]
mod library;
mod mechanisms;
mod object;
mod private_key;
mod probe;
mod proven;
mod rv;
mod seal;
mod token;

pub use config::{CONFIG_EXAMPLE, Config, PinSource, Sm4, TokenName, open};
pub use driver::Pkcs11Driver;
pub use private_key::{Holder, KeyPlace, PrivateKey, PrivateKeyError, SigningAlgorithm};
