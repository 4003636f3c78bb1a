//! What is refused, and that the field is named.

use claviger_key_blocks::sm2::{EnvelopedKey, IntegerOrder, Sm2Ciphertext, Sm2PrivateKey, Sm2PublicKey};
use claviger_key_blocks::tr31::{
    ExtendedLength, Form, KeyAlgorithm, KeyBlock, KeyPadding, Usage, WrapOptions, WrapVersion, wrap,
};
use claviger_key_blocks::{Field, NoRandomness};

use super::{bytes, cases, counting, header, options, published, refused, text};

fn open(block: &str, kbpk: &[u8]) -> Field {
    refused(KeyBlock::parse(block, published()).and_then(|block| block.unwrap(kbpk)))
}

/// A case of the vectors: its protection key and its block.
fn vector(id: &str) -> (Vec<u8>, String) {
    let case = cases("tr31.json").into_iter().find(|case| case["id"] == id).unwrap();
    (bytes(&case, "kbpk"), text(&case, "key_block").to_owned())
}

#[test]
fn every_field_is_named_when_it_is_wrong() {
    let (kbpk, block) = vector("tr31-B-7");
    // B0104B0TX12S0100KS1800604B120F9292800000..
    for (at, with, field) in [
        (0, "F", Field::Version),
        (0, "1", Field::Version),
        (1, "0103", Field::Length),
        (1, " 104", Field::Length),
        (5, "Z0", Field::Usage),
        (5, "0A", Field::Usage),
        (7, "X", Field::Algorithm),
        (8, "Z", Field::Mode),
        (9, "1-", Field::KeyVersion),
        (11, "X", Field::Exportability),
        (12, "0x", Field::OptionalBlocks),
        (12, "02", Field::OptionalBlock(2)),
        (14, "01", Field::KeyContext),
        (14, "30", Field::KeyContext),
        (16, "K_", Field::OptionalBlock(1)),
        (18, "1g", Field::OptionalBlock(1)),
        (18, "03", Field::OptionalBlock(1)),
        (18, "FF", Field::OptionalBlock(1)),
        (18, "00", Field::OptionalBlock(1)),
        (18, "17", Field::OptionalBlocks),
        (20, "\u{7f}", Field::OptionalBlock(1)),
        (40, "G", Field::Payload),
        (103, "f", Field::Mac),
        // Other values that a block may have, which this one does not.
        (5, "P0", Field::Mac),
        (7, "A", Field::Mac),
        (8, "E", Field::Mac),
        (11, "E", Field::Mac),
        (14, "10", Field::Mac),
    ] {
        let mut changed = block.clone();
        changed.replace_range(at..at + with.len(), with);
        assert_eq!(open(&changed, &kbpk), field, "{changed}");
    }
}

#[test]
fn errors_name_the_field_in_words() {
    let (kbpk, block) = vector("tr31-B-7");
    let wrong = |block: &str, kbpk: &[u8]| {
        KeyBlock::parse(block, published()).and_then(|block| block.unwrap(kbpk)).err().unwrap().to_string()
    };
    let usage = block.replacen("B0TX", "Z0TX", 1);
    assert_eq!(wrong(&usage, &kbpk), "`usage` is none of X9.143's codes and no two digits");
    assert_eq!(wrong(&block, &[1; 16]), "`mac` does not hold: another KBPK, or the block was changed");
    let twice = block.replacen("S0100KS18", "S0200KS18", 1);
    assert!(wrong(&twice, &kbpk).starts_with("`optional block 2` "), "{}", wrong(&twice, &kbpk));
}

#[test]
fn one_changed_character_anywhere_is_refused() {
    for case in cases("tr31.json").iter().filter(|case| case["key_block"].is_string()) {
        let (kbpk, block) = (bytes(case, "kbpk"), text(case, "key_block"));
        for at in 0..block.len() {
            for with in ["0", "1", "A", "N", "f", " "] {
                let mut changed = block.to_owned();
                changed.replace_range(at..=at, with);
                let opened = KeyBlock::parse(&changed, published()).and_then(|block| block.unwrap(&kbpk));
                assert!(opened.is_err() || changed == block, "{changed} opens");
            }
        }
        for cut in 0..block.len() {
            assert!(KeyBlock::parse(&block[..cut], published()).is_err());
        }
    }
}

#[test]
fn wrong_protection_keys_are_refused() {
    for case in cases("tr31.json").iter().filter(|case| case["key_block"].is_string()) {
        let (kbpk, block) = (bytes(case, "kbpk"), text(case, "key_block"));
        let mut other = kbpk.clone();
        other[0] ^= 2;
        assert_eq!(open(block, &other), Field::Mac);
        for len in [0, 8, 15, 33] {
            assert_eq!(open(block, &vec![1; len]), Field::Kbpk);
        }
    }
}

#[test]
fn a_key_is_given_for_its_usage_only() {
    let (kbpk, block) = vector("tr31-D-8");
    let opened = KeyBlock::parse(&block, published()).unwrap().unwrap(&kbpk).unwrap();
    assert_eq!(opened.for_usage(Usage::PinEncryption).unwrap().expose().len(), 16);
    assert_eq!(refused(opened.for_usage(Usage::Data)), Field::Usage);
}

#[test]
fn keys_fit_their_algorithm_and_their_protection() {
    let wrapped = |version, kbpk: &[u8], algorithm, key: &[u8]| {
        wrap(options(version), kbpk, &header(Usage::Data, algorithm), key, &mut counting(5))
    };
    for (algorithm, lens) in [
        (KeyAlgorithm::Aes, &[0, 8, 15, 17, 33][..]),
        (KeyAlgorithm::TripleDes, &[0, 8, 17, 32]),
        (KeyAlgorithm::Des, &[0, 16]),
        (KeyAlgorithm::Hmac, &[0]),
    ] {
        for len in lens {
            assert_eq!(refused(wrapped(WrapVersion::D, &[1; 32], algorithm, &vec![2; *len])), Field::KeyLength);
        }
    }
    assert_eq!(refused(wrapped(WrapVersion::D, &[1; 32], KeyAlgorithm::Rsa, &[2; 9000])), Field::KeyLength);
    assert_eq!(refused(wrapped(WrapVersion::D, &[1; 32], KeyAlgorithm::Rsa, &[2; 6000])), Field::Length);
    assert_eq!(refused(wrapped(WrapVersion::B, &[1; 24], KeyAlgorithm::Aes, &[2; 16])), Field::Kbpk);
    assert_eq!(refused(wrapped(WrapVersion::D, &[1; 16], KeyAlgorithm::Aes, &[2; 32])), Field::Kbpk);
    assert_eq!(refused(wrapped(WrapVersion::B, &[1; 16], KeyAlgorithm::TripleDes, &[2; 24])), Field::Kbpk);
    assert_eq!(refused(wrapped(WrapVersion::B, &[1; 32], KeyAlgorithm::TripleDes, &[2; 16])), Field::Kbpk);
    let mut none = |_: &mut [u8]| Err(NoRandomness);
    let failed = wrap(options(WrapVersion::D), &[1; 16], &header(Usage::Data, KeyAlgorithm::Aes), &[2; 16], &mut none);
    assert_eq!(refused(failed), Field::Randomness);
}

/// A block whose sender wrote something else than a key of the algorithm, and authenticated it.
#[test]
fn authenticated_nonsense_is_no_key() {
    let sealed = |algorithm: &str, payload: &str| {
        let head = format!("D0112D0{algorithm}N00E0000");
        let request = serde_json::json!({"op": "key_block_seal", "alg": "aes", "kbpk": "01".repeat(16), "header": head, "payload": payload});
        super::reference::ask_text(&request)
    };
    let rest = "00".repeat(30);
    for (algorithm, bits) in
        [("A", "0081"), ("A", "FFF8"), ("A", "0000"), ("A", "0040"), ("D", "0080"), ("T", "0000"), ("H", "0000")]
    {
        assert_eq!(
            open(&sealed(algorithm, &format!("{bits}{rest}")), &[1; 16]),
            Field::KeyLength,
            "{algorithm} {bits}"
        );
    }
    assert!(KeyBlock::parse(&sealed("A", &format!("0080{rest}")), published()).unwrap().unwrap(&[1; 16]).is_ok());
}

#[test]
fn the_local_form_of_sm4_is_never_taken_for_a_standard() {
    let local = Form::sm4_local(ExtendedLength::Pairs);
    let case = cases("tr31.json").into_iter().find(|case| case["id"] == "tr31-like-sm4-local").unwrap();
    let (kbpk, block) = (bytes(&case, "kbpk"), text(&case, "expected_key_block"));
    assert_eq!(open(block, &kbpk), Field::Mac);
    let (aes_kbpk, aes_block) = vector("tr31-psec-D-128");
    let opened = KeyBlock::parse(&aes_block, local).unwrap().unwrap(&aes_kbpk);
    assert_eq!(refused(opened), Field::Mac);
    for letter in ["A", "B", "C", "E"] {
        assert_eq!(refused(KeyBlock::parse(&block.replacen('D', letter, 1), local)), Field::Version);
    }
    let sm4 = |version, form| {
        let options = WrapOptions { version, form, padding: KeyPadding::Minimal };
        wrap(options, &[1; 16], &header(Usage::Data, KeyAlgorithm::Sm4), &[2; 16], &mut counting(1))
    };
    assert!(sm4(WrapVersion::D, local).is_ok());
    assert_eq!(refused(sm4(WrapVersion::E, local)), Field::Version);
    assert_eq!(refused(sm4(WrapVersion::D, published())), Field::Algorithm);
}

fn pair() -> (Sm2PrivateKey, EnvelopedKey) {
    let recipient = Sm2PrivateKey::from_bytes(&[1; 32]).unwrap();
    let key = Sm2PrivateKey::from_bytes(&[2; 32]).unwrap();
    let envelope = EnvelopedKey::seal(&recipient.public_key(), &key, &mut counting(1)).unwrap();
    (recipient, envelope)
}

#[test]
fn sm2_keys_are_keys() {
    let order = hex::decode("FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123").unwrap();
    let mut largest = order.clone();
    largest[31] -= 1;
    for bad in [&[0; 32][..], &order, &largest, &[1; 31], &[1; 33], &[]] {
        assert_eq!(refused(Sm2PrivateKey::from_bytes(bad)), Field::PrivateKey);
    }
    largest[31] -= 1;
    assert!(Sm2PrivateKey::from_bytes(&largest).is_ok());
    for bad in [&[4; 65][..], &[0; 64], &[1; 64], &[0], &[]] {
        assert_eq!(refused(Sm2PublicKey::from_bytes(bad)), Field::PublicKey);
    }
}

#[test]
fn structures_are_refused_by_their_fields() {
    let (_, envelope) = pair();
    let skf = envelope.to_skf(IntegerOrder::Little);
    for (at, field) in [
        (0, Field::StructureVersion),
        (4, Field::SymmetricAlgorithm),
        (8, Field::PublicKey),
        (12, Field::PrivateKey),
        (76, Field::PublicKey),
        (80, Field::PublicKey),
        (112, Field::PublicKey),
        (208, Field::Point),
        (240, Field::Point),
        (368, Field::Structure),
    ] {
        let mut changed = skf.clone();
        changed[at] ^= 0x40;
        assert_eq!(refused(EnvelopedKey::from_skf(&changed, IntegerOrder::Little)), field, "{at}");
    }
    assert_eq!(refused(EnvelopedKey::from_skf(&skf, IntegerOrder::Big)), Field::StructureVersion);
    assert_eq!(refused(EnvelopedKey::from_sdf(&skf, IntegerOrder::Little, 1)), Field::Point);
    assert_eq!(refused(EnvelopedKey::from_skf(&[&skf[..], &[0]].concat(), IntegerOrder::Little)), Field::Structure);
    let mut empty = skf[208..368].to_vec();
    empty.extend([0; 4]);
    assert_eq!(refused(Sm2Ciphertext::from_structure(&empty, IntegerOrder::Little)), Field::Ciphertext);
}

/// Whatever bit of an envelope is changed, either it is refused or it says the same key pair.
#[test]
fn changed_envelopes_do_not_open() {
    let (recipient, envelope) = pair();
    let skf = envelope.to_skf(IntegerOrder::Little);
    let sdf = envelope.to_sdf(IntegerOrder::Big, 0x0002_0800);
    let der = envelope.to_der().unwrap();
    let opens = |result: Result<EnvelopedKey, _>| result.and_then(|envelope| envelope.open(&recipient)).is_ok();
    assert!(opens(EnvelopedKey::from_sdf(&sdf, IntegerOrder::Big, 0x0002_0800)));
    for (at, bit) in (0..skf.len().max(der.len())).flat_map(|at| [(at, 1), (at, 0x80)]) {
        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
            bytes
        };
        if at < skf.len() {
            assert!(!opens(EnvelopedKey::from_skf(&flipped(&skf), IntegerOrder::Little)), "{at}");
        }
        if at < sdf.len() {
            assert!(!opens(EnvelopedKey::from_sdf(&flipped(&sdf), IntegerOrder::Big, 0x0002_0800)), "{at}");
        }
        if at < der.len() {
            assert!(!opens(EnvelopedKey::from_der(&flipped(&der))), "{at}");
        }
    }
    for cut in 0..der.len() {
        assert_eq!(refused(EnvelopedKey::from_der(&der[..cut])), Field::Structure);
    }
}

#[test]
fn der_is_of_the_standard_only() {
    let (_, envelope) = pair();
    let der = hex::encode_upper(envelope.to_der().unwrap());
    let read = |text: &str| EnvelopedKey::from_der(&hex::decode(text).unwrap());
    // SM4-ECB with NULL parameters, which two bytes more of length say.
    let len = u8::from_str_radix(&der[4..6], 16).unwrap();
    let with_null = der.replacen("300A06082A811CCF55016801", "300C06082A811CCF550168010500", 1);
    assert!(
        read(&with_null.replacen(&format!("3081{len:02X}"), &format!("3081{:02X}", len + 2), 1)).unwrap() == envelope
    );
    let cbc = der.replacen("2A811CCF55016801", "2A811CCF55016802", 1);
    assert_eq!(refused(read(&cbc)), Field::SymmetricAlgorithm);
    assert_eq!(refused(read(&format!("{der}00"))), Field::Structure);
    // A bit string with unused bits.
    assert_eq!(refused(read(&der.replacen("03210", "03211", 1).replacen("032100", "032101", 1))), Field::Structure);
}

#[test]
fn generators_that_give_nothing_are_named() {
    let public = Sm2PrivateKey::from_bytes(&[1; 32]).unwrap().public_key();
    let mut zeros = |_: &mut [u8]| Ok(());
    assert_eq!(refused(Sm2Ciphertext::seal(&public, &[1; 16], &mut zeros)), Field::Randomness);
    let mut none = |_: &mut [u8]| Err(NoRandomness);
    assert_eq!(refused(Sm2Ciphertext::seal(&public, &[1; 16], &mut none)), Field::Randomness);
    assert_eq!(refused(Sm2Ciphertext::seal(&public, &[], &mut counting(1))), Field::Key);
}
