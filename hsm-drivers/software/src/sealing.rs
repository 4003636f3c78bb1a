//! Keys at rest: AES-256-GCM under the storage master key, everything public authenticated.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use claviger_hsm_api::{DriverError, Kcv, NewKey, Raised, Secret, StoredKey};
use claviger_hsm_engine::fill_random;
use serde::Serialize;

use crate::driver::NAME;

/// First byte of an opaque part: the layout `version || nonce(12) || ciphertext and tag`.
const LAYOUT: u8 = 1;

/// What is authenticated, in this order; changing it needs a new layout number.
#[derive(Serialize)]
struct Header<'a> {
    layout: u8,
    key: &'a NewKey,
    kcv: &'a Kcv,
    #[serde(skip_serializing_if = "Option::is_none")]
    raised: Option<Raised>,
}

fn header(key: &NewKey, kcv: &Kcv, raised: Option<Raised>) -> Result<Vec<u8>, DriverError> {
    serde_json::to_vec(&Header { layout: LAYOUT, key, kcv, raised })
        .map_err(|error| DriverError::caller(NAME, "seal", error))
}

/// Wraps `secret`.
pub(crate) fn seal(
    storage_key: &Secret,
    key: NewKey,
    kcv: Kcv,
    raised: Option<Raised>,
    secret: &[u8],
) -> Result<StoredKey, DriverError> {
    let broken = |_| DriverError::backend(NAME, "seal", "the storage master key does not encrypt");
    let mut nonce = [0; 12];
    fill_random(&mut nonce).map_err(|error| DriverError::backend(NAME, "seal", error))?;
    let cipher = Aes256Gcm::new_from_slice(storage_key.expose())
        .map_err(|_| DriverError::backend(NAME, "seal", "the storage master key is not 32 bytes"))?;
    let payload = Payload { msg: secret, aad: &header(&key, &kcv, raised)? };
    let sealed = cipher.encrypt(&Nonce::from(nonce), payload).map_err(broken)?;
    let opaque = [&[LAYOUT][..], &nonce, &sealed].concat();
    Ok(StoredKey { key, kcv, raised, opaque })
}

/// Unwraps; fails if anything about the key is not as it was sealed.
pub(crate) fn unseal(storage_key: &Secret, stored: &StoredKey) -> Result<Secret, DriverError> {
    let changed = || {
        DriverError::wrong_key(
            NAME,
            "open",
            format!("key {} was changed in the store, or sealed under another storage master key", stored.key.id),
        )
    };
    let (&[layout, ref nonce @ ..], sealed) = stored.opaque.split_first_chunk::<13>().ok_or_else(changed)?;
    if layout != LAYOUT {
        return Err(DriverError::backend(
            NAME,
            "open",
            format!("key {} has layout {layout}, which this version does not know", stored.key.id),
        ));
    }
    let cipher = Aes256Gcm::new_from_slice(storage_key.expose()).map_err(|_| changed())?;
    let payload = Payload { msg: sealed, aad: &header(&stored.key, &stored.kcv, stored.raised)? };
    let nonce: [u8; 12] = *nonce;
    cipher.decrypt(&Nonce::from(nonce), payload).map(Secret::taking).map_err(|_| changed())
}
