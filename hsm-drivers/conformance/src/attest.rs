//! Signatures of the daemon's own.

use claviger_hsm_api::{Attestation, Fault};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use crate::Failure;
use crate::bench::{Bench, failure};

/// A driver keeps a key pair for each name, or says that it keeps none.
pub(crate) fn check(bench: &Bench<'_>) -> Result<(), Failure> {
    const CASE: &str = "signatures of the daemon's own";
    let attest = |name: &str, message: &[u8]| match bench.driver.attest(name, message) {
        Ok(attestation) => Ok(Some(attestation)),
        Err(error) if error.fault == Fault::Unsupported => Ok(None),
        Err(error) => Err(failure(CASE, error)),
    };
    let holds = |attestation: &Attestation, message: &[u8]| {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &attestation.public_key);
        key.verify(message, &attestation.signature).is_ok()
    };
    let Some(first) = attest("one daemon", b"message")? else { return Ok(()) };
    let Some(again) = attest("one daemon", b"another message")? else { return Err(failure(CASE, "it does so once")) };
    let Some(other) = attest("another daemon", b"message")? else { return Err(failure(CASE, "for one daemon only")) };
    let rules = [
        ("the signature holds", holds(&first, b"message") && holds(&again, b"another message")),
        ("and for nothing else", !holds(&first, b"another message")),
        ("the key stays", first.public_key == again.public_key),
        ("each daemon has its own", first.public_key != other.public_key && holds(&other, b"message")),
    ];
    match rules.iter().find(|(_, kept)| !kept) {
        Some((rule, _)) => Err(failure(CASE, format!("not so: {rule}"))),
        None => Ok(()),
    }
}
