//! Which bytes are a key.

use claviger_hsm_api::Algorithm;

/// Bytes that are no key; says why, never what they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// Another length than the algorithm's.
    #[error("a key of {algorithm} has {} bytes, not {found}", .algorithm.key_len())]
    Length {
        /// What it was to be a key of.
        algorithm: Algorithm,
        /// Its bytes.
        found: usize,
    },
    /// Nothing but zeros.
    #[error("the key is all zeros, as if its components were equal")]
    Zero,
    /// Triple DES that is single DES, whose folded TAC key is zero.
    #[error("two parts of the key are equal, which makes it single DES")]
    EqualParts,
}

/// Whether bytes may be a key of `algorithm`. Looks at every byte, whatever it finds.
///
/// # Errors
/// [`NoKey`].
pub fn check_key(algorithm: Algorithm, key: &[u8]) -> Result<(), NoKey> {
    let length_fits = match algorithm {
        // FIPS 198-1 takes any length; below 14 bytes is below 112 bits of strength.
        Algorithm::HmacSm3 | Algorithm::HmacSha256 => (14..=128).contains(&key.len()),
        _ => key.len() == algorithm.key_len(),
    };
    if !length_fits {
        return Err(NoKey::Length { algorithm, found: key.len() });
    }
    // DES ignores the low bit of each byte.
    let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).fold(0, |sum, (a, b)| sum | ((a ^ b) & 0xFE)) != 0;
    let parts: Vec<&[u8]> = if algorithm.is_des() { key.chunks_exact(8).collect() } else { Vec::new() };
    let equal = parts.windows(2).filter(|pair| !differ(pair[0], pair[1])).count() > 0;
    if key.iter().fold(0, |sum, byte| sum | byte) == 0 {
        Err(NoKey::Zero)
    } else if equal {
        Err(NoKey::EqualParts)
    } else {
        Ok(())
    }
}
