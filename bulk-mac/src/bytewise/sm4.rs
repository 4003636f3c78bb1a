//! SM4 (GB/T 32907-2016) of eight rows: a word of four rows to a register.
//!
//! The S-box is that of AES between two affine maps (see [`crate::field`]), each the sum of two shuffles by half bytes.

use core::arch::x86_64::{
    __m128i, _mm_aesenclast_si128, _mm_and_si128, _mm_or_si128, _mm_set1_epi8, _mm_set1_epi32, _mm_setzero_si128,
    _mm_shuffle_epi8, _mm_slli_epi32, _mm_srli_epi16, _mm_srli_epi32, _mm_storeu_si128, _mm_xor_si128,
};

use zeroize::Zeroize;

use super::{compiled, load_one, turn};
use crate::field::{FROM_AES, FROM_AES_CONSTANT, INTO, INTO_CONSTANT, Matrix, apply};
use crate::kernel::{Kernel, with_complements};
use crate::sm4_constants::{CK, FK};
use crate::vector::avx2::Avx2;

/// Registers of a word: two in flight hide each other's latency.
const GROUPS: usize = 2;
/// Rows side by side.
const LANES: usize = 4 * GROUPS;

/// The four words of a block of each row.
type Blocks = [[__m128i; 4]; GROUPS];

/// SM4 on AVX2.
#[derive(Clone, Copy)]
pub(crate) struct FewSm4(pub(crate) Avx2);

/// Keys and round keys.
#[derive(Zeroize)]
pub(crate) struct Keys {
    words: Blocks,
    rounds: [[__m128i; GROUPS]; 32],
}

impl FewSm4 {
    fn derive(self, from: &Keys, halves: &[u8], to: &mut Keys) {
        let mut rows = [0; 16 * LANES];
        with_complements(halves, &mut rows);
        compiled!(self, load(&rows, &mut to.words));
        compiled!(self, encrypt(&from.rounds, &mut to.words));
    }
}

impl Kernel for FewSm4 {
    const LANES: usize = LANES;
    const BLOCK: usize = 16;
    type Keys = Keys;
    type Blocks = Blocks;

    fn keys(self) -> Box<Keys> {
        let words = self.blocks();
        Box::new(Keys { words, rounds: [[words[0][0]; GROUPS]; 32] })
    }

    fn blocks(self) -> Blocks {
        [[compiled!(self, _mm_setzero_si128()); 4]; GROUPS]
    }

    fn load_keys(self, rows: &[u8], keys: &mut Keys) {
        compiled!(self, load(rows, &mut keys.words));
    }

    fn store_keys(self, keys: &Keys, rows: &mut [u8]) {
        compiled!(self, store(&keys.words, rows));
    }

    fn schedule(self, keys: &mut Keys) {
        compiled!(self, schedule(&keys.words, &mut keys.rounds));
    }

    fn disperse(self, from: &Keys, factors: &[u8], to: &mut Keys) {
        self.derive(from, factors, to);
    }

    fn session(self, from: &Keys, inputs: &[u8], to: &mut Keys) {
        self.derive(from, inputs, to);
    }

    fn fold(self, keys: &mut Keys) {
        compiled!(self, fold(&mut keys.words));
    }

    fn split(self, _: &mut Keys) {}

    fn xor_rows(self, blocks: &mut Blocks, rows: &[u8]) {
        compiled!(self, xor_rows(blocks, rows));
    }

    fn encrypt(self, keys: &Keys, blocks: &mut Blocks) {
        compiled!(self, encrypt(&keys.rounds, blocks));
    }

    fn retail(self, _: &Keys, _: &mut Blocks) {}

    fn store(self, blocks: &Blocks, rows: &mut [u8]) {
        compiled!(self, store(blocks, rows));
    }
}

/// The values of an affine map for each lower and each upper half of a byte; their sum is that of the byte.
const fn by_halves(map: &Matrix, constant: u8) -> [[u8; 16]; 2] {
    let (mut halves, mut value) = ([[0; 16]; 2], 0);
    while value < 16 {
        halves[0][value] = apply(map, value as u8) ^ constant;
        halves[1][value] = apply(map, (value << 4) as u8);
        value += 1;
    }
    halves
}

static IN: [[u8; 16]; 2] = by_halves(&INTO, INTO_CONSTANT);
static OUT: [[u8; 16]; 2] = by_halves(&FROM_AES, FROM_AES_CONSTANT);

/// Undoes ShiftRows (FIPS 197, section 5.1.2).
static UNSHIFTED: [u8; 16] = [0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3];
/// The bytes of four words, each reversed.
static SWAPPED: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
/// Words turned left by eight bits.
static TURNED_8: [u8; 16] = [3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14];
/// Words turned left by sixteen bits.
static TURNED_16: [u8; 16] = [2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13];

#[target_feature(enable = "avx2")]
fn shuffled(bytes: __m128i, by: &[u8; 16]) -> __m128i {
    _mm_shuffle_epi8(bytes, load_one(by))
}

#[target_feature(enable = "avx2")]
fn xor3(a: __m128i, b: __m128i, c: __m128i) -> __m128i {
    _mm_xor_si128(_mm_xor_si128(a, b), c)
}

/// The big-endian words of rows.
#[target_feature(enable = "avx2")]
fn load(rows: &[u8], words: &mut Blocks) {
    for (words, rows) in words.iter_mut().zip(rows.as_chunks::<16>().0.as_chunks::<4>().0) {
        *words = turn([0, 1, 2, 3].map(|row| shuffled(load_one(&rows[row]), &SWAPPED)));
    }
}

#[target_feature(enable = "avx2")]
fn store(words: &Blocks, rows: &mut [u8]) {
    for (words, rows) in words.iter().zip(rows.as_chunks_mut::<16>().0.as_chunks_mut::<4>().0) {
        for (row, block) in rows.iter_mut().zip(turn(*words)) {
            // SAFETY: exactly the bytes of the array are written, at any alignment.
            unsafe { _mm_storeu_si128(row.as_mut_ptr().cast(), shuffled(block, &SWAPPED)) };
        }
    }
}

#[target_feature(enable = "avx2")]
fn xor_rows(words: &mut Blocks, rows: &[u8]) {
    let mut other = *words;
    load(rows, &mut other);
    for (word, other) in words.as_flattened_mut().iter_mut().zip(other.as_flattened()) {
        *word = _mm_xor_si128(*word, *other);
    }
}

#[target_feature(enable = "avx2")]
fn fold(words: &mut Blocks) {
    for [a, b, c, d] in words {
        let (left, right) = (_mm_xor_si128(*a, *c), _mm_xor_si128(*b, *d));
        let complement = |word| _mm_xor_si128(word, _mm_set1_epi32(-1));
        (*a, *b, *c, *d) = (left, right, complement(left), complement(right));
    }
}

#[target_feature(enable = "avx2")]
fn mapped(bytes: __m128i, [lower, upper]: &[[u8; 16]; 2]) -> __m128i {
    let half = _mm_set1_epi8(0x0F);
    let (low, high) = (_mm_and_si128(bytes, half), _mm_and_si128(_mm_srli_epi16::<4>(bytes), half));
    _mm_xor_si128(_mm_shuffle_epi8(load_one(lower), low), _mm_shuffle_epi8(load_one(upper), high))
}

/// The S-box of every byte.
#[target_feature(enable = "avx2,aes")]
fn substituted(words: __m128i) -> __m128i {
    let inverted = _mm_aesenclast_si128(shuffled(mapped(words, &IN), &UNSHIFTED), _mm_setzero_si128());
    mapped(inverted, &OUT)
}

#[target_feature(enable = "avx2")]
fn turned<const LEFT: i32, const RIGHT: i32>(words: __m128i) -> __m128i {
    _mm_or_si128(_mm_slli_epi32::<LEFT>(words), _mm_srli_epi32::<RIGHT>(words))
}

#[target_feature(enable = "avx2,aes")]
#[inline(never)]
fn schedule(words: &Blocks, rounds: &mut [[__m128i; GROUPS]; 32]) {
    let mut state = *words;
    for words in &mut state {
        for (word, constant) in words.iter_mut().zip(FK) {
            *word = _mm_xor_si128(*word, _mm_set1_epi32(constant.cast_signed()));
        }
    }
    for (rounds, constant) in rounds.iter_mut().zip(CK) {
        for ([a, b, c, d], round) in state.iter_mut().zip(rounds) {
            let y = substituted(xor3(*b, _mm_xor_si128(*c, *d), _mm_set1_epi32(constant.cast_signed())));
            *round = _mm_xor_si128(*a, xor3(y, turned::<13, 19>(y), turned::<23, 9>(y)));
            (*a, *b, *c, *d) = (*b, *c, *d, *round);
        }
    }
}

#[target_feature(enable = "avx2,aes")]
#[inline(never)]
fn encrypt(rounds: &[[__m128i; GROUPS]; 32], blocks: &mut Blocks) {
    let mut state = *blocks;
    for rounds in rounds {
        for ([a, b, c, d], round) in state.iter_mut().zip(rounds) {
            let y = substituted(xor3(*b, _mm_xor_si128(*c, *d), *round));
            // B ^ B<<<24, and B ^ B<<<8 ^ B<<<16 turned left by two.
            let by_two = turned::<2, 30>(xor3(y, shuffled(y, &TURNED_8), shuffled(y, &TURNED_16)));
            let turned = shuffled(shuffled(y, &TURNED_8), &TURNED_16);
            (*a, *b, *c, *d) = (*b, *c, *d, xor3(*a, by_two, _mm_xor_si128(y, turned)));
        }
    }
    for words in &mut state {
        words.reverse();
    }
    *blocks = state;
}
