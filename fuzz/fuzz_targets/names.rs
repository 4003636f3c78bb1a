//! Names and words: what is canonical reads back as itself, everything else is refused.

#![no_main]

use claviger::policy::Principal;
use claviger_hsm_api::{Algorithm, KeyName, KeyState, KeyUsage, KeyVersion};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, '/');
    if let (Some(tenant), Some(scheme), Some(role)) = (parts.next(), parts.next(), parts.next())
        && let Ok(name) = KeyName::new(tenant, scheme, role)
    {
        assert_eq!(name.to_string(), text);
    }
    if let Ok(version) = text.parse::<KeyVersion>() {
        assert_eq!(version.to_string(), text);
    }
    if let Ok(usage) = text.parse::<KeyUsage>() {
        assert_eq!(usage.to_string(), text);
    }
    assert!(text.parse::<Algorithm>().is_ok_and(|word| word.as_str() == text) || text.parse::<Algorithm>().is_err());
    assert!(text.parse::<KeyState>().is_ok_and(|word| word.as_str() == text) || text.parse::<KeyState>().is_err());
    if let Ok(principal) = Principal::from_uri(text, [], []) {
        assert_eq!(principal.to_string(), text);
    }
});
