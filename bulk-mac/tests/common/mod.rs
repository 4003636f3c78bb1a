//! The same work row by row with the ciphers of RustCrypto, and batches to do it on.

use aes::Aes128;
use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use claviger_bulk_mac::{Cipher, Keys, LastStep, Mac, PerRow, Texts};
use cmac::Cmac;
use des::{Des, TdesEde2};
use sm4::Sm4;

/// A stream of numbers that is the same in every run (xorshift64*).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| (self.next() >> 32) as u8)
    }
}

/// What a batch owns and [`Keys`] and [`Texts`] borrow.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) cipher: Cipher,
    pub(crate) mac: Mac,
    pub(crate) masters: Vec<[u8; 16]>,
    pub(crate) chosen: Option<Vec<u32>>,
    pub(crate) levels: Vec<Vec<[u8; 8]>>,
    pub(crate) last: Last,
    pub(crate) columns: Vec<Vec<u8>>,
    pub(crate) blocks: Option<Vec<u32>>,
    pub(crate) padded: Option<Vec<bool>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Last {
    Whole,
    Fold,
    Session(Vec<[u8; 8]>),
}

/// What a case is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) cipher: Cipher,
    pub(crate) mac: Mac,
    pub(crate) rows: usize,
    pub(crate) masters: usize,
    pub(crate) levels: usize,
    /// 0: whole, 1: folded, 2: session.
    pub(crate) last: u8,
    pub(crate) columns: usize,
    pub(crate) mixed: bool,
}

impl Case {
    pub(crate) fn new(numbers: &mut Numbers, shape: Shape) -> Self {
        let Shape { cipher, mac, rows, masters, levels, last, columns, mixed } = shape;
        let column = |numbers: &mut Numbers| (0..rows).map(|_| numbers.bytes::<8>()).collect::<Vec<_>>();
        let chosen = (0..rows).map(|_| numbers.below(masters as u64) as u32).collect();
        Self {
            cipher,
            mac,
            masters: (0..masters).map(|_| numbers.bytes()).collect(),
            chosen: (masters > 1).then_some(chosen),
            levels: (0..levels).map(|_| column(numbers)).collect(),
            last: match last {
                0 => Last::Whole,
                1 => Last::Fold,
                _ => Last::Session(column(numbers)),
            },
            columns: (0..columns)
                .map(|_| (0..rows * cipher.block_len()).map(|_| numbers.next() as u8).collect())
                .collect(),
            blocks: mixed.then(|| (0..rows).map(|_| 1 + numbers.below(columns as u64) as u32).collect()),
            padded: mixed.then(|| (0..rows).map(|_| numbers.next() & 1 == 1).collect()),
        }
    }

    /// Lends the batch to a function.
    pub(crate) fn lend<T>(&self, to: impl FnOnce(&Keys<'_>, &Texts<'_>) -> T) -> T {
        let levels: Vec<&[[u8; 8]]> = self.levels.iter().map(Vec::as_slice).collect();
        let columns: Vec<&[u8]> = self.columns.iter().map(Vec::as_slice).collect();
        let keys = Keys {
            cipher: self.cipher,
            masters: &self.masters,
            chosen: self.chosen.as_deref().map_or(PerRow::Same(0), PerRow::Each),
            levels: &levels,
            last: match &self.last {
                Last::Whole => LastStep::Whole,
                Last::Fold => LastStep::Fold,
                Last::Session(inputs) => LastStep::Session(inputs),
            },
        };
        let texts = Texts {
            columns: &columns,
            blocks: self.blocks.as_deref().map_or(PerRow::Same(self.columns.len() as u32), PerRow::Each),
            padded: self.padded.as_deref().map_or(PerRow::Same(true), PerRow::Each),
        };
        to(&keys, &texts)
    }

    /// The key of one row: 16 bytes, or 8 of single DES.
    pub(crate) fn key(&self, row: usize) -> Vec<u8> {
        let master = self.chosen.as_ref().map_or(0, |chosen| chosen[row] as usize);
        let mut key = self.masters[master];
        let complement = |x: [u8; 8]| x.map(|byte| !byte);
        for level in &self.levels {
            let factor = level[row];
            key = if self.cipher == Cipher::TripleDes {
                [des3(&key, factor), des3(&key, complement(factor))].concat().try_into().unwrap()
            } else {
                self.wide(&key, [factor, complement(factor)].concat().try_into().unwrap())
            };
        }
        let halves: [u8; 8] = std::array::from_fn(|i| key[i] ^ key[i + 8]);
        match (&self.last, self.cipher) {
            (Last::Whole, _) => key.to_vec(),
            (Last::Fold, Cipher::TripleDes) => halves.to_vec(),
            (Last::Fold, _) => [halves, complement(halves)].concat(),
            (Last::Session(inputs), Cipher::TripleDes) => des3(&key, inputs[row]).to_vec(),
            (Last::Session(inputs), _) => {
                self.wide(&key, [inputs[row], complement(inputs[row])].concat().try_into().unwrap()).to_vec()
            }
        }
    }

    /// The last block of one row's MAC.
    pub(crate) fn mac_of(&self, row: usize) -> Vec<u8> {
        let key = self.key(row);
        let block = self.cipher.block_len();
        let count = self.blocks.as_ref().map_or(self.columns.len(), |blocks| blocks[row] as usize);
        let text: Vec<&[u8]> = self.columns[..count].iter().map(|column| &column[row * block..][..block]).collect();
        match self.mac {
            Mac::Cmac => {
                let padded = self.padded.as_ref().is_none_or(|padded| padded[row]);
                return self.cmac(&key, &text, padded);
            }
            Mac::Cbc | Mac::Retail => {}
        }
        let chain_key = if self.mac == Mac::Retail { &key[..8] } else { &key[..] };
        let mut chain = vec![0; block];
        for text in text {
            chain.iter_mut().zip(text).for_each(|(c, t)| *c ^= t);
            chain = self.encrypt(chain_key, &chain);
        }
        if self.mac == Mac::Retail {
            let mut end: [u8; 8] = chain.try_into().unwrap();
            Des::new_from_slice(&key[8..]).unwrap().decrypt_block((&mut end).into());
            return self.encrypt(&key[..8], &end);
        }
        chain
    }

    /// CMAC as the `cmac` crate has it. It pads itself, so a padded last block is one that was given short: for
    /// that the subkeys are worked out here.
    fn cmac(&self, key: &[u8], text: &[&[u8]], padded: bool) -> Vec<u8> {
        let whole = text.concat();
        if !padded {
            return match self.cipher {
                Cipher::Aes128 => one_cmac::<Cmac<Aes128>>(key, &whole),
                _ => one_cmac::<Cmac<Sm4>>(key, &whole),
            };
        }
        let double = |value: u128| value << 1 ^ if value >> 127 == 1 { 0x87 } else { 0 };
        let zero = u128::from_be_bytes(self.encrypt(key, &[0; 16]).try_into().unwrap());
        let mut chain = vec![0; 16];
        for (number, block) in text.iter().enumerate() {
            chain.iter_mut().zip(*block).for_each(|(c, t)| *c ^= t);
            if number + 1 == text.len() {
                chain.iter_mut().zip(double(double(zero)).to_be_bytes()).for_each(|(c, k)| *c ^= k);
            }
            chain = self.encrypt(key, &chain);
        }
        chain
    }

    fn wide(&self, key: &[u8; 16], block: [u8; 16]) -> [u8; 16] {
        self.encrypt(key, &block).try_into().unwrap()
    }

    fn encrypt(&self, key: &[u8], block: &[u8]) -> Vec<u8> {
        fn one<C: KeyInit + BlockCipherEncrypt>(key: &[u8], block: &[u8]) -> Vec<u8> {
            let mut block = cipher::Block::<C>::try_from(block).unwrap();
            C::new_from_slice(key).unwrap().encrypt_block(&mut block);
            block.to_vec()
        }
        match (self.cipher, key.len()) {
            (Cipher::TripleDes, 8) => one::<Des>(key, block),
            (Cipher::TripleDes, _) => one::<TdesEde2>(key, block),
            (Cipher::Sm4, _) => one::<Sm4>(key, block),
            (Cipher::Aes128, _) => one::<Aes128>(key, block),
        }
    }
}

fn des3(key: &[u8; 16], block: [u8; 8]) -> [u8; 8] {
    let mut block = block;
    TdesEde2::new_from_slice(key).unwrap().encrypt_block((&mut block).into());
    block
}

fn one_cmac<M: cmac::Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}
