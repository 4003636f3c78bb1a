//! A signed vote: it holds for the text, or is wrong in something that is named.

#![no_main]

use claviger_key_ceremonies::Signed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(signed) = serde_json::from_slice::<Signed>(data) else { return };
    if signed.verify(b"approve").is_ok() {
        assert!(signed.chain().is_ok() && signed.verify(b"refuse").is_err());
    }
});
