//! SM2 signatures (GB/T 32918.2), raw `r || s`.

use claviger_hsm_api::Algorithm;
use sm2::Scalar;
use sm2::dsa::signature::{Signer, Verifier};
use sm2::dsa::{Signature, SigningKey};

use crate::derive::KeyRows;
use crate::run::EngineError;

/// Signs `SM3(Z_A || message)`; the nonce is derived from key and message, so a repeat gives the same.
pub(crate) fn sign(keys: &KeyRows, row: u32, signer_id: &str, message: &[u8]) -> Result<Vec<u8>, EngineError> {
    let key = signing_key(keys, row, signer_id)?;
    let signature = key.try_sign(message).map_err(|_| EngineError::NoSm2Key)?;
    Ok(signature.to_bytes().to_vec())
}

/// Whether `signature` is one of `message` by the public half of the row's key.
pub(crate) fn verify(
    keys: &KeyRows,
    row: u32,
    signer_id: &str,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, EngineError> {
    let key = signing_key(keys, row, signer_id)?;
    let Ok(signature) = Signature::from_slice(signature) else { return Ok(false) };
    Ok(key.verifying_key().verify(message, &signature).is_ok())
}

/// `04 || X || Y`.
pub(crate) fn public_point(keys: &KeyRows, row: u32) -> Result<Vec<u8>, EngineError> {
    Ok(signing_key(keys, row, "")?.verifying_key().to_sec1_bytes().to_vec())
}

/// Keys of other algorithms have 32 bytes as well, and must not become signing keys for that.
fn signing_key(keys: &KeyRows, row: u32, signer_id: &str) -> Result<SigningKey, EngineError> {
    if keys.algorithm() != Algorithm::Sm2 {
        return Err(EngineError::NoSm2Key);
    }
    let key = SigningKey::from_slice(signer_id, keys.key(row as usize)).map_err(|_| EngineError::NoSm2Key)?;
    // A private key d is at most n - 2 (GB/T 32918.1): with n - 1, signing would divide by d + 1 = 0.
    let divisor = key.as_nonzero_scalar().as_ref() + &Scalar::ONE;
    if bool::from(divisor.is_zero()) { Err(EngineError::NoSm2Key) } else { Ok(key) }
}
