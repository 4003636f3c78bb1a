//! Keys in ECB under a transport key with a check value beside them, as card bureaus and city platforms exchange them
//! (`tests/vectors/perso-keyset.json`). Nothing here is authenticated: the check value finds damage and a wrong transport
//! key, not a forger. Between systems that can do more, use a key block.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::cipher::{BlockKey, Cipher};
use crate::error::{Field, KeyBlockError};
use crate::kcv::{KcvRule, check_kcv, kcv};
use crate::key_bytes::KeyBytes;

/// What fills up a key that is no whole number of the transport key's blocks: 24 bytes under AES or SM4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EcbPadding {
    /// Nothing: such keys are refused.
    None,
    /// 80, then zeros (ISO/IEC 9797-1 method 2), but nothing on whole blocks.
    OneIfPartial,
    /// Zeros (ISO/IEC 9797-1 method 1).
    ZerosIfPartial,
}

/// How two partners exchange keys in ECB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcbFormat {
    /// What fills up partial blocks.
    pub padding: EcbPadding,
    /// The rule of the check value, which is over the key and not over its padding.
    pub kcv: KcvRule,
}

/// A key under a transport key. How the two stand in a file or a command is the file's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcbKey {
    /// Whole blocks.
    pub ciphertext: Vec<u8>,
    /// As long as the rule says.
    pub kcv: Vec<u8>,
}

/// Wraps a key.
///
/// # Errors
/// `key`, if it must be padded and the format has no padding; `kcv`, if the rule does not fit the key.
pub fn ecb_wrap(transport: &BlockKey<'_>, format: EcbFormat, key: &BlockKey<'_>) -> Result<EcbKey, KeyBlockError> {
    let mut ciphertext = padded(key.bytes(), transport.block_len(), format.padding)?;
    transport.encrypt(&mut ciphertext)?;
    Ok(EcbKey { ciphertext: ciphertext.to_vec(), kcv: kcv(key, format.kcv)? })
}

/// Unwraps a key of `key_len` bytes, which must have the check value that came with it.
///
/// # Errors
/// `key`, if the cipher has no keys of that length; `payload`, if that key is not as long under this transport key, or not
/// padded so; `kcv`, if the check value is another key's or breaks the rule.
pub fn ecb_unwrap(
    transport: &BlockKey<'_>,
    format: EcbFormat,
    cipher: Cipher,
    key_len: usize,
    wrapped: &EcbKey,
) -> Result<KeyBytes, KeyBlockError> {
    let decrypt = &mut |data: &mut [u8]| transport.decrypt(data);
    ecb_unwrap_by(transport.block_len(), decrypt, format, cipher, key_len, wrapped)
}

/// The same where the transport key, whose blocks have so many bytes, is in a device that deciphers whole blocks.
///
/// # Errors
/// As [`ecb_unwrap`]; those of `decrypt`.
pub fn ecb_unwrap_by<E: From<KeyBlockError>>(
    block_len: usize,
    decrypt: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    format: EcbFormat,
    cipher: Cipher,
    key_len: usize,
    wrapped: &EcbKey,
) -> Result<KeyBytes, E> {
    let mut plain = Zeroizing::new(wrapped.ciphertext.clone());
    if plain.is_empty() || !plain.len().is_multiple_of(block_len) {
        return Err(KeyBlockError::new(Field::Payload, "is not whole blocks").into());
    }
    decrypt(&mut plain)?;
    let short = KeyBlockError::new(Field::Payload, "has another length than that key has");
    let key = KeyBytes::copy_of(plain.get(..key_len).ok_or(short)?);
    let block_key = BlockKey::new(cipher, key.expose())?;
    check_kcv(&block_key, format.kcv, &wrapped.kcv)?;
    let expected = padded(key.expose(), block_len, format.padding)?;
    if expected.len() != plain.len() {
        return Err(short.into());
    }
    if !bool::from(expected.ct_eq(&plain)) {
        return Err(KeyBlockError::new(Field::Payload, "is padded in another way").into());
    }
    Ok(key)
}

fn padded(key: &[u8], block: usize, padding: EcbPadding) -> Result<Zeroizing<Vec<u8>>, KeyBlockError> {
    let whole = key.len().next_multiple_of(block);
    let mut text = Zeroizing::new(vec![0; whole]);
    let (kept, rest) = text.split_at_mut(key.len());
    kept.copy_from_slice(key);
    match (padding, rest.first_mut()) {
        (_, None) | (EcbPadding::ZerosIfPartial, Some(_)) => {}
        (EcbPadding::OneIfPartial, Some(first)) => *first = 0x80,
        (EcbPadding::None, Some(_)) => {
            return Err(KeyBlockError::new(Field::Key, "is not whole blocks of the transport key, and is not padded"));
        }
    }
    Ok(text)
}
