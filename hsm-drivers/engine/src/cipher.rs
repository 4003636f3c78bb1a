//! ECB, CBC and GCM, row by row.

use aes_gcm::AesGcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use cipher::consts::U12;
use claviger_hsm_api::{Algorithm, CipherMode, MalformedBatch, Message, Padding};
use zeroize::{Zeroize, Zeroizing};

use crate::derive::KeyRows;
use crate::group::{Blocks, CipherGroup};
use crate::input::Inputs;
use crate::padding::pad;
use crate::run::EngineError;

/// One row enciphered.
pub(crate) fn encrypt(
    keys: &KeyRows,
    mode: &CipherMode,
    padding: Padding,
    data: &Message,
    inputs: &Inputs<'_>,
    first: usize,
    row: u32,
) -> Result<Vec<u8>, EngineError> {
    let at = first + row as usize;
    let mut text = Zeroizing::new(Vec::new());
    inputs.append(data, at, &mut text)?;
    if let CipherMode::Gcm { nonce, associated } = mode {
        let (nonce, associated) = gcm_inputs(inputs, nonce, associated, at)?;
        return gcm(keys, row, &nonce, &associated, &text, true)?.ok_or(EngineError::TooLong);
    }
    let block = keys.algorithm().block_len().ok_or(EngineError::NoBlockCipher(keys.algorithm()))?;
    pad(&mut text, 0, padding, block)?;
    chain(keys, mode, inputs, at, row, &text, true)
}

/// One row deciphered; `None` if its GCM tag is wrong.
pub(crate) fn decrypt(
    keys: &KeyRows,
    mode: &CipherMode,
    data: &Message,
    inputs: &Inputs<'_>,
    first: usize,
    row: u32,
) -> Result<Option<Vec<u8>>, EngineError> {
    let at = first + row as usize;
    let mut text = Vec::new();
    inputs.append(data, at, &mut text)?;
    if let CipherMode::Gcm { nonce, associated } = mode {
        let (nonce, associated) = gcm_inputs(inputs, nonce, associated, at)?;
        return gcm(keys, row, &nonce, &associated, &text, false);
    }
    chain(keys, mode, inputs, at, row, &text, false).map(Some)
}

fn chain(
    keys: &KeyRows,
    mode: &CipherMode,
    inputs: &Inputs<'_>,
    at: usize,
    row: u32,
    text: &[u8],
    encrypt: bool,
) -> Result<Vec<u8>, EngineError> {
    let algorithm = keys.algorithm();
    let block = algorithm.block_len().ok_or(EngineError::NoBlockCipher(algorithm))?;
    if !text.len().is_multiple_of(block) {
        return Err(MalformedBatch::Length { what: "data", found: text.len(), wanted: "whole blocks" }.into());
    }
    let mut chained: Option<Vec<u8>> = match mode {
        CipherMode::Cbc { initial } => Some(inputs.cell(initial, at)?.to_vec()),
        _ => None,
    };
    if let Some(found) = chained.as_ref().map(Vec::len).filter(|len| *len != block) {
        return Err(MalformedBatch::Length { what: "initial value", found, wanted: "one block" }.into());
    }
    let group = keys.group(&[row], algorithm, 0..algorithm.key_len())?;
    let mut output = Vec::with_capacity(text.len());
    for chunk in text.chunks_exact(block) {
        let mut here = chunk.to_vec();
        if let (true, Some(value)) = (encrypt, &chained) {
            here.iter_mut().zip(value).for_each(|(h, v)| *h ^= v);
        }
        here = one_block(&group, &here, encrypt);
        if let Some(value) = &mut chained {
            if !encrypt {
                here.iter_mut().zip(value.iter()).for_each(|(h, v)| *h ^= v);
            }
            *value = if encrypt { here.clone() } else { chunk.to_vec() };
        }
        output.append(&mut here);
    }
    Ok(output)
}

fn one_block(group: &CipherGroup, block: &[u8], encrypt: bool) -> Vec<u8> {
    let mut blocks: Blocks = [[0; 16]; claviger_bulk_mac::LANES];
    blocks[0][..block.len()].copy_from_slice(block);
    if encrypt {
        group.encrypt(&mut blocks);
    } else {
        group.decrypt(&mut blocks);
    }
    let result = blocks[0][..block.len()].to_vec();
    blocks.zeroize();
    result
}

fn gcm_inputs(
    inputs: &Inputs<'_>,
    nonce: &claviger_hsm_api::Input,
    associated: &Message,
    at: usize,
) -> Result<([u8; 12], Vec<u8>), EngineError> {
    let nonce = inputs.cell(nonce, at)?;
    let nonce =
        nonce.try_into().map_err(|_| MalformedBatch::Length { what: "nonce", found: nonce.len(), wanted: "12" })?;
    let mut text = Vec::new();
    inputs.append(associated, at, &mut text)?;
    Ok((nonce, text))
}

fn gcm(
    keys: &KeyRows,
    row: u32,
    nonce: &[u8; 12],
    associated: &[u8],
    text: &[u8],
    encrypt: bool,
) -> Result<Option<Vec<u8>>, EngineError> {
    let key = keys.key(row as usize);
    let payload = Payload { msg: text, aad: associated };
    match keys.algorithm() {
        Algorithm::Aes128 => one_gcm::<AesGcm<aes::Aes128, U12>>(key, nonce, payload, encrypt),
        Algorithm::Aes192 => one_gcm::<AesGcm<aes::Aes192, U12>>(key, nonce, payload, encrypt),
        Algorithm::Aes256 => one_gcm::<AesGcm<aes::Aes256, U12>>(key, nonce, payload, encrypt),
        Algorithm::Sm4 => one_gcm::<AesGcm<sm4::Sm4, U12>>(key, nonce, payload, encrypt),
        other => Err(EngineError::NoBlockCipher(other)),
    }
}

fn one_gcm<C: Aead<NonceSize = U12> + KeyInit>(
    key: &[u8],
    nonce: &[u8; 12],
    payload: Payload<'_, '_>,
    encrypt: bool,
) -> Result<Option<Vec<u8>>, EngineError> {
    let cipher = C::new_from_slice(key).map_err(|_| EngineError::SecondKey)?;
    let result = if encrypt { cipher.encrypt(nonce.into(), payload) } else { cipher.decrypt(nonce.into(), payload) };
    Ok(result.ok())
}
