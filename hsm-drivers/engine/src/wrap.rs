//! Keys under keys.

use claviger_hsm_api::{Padding, WrapFormat};
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
    let WrapFormat::Ecb { prefix } = format;
    let block = under.algorithm().block_len().ok_or(EngineError::NoBlockCipher(under.algorithm()))?;
    let mut head = Vec::new();
    inputs.append(prefix, first + row as usize, &mut head)?;
    let key = keys.key(row as usize);
    // The key itself stays in locked memory; only its padding is worked out outside.
    let mut tail = vec![0; head.len() + key.len()];
    pad(&mut tail, 0, Padding::OneIfNeeded, block)?;
    let plain = LockedBytes::init(tail.len(), |plain| {
        plain.copy_from_slice(&tail);
        plain[..head.len()].copy_from_slice(&head);
        plain[head.len()..head.len() + key.len()].copy_from_slice(key);
    });
    encrypt_blocks(under, row, plain.expose())
}
