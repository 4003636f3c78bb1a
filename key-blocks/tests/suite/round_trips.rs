//! What is wrapped is what comes out, here and at others'.

use claviger_key_blocks::tr31::{
    Exportability, ExtendedLength, Form, Header, KeyAlgorithm, KeyBlock, KeyContext, KeyPadding, KeyVersion, ModeOfUse,
    OptionalBlock, PurseKey, Usage, WrapOptions, WrapVersion, wrap,
};
use proptest::prelude::*;
use serde_json::json;

use super::reference::ask_text;
use super::{counting, published};

const VERSIONS: [WrapVersion; 3] = [WrapVersion::B, WrapVersion::D, WrapVersion::E];

fn any_header(proprietary: bool) -> impl Strategy<Value = Header> {
    let modes = prop::sample::select(vec![
        ModeOfUse::Any,
        ModeOfUse::Derive,
        ModeOfUse::GenerateVerify,
        ModeOfUse::Proprietary(3),
    ]);
    let usages = prop::sample::select(vec![
        Usage::KeyEncryption,
        Usage::Mac3,
        Usage::EmvCryptograms,
        Usage::PinVerificationX9Algorithm3,
    ]);
    let versions =
        prop::sample::select(vec![KeyVersion::Unused, KeyVersion::Component('2'), KeyVersion::Number('0', 'a')]);
    let exports = prop::sample::select(vec![Exportability::No, Exportability::Trusted, Exportability::Sensitive]);
    let contexts = prop::sample::select(vec![KeyContext::Unspecified, KeyContext::Storage, KeyContext::Exchange]);
    let blocks = (
        proptest::option::of("[ -~]{0,300}"),
        proptest::option::of("[0-9A-F]{8}"),
        "[a-z0-9]{1,9}",
        "[A-Z][A-Z0-9_]{0,9}",
        any::<u8>(),
    );
    (usages, 0..100u8, modes, versions, exports, contexts, blocks).prop_map(
        move |(usage, number, mode, key_version, exportability, context, (label, kcv, scheme, role, level))| {
            let mut optional_blocks: Vec<OptionalBlock> = [("LB", label), ("KC", kcv)]
                .into_iter()
                .filter_map(|(id, data)| Some(OptionalBlock::new(id, &data?).unwrap()))
                .collect();
            if proprietary {
                optional_blocks.push(PurseKey::new(&scheme, &role, level).unwrap().into());
            }
            let usage = if proprietary { Usage::Proprietary(number) } else { usage };
            Header {
                usage,
                algorithm: KeyAlgorithm::TripleDes,
                mode,
                key_version,
                exportability,
                context,
                optional_blocks,
            }
        },
    )
}

fn any_padding() -> impl Strategy<Value = KeyPadding> {
    prop_oneof![Just(KeyPadding::Minimal), Just(KeyPadding::Obfuscated), (0..200usize).prop_map(KeyPadding::AsIf)]
}

/// The keys that a version takes, with their protection.
fn keys(version: WrapVersion, key: &[u8; 32], kbpk: &[u8; 32]) -> Vec<(KeyAlgorithm, Vec<u8>, Vec<u8>)> {
    let triple = [(16, 16), (16, 24), (24, 24)].map(|(key, kbpk)| (KeyAlgorithm::TripleDes, key, kbpk)).to_vec();
    let aes = [(16, 16), (24, 24), (32, 32), (16, 32)].map(|(key, kbpk)| (KeyAlgorithm::Aes, key, kbpk)).to_vec();
    let lens = if version == WrapVersion::B { triple } else { [aes, vec![(KeyAlgorithm::TripleDes, 24, 16)]].concat() };
    lens.into_iter().map(|(algorithm, k, p)| (algorithm, key[..k].to_vec(), kbpk[..p].to_vec())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_wrapped_comes_back(header in prop_oneof![any_header(true), any_header(false)], padding in any_padding(), key: [u8; 32], kbpk: [u8; 32], seed: u64, digits: bool) {
        let form = Form::published(if digits { ExtendedLength::Digits } else { ExtendedLength::Pairs });
        for version in VERSIONS {
            for (algorithm, key, kbpk) in keys(version, &key, &kbpk) {
                let header = Header { algorithm, ..header.clone() };
                let options = WrapOptions { version, form, padding };
                let block = wrap(options, &kbpk, &header, &key, &mut counting(seed)).unwrap();
                let opened = KeyBlock::parse(&block, form).unwrap().unwrap(&kbpk).unwrap();
                prop_assert_eq!(opened.key.expose(), &key[..]);
                prop_assert_eq!(opened.header.purse_key(), header.purse_key());
                prop_assert_eq!(&opened.header.optional_blocks[..header.optional_blocks.len()], &header.optional_blocks[..]);
                let again = wrap(options, &kbpk, &opened.header, &key, &mut counting(seed)).unwrap();
                prop_assert_eq!(again, block);
            }
        }
    }

    #[test]
    fn one_changed_character_is_refused(header in any_header(true), key: [u8; 32], kbpk: [u8; 32], seed: u64, at: prop::sample::Index, with in "[ -~]") {
        for version in VERSIONS {
            let kbpk = if version == WrapVersion::B { &kbpk[..24] } else { &kbpk };
            let options = WrapOptions { version, form: published(), padding: KeyPadding::Obfuscated };
            let block = wrap(options, kbpk, &header, &key[..16], &mut counting(seed)).unwrap();
            let at = at.index(block.len());
            let mut changed = block.clone();
            changed.replace_range(at..=at, &with);
            prop_assume!(changed != block);
            let opened = KeyBlock::parse(&changed, published()).and_then(|block| block.unwrap(kbpk));
            prop_assert!(opened.is_err(), "{} opens", changed);
        }
    }

    #[test]
    fn psec_opens_ours(header in prop_oneof![any_header(true), any_header(false)], padding in any_padding(), key: [u8; 32], kbpk: [u8; 32], seed: u64) {
        for version in [WrapVersion::B, WrapVersion::D] {
            for (algorithm, key, kbpk) in keys(version, &key, &kbpk) {
                let header = Header { algorithm, ..header.clone() };
                let options = WrapOptions { version, form: published(), padding };
                let block = wrap(options, &kbpk, &header, &key, &mut counting(seed)).unwrap();
                let opened = ask_text(&json!({"op": "key_block_unwrap", "kbpk": hex::encode(kbpk), "block": block}));
                prop_assert_eq!(opened, hex::encode_upper(key));
            }
        }
    }

    #[test]
    fn we_open_psecs(key: [u8; 32], kbpk: [u8; 32], label in "[ -~]{0,300}", shown in 0..100usize) {
        for version in [WrapVersion::B, WrapVersion::D] {
            let letter = if version == WrapVersion::B { "B" } else { "D" };
            for (algorithm, key, kbpk) in keys(version, &key, &kbpk) {
                let word = if algorithm == KeyAlgorithm::Aes { "A" } else { "T" };
                let extended = label.len() + 4 > 255;
                let length = if extended { format!("0002{:04X}", label.len() + 10) } else { format!("{:02X}", label.len() + 4) };
                let head = format!("{letter}0000B3{word}X01E0100LB{length}{label}");
                let block = ask_text(&json!({"op": "key_block_wrap", "kbpk": hex::encode(&kbpk), "header": head, "key": hex::encode(&key), "shown": shown}));
                let opened = KeyBlock::parse(&block, published()).unwrap().unwrap(&kbpk).unwrap();
                prop_assert_eq!(opened.key.expose(), &key[..]);
                prop_assert_eq!(opened.header.usage, Usage::KeyDerivation);
                prop_assert_eq!(opened.header.optional_block("LB").unwrap().data(), label.clone());
            }
        }
    }

    /// Version E and the local form of SM4, which psec does not know, on OpenSSL.
    #[test]
    fn the_reference_agrees_where_psec_ends(header in any_header(true), padding in any_padding(), key: [u8; 32], kbpk: [u8; 32], seed: u64) {
        let local = Form::sm4_local(ExtendedLength::Pairs);
        let mut forms: Vec<_> = keys(WrapVersion::E, &key, &kbpk).into_iter().map(|key| ("aes", WrapVersion::E, published(), key)).collect();
        forms.push(("sm4", WrapVersion::D, local, (KeyAlgorithm::Sm4, key[..16].to_vec(), kbpk[..16].to_vec())));
        for (alg, version, form, (algorithm, key, kbpk)) in forms {
            let header = Header { algorithm, ..header.clone() };
            let block = wrap(WrapOptions { version, form, padding }, &kbpk, &header, &key, &mut counting(seed)).unwrap();
            let optional = KeyBlock::parse(&block, form).unwrap().unverified_header().optional_blocks.iter().map(|block| {
                let len = block.data().len() + 4;
                if len > 255 { len + 6 } else { len }
            }).sum::<usize>();
            let header_size = 16 + optional;
            let kbpk_hex = hex::encode(&kbpk);
            let payload = ask_text(&json!({"op": "key_block_open", "alg": alg, "kbpk": kbpk_hex, "block": block, "header_size": header_size}));
            let expected = format!("{:04X}{}", key.len() * 8, hex::encode_upper(&key));
            prop_assert!(payload.starts_with(&expected));
            let sealed = ask_text(&json!({"op": "key_block_seal", "alg": alg, "kbpk": kbpk_hex, "header": block[..header_size], "payload": payload}));
            prop_assert_eq!(&sealed, &block);
            let opened = KeyBlock::parse(&sealed, form).unwrap().unwrap(&kbpk).unwrap();
            prop_assert_eq!(opened.key.expose(), &key[..]);
        }
    }
}
