//! Keys under keys.

use aes_kw::{AesKw, KeyInit};
use claviger_hsm_api::{Algorithm, MalformedBatch, Message, Padding, Secret, WrapFormat};
use claviger_locked_memory::LockedBytes;
use subtle::ConstantTimeEq;

use crate::blocks::encipher;
use crate::derive::KeyRows;
use crate::exchange::block;
use crate::mac::Span;
use crate::padding::pad;
use crate::run::EngineError;

/// The keys of rows, each under the wrapping key of its row, given to `each` in order.
pub(crate) fn wrap(
    keys: &KeyRows,
    under: &KeyRows,
    format: &WrapFormat,
    span: &Span<'_>,
    mut each: impl FnMut(u32, &[u8]),
) -> Result<(), EngineError> {
    match format {
        WrapFormat::Ecb { prefix, padding } => {
            ecb(keys, under, (prefix, *padding), span, each)?;
        }
        WrapFormat::KeyBlock(header) => {
            for row in span.rows {
                let (kbpk, key) = (under.key(*row as usize), keys.key(*row as usize));
                each(*row, block(header, under.algorithm(), kbpk, keys.algorithm(), key)?.as_bytes());
            }
        }
        WrapFormat::KeyWrap => {
            for row in span.rows {
                each(*row, &key_wrap(keys.key(*row as usize), under.algorithm(), under.key(*row as usize))?);
            }
        }
    }
    Ok(())
}

/// All rows side by side. The keys themselves stay in locked memory; only prefixes and padding are worked out outside.
fn ecb(
    keys: &KeyRows,
    under: &KeyRows,
    (prefix, padding): (&Message, Padding),
    Span { inputs, first, rows }: &Span<'_>,
    mut each: impl FnMut(u32, &[u8]),
) -> Result<(), EngineError> {
    let algorithm = under.algorithm();
    let block = algorithm.block_len().ok_or(EngineError::NoBlockCipher(algorithm))?;
    let (key_len, is_filled) = (keys.algorithm().key_len(), matches!(padding, Padding::None | Padding::OneIfNeeded));
    if prefix.0.is_empty()
        && is_filled
        && key_len.is_multiple_of(block)
        && let Some(plain) = keys.in_a_row(rows)
    {
        // Whole blocks and nothing else: they are enciphered where they lie.
        let of_each = rows.iter().flat_map(|row| std::iter::repeat_n(*row, key_len / block));
        let mut found = vec![0; plain.len()];
        encipher(under, &of_each.collect::<Vec<_>>(), plain, &mut found)?;
        rows.iter().zip(found.chunks_exact(key_len)).for_each(|(row, wrapped)| each(*row, wrapped));
        return Ok(());
    }
    // Prefix, room for the key, padding: row after row.
    let (mut frame, mut places, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for row in *rows {
        let start = frame.len();
        inputs.append(prefix, first + *row as usize, &mut frame)?;
        places.push(frame.len());
        frame.resize(frame.len() + keys.key(*row as usize).len(), 0);
        pad(&mut frame, start, padding, block)?;
        ends.push(frame.len());
    }
    let plain = LockedBytes::init(frame.len(), |plain| {
        plain.copy_from_slice(&frame);
        for (row, place) in rows.iter().zip(&places) {
            let key = keys.key(*row as usize);
            plain[*place..][..key.len()].copy_from_slice(key);
        }
    });
    let starts: Vec<usize> = std::iter::once(0).chain(ends.iter().copied()).take(rows.len()).collect();
    let longest = starts.iter().zip(&ends).map(|(start, end)| end - start).max().unwrap_or(0);
    let (mut column, mut found) = (LockedBytes::zeroed(rows.len() * block), vec![0; rows.len() * block]);
    for offset in (0..longest).step_by(block) {
        // Of a row that has ended already there is something, and nothing comes of it.
        let lanes = || starts.iter().zip(&ends).enumerate().filter(|(_, (start, end))| *start + offset < **end);
        for (lane, (start, _)) in lanes() {
            column.expose_mut()[lane * block..][..block].copy_from_slice(&plain.expose()[start + offset..][..block]);
        }
        encipher(under, rows, column.expose(), &mut found)?;
        for (lane, (start, _)) in lanes() {
            frame[start + offset..][..block].copy_from_slice(&found[lane * block..][..block]);
        }
    }
    for (row, (start, end)) in rows.iter().zip(starts.iter().zip(&ends)) {
        each(*row, &frame[*start..*end]);
    }
    Ok(())
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

/// Undoes RFC 3394 by whoever deciphers single blocks: the key, or none if the blob was not made under that wrapping key.
///
/// # Errors
/// That of `decipher`, or [`EngineError::Batch`] for a blob of no such length.
pub(crate) fn key_unwrap(
    wrapped: &[u8],
    mut decipher: impl FnMut(&mut [u8]) -> Result<(), EngineError>,
) -> Result<Option<Secret>, EngineError> {
    let units = (wrapped.len() / 8).saturating_sub(1);
    if units < 2 || !wrapped.len().is_multiple_of(8) {
        let wanted = "whole units of 8, at least three";
        return Err(MalformedBatch::Length { what: "wrapped key", found: wrapped.len(), wanted }.into());
    }
    // A, then the units of the key; section 2.2.2, index-based.
    let mut room = LockedBytes::copy_of(wrapped);
    let mut block = LockedBytes::zeroed(16);
    for step in (1..=6 * units as u64).rev() {
        let unit = 8 * ((step - 1) as usize % units + 1);
        let (room, block) = (room.expose_mut(), block.expose_mut());
        block[..8].copy_from_slice(&room[..8]);
        block[..8].iter_mut().zip(step.to_be_bytes()).for_each(|(a, t)| *a ^= t);
        block[8..].copy_from_slice(&room[unit..unit + 8]);
        decipher(block)?;
        room[..8].copy_from_slice(&block[..8]);
        room[unit..unit + 8].copy_from_slice(&block[8..]);
    }
    let (initial, key) = room.expose().split_at(8);
    let right = bool::from(initial.ct_eq(&[0xA6; 8]));
    Ok(right.then(|| Secret::copy_of(key)))
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
