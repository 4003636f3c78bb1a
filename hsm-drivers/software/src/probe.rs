//! Known answers at start, so that a miscompiled or broken cipher never touches a key.

use claviger_hsm_api::{Algorithm, KcvRule, Proof, Secret};
use claviger_hsm_engine::{PlainKey, kcv};

/// FIPS 46-3, FIPS 197 and GB/T 32907 as key check values: E(K, 0), first three bytes.
const KNOWN: &[(Algorithm, &str, &str)] = &[
    (Algorithm::TripleDes, "0123456789ABCDEFFEDCBA9876543210", "08D7B4"),
    (Algorithm::Aes128, "0123456789ABCDEFFEDCBA9876543210", "D5C825"),
    (Algorithm::Sm4, "00112233445566778899AABBCCDDEEFF", "72EBA3"),
];

pub(crate) fn probe() -> Vec<Proof> {
    let prove = |(algorithm, key, wanted): &(Algorithm, &str, &str)| {
        let answer = Secret::from_hex(key)
            .and_then(|secret| kcv(&PlainKey { algorithm: *algorithm, secret }, KcvRule::ZEROS).ok());
        Proof { capability: format!("{algorithm} ecb"), proved: answer.is_some_and(|kcv| kcv.value == *wanted) }
    };
    KNOWN.iter().map(prove).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_known_answer_is_met() {
        assert!(super::probe().iter().all(|proof| proof.proved));
    }
}
