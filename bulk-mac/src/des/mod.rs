//! DES and triple DES (FIPS 46-3, SP 800-67) on 64 rows at once, each row under its own key.

mod planes;
mod sbox;
#[cfg(test)]
mod tests;

use crate::LANES;
use planes::{from_planes, to_planes};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// An 8-byte DES block, big-endian as FIPS 46-3 numbers its bits.
pub type Block = [u8; 8];

/// One single-DES key for each row, as planes: plane `i` holds key bit `i` (parity included) of all rows.
#[derive(Zeroize, ZeroizeOnDrop)]
struct KeyPlanes([u64; 64]);

/// DES or EDE under one key for each of up to [`LANES`] rows. Wiped on drop.
pub struct KeyGroup {
    /// One (DES), two (keying option 2: K1 K2 K1) or three keys.
    keys: Vec<KeyPlanes>,
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
        let part = |at: usize| {
            let mut words = [0u64; LANES];
            for (word, key) in words.iter_mut().zip(keys.chunks_exact(key_len)) {
                *word = be_word(&key[at..at + 8]);
            }
            let planes = KeyPlanes(to_planes(&words));
            words.zeroize();
            planes
        };
        Some(Self { keys: (0..key_len).step_by(8).map(part).collect() })
    }

    /// Enciphers `blocks[i]` under the key of row `i`. Blocks beyond the last row are left with no
    /// meaning.
    pub fn encrypt(&self, blocks: &mut [Block]) {
        match self.keys.as_slice() {
            [k] => self.run(blocks, &[(k, false)]),
            [k1, k2] => self.run(blocks, &[(k1, false), (k2, true), (k1, false)]),
            [k1, k2, k3, ..] => self.run(blocks, &[(k1, false), (k2, true), (k3, false)]),
            [] => {}
        }
    }

    /// Deciphers `blocks[i]` under the key of row `i`.
    pub fn decrypt(&self, blocks: &mut [Block]) {
        match self.keys.as_slice() {
            [k] => self.run(blocks, &[(k, true)]),
            [k1, k2] => self.run(blocks, &[(k1, true), (k2, false), (k1, true)]),
            [k1, k2, k3, ..] => self.run(blocks, &[(k3, true), (k2, false), (k1, true)]),
            [] => {}
        }
    }

    /// A sequence of DES passes, each with its key and direction. The final permutation of one pass
    /// undoes the initial one of the next, so both are done once only.
    fn run(&self, blocks: &mut [Block], passes: &[(&KeyPlanes, bool)]) {
        let mut words = [0u64; LANES];
        for (word, block) in words.iter_mut().zip(blocks.iter()) {
            *word = u64::from_be_bytes(*block);
        }
        let input = to_planes(&words);
        let mut left: [u64; 32] = std::array::from_fn(|i| input[usize::from(INITIAL[i])]);
        let mut right: [u64; 32] = std::array::from_fn(|i| input[usize::from(INITIAL[i + 32])]);
        for (key, decrypt) in passes {
            rounds(&mut left, &mut right, key, *decrypt);
            // The output of DES is R16 L16: the halves change places once more.
            std::mem::swap(&mut left, &mut right);
        }
        let mut output = [0u64; 64];
        for i in 0..32 {
            output[usize::from(INITIAL[i])] = left[i];
            output[usize::from(INITIAL[i + 32])] = right[i];
        }
        words = from_planes(&output);
        for (block, word) in blocks.iter_mut().zip(&words) {
            *block = word.to_be_bytes();
        }
        (words, left, right, output).zeroize();
    }
}

/// Sixteen rounds; afterwards `left` is L16 and `right` is R16.
fn rounds(left: &mut [u64; 32], right: &mut [u64; 32], key: &KeyPlanes, decrypt: bool) {
    for round in 0..16 {
        let schedule = &SCHEDULE[if decrypt { 15 - round } else { round }];
        let (target, source) = if round % 2 == 0 { (&mut *left, &*right) } else { (&mut *right, &*left) };
        feistel(target, source, &key.0, schedule);
    }
}

/// `target ^= P(S(E(source) ^ round key))`; the permutation P is where each output bit is put.
#[inline]
fn feistel(target: &mut [u64; 32], source: &[u64; 32], key: &[u64; 64], schedule: &[u8; 48]) {
    macro_rules! boxes {
        ($($s:literal $sbox:ident),*) => {$({
            let input = std::array::from_fn(|i| {
                let expanded = (4 * $s + 31 + i) % 32;
                source[expanded] ^ key[usize::from(schedule[6 * $s + i])]
            });
            for (i, bit) in sbox::$sbox(input).into_iter().enumerate() {
                target[usize::from(PLACE[4 * $s + i])] ^= bit;
            }
        })*};
    }
    boxes!(0 s1, 1 s2, 2 s3, 3 s4, 4 s5, 5 s6, 6 s7, 7 s8);
}

fn be_word(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// IP of FIPS 46-3, counted from zero.
const INITIAL: [u8; 64] = from_one([
    58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48, 40, 32,
    24, 16, 8, 57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21, 13, 5, 63, 55, 47,
    39, 31, 23, 15, 7,
]);

/// Where P of FIPS 46-3 puts S-box output bit `i`.
const PLACE: [u8; 32] = {
    let p: [u8; 32] = [
        16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11,
        4, 25,
    ];
    let mut place = [0; 32];
    let mut i = 0;
    while i < 32 {
        place[p[i] as usize - 1] = i as u8;
        i += 1;
    }
    place
};

/// Which key bit is bit `j` of round key `r`: PC-1, the rotations and PC-2 of FIPS 46-3, folded into one
/// table of public indices.
const SCHEDULE: [[u8; 48]; 16] = {
    let pc1: [u8; 56] = from_one([
        57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36, 63,
        55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
    ]);
    let pc2: [u8; 48] = from_one([
        14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2, 41, 52, 31, 37, 47, 55,
        30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
    ]);
    let rotations = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];
    let mut schedule = [[0; 48]; 16];
    let (mut round, mut turned) = (0, 0);
    while round < 16 {
        turned += rotations[round];
        let mut j = 0;
        while j < 48 {
            let bit = pc2[j] as usize;
            let source = if bit < 28 { (bit + turned) % 28 } else { 28 + (bit - 28 + turned) % 28 };
            schedule[round][j] = pc1[source];
            j += 1;
        }
        round += 1;
    }
    schedule
};

/// The standard counts bits from one.
const fn from_one<const N: usize>(mut table: [u8; N]) -> [u8; N] {
    let mut i = 0;
    while i < N {
        table[i] -= 1;
        i += 1;
    }
    table
}
