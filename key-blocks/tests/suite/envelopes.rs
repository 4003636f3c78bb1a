//! SM2 ciphertexts against the reference, both ways, and envelopes there and back.

use claviger_key_blocks::Field;
use claviger_key_blocks::sm2::{EnvelopedKey, IntegerOrder, Sm2Ciphertext, Sm2PrivateKey};
use proptest::prelude::*;
use serde_json::json;

use super::reference::ask;
use super::{bytes, counting, refused};

const ZEROS: [u8; 32] = [0; 32];

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reference_opens_ours(private in 1..=u8::MAX, seed: u64, message in proptest::collection::vec(any::<u8>(), 1..100)) {
        let private_key = [private - 1, private].repeat(16);
        let key = Sm2PrivateKey::from_bytes(&private_key);
        prop_assume!(key.is_ok());
        let sealed = Sm2Ciphertext::seal(&key.unwrap().public_key(), &message, &mut counting(seed)).unwrap();
        let structure = sealed.to_structure(IntegerOrder::Big);
        let parts = [&structure[32..64], &structure[96..128], &structure[128..160], &structure[164..]].map(hex::encode_upper);
        let [x, y, hash, ciphertext] = parts;
        let opened = ask(&json!({"op": "sm2_decrypt", "private_key": hex::encode(private_key), "x": x, "y": y, "hash": hash, "ciphertext": ciphertext}));
        prop_assert_eq!(opened, hex::encode_upper(message));
    }

    #[test]
    fn we_open_the_references(private in 1..=u8::MAX, message in proptest::collection::vec(any::<u8>(), 1..100)) {
        let key = Sm2PrivateKey::from_bytes(&[private - 1, private].repeat(16));
        prop_assume!(key.is_ok());
        let key = key.unwrap();
        let (x, y) = key.public_key().coordinates();
        let sealed = ask(&json!({"op": "sm2_encrypt", "public_key": hex::encode([x, y].concat()), "message": hex::encode(&message)}));
        let [x, y, hash, ciphertext] = ["x", "y", "hash", "ciphertext"].map(|name| bytes(&sealed, name));
        for (order, len) in [(IntegerOrder::Little, (message.len() as u32).to_le_bytes()), (IntegerOrder::Big, (message.len() as u32).to_be_bytes())] {
            let structure = [&ZEROS[..], &x, &ZEROS, &y, &hash, &len, &ciphertext].concat();
            let read = Sm2Ciphertext::from_structure(&structure, order).unwrap();
            let opened = read.open(&key).unwrap();
            prop_assert_eq!(opened.expose(), &message[..]);
            prop_assert!(Sm2Ciphertext::from_der(&read.to_der().unwrap()).unwrap() == read);
        }
    }

    #[test]
    fn envelopes_come_back_from_every_layout(seed: u64, inner in 1..=u8::MAX - 1) {
        // The inner key is another than the recipient's: it opens nothing.
        prop_assume!(inner != 9);
        let recipient = Sm2PrivateKey::from_bytes(&[9; 32]).unwrap();
        let key = Sm2PrivateKey::from_bytes(&[inner; 32]).unwrap();
        let sealed = EnvelopedKey::seal(&recipient.public_key(), &key, &mut counting(seed)).unwrap();
        let mut layouts = vec![EnvelopedKey::from_der(&sealed.to_der().unwrap())];
        for order in [IntegerOrder::Little, IntegerOrder::Big] {
            layouts.push(EnvelopedKey::from_skf(&sealed.to_skf(order), order));
            layouts.push(EnvelopedKey::from_sdf(&sealed.to_sdf(order, 1), order, 1));
        }
        for read in layouts {
            let read = read.unwrap();
            prop_assert!(read == sealed);
            let opened = read.open(&recipient).unwrap().to_bytes();
            prop_assert_eq!(opened.expose(), &[inner; 32]);
            prop_assert_eq!(refused(read.open(&key)), Field::Hash);
        }
    }
}
