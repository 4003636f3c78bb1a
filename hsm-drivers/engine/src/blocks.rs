//! One block of each row under the row's key.

use claviger_bulk_mac::{Keys, LANES, LastStep, Mac, PerRow, Texts};
use zeroize::Zeroize;

use crate::derive::{KeyRows, bulk_cipher};
use crate::group::Blocks;
use crate::kernels::kernels;
use crate::run::EngineError;

/// Enciphers a block of each of the given rows: by the kernels, else, under keys that these have no cipher for, in groups. Both
/// have a block of the keys' cipher for each row.
pub(crate) fn encipher(keys: &KeyRows, rows: &[u32], blocks: &[u8], out: &mut [u8]) -> Result<(), EngineError> {
    if in_bulk(keys, rows, Mac::Cbc, blocks, out) {
        return Ok(());
    }
    let algorithm = keys.algorithm();
    let block = algorithm.block_len().ok_or(EngineError::NoBlockCipher(algorithm))?;
    let groups = rows.chunks(LANES).zip(blocks.chunks(block * LANES)).zip(out.chunks_mut(block * LANES));
    for ((rows, blocks), out) in groups {
        let mut lanes: Blocks = [[0; 16]; LANES];
        lanes.iter_mut().zip(blocks.chunks_exact(block)).for_each(|(lane, from)| lane[..block].copy_from_slice(from));
        keys.group(rows, algorithm, 0..algorithm.key_len())?.encrypt(&mut lanes);
        out.chunks_exact_mut(block).zip(&lanes).for_each(|(to, lane)| to.copy_from_slice(&lane[..block]));
        lanes.zeroize();
    }
    Ok(())
}

/// The MAC of a block of each row, whole, by the kernels; whether they have it.
pub(crate) fn in_bulk(keys: &KeyRows, rows: &[u32], mac: Mac, blocks: &[u8], out: &mut [u8]) -> bool {
    let Some(cipher) = bulk_cipher(keys.algorithm()) else { return false };
    let chosen: Vec<u32> = rows.iter().map(|row| keys.number(*row as usize)).collect();
    let path = Keys {
        cipher,
        masters: keys.distinct().as_chunks().0,
        // Whose key is the same has it made ready once.
        chosen: match chosen.first() {
            Some(one) if chosen.iter().all(|other| other == one) => PerRow::Same(*one),
            _ => PerRow::Each(&chosen),
        },
        levels: &[],
        last: LastStep::Whole,
    };
    let texts = Texts { columns: &[blocks], blocks: PerRow::Same(1), padded: PerRow::Same(false) };
    kernels().macs(&path, mac, &texts, out).is_ok()
}
