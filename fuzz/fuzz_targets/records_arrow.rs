//! Arrow's IPC streaming format: no panic, and no more memory than a batch may have.

#![no_main]

use claviger_card_schemes::{ArrowReader, Columns, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (split, data) = input;
    let reader = || Reader::Arrow(ArrowReader::new(Columns::of_records(), 1 << 16, 0));
    let _ = claviger_fuzz::read(reader(), data, data.len());
    let _ = claviger_fuzz::read(reader(), data, usize::from(split));
});
