//! DES of four rows.
//!
//! The right half of a block is looked at as eight bytes of six bits, one for each S-box, two rows to a register. An S-box
//! of 64 nibbles is 32 bytes, which one shuffle of two lanes reads at once; which of its four parts counts is picked
//! afterwards. Permutations spread bytes over 32 places, keep one bit of each, and gather these bits into a word.

use core::arch::x86_64::{
    __m256i, _mm_blendv_epi8, _mm_set_epi64x, _mm_slli_epi16, _mm_srli_epi16, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_cmpeq_epi8, _mm256_extracti128_si256,
    _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi64x, _mm256_shuffle_epi8,
};

use zeroize::Zeroize;

use super::compiled;
use crate::des::sboxes::SBOXES;
use crate::des::tables::{FINAL, INITIAL, PC1, PC2, PLACE, TURNED};
use crate::kernel::Kernel;
use crate::vector::avx2::Avx2;

/// Rows side by side: two registers in flight hide each other's latency.
const LANES: usize = 4;

/// DES on AVX2.
#[derive(Clone, Copy)]
pub(crate) struct FewDes(pub(crate) Avx2);

/// A block of each row, its first byte the most significant.
type Blocks = [u64; LANES];

/// For each round, six bits for each S-box in the order of [`byte_of`].
type Rounds = [[u64; LANES]; 16];

/// Two DES keys for each row, of which the left alone may be in use.
#[derive(Zeroize)]
pub(crate) struct Keys {
    /// The keys themselves.
    halves: [Blocks; 2],
    left: Rounds,
    right: Rounds,
    single: bool,
}

impl Kernel for FewDes {
    const LANES: usize = LANES;
    const BLOCK: usize = 8;
    type Keys = Keys;
    type Blocks = Blocks;

    fn keys(self) -> Box<Keys> {
        let rounds = [[0; LANES]; 16];
        Box::new(Keys { halves: [[0; LANES]; 2], left: rounds, right: rounds, single: false })
    }

    fn blocks(self) -> Blocks {
        [0; LANES]
    }

    fn load_keys(self, rows: &[u8], keys: &mut Keys) {
        let [left, right] = &mut keys.halves;
        for ((row, left), right) in rows.as_chunks::<8>().0.as_chunks::<2>().0.iter().zip(left).zip(right) {
            (*left, *right) = (u64::from_be_bytes(row[0]), u64::from_be_bytes(row[1]));
        }
        keys.single = false;
    }

    fn store_keys(self, keys: &Keys, rows: &mut [u8]) {
        let [left, right] = &keys.halves;
        for ((row, left), right) in rows.as_chunks_mut::<8>().0.as_chunks_mut::<2>().0.iter_mut().zip(left).zip(right) {
            *row = [left.to_be_bytes(), right.to_be_bytes()];
        }
    }

    fn schedule(self, keys: &mut Keys) {
        let [left, right] = &keys.halves;
        compiled!(self, schedule(left, &mut keys.left));
        compiled!(self, schedule(right, &mut keys.right));
    }

    fn disperse(self, from: &Keys, factors: &[u8], to: &mut Keys) {
        let [left, right] = &mut to.halves;
        for ((factor, left), right) in factors.as_chunks().0.iter().zip(left.iter_mut()).zip(right.iter_mut()) {
            *left = u64::from_be_bytes(*factor);
            *right = !*left;
        }
        self.encrypt(from, left);
        self.encrypt(from, right);
        to.single = false;
    }

    fn session(self, from: &Keys, inputs: &[u8], to: &mut Keys) {
        let [left, _] = &mut to.halves;
        left.iter_mut().zip(inputs.as_chunks().0).for_each(|(left, input)| *left = u64::from_be_bytes(*input));
        self.encrypt(from, left);
        to.single = true;
    }

    fn fold(self, keys: &mut Keys) {
        let [left, right] = &mut keys.halves;
        left.iter_mut().zip(right).for_each(|(left, right)| *left ^= *right);
        keys.single = true;
    }

    fn split(self, keys: &mut Keys) {
        keys.single = true;
    }

    fn xor_rows(self, blocks: &mut Blocks, rows: &[u8]) {
        blocks.iter_mut().zip(rows.as_chunks().0).for_each(|(block, row)| *block ^= u64::from_be_bytes(*row));
    }

    fn encrypt(self, keys: &Keys, blocks: &mut Blocks) {
        if keys.single {
            compiled!(self, passes(blocks, &[(&keys.left, false)]));
        } else {
            compiled!(self, passes(blocks, &[(&keys.left, false), (&keys.right, true), (&keys.left, false)]));
        }
    }

    fn retail(self, keys: &Keys, blocks: &mut Blocks) {
        compiled!(self, passes(blocks, &[(&keys.right, true), (&keys.left, false)]));
    }

    fn store(self, blocks: &Blocks, rows: &mut [u8]) {
        rows.as_chunks_mut().0.iter_mut().zip(blocks).for_each(|(row, block)| *row = block.to_be_bytes());
    }
}

/// Where the six bits of an S-box stand: those of the first, third ... overlap no others when the half is turned right by
/// three, those of the second, fourth ... when it is turned left by one.
const fn byte_of(sbox: usize) -> usize {
    3 - sbox / 2 + 4 * (sbox % 2)
}

/// For each bit of a word, the least significant first: a byte to take, and a bit of it.
struct Picks {
    bytes: [u8; 32],
    bits: [u8; 32],
}

impl Picks {
    /// Of nothing.
    const fn none() -> Self {
        Self { bytes: [0x80; 32], bits: [1; 32] }
    }

    /// Bit `to`, both counted from the most significant bit as the standard does.
    const fn with(mut self, to: usize, from: usize) -> Self {
        self.bytes[31 - to] = (63 - from) as u8 / 8;
        self.bits[31 - to] = 1 << ((63 - from) % 8);
        self
    }
}

/// Two words from a block.
const fn halves_by(table: &[u8; 64]) -> [Picks; 2] {
    let (mut high, mut low, mut bit) = (Picks::none(), Picks::none(), 0);
    while bit < 32 {
        high = high.with(bit, table[bit] as usize);
        low = low.with(bit, table[32 + bit] as usize);
        bit += 1;
    }
    [high, low]
}

static ENTER: [Picks; 2] = halves_by(&INITIAL);
static LEAVE: [Picks; 2] = halves_by(&FINAL);

/// The bytes of the even S-boxes and of the odd ones in each round, from a key.
static ROUND_KEYS: [[Picks; 2]; 16] = {
    let mut rounds = [const { [Picks::none(), Picks::none()] }; 16];
    let mut round = 0;
    while round < 16 {
        let mut bit = 0;
        while bit < 48 {
            let (sbox, register) = (bit / 6, bit / 24);
            let at = (PC2[bit] as usize + TURNED[round] as usize) % 28;
            let from = 63 - PC1[28 * register + at] as usize;
            let to = 8 * (byte_of(sbox) % 4) + 5 - bit % 6;
            rounds[round][byte_of(sbox) / 4].bytes[to] = from as u8 / 8;
            rounds[round][byte_of(sbox) / 4].bits[to] = 1 << (from % 8);
            bit += 1;
        }
        round += 1;
    }
    rounds
};

/// P, from the nibbles of one row or the other.
static SPREAD: [Picks; 2] = {
    let mut picks = [Picks::none(), Picks::none()];
    let mut bit = 0;
    while bit < 32 {
        let (to, from) = (31 - PLACE[bit] as usize, byte_of(bit / 4) as u8);
        picks[0].bytes[to] = from;
        picks[1].bytes[to] = 8 + from;
        picks[0].bits[to] = 8 >> (bit % 4);
        picks[1].bits[to] = 8 >> (bit % 4);
        bit += 1;
    }
    picks
};

/// Each S-box by its six bits as they come: two nibbles to a byte, those of inputs from 32 on in the second half.
static NIBBLES: [[u8; 32]; 8] = {
    let (mut nibbles, mut sbox) = ([[0; 32]; 8], 0);
    while sbox < 8 {
        let mut input = 0;
        while input < 64 {
            let (row, column) = (input >> 5 << 1 | input & 1, input >> 1 & 15);
            let nibble = SBOXES[sbox][16 * row + column] << ((input & 16) / 4);
            nibbles[sbox][input / 32 * 16 + input % 16] |= nibble;
            input += 1;
        }
        sbox += 1;
    }
    nibbles
};

/// What keeps a shuffle from all bytes but those of one S-box.
static OTHERS: [[u8; 32]; 8] = {
    let (mut others, mut sbox) = ([[0x80; 32]; 8], 0);
    while sbox < 8 {
        let mut at = byte_of(sbox);
        while at < 32 {
            others[sbox][at] = 0;
            at += 8;
        }
        sbox += 1;
    }
    others
};

#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: exactly the bytes of the array are read, at any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The word of the picked bits.
#[target_feature(enable = "avx2")]
fn gather(bytes: __m256i, picks: &Picks) -> u32 {
    let bits = load(&picks.bits);
    let picked = _mm256_and_si256(_mm256_shuffle_epi8(bytes, load(&picks.bytes)), bits);
    _mm256_movemask_epi8(_mm256_cmpeq_epi8(picked, bits)).cast_unsigned()
}

#[target_feature(enable = "avx2")]
fn permute(block: u64, [high, low]: &[Picks; 2]) -> [u32; 2] {
    let bytes = _mm256_set1_epi64x(block.cast_signed());
    [gather(bytes, high), gather(bytes, low)]
}

#[target_feature(enable = "avx2")]
#[inline(never)]
fn schedule(keys: &Blocks, rounds: &mut Rounds) {
    for (round, picks) in rounds.iter_mut().zip(&ROUND_KEYS) {
        for (round, key) in round.iter_mut().zip(keys) {
            let [even, odd] = permute(*key, picks);
            *round = u64::from(odd) << 32 | u64::from(even);
        }
    }
}

/// DES passes over blocks, each with its keys and direction.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn passes(blocks: &mut Blocks, passes: &[(&Rounds, bool)]) {
    let mut halves = [[0; 2]; LANES];
    for (halves, block) in halves.iter_mut().zip(&*blocks) {
        *halves = permute(*block, &ENTER);
    }
    for (rounds, decrypt) in passes {
        for round in 0..16 {
            let keys = &rounds[if *decrypt { 15 - round } else { round }];
            for (pair, keys) in halves.as_chunks_mut::<2>().0.iter_mut().zip(keys.as_chunks().0) {
                let found = feistel([pair[0][1], pair[1][1]], *keys);
                for ([left, right], found) in pair.iter_mut().zip(found) {
                    (*left, *right) = (*right, *left ^ found);
                }
            }
        }
        // The output of DES is R16 L16.
        halves.iter_mut().for_each(|halves| halves.reverse());
    }
    for ([left, right], block) in halves.iter().zip(blocks) {
        let [high, low] = permute(u64::from(*left) << 32 | u64::from(*right), &LEAVE);
        *block = u64::from(high) << 32 | u64::from(low);
    }
    halves.zeroize();
}

/// `P(S(E(half) ^ round key))` of two rows.
#[target_feature(enable = "avx2")]
#[inline]
fn feistel(halves: [u32; 2], keys: [u64; 2]) -> [u32; 2] {
    let expand = |half: u32| u64::from(half.rotate_left(1)) << 32 | u64::from(half.rotate_right(3));
    let input = |row: usize| ((expand(halves[row]) ^ keys[row]) & 0x3F3F_3F3F_3F3F_3F3F).cast_signed();
    let inputs = _mm_set_epi64x(input(1), input(0));
    let both = _mm256_broadcastsi128_si256(inputs);
    let looked_up = |sbox: usize| _mm256_shuffle_epi8(load(&NIBBLES[sbox]), _mm256_or_si256(both, load(&OTHERS[sbox])));
    // Joined as a tree, which is less deep than a row.
    let two = |sbox: usize| _mm256_or_si256(looked_up(sbox), looked_up(sbox + 1));
    let found = _mm256_or_si256(_mm256_or_si256(two(0), two(2)), _mm256_or_si256(two(4), two(6)));
    // Of the two halves the one that bit 5 says, of its two nibbles the one that bit 4 says.
    let (low, high) = (_mm256_castsi256_si128(found), _mm256_extracti128_si256::<1>(found));
    let byte = _mm_blendv_epi8(low, high, _mm_slli_epi16::<2>(inputs));
    let nibble = _mm_blendv_epi8(byte, _mm_srli_epi16::<4>(byte), _mm_slli_epi16::<3>(inputs));
    let nibbles = _mm256_broadcastsi128_si256(nibble);
    [gather(nibbles, &SPREAD[0]), gather(nibbles, &SPREAD[1])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sbox_is_its_table_for_all_64_inputs() {
        let Some(cpu) = Avx2::new() else { return };
        // Where P puts what an S-box gives for an input.
        let placed = |sbox: usize, input: usize| {
            let value = SBOXES[sbox][16 * (input >> 5 << 1 | input & 1) + (input >> 1 & 15)];
            let bit = |bit: usize| u32::from(value >> (3 - bit) & 1) << (31 - PLACE[4 * sbox + bit]);
            (0..4).map(bit).sum::<u32>()
        };
        for sbox in 0..8 {
            for input in 0..64 {
                // The others look up zero, in the other row all do.
                let key = (input as u64) << (8 * byte_of(sbox));
                let [one, other] = compiled!(FewDes(cpu), feistel([0, 0], [key, 0]));
                let all = |of: usize| (0..8).map(|at| placed(at, if at == sbox { of } else { 0 })).sum::<u32>();
                assert_eq!((one, other), (all(input), all(0)), "S-box {} of {input:06b}", sbox + 1);
            }
        }
    }
}
