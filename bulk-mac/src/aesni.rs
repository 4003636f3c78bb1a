//! AES-128 (FIPS 197) with the AES instructions of machines without AVX-512: a block to a register.

#![expect(unsafe_code, reason = "vector instructions; each block says what proves that the machine has them")]

use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_loadu_si128, _mm_set1_epi32, _mm_setr_epi32,
    _mm_setzero_si128, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128, _mm_unpackhi_epi32, _mm_unpackhi_epi64,
    _mm_unpacklo_epi32, _mm_unpacklo_epi64, _mm_xor_si128,
};

use zeroize::Zeroize;

use crate::kernel::{Kernel, with_complements};
use crate::vector::avx2::Avx2;

/// Rows side by side.
const LANES: usize = 64;
/// Rows in flight at once: enough to hide the latency of an instruction.
const FLIGHT: usize = 8;

/// A block of each row.
type Registers = [__m128i; LANES];

/// AES on AVX2.
#[derive(Clone, Copy)]
pub(crate) struct NiAes(pub(crate) Avx2);

/// Round keys; the first is the key.
#[derive(Zeroize)]
pub(crate) struct Keys([Registers; 11]);

/// Calls a function compiled for AVX2 and AES-NI.
macro_rules! compiled {
    ($kernel:expr, $($call:tt)*) => {{
        let _: Avx2 = $kernel.0;
        // SAFETY: the token exists only where detection found the features that the function is compiled for.
        unsafe { $($call)* }
    }};
}

impl NiAes {
    fn zeros(self) -> Registers {
        [compiled!(self, zero()); LANES]
    }

    fn derive(self, from: &Keys, halves: &[u8], to: &mut Keys) {
        let mut rows = [0; 16 * LANES];
        with_complements(halves, &mut rows);
        compiled!(self, load(&rows, &mut to.0[0]));
        compiled!(self, encrypt(&from.0, &mut to.0[0]));
    }
}

impl Kernel for NiAes {
    const LANES: usize = LANES;
    const BLOCK: usize = 16;
    type Keys = Keys;
    type Blocks = Registers;

    fn keys(self) -> Box<Keys> {
        Box::new(Keys([self.zeros(); 11]))
    }

    fn blocks(self) -> Registers {
        self.zeros()
    }

    fn load_keys(self, rows: &[u8], keys: &mut Keys) {
        compiled!(self, load(rows, &mut keys.0[0]));
    }

    fn store_keys(self, keys: &Keys, rows: &mut [u8]) {
        compiled!(self, store(&keys.0[0], rows));
    }

    fn schedule(self, keys: &mut Keys) {
        compiled!(self, schedule(&mut keys.0));
    }

    fn disperse(self, from: &Keys, factors: &[u8], to: &mut Keys) {
        self.derive(from, factors, to);
    }

    fn session(self, from: &Keys, inputs: &[u8], to: &mut Keys) {
        self.derive(from, inputs, to);
    }

    fn fold(self, keys: &mut Keys) {
        compiled!(self, fold(&mut keys.0[0]));
    }

    fn split(self, _: &mut Keys) {}

    fn xor_rows(self, blocks: &mut Registers, rows: &[u8]) {
        compiled!(self, xor_rows(blocks, rows));
    }

    fn encrypt(self, keys: &Keys, blocks: &mut Registers) {
        compiled!(self, encrypt(&keys.0, blocks));
    }

    fn retail(self, _: &Keys, _: &mut Registers) {}

    fn store(self, blocks: &Registers, rows: &mut [u8]) {
        compiled!(self, store(blocks, rows));
    }
}

#[target_feature(enable = "avx2")]
fn zero() -> __m128i {
    _mm_setzero_si128()
}

#[target_feature(enable = "avx2")]
fn load_one(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: exactly the bytes of the array are read, at any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn load(rows: &[u8], registers: &mut Registers) {
    for (register, row) in registers.iter_mut().zip(rows.as_chunks().0) {
        *register = load_one(row);
    }
}

#[target_feature(enable = "avx2")]
fn store(registers: &Registers, rows: &mut [u8]) {
    for (register, row) in registers.iter().zip(rows.as_chunks_mut::<16>().0) {
        // SAFETY: exactly the bytes of the array are written, at any alignment.
        unsafe { _mm_storeu_si128(row.as_mut_ptr().cast(), *register) };
    }
}

#[target_feature(enable = "avx2")]
fn xor_rows(registers: &mut Registers, rows: &[u8]) {
    for (register, row) in registers.iter_mut().zip(rows.as_chunks().0) {
        *register = _mm_xor_si128(*register, load_one(row));
    }
}

/// `(L ^ R) || ~(L ^ R)`.
#[target_feature(enable = "avx2")]
fn fold(keys: &mut Registers) {
    let complement = _mm_setr_epi32(0, 0, -1, -1);
    for key in keys {
        let exchanged = _mm_shuffle_epi32::<0b01_00_11_10>(*key);
        *key = _mm_xor_si128(_mm_xor_si128(*key, exchanged), complement);
    }
}

#[target_feature(enable = "avx2,aes")]
#[inline(never)]
fn encrypt(keys: &[Registers; 11], blocks: &mut Registers) {
    let [first, middle @ .., last] = keys;
    for (number, blocks) in blocks.as_chunks_mut::<FLIGHT>().0.iter_mut().enumerate() {
        let key = |round: &Registers, i: usize| round[FLIGHT * number + i];
        let mut state = *blocks;
        for (i, state) in state.iter_mut().enumerate() {
            *state = _mm_xor_si128(*state, key(first, i));
        }
        for round in middle {
            for (i, state) in state.iter_mut().enumerate() {
                *state = _mm_aesenc_si128(*state, key(round, i));
            }
        }
        for (i, state) in state.iter_mut().enumerate() {
            *state = _mm_aesenclast_si128(*state, key(last, i));
        }
        *blocks = state;
    }
}

/// Where RotWord and the inverse of ShiftRows together take each byte from: an AES round without its key then is
/// SubWord of RotWord for four keys.
const ROTATED: [u8; 16] = {
    let (mut from, mut at) = ([0; 16], 0);
    while at < 16 {
        let (column, row) = (at / 4, at % 4);
        from[at] = (4 * ((column + 4 - row) % 4) + (row + 1) % 4) as u8;
        at += 1;
    }
    from
};

/// The key schedule of FIPS 197, section 5.2, on words of four keys at a time.
#[target_feature(enable = "avx2,aes")]
#[inline(never)]
fn schedule(keys: &mut [Registers; 11]) {
    let [first, later @ ..] = keys;
    let rotated = load_one(&ROTATED);
    for (number, keys) in first.as_chunks::<4>().0.iter().enumerate() {
        let mut words = turn(*keys);
        let mut constant = 1;
        for kept in later.iter_mut() {
            let shuffled = _mm_shuffle_epi8(words[3], rotated);
            let substituted = _mm_aesenclast_si128(shuffled, _mm_set1_epi32(constant));
            words[0] = _mm_xor_si128(words[0], substituted);
            words[1] = _mm_xor_si128(words[1], words[0]);
            words[2] = _mm_xor_si128(words[2], words[1]);
            words[3] = _mm_xor_si128(words[3], words[2]);
            kept[4 * number..4 * number + 4].copy_from_slice(&turn(words));
            constant = constant << 1 ^ if constant & 0x80 != 0 { 0x11B } else { 0 };
        }
    }
}

/// The transpose of 4 by 4 words: four keys to their words and back.
#[target_feature(enable = "avx2")]
fn turn([a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
    let (ab_low, ab_high) = (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
    [
        _mm_unpacklo_epi64(ab_low, cd_low),
        _mm_unpackhi_epi64(ab_low, cd_low),
        _mm_unpacklo_epi64(ab_high, cd_high),
        _mm_unpackhi_epi64(ab_high, cd_high),
    ]
}
