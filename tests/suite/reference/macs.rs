//! ISO/IEC 9797-1 and HMAC.

use claviger_hsm_api::{Algorithm, Column, Finish, Input, MacAlgorithm, MacSpec, Message, Padding, Recipe, Truncation};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ask, bare, cases, engine, mac_recipe, outcome, reply, upper, word};

const PADDINGS: [Padding; 3] = [Padding::Zeros, Padding::One, Padding::Length];

/// A MAC of column 0, from the first chaining value in column 1 if there is one, with K'' in slot 1 if need be.
fn recipe(algorithm: Algorithm, mac: MacAlgorithm, padding: usize, initial: bool, second: bool, len: usize) -> Recipe {
    let spec = MacSpec {
        algorithm: mac,
        second: second.then(|| bare(1, algorithm)),
        padding: PADDINGS[padding - 1],
        initial: initial.then_some(Input::Column(1)),
        truncation: Truncation::Left(len),
    };
    Recipe::single(bare(0, algorithm), Finish::Mac { spec, message: Message::column(0) })
}

/// The request with a first chaining value, if there is one.
fn with_iv(mut request: Value, iv: Option<&[u8]>) -> Value {
    if let Some(iv) = iv {
        request["iv"] = upper(iv).into();
    }
    request
}

fn columns(message: &[u8], iv: Option<&[u8]>) -> Vec<Column> {
    std::iter::once(message).chain(iv).map(Column::one).collect()
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn generic_macs_agree(key: [u8; 16], message in proptest::collection::vec(any::<u8>(), 0..80), padding in 1..=3usize) {
        for algorithm in [Algorithm::Des, Algorithm::TripleDes, Algorithm::Sm4, Algorithm::Aes128] {
            let key = &key[..algorithm.key_len()];
            let block = algorithm.block_len().unwrap();
            for (number, mac) in [(1, MacAlgorithm::CbcMac), (5, MacAlgorithm::Cmac)] {
                let found = engine(algorithm, key, &mac_recipe(Vec::new(), algorithm, mac, PADDINGS[padding - 1], block), vec![Column::one(message.clone())]);
                let request = json!({"op": "mac", "alg": word(algorithm), "algorithm": number, "padding": padding, "key": upper(key), "message": upper(&message)});
                prop_assert_eq!(found, ask(request));
            }
        }
    }

    /// With a first chaining value it is the MAC of secure messaging. Algorithm 4 needs two blocks: what is too
    /// short must be refused by both.
    #[test]
    fn macs_under_the_halves_of_a_des_key_agree(key: [u8; 16], message in proptest::collection::vec(any::<u8>(), 0..80), padding in 1..=3usize, iv: Option<[u8; 8]>) {
        let iv = iv.as_ref().map(|iv| &iv[..]);
        for (number, mac) in [(2, MacAlgorithm::Emac), (3, MacAlgorithm::Retail), (4, MacAlgorithm::MacDes)] {
            let recipe = recipe(Algorithm::TripleDes, mac, padding, iv.is_some(), false, 8);
            let found = outcome(&[(Algorithm::TripleDes, &key)], &recipe, columns(&message, iv)).ok();
            prop_assert!(found.is_some() || mac == MacAlgorithm::MacDes);
            let found = found.map(|outcome| upper(outcome.bytes(0, 0).unwrap()).into());
            let request = json!({"op": "mac", "alg": "des", "algorithm": number, "padding": padding, "key": upper(&key[..8]), "key2": upper(&key[8..]), "message": upper(&message)});
            prop_assert_eq!(found, reply(&with_iv(request, iv)).ok(), "algorithm {}", number);
        }
    }

    /// Algorithm 7 gives half a block.
    #[test]
    fn macs_under_sm4_agree(key: [u8; 16], second: [u8; 16], message in proptest::collection::vec(any::<u8>(), 0..80), padding in 1..=3usize, iv: Option<[u8; 16]>) {
        let iv = iv.as_ref().map(|iv| &iv[..]);
        let macs = [
            (2, MacAlgorithm::Emac, true, 16),
            (3, MacAlgorithm::Retail, true, 16),
            (4, MacAlgorithm::MacDes, true, 16),
            (6, MacAlgorithm::Lmac, false, 16),
            (7, MacAlgorithm::TrCbc, false, 8),
        ];
        for (number, mac, two_keys, len) in macs {
            let recipe = recipe(Algorithm::Sm4, mac, padding, iv.is_some(), two_keys, len);
            let keys = [(Algorithm::Sm4, &key[..]), (Algorithm::Sm4, &second)];
            let found = outcome(&keys, &recipe, columns(&message, iv)).ok();
            prop_assert!(found.is_some() || mac == MacAlgorithm::MacDes);
            let found = found.map(|outcome| upper(outcome.bytes(0, 0).unwrap()).into());
            let request = json!({"op": "mac", "alg": "sm4", "algorithm": number, "padding": padding, "key": upper(key), "key2": upper(second), "message": upper(&message)});
            prop_assert_eq!(found, reply(&with_iv(request, iv)).ok(), "algorithm {}", number);
        }
    }

    #[test]
    fn hmacs_agree(key in proptest::collection::vec(any::<u8>(), 1..200), message in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (algorithm, hash) in [(Algorithm::HmacSm3, "sm3"), (Algorithm::HmacSha256, "sha256")] {
            let recipe = mac_recipe(Vec::new(), algorithm, MacAlgorithm::Hmac, Padding::None, 32);
            let found = engine(algorithm, &key, &recipe, vec![Column::one(&message[..])]);
            let request = json!({"op": "hmac", "hash": hash, "key": upper(&key), "message": upper(&message)});
            prop_assert_eq!(found, ask(request));
        }
    }
}
