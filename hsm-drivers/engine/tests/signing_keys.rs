//! What may be an SM2 private key.

use claviger_hsm_api::{
    Algorithm, Batch, Column, Finish, KcvFunction, KcvInput, KcvRule, KeyPath, Message, Recipe, Secret,
};
use claviger_hsm_engine::{EngineError, PlainKey, kcv, run};

fn signs(algorithm: Algorithm, key: &[u8]) -> Result<(), EngineError> {
    let key = PlainKey { algorithm, secret: Secret::copy_of(key) };
    let path = KeyPath { slot: 0, algorithm, steps: Vec::new(), steps_left: 0 };
    let finish = Finish::Sign { signer_id: "1234567812345678".to_owned(), message: Message::column(0) };
    let batch = Batch::one(vec![Column::one([1; 3])], 1);
    run(&[&key], &Recipe::single(path, finish), &batch, &|_, _| Err(EngineError::NoStore)).map(drop)
}

/// Keys of other algorithms are 32 bytes long too.
#[test]
fn only_sm2_keys_sign() {
    assert!(signs(Algorithm::Sm2, &[0x39; 32]).is_ok());
    for algorithm in [Algorithm::Aes256, Algorithm::HmacSm3, Algorithm::HmacSha256] {
        assert!(matches!(signs(algorithm, &[0x39; 32]), Err(EngineError::NoSm2Key)), "{algorithm}");
    }
}

/// From 1 to n - 2 (GB/T 32918.1): n - 1 has a public half, but signing with it would divide by zero.
#[test]
fn a_private_key_is_below_the_order_by_two() {
    let from_order = |less: u8| {
        let mut key = hex::decode("FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123").unwrap();
        key[31] -= less;
        key
    };
    let rule = KcvRule { function: KcvFunction::Fingerprint, input: KcvInput::Zero, take: 3 };
    for (key, good) in [(from_order(2), true), (from_order(1), false), (from_order(0), false), (vec![0; 32], false)] {
        assert_eq!(signs(Algorithm::Sm2, &key).is_ok(), good);
        let key = PlainKey { algorithm: Algorithm::Sm2, secret: Secret::copy_of(&key) };
        assert_eq!(kcv(&key, rule).is_ok(), good, "what shows no fingerprint is not imported");
    }
}
