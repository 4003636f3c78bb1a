//! Private keys in PEM, some under a passphrase.

use std::path::Path;

use pkcs8::der::pem::{LineEnding, PemLabel};
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use zeroize::Zeroizing;

use crate::http::ClientError;

/// Of a key in the clear.
const PLAIN: &str = "PRIVATE KEY";
/// What brings any other form of a key into this one.
const CONVERT: &str = "openssl pkcs8 -topk8 -scrypt makes one that is";

/// Whether a key file is under a passphrase (PKCS#8, `ENCRYPTED PRIVATE KEY`).
///
/// # Errors
/// [`ClientError::File`] if it cannot be read.
pub fn needs_passphrase(path: &Path) -> Result<bool, ClientError> {
    Ok(encrypted(&read(path)?).is_some())
}

/// A key as PEM in the clear: as its file has it, or deciphered.
///
/// # Errors
/// [`ClientError::File`] if it cannot be read, is under a passphrase that is not given, or not under this one.
pub fn key_pem(path: &Path, passphrase: Option<&str>) -> Result<Zeroizing<String>, ClientError> {
    let text = read(path)?;
    let refused = |reason: &str| ClientError::File { path: path.to_owned(), reason: reason.to_owned() };
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(refused(&format!("is under a passphrase in the traditional form, not in PKCS#8: {CONVERT}")));
    }
    if !text.contains("PRIVATE KEY-----") {
        return Err(refused("holds no private key in PEM"));
    }
    let Some(document) = encrypted(&text) else { return Ok(text) };
    let passphrase = passphrase.ok_or_else(|| refused("is under a passphrase, and none was given"))?;
    let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).ok();
    let info = info.filter(|info| info.encryption_algorithm.pbes2().is_some());
    let info = info.ok_or_else(|| refused(&format!("is under a passphrase, and not by PBES2: {CONVERT}")))?;
    let plain = info.decrypt(passphrase).map_err(|_| refused("does not open with this passphrase"))?;
    plain.to_pem(PLAIN, LineEnding::LF).map_err(|_| refused("is no PKCS#8 key"))
}

fn read(path: &Path) -> Result<Zeroizing<String>, ClientError> {
    let failed = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::InvalidData => "holds no private key in PEM".to_owned(),
            _ => error.to_string(),
        };
        ClientError::File { path: path.to_owned(), reason }
    };
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(failed)
}

fn encrypted(text: &str) -> Option<SecretDocument> {
    let (label, document) = SecretDocument::from_pem(text).ok()?;
    (label == EncryptedPrivateKeyInfoRef::PEM_LABEL).then_some(document)
}
