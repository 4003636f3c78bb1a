//! Block ciphers, 64 rows at a time, each row under its own key.

use aes::{Aes128, Aes192, Aes256};
use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use claviger_bulk_mac::{LANES, des};
use claviger_hsm_api::Algorithm;
use sm4::Sm4;

/// A group's blocks, row after row; only the first `block_len` bytes of each count.
pub(crate) type Blocks = [[u8; 16]; LANES];

/// Up to [`LANES`] rows with their ciphers set up.
pub(crate) struct CipherGroup {
    rows: usize,
    ciphers: Ciphers,
}

enum Ciphers {
    Des(des::KeyGroup),
    Aes128(Vec<Aes128>),
    Aes192(Vec<Aes192>),
    Aes256(Vec<Aes256>),
    Sm4(Vec<Sm4>),
}

impl CipherGroup {
    /// One key for each row, row after row. `None` if the algorithm is no block cipher or the lengths
    /// do not fit.
    pub(crate) fn new(algorithm: Algorithm, keys: &[u8]) -> Option<Self> {
        let len = algorithm.key_len();
        let rows = keys.len() / len;
        let ciphers = match algorithm {
            Algorithm::Des | Algorithm::TripleDes | Algorithm::TripleDes3 => {
                Ciphers::Des(des::KeyGroup::new(keys, len)?)
            }
            Algorithm::Aes128 => Ciphers::Aes128(set_up(keys, len)?),
            Algorithm::Aes192 => Ciphers::Aes192(set_up(keys, len)?),
            Algorithm::Aes256 => Ciphers::Aes256(set_up(keys, len)?),
            Algorithm::Sm4 => Ciphers::Sm4(set_up(keys, len)?),
            Algorithm::HmacSm3 | Algorithm::HmacSha256 | Algorithm::Sm2 => return None,
        };
        Some(Self { rows, ciphers })
    }

    /// Enciphers one block of each row.
    pub(crate) fn encrypt(&self, blocks: &mut Blocks) {
        match &self.ciphers {
            Ciphers::Des(group) => with_des_blocks(blocks, |blocks| group.encrypt(blocks)),
            Ciphers::Aes128(ciphers) => encrypt_each(ciphers, blocks),
            Ciphers::Aes192(ciphers) => encrypt_each(ciphers, blocks),
            Ciphers::Aes256(ciphers) => encrypt_each(ciphers, blocks),
            Ciphers::Sm4(ciphers) => encrypt_each(ciphers, blocks),
        }
    }

    /// Deciphers one block of each row.
    pub(crate) fn decrypt(&self, blocks: &mut Blocks) {
        match &self.ciphers {
            Ciphers::Des(group) => with_des_blocks(blocks, |blocks| group.decrypt(blocks)),
            Ciphers::Aes128(ciphers) => decrypt_each(ciphers, blocks),
            Ciphers::Aes192(ciphers) => decrypt_each(ciphers, blocks),
            Ciphers::Aes256(ciphers) => decrypt_each(ciphers, blocks),
            Ciphers::Sm4(ciphers) => decrypt_each(ciphers, blocks),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}

fn set_up<C: KeyInit>(keys: &[u8], len: usize) -> Option<Vec<C>> {
    let rows = keys.len() / len;
    if rows == 0 || rows > LANES || !keys.len().is_multiple_of(len) {
        return None;
    }
    // Of the size that it will have: one that grew would leave its schedules where it was.
    let mut ciphers = Vec::with_capacity(rows);
    for key in keys.chunks_exact(len) {
        ciphers.push(C::new_from_slice(key).ok()?);
    }
    Some(ciphers)
}

fn encrypt_each<C: BlockCipherEncrypt<BlockSize = cipher::consts::U16>>(ciphers: &[C], blocks: &mut Blocks) {
    for (cipher, block) in ciphers.iter().zip(blocks) {
        cipher.encrypt_block(block.into());
    }
}

fn decrypt_each<C: BlockCipherDecrypt<BlockSize = cipher::consts::U16>>(ciphers: &[C], blocks: &mut Blocks) {
    for (cipher, block) in ciphers.iter().zip(blocks) {
        cipher.decrypt_block(block.into());
    }
}

fn with_des_blocks(blocks: &mut Blocks, run: impl FnOnce(&mut [des::Block])) {
    let mut narrow = [[0; 8]; LANES];
    for (narrow, block) in narrow.iter_mut().zip(blocks.iter()) {
        narrow.copy_from_slice(&block[..8]);
    }
    run(&mut narrow);
    for (block, narrow) in blocks.iter_mut().zip(&narrow) {
        block[..8].copy_from_slice(narrow);
    }
    zeroize::Zeroize::zeroize(&mut narrow);
}
