//! ECB, CBC and GCM, there and back.

use claviger_hsm_api::{Algorithm, CipherMode, Column, Finish, Input, Message, Padding, Recipe};
use proptest::prelude::*;
use serde_json::json;

use super::{ask, bare, cases, engine, outcome, reply, upper, word};

const BLOCK_CIPHERS: [Algorithm; 7] = [
    Algorithm::Des,
    Algorithm::TripleDes,
    Algorithm::TripleDes3,
    Algorithm::Aes128,
    Algorithm::Aes192,
    Algorithm::Aes256,
    Algorithm::Sm4,
];

fn encrypt(algorithm: Algorithm, mode: CipherMode) -> Recipe {
    Recipe::single(bare(0, algorithm), Finish::Encrypt { mode, padding: Padding::None, data: Message::column(0) })
}

fn decrypt(algorithm: Algorithm, mode: CipherMode) -> Recipe {
    Recipe::single(bare(0, algorithm), Finish::Decrypt { mode, data: Message::column(0) })
}

fn gcm() -> CipherMode {
    CipherMode::Gcm { nonce: Input::Column(1), associated: Message::column(2) }
}

proptest! {
    #![proptest_config(cases(200))]

    /// Random bytes are as good a ciphertext as a plaintext, so both directions are compared on their own.
    #[test]
    fn ecb_and_cbc_agree(key: [u8; 32], iv: [u8; 16], text in proptest::collection::vec(any::<u8>(), 0..100)) {
        for algorithm in BLOCK_CIPHERS {
            let block = algorithm.block_len().unwrap();
            let (key, iv) = (&key[..algorithm.key_len()], &iv[..block]);
            let text = &text[..text.len() / block * block];
            for (mode, name) in [(CipherMode::Ecb, "ecb"), (CipherMode::Cbc { initial: Input::Column(1) }, "cbc")] {
                let columns = || vec![Column::one(text), Column::one(iv)];
                let iv = if name == "cbc" { upper(iv) } else { String::new() };
                let request = |backwards| json!({"op": "cipher", "alg": word(algorithm), "mode": name, "key": upper(key), "iv": iv, "data": upper(text), "decrypt": backwards});
                let enciphered = engine(algorithm, key, &encrypt(algorithm, mode.clone()), columns());
                prop_assert_eq!(enciphered, ask(request(false)), "{} {}", algorithm, name);
                let deciphered = engine(algorithm, key, &decrypt(algorithm, mode), columns());
                prop_assert_eq!(deciphered, ask(request(true)), "{} {}", algorithm, name);
            }
        }
    }

    #[test]
    fn gcm_agrees(key: [u8; 32], nonce: [u8; 12], associated in proptest::collection::vec(any::<u8>(), 0..50), text in proptest::collection::vec(any::<u8>(), 0..100), turned: prop::sample::Index, bit in 0..8u32) {
        for algorithm in [Algorithm::Aes128, Algorithm::Aes192, Algorithm::Aes256, Algorithm::Sm4] {
            let key = &key[..algorithm.key_len()];
            let columns = |data: &[u8]| [data, &nonce, &associated].map(Column::one).to_vec();
            let request = |data: &[u8], backwards: bool| json!({"op": "cipher", "alg": word(algorithm), "mode": "gcm", "key": upper(key), "iv": upper(nonce), "aad": upper(&associated), "data": upper(data), "decrypt": backwards});
            let sealed = engine(algorithm, key, &encrypt(algorithm, gcm()), columns(&text));
            prop_assert_eq!(&sealed, &ask(request(&text, false)));
            let opened = engine(algorithm, key, &decrypt(algorithm, gcm()), columns(&sealed));
            prop_assert_eq!(&opened, &text);
            // One bit turned anywhere, and neither opens it.
            let mut altered = sealed;
            altered[turned.index(text.len() + 16)] ^= 1 << bit;
            let found = outcome(&[(algorithm, key)], &decrypt(algorithm, gcm()), columns(&altered)).unwrap();
            prop_assert_eq!(found.bytes(0, 0), None);
            prop_assert!(reply(&request(&altered, true)).is_err());
        }
    }
}
