//! SM2: what one makes, the other verifies.

use claviger_hsm_api::{Algorithm, Column, Finish, Input, KcvFunction, KcvInput, KcvRule, Message, Recipe, Secret};
use claviger_hsm_engine::{PlainKey, kcv};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ask, bare, cases, engine, outcome, reply, upper};

fn verifies(key: &[u8], signer_id: &str, message: &[u8], signature: &[u8]) -> bool {
    let signer_id = signer_id.to_owned();
    let finish = Finish::VerifySignature { signer_id, message: Message::column(0), signature: Input::Column(1) };
    let columns = [message, signature].map(Column::one).to_vec();
    let outcome = outcome(&[(Algorithm::Sm2, key)], &Recipe::single(bare(0, Algorithm::Sm2), finish), columns);
    outcome.unwrap().verdicts(0) == Some(&[true])
}

fn reference_verifies(public: &[u8], signer_id: &str, message: &[u8], signature: &[u8]) -> bool {
    let request = json!({"op": "sm2_verify", "public_key": upper(public), "signature": upper(signature), "message": upper(message), "id_bytes": upper(signer_id)});
    reply(&request).unwrap()["valid"] == Value::Bool(true)
}

proptest! {
    // The reference reckons the curve in Python.
    #![proptest_config(cases(60))]

    #[test]
    fn signatures_agree_both_ways(mut key: [u8; 32], signer_id in "[ -~]{0,40}", message in proptest::collection::vec(any::<u8>(), 0..200), turned in 0..512usize) {
        // Below the group's order, and not zero.
        key[0] = key[0] >> 1 | 1;
        let public = ask(json!({"op": "sm2_public", "private_key": upper(key)}));
        let sign = Finish::Sign { signer_id: signer_id.clone(), message: Message::column(0) };
        let ours = engine(Algorithm::Sm2, &key, &Recipe::single(bare(0, Algorithm::Sm2), sign), vec![Column::one(&message[..])]);
        let request = json!({"op": "sm2_sign", "private_key": upper(key), "message": upper(&message), "id_bytes": upper(&signer_id)});
        let theirs = hex::decode(reply(&request).unwrap()["signature"].as_str().unwrap()).unwrap();
        for signature in [ours, theirs] {
            prop_assert!(verifies(&key, &signer_id, &message, &signature));
            prop_assert!(reference_verifies(&public, &signer_id, &message, &signature));
            let mut altered = signature;
            altered[turned / 8] ^= 1 << (turned % 8);
            prop_assert!(!verifies(&key, &signer_id, &message, &altered));
            prop_assert!(!reference_verifies(&public, &signer_id, &message, &altered));
        }
    }

    #[test]
    fn fingerprints_agree(mut key: [u8; 32], take in 1..=32u8) {
        key[0] = key[0] >> 1 | 1;
        let plain = PlainKey { algorithm: Algorithm::Sm2, secret: Secret::copy_of(&key) };
        let found = kcv(&plain, KcvRule { function: KcvFunction::Fingerprint, input: KcvInput::Zero, take }).unwrap();
        let public = ask(json!({"op": "sm2_public", "private_key": upper(key)}));
        let wanted = ask(json!({"op": "sm3", "message": upper(public)}));
        prop_assert_eq!(found.value, upper(&wanted[..usize::from(take)]));
    }
}
