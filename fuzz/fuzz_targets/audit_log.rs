//! An audit log: whole, or wrong at a line that exists.

#![no_main]

use claviger::audit::verify_lines;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(log) = verify_lines(data, None) {
        assert!(log.head.records() <= data.iter().filter(|byte| **byte == b'\n').count() as u64);
    }
});
