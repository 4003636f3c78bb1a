//! AES-128 (FIPS 197) with the AES instructions: a block to a register.

use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_set1_epi32, _mm_setr_epi32, _mm_setzero_si128,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128, _mm_xor_si128,
};

use zeroize::Zeroize;

use super::{compiled, load_one, turn};
use crate::kernel::{Kernel, with_complements};
use crate::vector::avx2::Avx2;

/// Rows in flight at once: enough to hide the latency of an instruction.
const FLIGHT: usize = 8;

/// A block of each row.
type Registers<const LANES: usize> = [__m128i; LANES];

/// AES on AVX2, so many rows side by side: a multiple of [`FLIGHT`].
#[derive(Clone, Copy)]
pub(crate) struct NiAes<const LANES: usize>(pub(crate) Avx2);

/// Round keys; the first is the key.
#[derive(Zeroize)]
pub(crate) struct Keys<const LANES: usize>([Registers<LANES>; 11]);

impl<const LANES: usize> NiAes<LANES> {
    fn zeros(self) -> Registers<LANES> {
        [compiled!(self, zero()); LANES]
    }

    fn derive(self, from: &Keys<LANES>, halves: &[u8], to: &mut Keys<LANES>) {
        let mut rows = [[0; 16]; LANES];
        with_complements(halves, rows.as_flattened_mut());
        compiled!(self, load(rows.as_flattened(), &mut to.0[0]));
        compiled!(self, encrypt(&from.0, &mut to.0[0]));
    }
}

impl<const LANES: usize> Kernel for NiAes<LANES> {
    const LANES: usize = LANES;
    const BLOCK: usize = 16;
    type Keys = Keys<LANES>;
    type Blocks = Registers<LANES>;

    fn keys(self) -> Box<Keys<LANES>> {
        Box::new(Keys([self.zeros(); 11]))
    }

    fn blocks(self) -> Registers<LANES> {
        self.zeros()
    }

    fn load_keys(self, rows: &[u8], keys: &mut Keys<LANES>) {
        compiled!(self, load(rows, &mut keys.0[0]));
    }

    fn store_keys(self, keys: &Keys<LANES>, rows: &mut [u8]) {
        compiled!(self, store(&keys.0[0], rows));
    }

    fn schedule(self, keys: &mut Keys<LANES>) {
        compiled!(self, schedule(&mut keys.0));
    }

    fn disperse(self, from: &Keys<LANES>, factors: &[u8], to: &mut Keys<LANES>) {
        self.derive(from, factors, to);
    }

    fn session(self, from: &Keys<LANES>, inputs: &[u8], to: &mut Keys<LANES>) {
        self.derive(from, inputs, to);
    }

    fn fold(self, keys: &mut Keys<LANES>) {
        compiled!(self, fold(&mut keys.0[0]));
    }

    fn split(self, _: &mut Keys<LANES>) {}

    fn xor_rows(self, blocks: &mut Registers<LANES>, rows: &[u8]) {
        compiled!(self, xor_rows(blocks, rows));
    }

    fn encrypt(self, keys: &Keys<LANES>, blocks: &mut Registers<LANES>) {
        compiled!(self, encrypt(&keys.0, blocks));
    }

    fn retail(self, _: &Keys<LANES>, _: &mut Registers<LANES>) {}

    fn store(self, blocks: &Registers<LANES>, rows: &mut [u8]) {
        compiled!(self, store(blocks, rows));
    }
}

#[target_feature(enable = "avx2")]
fn zero() -> __m128i {
    _mm_setzero_si128()
}

#[target_feature(enable = "avx2")]
fn load<const LANES: usize>(rows: &[u8], registers: &mut Registers<LANES>) {
    for (register, row) in registers.iter_mut().zip(rows.as_chunks().0) {
        *register = load_one(row);
    }
}

#[target_feature(enable = "avx2")]
fn store<const LANES: usize>(registers: &Registers<LANES>, rows: &mut [u8]) {
    for (register, row) in registers.iter().zip(rows.as_chunks_mut::<16>().0) {
        // SAFETY: exactly the bytes of the array are written, at any alignment.
        unsafe { _mm_storeu_si128(row.as_mut_ptr().cast(), *register) };
    }
}

#[target_feature(enable = "avx2")]
fn xor_rows<const LANES: usize>(registers: &mut Registers<LANES>, rows: &[u8]) {
    for (register, row) in registers.iter_mut().zip(rows.as_chunks().0) {
        *register = _mm_xor_si128(*register, load_one(row));
    }
}

/// `(L ^ R) || ~(L ^ R)`.
#[target_feature(enable = "avx2")]
fn fold<const LANES: usize>(keys: &mut Registers<LANES>) {
    let complement = _mm_setr_epi32(0, 0, -1, -1);
    for key in keys {
        let exchanged = _mm_shuffle_epi32::<0b01_00_11_10>(*key);
        *key = _mm_xor_si128(_mm_xor_si128(*key, exchanged), complement);
    }
}

#[target_feature(enable = "avx2,aes")]
#[inline(never)]
fn encrypt<const LANES: usize>(keys: &[Registers<LANES>; 11], blocks: &mut Registers<LANES>) {
    let [first, middle @ .., last] = keys;
    for (number, blocks) in blocks.as_chunks_mut::<FLIGHT>().0.iter_mut().enumerate() {
        let key = |round: &Registers<LANES>, i: usize| round[FLIGHT * number + i];
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
fn schedule<const LANES: usize>(keys: &mut [Registers<LANES>; 11]) {
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
