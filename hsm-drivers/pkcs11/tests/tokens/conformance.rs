//! SoftHSM2 and NSS pass the suite; what they cannot do is counted, so that it can become neither more nor less
//! unnoticed.

use std::path::Path;

use claviger_hsm_conformance::Tally;

use crate::parts::{self, Part, run_in_child};

/// Cases of each entry: SoftHSM2, NSS.
const EXPECTED: &[(&str, usize, usize)] = &[
    ("iso9797-1-mac.json", 22, 18),
    ("gbt15852-1-sm4-mac.json", 0, 0),
    ("algorithm 7 as halves of algorithm 1", 16, 16),
    ("pboc-dispersion.json", 7, 7),
    ("kcv.json", 8, 8),
    ("sm4-modes.json", 0, 0),
    ("sm4-modes.json, OFB, CTR, CCM and XTS: not run", 6, 6),
    ("sm3-hmac.json", 0, 0),
    ("sm3-hmac.json, a key of 4 bytes: refused", 1, 1),
    ("sm3-hmac.json, SM3 alone and a key derivation: not run", 4, 4),
    ("sm2.json", 0, 0),
    ("sm2.json, encryption, finished digests and compression: not run", 6, 6),
    ("shapes of one leg, alone and mixed", 157, 144),
    ("shapes of several legs, alone and mixed", 3, 3),
    ("wycheproof aes_cmac", 306, 306),
    ("wycheproof aes_cmac, not as long as an AES key: refused", 5, 5),
    ("wycheproof hmac_sm3", 0, 0),
    ("wycheproof hmac_sha256", 168, 174),
    ("wycheproof aes_gcm", 0, 0),
    ("wycheproof aes_gcm, nonce not of 96 bits: refused", 119, 119),
    ("wycheproof aes_gmac", 0, 0),
    ("wycheproof aes_gmac, nonce not of 96 bits: refused", 207, 207),
    ("wycheproof sm4_gcm", 0, 0),
    ("wycheproof sm4_gcm, nonce not of 96 bits: refused", 0, 0),
    ("wycheproof aes_cbc_pkcs5", 216, 216),
    ("wycheproof aes_wrap", 33, 33),
    ("wycheproof aes_wrap, a key that is not whole units: refused", 6, 9),
    ("wycheproof aes_wrap, of unwrapping or as long as no key: not run", 126, 123),
    ("refusals", 312, 312),
    ("impossible on this backend", 211, 223),
];

fn tally(part: &Part) -> Tally {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    claviger_hsm_conformance::check(&part.driver(), &vectors)
        .unwrap_or_else(|failure| panic!("{}: {}", failure.case, failure.reason))
}

#[test]
fn softhsm_conforms() {
    if run_in_child("conformance::softhsm_conforms") {
        return;
    }
    let expected: Tally = EXPECTED.iter().map(|(entry, softhsm, _)| (*entry, *softhsm)).collect();
    assert_eq!(tally(&parts::softhsm("conformance")), expected);
}

#[test]
fn nss_conforms() {
    if run_in_child("conformance::nss_conforms") {
        return;
    }
    let expected: Tally = EXPECTED.iter().map(|(entry, _, nss)| (*entry, *nss)).collect();
    assert_eq!(tally(&parts::nss()), expected);
}
