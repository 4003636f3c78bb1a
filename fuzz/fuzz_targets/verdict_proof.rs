//! A proof of a verdict: whole, or wrong in something that is named.

#![no_main]

use claviger::audit::Proof;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(proof) = serde_json::from_slice::<Proof>(data) else { return };
    if let Ok(leaf) = proof.check() {
        assert!(proof.index < proof.items && leaf.verdict().is_some());
    }
});
