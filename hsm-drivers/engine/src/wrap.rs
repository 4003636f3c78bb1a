//! Keys under keys.

use aes_kw::{AesKw, KeyInit};
use claviger_hsm_api::{Algorithm, MalformedBatch, Message, Padding, WrapFormat};
use claviger_locked_memory::LockedBytes;

use crate::cipher::encrypt_blocks;
use crate::derive::KeyRows;
use crate::input::Inputs;
use crate::padding::pad;
use crate::run::EngineError;

/// The key of one row under the wrapping key of that row.
pub(crate) fn wrap(
    keys: &KeyRows,
    under: &KeyRows,
    format: &WrapFormat,
    inputs: &Inputs<'_>,
    first: usize,
    row: u32,
) -> Result<Vec<u8>, EngineError> {
    let key = keys.key(row as usize);
    match format {
        WrapFormat::Ecb { prefix, padding } => ecb(key, under, (prefix, *padding), inputs, first, row),
        WrapFormat::KeyWrap => key_wrap(key, under.algorithm(), under.key(row as usize)),
    }
}

fn ecb(
    key: &[u8],
    under: &KeyRows,
    (prefix, padding): (&Message, Padding),
    inputs: &Inputs<'_>,
    first: usize,
    row: u32,
) -> Result<Vec<u8>, EngineError> {
    let block = under.algorithm().block_len().ok_or(EngineError::NoBlockCipher(under.algorithm()))?;
    let mut head = Vec::new();
    inputs.append(prefix, first + row as usize, &mut head)?;
    // The key itself stays in locked memory; only its padding is worked out outside.
    let mut tail = vec![0; head.len() + key.len()];
    pad(&mut tail, 0, padding, block)?;
    let plain = LockedBytes::init(tail.len(), |plain| {
        plain.copy_from_slice(&tail);
        plain[..head.len()].copy_from_slice(&head);
        plain[head.len()..head.len() + key.len()].copy_from_slice(key);
    });
    encrypt_blocks(under, row, plain.expose())
}

/// RFC 3394 wraps two units or more; SP 800-38F does not name SM4.
fn key_wrap(key: &[u8], algorithm: Algorithm, under: &[u8]) -> Result<Vec<u8>, EngineError> {
    if key.len() < 2 * aes_kw::IV_LEN || !key.len().is_multiple_of(aes_kw::IV_LEN) {
        let wanted = "whole units of 8, at least two";
        return Err(MalformedBatch::Length { what: "key to wrap", found: key.len(), wanted }.into());
    }
    match algorithm {
        Algorithm::Aes128 => one_key_wrap::<aes::Aes128>(key, under),
        Algorithm::Aes192 => one_key_wrap::<aes::Aes192>(key, under),
        Algorithm::Aes256 => one_key_wrap::<aes::Aes256>(key, under),
        other => Err(EngineError::NoKeyWrap(other)),
    }
}

fn one_key_wrap<C>(key: &[u8], under: &[u8]) -> Result<Vec<u8>, EngineError>
where
    C: KeyInit + cipher::BlockCipherEncrypt<BlockSize = cipher::consts::U16>,
    AesKw<C>: KeyInit,
{
    let kw = <AesKw<C> as KeyInit>::new_from_slice(under).map_err(|_| EngineError::SecondKey)?;
    // Wrapping begins with a copy of the key, so the room for it is locked; what it ends with may leave.
    let mut room = LockedBytes::zeroed(key.len() + aes_kw::IV_LEN);
    let wrapped = kw.wrap_key(key, room.expose_mut()).map_err(|_| EngineError::TooLong)?;
    Ok(wrapped.to_vec())
}
