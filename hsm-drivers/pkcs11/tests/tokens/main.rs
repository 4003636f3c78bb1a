//! The driver on real tokens: SoftHSM2 and NSS.

mod conformance;
mod parts;
