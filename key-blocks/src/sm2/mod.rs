//! Keys under SM2 public keys: the ECCCipher and the enveloped key pairs of GM/T 0018 (SDF) and GM/T 0016 (SKF), and their
//! ASN.1 of GM/T 0009. Vectors are in `tests/vectors/sm2-envelope.json`.
//!
//! In the structures, numbers of 32 bytes stand right-aligned in 64, and there is nothing between the fields. Integers
//! have 4 bytes, in the order of the device's memory: little endian nearly everywhere, but that is between partners
//! ([`IntegerOrder`]).

mod asn1;
mod ciphertext;
mod envelope;
mod keys;
mod structure;

pub use ciphertext::Sm2Ciphertext;
pub use envelope::EnvelopedKey;
pub use keys::{Sm2PrivateKey, Sm2PublicKey};
pub use structure::IntegerOrder;
