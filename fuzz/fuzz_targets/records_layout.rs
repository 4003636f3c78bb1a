//! Records of a layout: the same records, however the file is cut into pieces.

#![no_main]

use claviger_card_schemes::{Reader, Schemes};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static SCHEMES: LazyLock<Schemes> = LazyLock::new(|| Schemes::shipped().expect("shipped profiles hold"));

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (text, split, data) = input;
    let name = if text { "fixed-text" } else { "packed-binary" };
    let Some(scheme) = SCHEMES.find("cjt166") else { return };
    let reader = || -> Reader { scheme.layout_reader(name, 0).expect("the layout is shipped") };
    let whole = claviger_fuzz::read(reader(), data, data.len());
    assert_eq!(whole, claviger_fuzz::read(reader(), data, usize::from(split)));
});
