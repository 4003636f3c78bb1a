//! An audit log and the signed end beside it: whole, or wrong at a line that exists.

#![no_main]

use claviger::audit::{SignedHead, usage, verify_lines};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The end may stand before the log, on a line of its own.
    let first = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let end: Option<SignedHead> = serde_json::from_slice(first).ok();
    let log = if end.is_some() { &data[(first.len() + 1).min(data.len())..] } else { data };
    if let Ok(used) = usage(log, "0001-01-01", "9999-12-31") {
        assert!(used.values().all(|used| used.calls > 0));
    }
    if let Ok(log_is) = verify_lines(log, end.as_ref()) {
        assert!(log_is.head.records() <= log.iter().filter(|byte| **byte == b'\n').count() as u64);
        assert!(log_is.signed <= log_is.head.records());
    }
});
