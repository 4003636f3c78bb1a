//! The ciphers of RustCrypto, one record at a time.

use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use cmac::Mac;

use crate::work::{Peer, Record, Shape};

/// The master key, set up once.
pub(crate) struct RustCrypto {
    master: [u8; 16],
    des: des::TdesEde2,
    sm4: sm4::Sm4,
    aes: aes::Aes128,
}

impl RustCrypto {
    pub(crate) fn new(master: [u8; 16]) -> Self {
        let key = &master.into();
        Self { master, des: des::TdesEde2::new(key), sm4: sm4::Sm4::new(key), aes: aes::Aes128::new(key) }
    }

    fn des3(&self, mut block: [u8; 8]) -> [u8; 8] {
        self.des.encrypt_block((&mut block).into());
        block
    }

    fn card_key(&self, shape: Shape, record: &Record) -> [u8; 16] {
        if !shape.disperses() {
            return self.master;
        }
        let complement = record.factor.map(|byte| !byte);
        let mut key = [0; 16];
        let halves = if shape.is_des() {
            [self.des3(record.factor), self.des3(complement)]
        } else {
            [record.factor, complement]
        };
        key.copy_from_slice(halves.as_flattened());
        if shape.is_aes() {
            self.aes.encrypt_block((&mut key).into());
        } else if !shape.is_des() {
            self.sm4.encrypt_block((&mut key).into());
        }
        key
    }
}

impl Peer for RustCrypto {
    fn record(&mut self, shape: Shape, record: &Record) -> [u8; 16] {
        let mut result = [0; 16];
        match shape {
            Shape::DisperseDes | Shape::DisperseSm4 | Shape::DisperseAes => return self.card_key(shape, record),
            Shape::DesTac | Shape::DesTacMixed => {
                let key = self.card_key(shape, record);
                let folded: [u8; 8] = std::array::from_fn(|i| key[i] ^ key[i + 8]);
                result[..8].copy_from_slice(&des_chain(&des::Des::new(&folded.into()), &record.text));
            }
            Shape::DesSession => {
                let key = self.des3(record.factor);
                result[..8].copy_from_slice(&des_chain(&des::Des::new(&key.into()), &record.text));
            }
            Shape::Retail => {
                let key = self.card_key(shape, record);
                let [first, second] = [0, 8].map(|at| des::Des::new_from_slice(&key[at..at + 8]).unwrap());
                let mut block = des_chain(&first, &record.text);
                second.decrypt_block((&mut block).into());
                first.encrypt_block((&mut block).into());
                result[..8].copy_from_slice(&block);
            }
            Shape::Sm4Tac => {
                let cipher = sm4::Sm4::new(&self.card_key(shape, record).into());
                return sm4_chain(&cipher, &record.text);
            }
            Shape::Sm4Fixed => return sm4_chain(&self.sm4, &record.text),
            Shape::AesCmac => {
                let mut mac = cmac::Cmac::<aes::Aes128>::new(&self.card_key(shape, record).into());
                mac.update(&record.text);
                result.copy_from_slice(&mac.finalize().into_bytes());
            }
        }
        result
    }
}

fn des_chain(cipher: &des::Des, text: &[u8]) -> [u8; 8] {
    let mut chain = [0; 8];
    for block in text.as_chunks::<8>().0 {
        chain.iter_mut().zip(block).for_each(|(c, b)| *c ^= b);
        cipher.encrypt_block((&mut chain).into());
    }
    chain
}

fn sm4_chain(cipher: &sm4::Sm4, text: &[u8]) -> [u8; 16] {
    let mut chain = [0; 16];
    for block in text.as_chunks::<16>().0 {
        chain.iter_mut().zip(block).for_each(|(c, b)| *c ^= b);
        cipher.encrypt_block((&mut chain).into());
    }
    chain
}
