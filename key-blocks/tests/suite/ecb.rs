//! Keys in ECB under transport keys.

use claviger_key_blocks::{
    BlockKey, Cipher, EcbFormat, EcbKey, EcbPadding, Field, KcvFunction, KcvInput, KcvRule, check_kcv, ecb_unwrap,
    ecb_wrap, kcv,
};
use proptest::prelude::*;
use serde_json::json;

use super::reference::ask_text;
use super::{bytes, cases, refused, text};

const ZEROS: KcvRule = KcvRule { function: KcvFunction::Ecb, input: KcvInput::Zero, take: 3 };

fn format(padding: EcbPadding, take: usize) -> EcbFormat {
    EcbFormat { padding, kcv: KcvRule { take, ..ZEROS } }
}

/// Cipher, key length and the reference's word.
const KEYS: [(Cipher, usize, &str); 6] = [
    (Cipher::TripleDes, 16, "3des"),
    (Cipher::TripleDes, 24, "3des"),
    (Cipher::Aes, 16, "aes"),
    (Cipher::Aes, 24, "aes"),
    (Cipher::Aes, 32, "aes"),
    (Cipher::Sm4, 16, "sm4"),
];

#[test]
fn the_key_sets_of_a_city_platform() {
    let mut keys = 0;
    for case in cases("perso-keyset.json").iter().filter(|case| case["keys"].is_array()) {
        let cipher = if text(case, "alg") == "SM4" { Cipher::Sm4 } else { Cipher::TripleDes };
        let transport = bytes(case, "tk");
        let transport = BlockKey::new(cipher, &transport).unwrap();
        for entry in case["keys"].as_array().unwrap() {
            for (name, take) in [("kcv3", 3), ("kcv8", 8)] {
                let format = format(EcbPadding::None, take);
                let (key, sent) = (bytes(entry, "card_key"), bytes(entry, name));
                let wrapped = EcbKey { ciphertext: bytes(entry, "wrapped"), kcv: sent };
                assert!(ecb_wrap(&transport, format, &BlockKey::new(cipher, &key).unwrap()).unwrap() == wrapped);
                let opened = ecb_unwrap(&transport, format, cipher, 16, &wrapped).unwrap();
                assert_eq!(opened.expose(), key);
            }
            keys += 1;
        }
    }
    assert!(keys >= 20, "{keys}");
}

#[test]
fn check_values_by_every_rule() {
    let mut checked = 0;
    for case in cases("kcv.json") {
        let rule = text(&case, "rule");
        if !case["full"].is_string() {
            continue;
        }
        let cipher = match text(&case, "alg") {
            "3DES" => Cipher::TripleDes,
            "AES" => Cipher::Aes,
            "SM4" => Cipher::Sm4,
            _ => Cipher::Des,
        };
        let function = if rule.contains("CMAC") { KcvFunction::Cmac } else { KcvFunction::Ecb };
        let input = if rule.contains("01^16") { KcvInput::Ones } else { KcvInput::Zero };
        let key = bytes(&case, "key");
        let key = BlockKey::new(cipher, &key).unwrap();
        for name in ["full", "expected", "expected4", "expected8"] {
            let Some(expected) = case[name].as_str() else { continue };
            let rule = KcvRule { function, input, take: expected.len() / 2 };
            assert_eq!(hex::encode_upper(kcv(&key, rule).unwrap()), expected, "{}", case["id"]);
            check_kcv(&key, rule, &hex::decode(expected).unwrap()).unwrap();
        }
        checked += 1;
    }
    assert!(checked >= 12, "{checked}");
}

#[test]
fn wrong_check_values_and_lengths_are_refused_by_name() {
    let (transport, key) = ([1; 16], [2; 24]);
    let transport = BlockKey::new(Cipher::Sm4, &transport).unwrap();
    let key = BlockKey::new(Cipher::TripleDes, &key).unwrap();
    assert_eq!(refused(ecb_wrap(&transport, format(EcbPadding::None, 3), &key)), Field::Key);
    for take in [0, 2, 9] {
        assert_eq!(refused(ecb_wrap(&transport, format(EcbPadding::ZerosIfPartial, take), &key)), Field::Kcv);
    }
    let one = format(EcbPadding::OneIfPartial, 3);
    let wrapped = ecb_wrap(&transport, one, &key).unwrap();
    let open = |transport: &BlockKey<'_>, format, len, wrapped: &EcbKey| {
        ecb_unwrap(transport, format, Cipher::TripleDes, len, wrapped)
    };
    assert_eq!(open(&transport, one, 24, &wrapped).unwrap().expose(), [2; 24]);
    assert_eq!(refused(open(&transport, format(EcbPadding::ZerosIfPartial, 3), 24, &wrapped)), Field::Payload);
    // The first two thirds are another key than all three.
    assert_eq!(refused(open(&transport, one, 16, &wrapped)), Field::Payload);
    assert_eq!(refused(open(&transport, one, 23, &wrapped)), Field::Key);
    assert_eq!(refused(open(&transport, one, 48, &wrapped)), Field::Payload);
    let other = [3; 16];
    assert_eq!(refused(open(&BlockKey::new(Cipher::Sm4, &other).unwrap(), one, 24, &wrapped)), Field::Kcv);
    for kcv in [vec![], vec![0; 3], wrapped.kcv[..2].to_vec(), [&wrapped.kcv[..], &[0]].concat()] {
        let changed = EcbKey { kcv, ..wrapped.clone() };
        assert_eq!(refused(open(&transport, one, 24, &changed)), Field::Kcv);
    }
    for len in [0, 15, 17, 31, 48] {
        let mut ciphertext = wrapped.ciphertext.clone();
        ciphertext.resize(len, 0);
        let changed = EcbKey { ciphertext, ..wrapped.clone() };
        assert_eq!(refused(open(&transport, one, 24, &changed)), Field::Payload);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reference_wraps_the_same(key: [u8; 32], transport: [u8; 32]) {
        for (under, under_len, word) in KEYS {
            let transport = &transport[..under_len];
            let transport_key = BlockKey::new(under, transport).unwrap();
            for (cipher, len, _) in KEYS {
                let format = format(EcbPadding::OneIfPartial, 3);
                let wrapped = ecb_wrap(&transport_key, format, &BlockKey::new(cipher, &key[..len]).unwrap()).unwrap();
                let mut padded = key[..len].to_vec();
                if !len.is_multiple_of(under.block_len()) {
                    padded.extend([0x80, 0, 0, 0, 0, 0, 0, 0]);
                }
                let wanted = ask_text(&json!({"op": "block", "alg": word, "key": hex::encode(transport), "data": hex::encode(padded)}));
                prop_assert_eq!(hex::encode_upper(&wrapped.ciphertext), wanted);
                let opened = ecb_unwrap(&transport_key, format, cipher, len, &wrapped).unwrap();
                prop_assert_eq!(opened.expose(), &key[..len]);
            }
        }
    }
}
