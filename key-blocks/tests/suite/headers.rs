//! What headers say, and how they are written.

use claviger_key_blocks::Field;
use claviger_key_blocks::tr31::{
    Exportability, ExtendedLength, Form, Header, KeyAlgorithm, KeyBlock, KeyContext, KeyPadding, KeyVersion, ModeOfUse,
    OptionalBlock, PurseKey, Usage, Version, WrapOptions, WrapVersion, wrap,
};

use super::{counting, header, options, published, refused};

const KBPK: [u8; 32] = [7; 32];
const KEY: [u8; 16] = [9; 16];

fn wrapped(version: WrapVersion, header: &Header) -> String {
    let kbpk = if version == WrapVersion::B { &KBPK[..24] } else { &KBPK };
    wrap(options(version), kbpk, header, &KEY, &mut counting(1)).unwrap()
}

fn opened(version: WrapVersion, block: &str) -> Header {
    let kbpk = if version == WrapVersion::B { &KBPK[..24] } else { &KBPK };
    KeyBlock::parse(block, published()).unwrap().unwrap(kbpk).unwrap().header
}

#[test]
fn every_field_comes_back() {
    let header = Header {
        mode: ModeOfUse::Derive,
        key_version: KeyVersion::Number('1', '6'),
        exportability: Exportability::No,
        context: KeyContext::Exchange,
        ..header(Usage::proprietary(7).unwrap(), KeyAlgorithm::TripleDes)
    };
    let block = wrapped(WrapVersion::D, &header);
    assert!(block.starts_with("D011207TX16N0020"), "{block}");
    let parsed = KeyBlock::parse(&block, published()).unwrap();
    assert_eq!((parsed.version(), parsed.unverified_header()), (Version::D, &header));
    assert_eq!(opened(WrapVersion::D, &block), header);
}

#[test]
fn a_purse_key_says_of_which_scheme_role_and_level_it_is() {
    let purse = PurseKey::new("cjt166", "DTK", 1).unwrap();
    let mut header = header(Usage::proprietary(10).unwrap(), KeyAlgorithm::TripleDes);
    header.optional_blocks.push(purse.clone().into());
    for version in [WrapVersion::B, WrapVersion::D, WrapVersion::E] {
        let block = wrapped(version, &header);
        assert!(block[16..].starts_with("911BCLAVIGER/1/cjt166/DTK/1PB"), "{block}");
        let read = opened(version, &block);
        assert_eq!(read.purse_key(), Some(&purse));
        assert_eq!((purse.scheme(), purse.role(), purse.level()), ("cjt166", "DTK", 1));
    }
    // Its role cannot be changed on the way.
    let block = wrapped(WrapVersion::D, &header).replace("/DTK/", "/DLK/");
    assert_eq!(refused(KeyBlock::parse(&block, published()).unwrap().unwrap(&KBPK)), Field::Mac);
    // A usage of the standard already says what the key is.
    header.usage = Usage::Cmac;
    let result = wrap(options(WrapVersion::D), &KBPK, &header, &KEY, &mut counting(1));
    assert_eq!(refused(result), Field::OptionalBlock(1));
}

#[test]
fn purse_keys_have_one_spelling() {
    for (scheme, role) in [
        ("", "DTK"),
        ("Cjt", "DTK"),
        ("a/b", "DTK"),
        ("-a", "DTK"),
        ("a--b", "DTK"),
        ("cjt166", ""),
        ("cjt166", "dtk"),
        ("cjt166", "1K"),
    ] {
        assert_eq!(refused(PurseKey::new(scheme, role, 0)), Field::PurseKey);
    }
    for data in ["CLAVIGER/1/", "CLAVIGER/1/a/B", "CLAVIGER/1/a/B/01", "CLAVIGER/1/a/B/256", "CLAVIGER/1/a/B/1/2"] {
        assert_eq!(refused(OptionalBlock::new(PurseKey::ID, data)), Field::PurseKey, "{data}");
    }
    // The number is anybody's; only what bears our mark is ours.
    let other = OptionalBlock::new(PurseKey::ID, "SOMEBODY ELSE").unwrap();
    assert_eq!((other.purse_key(), other.data()), (None, "SOMEBODY ELSE"));
}

#[test]
fn optional_blocks_are_kept_and_filled_up() {
    let blocks = [("KS", "00604B120F9292800000"), ("KC", "015C9405"), ("KP", "00A1B2C3"), ("HM", "21"), ("LB", "")];
    let mut header = header(Usage::BaseDerivation, KeyAlgorithm::TripleDes);
    for (id, data) in blocks {
        header.optional_blocks.push(OptionalBlock::new(id, data).unwrap());
        for version in [WrapVersion::B, WrapVersion::D, WrapVersion::E] {
            let block = wrapped(version, &header);
            let read = opened(version, &block);
            assert_eq!(read.optional_blocks[..header.optional_blocks.len()], header.optional_blocks);
            assert_eq!(read.optional_block(id).unwrap().data(), data);
            // What was read is written the same, padding and all; under another cipher the padding is renewed.
            assert_eq!(wrapped(version, &read), block);
            for other in [WrapVersion::B, WrapVersion::D] {
                let again = opened(other, &wrapped(other, &read));
                assert_eq!(again.optional_blocks[..header.optional_blocks.len()], header.optional_blocks);
            }
        }
    }
}

#[test]
fn long_blocks_have_lengths_in_either_reading() {
    for data_len in [251, 252, 1000] {
        let mut header = header(Usage::Data, KeyAlgorithm::Aes);
        header.optional_blocks.push(OptionalBlock::new("CT", &"A".repeat(data_len)).unwrap());
        for (extended, count) in [(ExtendedLength::Digits, "04"), (ExtendedLength::Pairs, "02")] {
            let form = Form::published(extended);
            let options = WrapOptions { version: WrapVersion::D, form, padding: KeyPadding::Minimal };
            let block = wrap(options, &KBPK, &header, &KEY, &mut counting(3)).unwrap();
            let expected =
                if data_len == 251 { "CTFFA".to_owned() } else { format!("CT00{count}{:04X}A", data_len + 10) };
            assert!(block[16..].starts_with(&expected), "{block}");
            let read = KeyBlock::parse(&block, form).unwrap().unwrap(&KBPK).unwrap().header;
            assert_eq!(read.optional_blocks[0], header.optional_blocks[0]);
        }
    }
}

#[test]
fn blocks_that_cannot_be_are_not_written() {
    let plain = header(Usage::Data, KeyAlgorithm::Aes);
    let written = |header: &Header| refused(wrap(options(WrapVersion::D), &KBPK, header, &KEY, &mut counting(1)));
    let with = |blocks: &[OptionalBlock]| Header { optional_blocks: blocks.to_vec(), ..plain.clone() };
    let block = |id: &str, data: &str| OptionalBlock::new(id, data).unwrap();
    assert_eq!(written(&with(&[block("KC", "1"), block("KC", "2")])), Field::OptionalBlock(2));
    assert_eq!(written(&with(&[block("PB", ""), block("KC", "2")])), Field::OptionalBlock(1));
    assert_eq!(written(&with(&[block("LB", &"x".repeat(9900))])), Field::Length);
    assert_eq!(written(&with(&[block("LB", &"x".repeat(70_000))])), Field::OptionalBlocks);
    let many: Vec<_> = (0..100).map(|n| block(&format!("{n:02}"), "")).collect();
    assert_eq!(written(&with(&many)), Field::OptionalBlocks);
    assert_eq!(written(&with(&[block("91", "CLAVIGER/1/cjt166/DTK/1")])), Field::OptionalBlock(1));
    for (id, data) in [("K", ""), ("KCP", ""), ("K-", ""), ("LB", "键"), ("LB", "\n")] {
        assert_eq!(refused(OptionalBlock::new(id, data)), Field::OptionalBlocks);
    }
    assert_eq!(written(&Header { usage: Usage::Proprietary(100), ..plain.clone() }), Field::Usage);
    assert_eq!(written(&Header { algorithm: KeyAlgorithm::Proprietary(10), ..plain.clone() }), Field::Algorithm);
    assert_eq!(written(&Header { algorithm: KeyAlgorithm::Sm4, ..plain.clone() }), Field::Algorithm);
    assert_eq!(written(&Header { mode: ModeOfUse::Proprietary(10), ..plain.clone() }), Field::Mode);
    assert_eq!(
        written(&Header { exportability: Exportability::Proprietary(10), ..plain.clone() }),
        Field::Exportability
    );
    for version in [KeyVersion::Number('c', '1'), KeyVersion::Number('0', '0'), KeyVersion::Component('é')] {
        assert_eq!(written(&Header { key_version: version, ..plain.clone() }), Field::KeyVersion);
    }
}
