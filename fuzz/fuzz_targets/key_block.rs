//! A key block or an SM2 envelope of somebody else's: refused, or the same when it is written again.

#![no_main]

use claviger_key_blocks::sm2::{EnvelopedKey, IntegerOrder, Sm2Ciphertext, Sm2PrivateKey};
use claviger_key_blocks::tr31::{ExtendedLength, Form, KeyBlock, KeyPadding, Version, WrapOptions, WrapVersion, wrap};
use libfuzzer_sys::fuzz_target;

/// The protection keys of the seeds, so that mutated blocks are opened as well.
fn kbpk(version: Version, sm4: bool) -> &'static [u8] {
    match version {
        _ if sm4 => b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xAA\xBB\xCC\xDD\xEE\xFF",
        Version::A => b"\xEF\xE0\x85\x3B\x25\x6B\x58\x3D\x86\x8F\x25\x1C\xE9\x9E\xA1\xD9",
        Version::B => b"\x1D\x22\xBF\x32\x38\x7C\x60\x0A\xD9\x7F\x9B\x97\xA5\x13\x11\xAC",
        Version::C => b"\xB8\xED\x59\xE0\xA2\x79\xA2\x95\xE9\xF5\xED\x79\x44\xFD\x06\xB9",
        Version::D => {
            b"\x88\xE1\xAB\x2A\x2E\x3D\xD3\x8C\x1F\xA0\x39\xA5\x36\x50\x0C\xC8\xA8\x7A\xB9\xD6\x2D\xC9\x2C\x01\x05\x8F\xA7\x9F\x44\x65\x7D\xE6"
        }
        Version::E => b"256-bit AES wrapping (ISO 20038)",
    }
}

fn key_block(text: &str, form: Form, sm4: bool) {
    let Ok(block) = KeyBlock::parse(text, form) else { return };
    let kbpk = kbpk(block.version(), sm4);
    let header = block.unverified_header().clone();
    // What was read can be written; a block that long may have had no room to spare.
    let version = match block.version() {
        Version::A | Version::C => None,
        Version::B => Some(WrapVersion::B),
        Version::D => Some(WrapVersion::D),
        Version::E => Some(WrapVersion::E),
    };
    if let Some(version) = version {
        let options = WrapOptions { version, form, padding: KeyPadding::Minimal };
        for len in [8, 16, 24] {
            let mut zeros = |_: &mut [u8]| Ok(());
            let Ok(again) = wrap(options, kbpk, &header, &vec![1; len], &mut zeros) else { continue };
            let opened = KeyBlock::parse(&again, form).and_then(|block| block.unwrap(kbpk)).expect("ours opens");
            assert_eq!(opened.key.expose(), vec![1; len]);
            assert!(opened.header.optional_blocks.iter().zip(&header.optional_blocks).all(|(a, b)| a.id() == b.id()));
        }
    }
    if let Ok(opened) = block.unwrap(kbpk) {
        assert_eq!(opened.header, header);
        assert!(!opened.key.expose().is_empty());
    }
}

fn envelopes(data: &[u8]) {
    let private = Sm2PrivateKey::from_bytes(&[1; 32]).expect("a number below n");
    for order in [IntegerOrder::Little, IntegerOrder::Big] {
        if let Ok(read) = Sm2Ciphertext::from_structure(data, order) {
            assert_eq!(read.to_structure(order), data);
            assert!(read.open(&private).is_err());
        }
        if let Ok(read) = EnvelopedKey::from_skf(data, order) {
            assert_eq!(read.to_skf(order), data);
            assert!(read.open(&private).is_err());
        }
        if let Ok(read) = EnvelopedKey::from_sdf(data, order, 1) {
            assert_eq!(read.to_sdf(order, 1), data);
        }
    }
    if let Ok(read) = Sm2Ciphertext::from_der(data) {
        assert_eq!(read.to_der().expect("it came from DER"), data);
    }
    if let Ok(read) = EnvelopedKey::from_der(data) {
        // Parameters may have been NULL.
        assert_eq!(EnvelopedKey::from_der(&read.to_der().expect("it came from DER")), Ok(read));
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        for extended in [ExtendedLength::Digits, ExtendedLength::Pairs] {
            key_block(text, Form::published(extended), false);
            key_block(text, Form::sm4_local(extended), true);
        }
    }
    envelopes(data);
});
