//! The ciphers of RustCrypto, one record at a time.

use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use claviger_bulk_mac::{Cipher, Mac as Algorithm};
use cmac::{Cmac, Mac};

use crate::work::{CardKey, Peer, Record, Shape, with_complement};

/// The master key, set up once for each cipher that it may be of.
pub(crate) struct RustCrypto {
    master: [u8; 16],
    des: des::TdesEde2,
    halves: [des::Des; 2],
    sm4: sm4::Sm4,
    aes: aes::Aes128,
    cmac: Cmac<aes::Aes128>,
}

impl RustCrypto {
    pub(crate) fn new(master: [u8; 16]) -> Self {
        let key = &master.into();
        Self {
            master,
            des: des::TdesEde2::new(key),
            halves: halves(master),
            sm4: sm4::Sm4::new(key),
            aes: aes::Aes128::new(key),
            cmac: Cmac::new(key),
        }
    }

    /// The record's key, or nothing where it is the master key.
    fn key(&self, shape: Shape, record: &Record) -> Option<[u8; 16]> {
        if shape.key == CardKey::Session {
            return Some(self.session_key(shape.cipher, record.factors[0]));
        }
        let (first, others) = record.factors[..shape.levels()].split_first()?;
        let mut key = match shape.cipher {
            Cipher::TripleDes => both_halves(&self.des, *first),
            Cipher::Sm4 => one_block(&self.sm4, *first),
            Cipher::Aes128 => one_block(&self.aes, *first),
        };
        for factor in others {
            key = match shape.cipher {
                Cipher::TripleDes => both_halves(&des::TdesEde2::new(&key.into()), *factor),
                Cipher::Sm4 => one_block(&sm4::Sm4::new(&key.into()), *factor),
                Cipher::Aes128 => one_block(&aes::Aes128::new(&key.into()), *factor),
            };
        }
        if shape.key == CardKey::Folded {
            key = std::array::from_fn(|i| if i < 8 { key[i] ^ key[i + 8] } else { 0 });
        }
        Some(key)
    }

    fn session_key(&self, cipher: Cipher, input: [u8; 8]) -> [u8; 16] {
        match cipher {
            Cipher::TripleDes => {
                let mut key = [0; 16];
                key[..8].copy_from_slice(&des3(&self.des, input));
                key
            }
            Cipher::Sm4 => one_block(&self.sm4, input),
            Cipher::Aes128 => one_block(&self.aes, input),
        }
    }
}

impl Peer for RustCrypto {
    fn record(&mut self, shape: Shape, record: &Record) -> [u8; 16] {
        let key = self.key(shape, record);
        let Some((mac, _)) = shape.mac else { return key.unwrap_or(self.master) };
        match (shape.cipher, mac) {
            (Cipher::TripleDes, Algorithm::Retail) => match key {
                None => retail(&self.halves, &record.text),
                Some(key) => retail(&halves(key), &record.text),
            },
            (Cipher::TripleDes, _) => {
                let key = key.unwrap_or(self.master);
                let single = des::Des::new_from_slice(&key[..8]).unwrap();
                chain::<8>(|block| single.encrypt_block(block.into()), &record.text)
            }
            (Cipher::Sm4, _) => match key {
                None => chain::<16>(|block| self.sm4.encrypt_block(block.into()), &record.text),
                Some(key) => {
                    let sm4 = sm4::Sm4::new(&key.into());
                    chain::<16>(|block| sm4.encrypt_block(block.into()), &record.text)
                }
            },
            (Cipher::Aes128, _) => {
                let mut mac = key.map_or_else(|| self.cmac.clone(), |key| Cmac::new(&key.into()));
                mac.update(&record.text);
                mac.finalize().into_bytes().into()
            }
        }
    }

    fn blocks(&mut self, cipher: Cipher, blocks: &mut [[u8; 16]]) {
        let blocks = cipher::Array::cast_slice_from_core_mut(blocks);
        match cipher {
            Cipher::Sm4 => self.sm4.encrypt_blocks(blocks),
            _ => self.aes.encrypt_blocks(blocks),
        }
    }
}

fn halves(key: [u8; 16]) -> [des::Des; 2] {
    [0, 8].map(|at| des::Des::new_from_slice(&key[at..at + 8]).unwrap())
}

fn des3(cipher: &des::TdesEde2, mut block: [u8; 8]) -> [u8; 8] {
    cipher.encrypt_block((&mut block).into());
    block
}

fn both_halves(cipher: &des::TdesEde2, factor: [u8; 8]) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&des3(cipher, factor));
    key[8..].copy_from_slice(&des3(cipher, factor.map(|byte| !byte)));
    key
}

fn one_block<C: BlockCipherEncrypt<BlockSize = cipher::consts::U16>>(cipher: &C, factor: [u8; 8]) -> [u8; 16] {
    let mut block = with_complement(factor);
    cipher.encrypt_block((&mut block).into());
    block
}

/// The last block of a CBC chain from zeros.
fn chain<const BLOCK: usize>(mut encrypt: impl FnMut(&mut [u8; BLOCK]), text: &[u8]) -> [u8; 16] {
    let mut chain = [0; BLOCK];
    for block in text.as_chunks::<BLOCK>().0 {
        chain.iter_mut().zip(block).for_each(|(chain, byte)| *chain ^= byte);
        encrypt(&mut chain);
    }
    let mut result = [0; 16];
    result[..BLOCK].copy_from_slice(&chain);
    result
}

fn retail([first, second]: &[des::Des; 2], text: &[u8]) -> [u8; 16] {
    let mut result = chain::<8>(|block| first.encrypt_block(block.into()), text);
    let block = result.first_chunk_mut::<8>().unwrap();
    second.decrypt_block(block.into());
    first.encrypt_block(block.into());
    result
}
