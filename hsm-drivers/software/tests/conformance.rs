//! The embedded backend passes the suite, and no case of it is dropped.

use std::path::Path;

use claviger_driver_software::SoftwareDriver;
use claviger_hsm_api::Secret;

#[test]
fn conforms() -> Result<(), Box<dyn std::error::Error>> {
    let driver = SoftwareDriver::new(Secret::copy_of(&[7; 32]))?;
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let tally = claviger_hsm_conformance::check(&driver, &vectors)
        .map_err(|failure| format!("{}: {}", failure.case, failure.reason))?;
    let expected = [
        ("iso9797-1-mac.json", 22),
        ("gbt15852-1-sm4-mac.json", 31),
        ("algorithm 7 as halves of algorithm 1", 24),
        ("pboc-dispersion.json", 14),
        ("kcv.json", 14),
        ("sm4-modes.json", 10),
        ("sm4-modes.json, OFB, CTR, CCM and XTS: not run", 6),
        ("sm3-hmac.json", 3),
        ("sm3-hmac.json, a key of 4 bytes: refused", 1),
        ("sm3-hmac.json, SM3 alone and a key derivation: not run", 4),
        ("sm2.json", 3),
        ("sm2.json, encryption, finished digests and compression: not run", 6),
        ("shapes of one leg, alone and mixed", 202),
        ("shapes of several legs, alone and mixed", 6),
        ("wycheproof aes_cmac", 306),
        ("wycheproof aes_cmac, not as long as an AES key: refused", 5),
        ("wycheproof hmac_sm3", 174),
        ("wycheproof hmac_sha256", 174),
        ("wycheproof aes_gcm", 197),
        ("wycheproof aes_gcm, nonce not of 96 bits: refused", 119),
        ("wycheproof aes_gmac", 207),
        ("wycheproof aes_gmac, nonce not of 96 bits: refused", 207),
        ("wycheproof sm4_gcm", 65),
        ("wycheproof sm4_gcm, nonce not of 96 bits: refused", 39),
        ("wycheproof aes_cbc_pkcs5", 216),
        ("wycheproof aes_wrap", 33),
        ("wycheproof aes_wrap, a key that is not whole units: refused", 9),
        ("wycheproof aes_wrap, of unwrapping or as long as no key: not run", 123),
        ("refusals", 369),
        ("impossible on this backend", 0),
    ];
    assert_eq!(tally, expected);
    Ok(())
}
