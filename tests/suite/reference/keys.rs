//! Check values, and dispersed keys under transport keys.

use claviger_hsm_api::{
    Algorithm, Column, DispersionRule, Finish, Input, KcvFunction, KcvInput, KcvRule, KeyPath, Message, Parity, Recipe,
    Secret, Step, WrapFormat,
};
use claviger_hsm_engine::{PlainKey, kcv};
use proptest::prelude::*;
use serde_json::json;

use super::{ask, bare, cases, outcome, upper, word};

const INPUTS: [(KcvInput, &str, u8); 2] = [(KcvInput::Zero, "zero", 0), (KcvInput::Ones, "ones", 1)];

fn shown(algorithm: Algorithm, key: &[u8], function: KcvFunction, input: KcvInput, take: usize) -> String {
    let key = PlainKey { algorithm, secret: Secret::copy_of(key) };
    kcv(&key, KcvRule { function, input, take: take as u8 }).unwrap().value
}

/// Two levels of dispersion by the columns from `first` on.
fn dispersed(slot: usize, algorithm: Algorithm, parity: Parity, first: usize) -> KeyPath {
    let rule = DispersionRule::FactorAndComplement;
    let steps =
        (first..first + 2).map(|column| Step::Disperse { rule, parity, factor: Input::Column(column) }).collect();
    KeyPath { steps, ..bare(slot, algorithm) }
}

/// 80 and zeros, but only where the blocks are not whole.
fn padded(mut text: Vec<u8>, block: usize) -> Vec<u8> {
    if !text.len().is_multiple_of(block) {
        text.push(0x80);
        text.resize(text.len().next_multiple_of(block), 0);
    }
    text
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn check_values_of_block_ciphers_agree(key: [u8; 32], take in 1..=16usize) {
        for algorithm in [Algorithm::Des, Algorithm::TripleDes, Algorithm::TripleDes3, Algorithm::Aes128, Algorithm::Aes192, Algorithm::Aes256, Algorithm::Sm4] {
            let key = &key[..algorithm.key_len()];
            let take = take.min(algorithm.block_len().unwrap());
            for (function, name) in [(KcvFunction::Ecb, "ecb"), (KcvFunction::Cmac, "cmac")] {
                for (input, fill, _) in INPUTS {
                    let found = shown(algorithm, key, function, input, take);
                    let wanted = ask(json!({"op": "kcv", "alg": word(algorithm), "key": upper(key), "fn": name, "input": fill, "take": take}));
                    prop_assert_eq!(found, upper(wanted), "{} {} {}", algorithm, name, fill);
                }
            }
        }
    }

    #[test]
    fn check_values_of_hmac_keys_agree(key in proptest::collection::vec(any::<u8>(), 14..=128), take in 1..=32usize) {
        for (algorithm, hash) in [(Algorithm::HmacSm3, "sm3"), (Algorithm::HmacSha256, "sha256")] {
            for (input, _, byte) in INPUTS {
                let found = shown(algorithm, &key, KcvFunction::Hmac, input, take);
                let wanted = ask(json!({"op": "hmac", "hash": hash, "key": upper(&key), "message": upper([byte; 16])}));
                prop_assert_eq!(found, upper(&wanted[..take]));
            }
        }
    }

    /// A card's key in a key-set file (nothing before it) or a command (a few bytes), under a transport key that
    /// is stored or is dispersed itself.
    #[test]
    fn dispersed_keys_under_transport_keys_agree(key: [u8; 16], transport: [u8; 32], factors: [[u8; 8]; 4], prefix in proptest::collection::vec(any::<u8>(), 0..20), odd: bool) {
        for algorithm in [Algorithm::TripleDes, Algorithm::Sm4, Algorithm::Aes128] {
            // Parity is of DES keys: the others come as computed whatever the recipe says.
            let parity = if odd { Parity::Odd } else { Parity::AsComputed };
            let word_of_parity = if odd && algorithm.is_des() { "odd" } else { "none" };
            let disperse = |key: &[u8], factors: &[[u8; 8]]| ask(json!({"op": "disperse", "alg": word(algorithm), "parity": word_of_parity, "key": upper(key), "factors": factors.iter().map(upper).collect::<Vec<_>>()}));
            let card_key = disperse(&key, &factors[..2]);
            let stored = [Algorithm::TripleDes, Algorithm::TripleDes3, Algorithm::Aes256, Algorithm::Sm4];
            let stored = stored.map(|wrapper| (bare(1, wrapper), transport[..wrapper.key_len()].to_vec()));
            let from_above = (dispersed(1, algorithm, parity, 2), disperse(&transport[..16], &factors[2..]));
            for (under, wrapping_key) in stored.into_iter().chain([from_above]) {
                let wrapper = under.algorithm;
                let text = padded([&prefix[..], &card_key].concat(), wrapper.block_len().unwrap());
                let wanted = ask(json!({"op": "block", "alg": word(wrapper), "key": upper(&wrapping_key), "data": upper(text)}));
                let format = WrapFormat::Ecb { prefix: Message::column(4), padding: claviger_hsm_api::Padding::OneIfNeeded };
                let recipe = Recipe::single(dispersed(0, algorithm, parity, 0), Finish::Wrap { under, format });
                let columns = factors.iter().map(|factor| Column::one(*factor)).chain([Column::one(&prefix[..])]).collect();
                let keys = [(algorithm, &key[..]), (wrapper, &transport[..wrapper.key_len()])];
                let found = outcome(&keys, &recipe, columns).unwrap();
                prop_assert_eq!(found.bytes(0, 0), Some(&wanted[..]), "{} under {}", algorithm, wrapper);
            }
        }
    }

    #[test]
    fn key_wrap_agrees(key: [u8; 32], transport: [u8; 32], factors: [[u8; 8]; 2]) {
        let wrap = |path: KeyPath, wrapper| Recipe::single(path, Finish::Wrap { under: bare(1, wrapper), format: WrapFormat::KeyWrap });
        let columns = || factors.iter().map(|factor| Column::one(*factor)).collect();
        for wrapper in [Algorithm::Aes128, Algorithm::Aes192, Algorithm::Aes256] {
            let wrapping_key = &transport[..wrapper.key_len()];
            let wanted = |key: &[u8]| ask(json!({"op": "key_wrap", "wrapping_key": upper(wrapping_key), "key": upper(key)}));
            for algorithm in [Algorithm::TripleDes, Algorithm::TripleDes3, Algorithm::Aes256, Algorithm::Sm4, Algorithm::HmacSm3] {
                let key = &key[..algorithm.key_len()];
                let keys = [(algorithm, key), (wrapper, wrapping_key)];
                let found = outcome(&keys, &wrap(bare(0, algorithm), wrapper), columns()).unwrap();
                prop_assert_eq!(found.bytes(0, 0), Some(&wanted(key)[..]), "{} under {}", algorithm, wrapper);
            }
            let card_key = ask(json!({"op": "disperse", "alg": "sm4", "key": upper(&key[..16]), "factors": factors.map(upper)}));
            let keys = [(Algorithm::Sm4, &key[..16]), (wrapper, wrapping_key)];
            let recipe = wrap(dispersed(0, Algorithm::Sm4, Parity::AsComputed, 0), wrapper);
            let found = outcome(&keys, &recipe, columns()).unwrap();
            prop_assert_eq!(found.bytes(0, 0), Some(&wanted(&card_key)[..]));
        }
    }
}
