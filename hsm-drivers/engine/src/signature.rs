//! SM2 signatures (GB/T 32918.2), raw `r || s`.

use sm2::dsa::signature::{Signer, Verifier};
use sm2::dsa::{Signature, SigningKey};

use crate::run::EngineError;

/// Signs `SM3(Z_A || message)`; the nonce is derived from key and message, so a repeat gives the same.
pub(crate) fn sign(key: &[u8], signer_id: &str, message: &[u8]) -> Result<Vec<u8>, EngineError> {
    let key = SigningKey::from_slice(signer_id, key).map_err(|_| EngineError::NoSm2Key)?;
    let signature = key.try_sign(message).map_err(|_| EngineError::NoSm2Key)?;
    Ok(signature.to_bytes().to_vec())
}

/// Whether `signature` is one of `message` by the public half of `key`.
pub(crate) fn verify(key: &[u8], signer_id: &str, message: &[u8], signature: &[u8]) -> Result<bool, EngineError> {
    let key = SigningKey::from_slice(signer_id, key).map_err(|_| EngineError::NoSm2Key)?;
    let Ok(signature) = Signature::from_slice(signature) else { return Ok(false) };
    Ok(key.verifying_key().verify(message, &signature).is_ok())
}

/// `04 || X || Y`.
pub(crate) fn public_point(key: &[u8]) -> Result<Vec<u8>, EngineError> {
    let key = SigningKey::from_slice("", key).map_err(|_| EngineError::NoSm2Key)?;
    Ok(key.verifying_key().to_sec1_bytes().to_vec())
}
