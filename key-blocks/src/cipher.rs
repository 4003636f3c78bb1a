//! The block ciphers that keys are wrapped with, and the modes that the formats need.

use aes::{Aes128, Aes192, Aes256};
use cipher::array::Array;
use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use cmac::block_api::CmacCipher;
use cmac::{Cmac, Mac};
use des::{Des, TdesEde2, TdesEde3};
use sm4::Sm4;
use zeroize::Zeroizing;

use crate::error::{Field, KeyBlockError};

/// A block cipher, whatever the length of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// Single DES (FIPS 46-3), keys of 8 bytes.
    Des,
    /// Triple DES (SP 800-67), keys of 16 or 24 bytes.
    TripleDes,
    /// AES (FIPS 197), keys of 16, 24 or 32 bytes.
    Aes,
    /// SM4 (GB/T 32907), keys of 16 bytes.
    Sm4,
}

impl Cipher {
    /// 8 bytes for DES and triple DES, 16 for the others.
    pub fn block_len(self) -> usize {
        match self {
            Self::Des | Self::TripleDes => 8,
            Self::Aes | Self::Sm4 => 16,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Des,
    TripleDes2,
    TripleDes3,
    Aes128,
    Aes192,
    Aes256,
    Sm4,
}

/// A key of a block cipher, of a length that the cipher has. Borrowed: wiping it is its owner's duty.
#[derive(Clone, Copy)]
pub struct BlockKey<'a> {
    cipher: Cipher,
    kind: Kind,
    bytes: &'a [u8],
}

const BAD_KEY: KeyBlockError = KeyBlockError::new(Field::Key, "has a length that its cipher does not have");
const PARTIAL: KeyBlockError = KeyBlockError::new(Field::Payload, "is not whole blocks");

/// Calls a function for the one cipher that a key is of.
macro_rules! by_cipher {
    ($key:expr, $run:ident $(, $argument:expr)*) => {
        match $key.kind {
            Kind::Des => $run::<Des>($key.bytes $(, $argument)*),
            Kind::TripleDes2 => $run::<TdesEde2>($key.bytes $(, $argument)*),
            Kind::TripleDes3 => $run::<TdesEde3>($key.bytes $(, $argument)*),
            Kind::Aes128 => $run::<Aes128>($key.bytes $(, $argument)*),
            Kind::Aes192 => $run::<Aes192>($key.bytes $(, $argument)*),
            Kind::Aes256 => $run::<Aes256>($key.bytes $(, $argument)*),
            Kind::Sm4 => $run::<Sm4>($key.bytes $(, $argument)*),
        }
    };
}

impl<'a> BlockKey<'a> {
    /// Parity bits of DES keys are neither looked at nor changed.
    ///
    /// # Errors
    /// `key`, if the cipher has no keys of that length.
    pub fn new(cipher: Cipher, bytes: &'a [u8]) -> Result<Self, KeyBlockError> {
        let kind = match (cipher, bytes.len()) {
            (Cipher::Des, 8) => Kind::Des,
            (Cipher::TripleDes, 16) => Kind::TripleDes2,
            (Cipher::TripleDes, 24) => Kind::TripleDes3,
            (Cipher::Aes, 16) => Kind::Aes128,
            (Cipher::Aes, 24) => Kind::Aes192,
            (Cipher::Aes, 32) => Kind::Aes256,
            (Cipher::Sm4, 16) => Kind::Sm4,
            _ => return Err(BAD_KEY),
        };
        Ok(Self { cipher, kind, bytes })
    }

    /// Which cipher.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn block_len(&self) -> usize {
        self.cipher.block_len()
    }

    /// ECB of whole blocks.
    ///
    /// # Errors
    /// `payload` for anything else.
    pub fn encrypt(&self, data: &mut [u8]) -> Result<(), KeyBlockError> {
        by_cipher!(self, ecb_encrypt, data)
    }

    /// The same back.
    ///
    /// # Errors
    /// `payload` for anything else.
    pub fn decrypt(&self, data: &mut [u8]) -> Result<(), KeyBlockError> {
        by_cipher!(self, ecb_decrypt, data)
    }

    /// CBC of whole blocks; `iv` is one block.
    pub(crate) fn cbc_encrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), KeyBlockError> {
        by_cipher!(self, chain, iv, data)
    }

    /// CBC of whole blocks; `iv` is one block.
    pub(crate) fn cbc_decrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), KeyBlockError> {
        let before = [iv, data].concat();
        self.decrypt(data)?;
        data.iter_mut().zip(before).for_each(|(byte, before)| *byte ^= before);
        Ok(())
    }

    /// CTR whose first counter block is `start`, counted as one big-endian number of 128 bits.
    pub(crate) fn ctr(&self, start: [u8; 16], data: &mut [u8]) -> Result<(), KeyBlockError> {
        let first = u128::from_be_bytes(start);
        let counters = (0..data.len().div_ceil(16) as u128).map(|at| first.wrapping_add(at).to_be_bytes());
        let mut stream = Zeroizing::new(counters.flatten().collect::<Vec<u8>>());
        self.encrypt(&mut stream)?;
        data.iter_mut().zip(stream.iter()).for_each(|(byte, key)| *byte ^= key);
        Ok(())
    }

    /// CMAC (SP 800-38B) of the parts one after the other; one block long.
    ///
    /// # Errors
    /// None that a key of its cipher's length gives.
    pub fn cmac(&self, parts: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, KeyBlockError> {
        by_cipher!(self, cmac_of, parts)
    }

    /// The last block of CBC from zeros over whole blocks (ISO/IEC 9797-1 algorithm 1).
    pub(crate) fn cbc_mac(&self, data: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyBlockError> {
        let mut data = Zeroizing::new(data.to_vec());
        let block = self.block_len();
        self.cbc_encrypt(&vec![0; block], &mut data)?;
        let last = data.rchunks(block).next().ok_or(PARTIAL)?;
        Ok(Zeroizing::new(last.to_vec()))
    }
}

fn ecb_encrypt<C: KeyInit + BlockCipherEncrypt>(key: &[u8], data: &mut [u8]) -> Result<(), KeyBlockError> {
    let cipher = C::new_from_slice(key).map_err(|_| BAD_KEY)?;
    let (blocks, rest) = Array::slice_as_chunks_mut(data);
    cipher.encrypt_blocks(blocks);
    if rest.is_empty() { Ok(()) } else { Err(PARTIAL) }
}

fn ecb_decrypt<C: KeyInit + BlockCipherDecrypt>(key: &[u8], data: &mut [u8]) -> Result<(), KeyBlockError> {
    let cipher = C::new_from_slice(key).map_err(|_| BAD_KEY)?;
    let (blocks, rest) = Array::slice_as_chunks_mut(data);
    cipher.decrypt_blocks(blocks);
    if rest.is_empty() { Ok(()) } else { Err(PARTIAL) }
}

fn chain<C: KeyInit + BlockCipherEncrypt>(key: &[u8], iv: &[u8], data: &mut [u8]) -> Result<(), KeyBlockError> {
    let cipher = C::new_from_slice(key).map_err(|_| BAD_KEY)?;
    let (blocks, rest) = Array::slice_as_chunks_mut(data);
    let mut before = Array::try_from(iv).map_err(|_| PARTIAL)?;
    for block in blocks {
        block.iter_mut().zip(&before).for_each(|(byte, before)| *byte ^= before);
        cipher.encrypt_block(block);
        before.clone_from(block);
    }
    if rest.is_empty() { Ok(()) } else { Err(PARTIAL) }
}

fn cmac_of<C: KeyInit + CmacCipher>(key: &[u8], parts: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, KeyBlockError> {
    let mut mac = <Cmac<C> as KeyInit>::new_from_slice(key).map_err(|_| BAD_KEY)?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(Zeroizing::new(mac.finalize().into_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_of_ones_goes_on_with_zeros() {
        let key = BlockKey::new(Cipher::Aes, &[5; 32]).unwrap();
        let mut stream = [0; 40];
        key.ctr([0xFF; 16], &mut stream).unwrap();
        let mut blocks = [[0xFF; 16], [0; 16], 1u128.to_be_bytes()].concat();
        key.encrypt(&mut blocks).unwrap();
        assert_eq!(stream, blocks[..40]);
    }

    #[test]
    fn partial_blocks_are_refused() {
        let key = BlockKey::new(Cipher::TripleDes, &[5; 24]).unwrap();
        for result in [key.encrypt(&mut [0; 9]), key.decrypt(&mut [0; 7]), key.cbc_encrypt(&[0; 8], &mut [0; 15])] {
            assert_eq!(result.unwrap_err().field(), Field::Payload);
        }
        assert!(key.cbc_encrypt(&[0; 7], &mut [0; 8]).is_err() && key.cbc_mac(&[]).is_err());
    }
}
