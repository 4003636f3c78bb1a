//! Every case of `tr31.json` and `sm2-envelope.json`, and the SM2 encryptions of `sm2.json`.

use claviger_key_blocks::sm2::{EnvelopedKey, IntegerOrder, Sm2Ciphertext, Sm2PrivateKey, Sm2PublicKey};
use claviger_key_blocks::tr31::{ExtendedLength, Form, KeyBlock, KeyPadding, Version, WrapOptions, WrapVersion, wrap};
use serde_json::Value;

use super::{bytes, cases, fixed, published, text};

fn form_and_block(case: &Value) -> (Form, &str) {
    match case["key_block"].as_str() {
        Some(block) => (published(), block),
        None => (Form::sm4_local(ExtendedLength::Pairs), text(case, "expected_key_block")),
    }
}

#[test]
fn every_published_block_opens_to_its_key() {
    let cases = cases("tr31.json");
    assert!(cases.len() >= 15);
    for case in &cases {
        let (form, block) = form_and_block(case);
        let opened = KeyBlock::parse(block, form).and_then(|block| block.unwrap(&bytes(case, "kbpk")));
        let opened = opened.unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
        assert_eq!(opened.key.expose(), bytes(case, "expected_key"), "{}", case["id"]);
    }
}

#[test]
fn every_block_that_may_be_made_is_made_again_bit_for_bit() {
    let mut made = 0;
    for case in cases("tr31.json") {
        let (form, block) = form_and_block(&case);
        let kbpk = bytes(&case, "kbpk");
        let opened = KeyBlock::parse(block, form).unwrap().unwrap(&kbpk).unwrap();
        let version = match opened.version {
            Version::A | Version::C => continue,
            Version::B => WrapVersion::B,
            Version::D => WrapVersion::D,
            Version::E => WrapVersion::E,
        };
        let payload = bytes(&case, "plaintext_with_length_and_pad");
        let key = opened.key.expose();
        let options = WrapOptions { version, form, padding: KeyPadding::AsIf(payload.len() - 2) };
        let again = wrap(options, &kbpk, &opened.header, key, &mut fixed(&payload[2 + key.len()..])).unwrap();
        assert_eq!(again, block, "{}", case["id"]);
        made += 1;
    }
    assert!(made >= 11, "{made}");
}

fn case(id: &str) -> Value {
    cases("sm2-envelope.json").into_iter().find(|case| case["id"] == id).unwrap()
}

/// The recipient of every case of the file.
fn recipient() -> Sm2PrivateKey {
    Sm2PrivateKey::from_bytes(&bytes(&case("ecccipher-sm4key"), "private_key")).unwrap()
}

#[test]
fn the_session_key_of_an_sdf_device() {
    let case = case("ecccipher-sm4key");
    let (key, structure) = (bytes(&case, "session_key"), bytes(&case, "expected_struct_le"));
    let der = bytes(&case, "expected_gmt0009_der");
    let public = Sm2PublicKey::from_bytes(&bytes(&case, "public_key")).unwrap();
    assert!(public == recipient().public_key());
    let sealed = Sm2Ciphertext::seal(&public, &key, &mut fixed(&bytes(&case, "k"))).unwrap();
    assert_eq!(sealed.to_structure(IntegerOrder::Little), structure);
    assert_eq!(sealed.to_der().unwrap(), der);
    for read in [Sm2Ciphertext::from_structure(&structure, IntegerOrder::Little), Sm2Ciphertext::from_der(&der)] {
        assert_eq!(read.unwrap().open(&recipient()).unwrap().expose(), key);
    }
}

/// The same key pair for the same recipient in all layouts.
fn sealed_pair() -> EnvelopedKey {
    let pair = case("skf-envelopedkeyblob");
    let random = [bytes(&pair, "symmetric_key"), bytes(&case("ecccipher-sm4key"), "k")].concat();
    let public = Sm2PublicKey::from_bytes(&bytes(&pair, "wrapping_public_key")).unwrap();
    let private = Sm2PrivateKey::from_bytes(&bytes(&pair, "inner_private_key")).unwrap();
    EnvelopedKey::seal(&public, &private, &mut fixed(&random)).unwrap()
}

fn opens_to_the_pair(envelope: &EnvelopedKey) {
    let pair = case("skf-envelopedkeyblob");
    assert_eq!(envelope.open(&recipient()).unwrap().to_bytes().expose(), bytes(&pair, "inner_private_key"));
    assert!(*envelope.public_key() == Sm2PublicKey::from_bytes(&bytes(&pair, "inner_public_key")).unwrap());
}

#[test]
fn the_key_pair_of_an_skf_device() {
    let case = case("skf-envelopedkeyblob");
    let structure = bytes(&case, "expected_struct_le");
    assert_eq!(sealed_pair().to_skf(IntegerOrder::Little), structure);
    let read = EnvelopedKey::from_skf(&structure, IntegerOrder::Little).unwrap();
    assert!(read == sealed_pair());
    opens_to_the_pair(&read);
}

#[test]
fn the_key_pair_in_asn1() {
    let der = bytes(&case("gmt0009-sm2envelopedkey"), "expected_der");
    assert_eq!(hex::encode_upper(sealed_pair().to_der().unwrap()), hex::encode_upper(&der));
    opens_to_the_pair(&EnvelopedKey::from_der(&der).unwrap());
}

#[test]
fn published_sm2_encryptions_open_and_are_made_again() {
    let mut opened = 0;
    for case in cases("sm2.json") {
        let (name, plain) = match (case["expected_der"].as_str(), case["ciphertext_der"].as_str()) {
            (Some(_), _) => ("expected_der", "message"),
            (None, Some(_)) => ("ciphertext_der", "expected"),
            (None, None) => continue,
        };
        if !case["op"].as_str().is_some_and(|op| op.contains("crypt")) {
            continue;
        }
        let (der, plain) = (bytes(&case, name), bytes(&case, plain));
        let private = Sm2PrivateKey::from_bytes(&bytes(&case, "private_key")).unwrap();
        let read = Sm2Ciphertext::from_der(&der).unwrap();
        assert_eq!(read.open(&private).unwrap().expose(), plain, "{}", case["id"]);
        if case["k"].is_string() {
            let sealed = Sm2Ciphertext::seal(&private.public_key(), &plain, &mut fixed(&bytes(&case, "k"))).unwrap();
            assert_eq!(sealed.to_der().unwrap(), der, "{}", case["id"]);
        }
        opened += 1;
    }
    assert_eq!(opened, 3);
}
