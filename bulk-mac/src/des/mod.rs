//! DES and triple DES (FIPS 46-3, SP 800-67), bitsliced: one bit of every row in one vector.

pub(crate) mod kernel;
mod rounds;
mod sbox;
#[cfg(any(test, target_arch = "x86_64"))]
pub(crate) mod sboxes;
pub(crate) mod tables;
#[cfg(test)]
mod tests;

use crate::LANES;
use crate::transpose::{from_planes, plane, to_planes};
use crate::vector::word::Word;
use crate::vector::{Vector, zeros};
use rounds::{Key, State};
use zeroize::{Zeroize, Zeroizing};

/// An 8-byte DES block, big-endian as FIPS 46-3 numbers its bits.
pub type Block = [u8; 8];

/// DES or EDE under one key for each of up to [`LANES`] rows. Wiped on drop.
pub struct KeyGroup {
    /// One (DES), two (keying option 2: K1 K2 K1) or three keys.
    keys: Zeroizing<Vec<Key<u64>>>,
}

impl KeyGroup {
    /// Keys for `keys.len() / key_len` rows, one after another; `key_len` is 8, 16 or 24. Parity bits
    /// are ignored, as DES ignores them.
    ///
    /// Returns `None` if `key_len` is another number, or the rows are none, broken or more than
    /// [`LANES`].
    pub fn new(keys: &[u8], key_len: usize) -> Option<Self> {
        let rows = keys.len() / key_len.max(1);
        if !matches!(key_len, 8 | 16 | 24) || !keys.len().is_multiple_of(key_len) || rows == 0 || rows > LANES {
            return None;
        }
        let mut parts = Zeroizing::new(vec![Key::zeros(Word); key_len / 8]);
        let mut rows = Zeroizing::new([0; 8 * LANES]);
        let mut planes = Zeroizing::new(zeros::<u64, 64>(Word));
        for (number, part) in parts.iter_mut().enumerate() {
            for (row, key) in rows.chunks_exact_mut(8).zip(keys.chunks_exact(key_len)) {
                row.copy_from_slice(&key[8 * number..][..8]);
            }
            to_planes(Word, &rows[..], &mut planes);
            part.set(|bit| planes[plane(bit)]);
        }
        Some(Self { keys: parts })
    }

    /// Enciphers `blocks[i]` under the key of row `i`. Blocks beyond the last row are left with no
    /// meaning.
    pub fn encrypt(&self, blocks: &mut [Block]) {
        match self.keys.as_slice() {
            [k] => run(blocks, &[(k, false)]),
            [k1, k2] => run(blocks, &[(k1, false), (k2, true), (k1, false)]),
            [k1, k2, k3, ..] => run(blocks, &[(k1, false), (k2, true), (k3, false)]),
            [] => {}
        }
    }

    /// Deciphers `blocks[i]` under the key of row `i`.
    pub fn decrypt(&self, blocks: &mut [Block]) {
        match self.keys.as_slice() {
            [k] => run(blocks, &[(k, true)]),
            [k1, k2] => run(blocks, &[(k1, true), (k2, false), (k1, true)]),
            [k1, k2, k3, ..] => run(blocks, &[(k3, true), (k2, false), (k1, true)]),
            [] => {}
        }
    }
}

/// A sequence of DES passes, each with its key and direction.
fn run(blocks: &mut [Block], passes: &[(&Key<u64>, bool)]) {
    let mut rows = Zeroizing::new([0; 8 * u64::LANES]);
    let given = blocks.len().min(LANES);
    rows[..8 * given].copy_from_slice(blocks[..given].as_flattened());
    let mut planes = Zeroizing::new(zeros(Word));
    to_planes(Word, &rows[..], &mut planes);
    let mut state = State::zeros(Word);
    state.set(&planes);
    for (key, decrypt) in passes {
        state.des(Word, key, *decrypt);
    }
    state.planes(&mut planes);
    from_planes(Word, &mut planes, &mut rows[..]);
    blocks[..given].as_flattened_mut().copy_from_slice(&rows[..8 * given]);
    state.zeroize();
}
