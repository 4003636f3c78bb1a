//! What the daemon reads from a worker, which runs a vendor's code.

#![no_main]

use claviger::routing::worker::read_response;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_response(bytes);
});
