//! SM4 (GB/T 32907-2016) with one S-box instruction for each part of the linear layer.
//!
//! The state is kept in the field of AES, mapped by [`INTO`]. There the S-box followed by any linear map of bytes
//! is one affine inversion. The diffusion `B ^ B<<<2 ^ B<<<10 ^ B<<<18 ^ B<<<24` is, byte by byte, a sum of such
//! maps of the bytes of `B`: a rotation by 2 moves a byte's upper two bits into its neighbour, so with `U = << 2`
//! and `V = >> 6` byte `i` gets `I + U` of byte `i`, `U + V` of the next two, and `I + V` of the one after them.

use core::arch::x86_64::{
    __m512i, _mm512_gf2p8affine_epi64_epi8, _mm512_gf2p8affineinv_epi64_epi8, _mm512_rol_epi32, _mm512_set1_epi32,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_ternarylogic_epi32, _mm512_xor_si512,
};

use zeroize::Zeroize;

use super::{GROUPS, LANES, Registers, broadcast, compiled, load_halves, load_rows, store_rows, turn, xor};
use crate::field::{
    DOWN_6, IDENTITY, INTO, INTO_CONSTANT, Matrix, OUT, SM4_CONSTANT, UP_2, apply, gfni, inverse, product, sum,
};
use crate::kernel::Kernel;
use crate::sm4_constants::{CK, FK};
use crate::vector::avx512::Avx512;

/// SM4 on AVX-512.
#[derive(Clone, Copy)]
pub(crate) struct GfniSm4(pub(crate) Avx512);

/// Keys as words, and round keys in the field of AES with the constant of the way in.
#[derive(Zeroize)]
pub(crate) struct Keys {
    words: Registers,
    rounds: [[__m512i; GROUPS]; 32],
}

/// An S-box, a map of its bytes, and the way back into AES's field.
const fn through(map: &Matrix) -> i64 {
    gfni(&product(&INTO, &product(map, &OUT))).cast_signed()
}

/// What byte `i` of the diffusion gets of byte `i`, of the next two, and of the one after them.
const OWN: i64 = through(&sum(&IDENTITY, &UP_2));
const NEXT: i64 = through(&sum(&UP_2, &DOWN_6));
const LAST: i64 = through(&sum(&IDENTITY, &DOWN_6));

/// The S-box's constant after the diffusion, which leaves all four bytes of a word the same.
const DIFFUSED: i32 = {
    let word = u32::from_be_bytes([SM4_CONSTANT; 4]);
    let diffused = word ^ word.rotate_left(2) ^ word.rotate_left(10) ^ word.rotate_left(18) ^ word.rotate_left(24);
    apply(&INTO, diffused as u8) as i32
};

/// Imm8 of the three-input exclusive or.
const XOR3: i32 = 0x96;

impl GfniSm4 {
    fn zeros(self) -> Registers {
        [[compiled!(self.0, zero()); 4]; GROUPS]
    }

    fn derive(self, from: &Keys, halves: &[u8], to: &mut Keys) {
        let mut blocks = self.zeros();
        compiled!(self.0, load_halves(halves, &mut blocks));
        compiled!(self.0, enter(&mut blocks));
        compiled!(self.0, encrypt(&from.rounds, &mut blocks));
        compiled!(self.0, take_words(&blocks, &mut to.words));
        blocks.zeroize();
    }
}

impl Kernel for GfniSm4 {
    const LANES: usize = LANES;
    const BLOCK: usize = 16;
    type Keys = Keys;
    type Blocks = Registers;

    fn keys(self) -> Box<Keys> {
        let zeros = self.zeros();
        Box::new(Keys { words: zeros, rounds: [zeros[0]; 32] })
    }

    fn blocks(self) -> Registers {
        self.zeros()
    }

    fn load_keys(self, rows: &[u8], keys: &mut Keys) {
        compiled!(self.0, load_rows(rows, &mut keys.words));
        compiled!(self.0, to_words(&mut keys.words));
    }

    fn store_keys(self, keys: &Keys, rows: &mut [u8]) {
        let mut blocks = keys.words;
        compiled!(self.0, from_words(&mut blocks));
        compiled!(self.0, store_rows(&blocks, rows));
        blocks.zeroize();
    }

    fn schedule(self, keys: &mut Keys) {
        compiled!(self.0, schedule(&keys.words, &mut keys.rounds));
    }

    fn disperse(self, from: &Keys, factors: &[u8], to: &mut Keys) {
        self.derive(from, factors, to);
    }

    fn session(self, from: &Keys, inputs: &[u8], to: &mut Keys) {
        self.derive(from, inputs, to);
    }

    fn fold(self, keys: &mut Keys) {
        compiled!(self.0, fold(&mut keys.words));
    }

    fn split(self, _: &mut Keys) {}

    fn xor_rows(self, blocks: &mut Registers, rows: &[u8]) {
        compiled!(self.0, xor_rows(blocks, rows));
    }

    fn encrypt(self, keys: &Keys, blocks: &mut Registers) {
        compiled!(self.0, encrypt(&keys.rounds, blocks));
    }

    fn retail(self, _: &Keys, _: &mut Registers) {}

    fn store(self, blocks: &Registers, rows: &mut [u8]) {
        let mut words = self.zeros();
        compiled!(self.0, take_words(blocks, &mut words));
        compiled!(self.0, from_words(&mut words));
        compiled!(self.0, store_rows(&words, rows));
        words.zeroize();
    }
}

#[target_feature(enable = "avx512f")]
fn zero() -> __m512i {
    _mm512_setzero_si512()
}

#[target_feature(enable = "avx512f")]
fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<XOR3>(a, b, c)
}

#[target_feature(enable = "avx512f,gfni")]
fn mapped<const CONSTANT: i32>(bytes: __m512i, map: i64) -> __m512i {
    _mm512_gf2p8affine_epi64_epi8::<CONSTANT>(bytes, _mm512_set1_epi64(map))
}

/// The big-endian words of blocks.
#[target_feature(enable = "avx512f,avx512bw")]
fn to_words(blocks: &mut Registers) {
    let swapped = broadcast(&SWAPPED);
    for group in blocks {
        *group = turn(*group).map(|word| _mm512_shuffle_epi8(word, swapped));
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn from_words(words: &mut Registers) {
    let swapped = broadcast(&SWAPPED);
    for group in words {
        *group = turn(group.map(|word| _mm512_shuffle_epi8(word, swapped)));
    }
}

/// The bytes of four words, each reversed.
const SWAPPED: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];

/// Blocks as words in AES's field.
#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn enter(blocks: &mut Registers) {
    to_words(blocks);
    for word in blocks.as_flattened_mut() {
        *word = mapped::<0>(*word, const { gfni(&INTO).cast_signed() });
    }
}

/// Exclusive or with rows of blocks.
#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn xor_rows(blocks: &mut Registers, rows: &[u8]) {
    let mut other = *blocks;
    load_rows(rows, &mut other);
    enter(&mut other);
    xor(blocks, &other);
}

/// Words out of AES's field.
#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn take_words(blocks: &Registers, words: &mut Registers) {
    for (word, block) in words.as_flattened_mut().iter_mut().zip(blocks.as_flattened()) {
        *word = mapped::<0>(*block, const { gfni(&inverse(&INTO)).cast_signed() });
    }
}

#[target_feature(enable = "avx512f")]
fn fold(words: &mut Registers) {
    for [a, b, c, d] in words {
        let (left, right) = (_mm512_xor_si512(*a, *c), _mm512_xor_si512(*b, *d));
        let complement = |word| _mm512_xor_si512(word, _mm512_set1_epi32(-1));
        (*a, *b, *c, *d) = (left, right, complement(left), complement(right));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,gfni")]
#[inline(never)]
fn schedule(words: &Registers, rounds: &mut [[__m512i; GROUPS]; 32]) {
    // Kept in registers, as in `encrypt`: a wipe would force it into memory first.
    let mut state = *words;
    for [a, b, c, d] in &mut state {
        for (word, constant) in [a, b, c, d].into_iter().zip(FK) {
            *word = _mm512_xor_si512(*word, _mm512_set1_epi32(constant.cast_signed()));
        }
    }
    for (rounds, constants) in rounds.as_chunks_mut::<2>().0.iter_mut().zip(CK.as_chunks::<2>().0) {
        let [first, second] = constants.map(|constant| _mm512_set1_epi32(constant.cast_signed()));
        for (group, [a, b, c, d]) in state.iter_mut().enumerate() {
            // Two rounds share the sum of the words that neither replaces.
            let shared = _mm512_xor_si512(*c, *d);
            let e = key_word(*a, xor3(*b, shared, first));
            let f = key_word(*b, xor3(shared, e, second));
            (*a, *b, *c, *d) = (*c, *d, e, f);
            rounds[0][group] = mapped::<{ INTO_CONSTANT as i32 }>(e, const { gfni(&INTO).cast_signed() });
            rounds[1][group] = mapped::<{ INTO_CONSTANT as i32 }>(f, const { gfni(&INTO).cast_signed() });
        }
    }
}

/// `old ^ L'(S(x))`.
#[target_feature(enable = "avx512f,gfni")]
fn key_word(old: __m512i, x: __m512i) -> __m512i {
    let x = mapped::<{ INTO_CONSTANT as i32 }>(x, const { gfni(&INTO).cast_signed() });
    let out = _mm512_set1_epi64(const { gfni(&OUT).cast_signed() });
    let y = _mm512_gf2p8affineinv_epi64_epi8::<{ SM4_CONSTANT as i32 }>(x, out);
    _mm512_xor_si512(old, xor3(y, _mm512_rol_epi32::<13>(y), _mm512_rol_epi32::<23>(y)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,gfni")]
#[inline(never)]
fn encrypt(rounds: &[[__m512i; GROUPS]; 32], blocks: &mut Registers) {
    let mut state = *blocks;
    for [first, second] in rounds.as_chunks::<2>().0 {
        for (group, [a, b, c, d]) in state.iter_mut().enumerate() {
            let shared = _mm512_xor_si512(*c, *d);
            let e = data_word(*a, xor3(*b, shared, first[group]));
            let f = data_word(*b, xor3(shared, e, second[group]));
            (*a, *b, *c, *d) = (*c, *d, e, f);
        }
    }
    for group in &mut state {
        group.reverse();
    }
    *blocks = state;
}

/// `old ^ L(S(x))`.
#[target_feature(enable = "avx512f,gfni")]
fn data_word(old: __m512i, x: __m512i) -> __m512i {
    let own = _mm512_gf2p8affineinv_epi64_epi8::<DIFFUSED>(x, _mm512_set1_epi64(OWN));
    let next = _mm512_gf2p8affineinv_epi64_epi8::<0>(x, _mm512_set1_epi64(NEXT));
    let last = _mm512_gf2p8affineinv_epi64_epi8::<0>(x, _mm512_set1_epi64(LAST));
    let two = xor3(old, _mm512_rol_epi32::<8>(next), _mm512_rol_epi32::<16>(next));
    xor3(two, own, _mm512_rol_epi32::<24>(last))
}
