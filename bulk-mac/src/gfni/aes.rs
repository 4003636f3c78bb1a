//! AES-128 (FIPS 197), four rounds of four blocks in flight for each register.

use core::arch::x86_64::{
    __m512i, _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_bslli_epi128, _mm512_clmulepi64_epi128,
    _mm512_gf2p8affineinv_epi64_epi8, _mm512_mask_mov_epi64, _mm512_ror_epi32, _mm512_set1_epi32, _mm512_set1_epi64,
    _mm512_setr_epi64, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_epi32, _mm512_slli_epi64,
    _mm512_srli_epi64, _mm512_ternarylogic_epi32, _mm512_xor_si512,
};

use zeroize::Zeroize;

use super::{GROUPS, LANES, Registers, broadcast, compiled, load_halves, load_rows, store_rows, turn, xor, xor_rows};
use crate::field::{AES_AFFINE, AES_CONSTANT, gfni};
use crate::job::PerRow;
use crate::kernel::Kernel;
use crate::vector::avx512::Avx512;

/// AES on AVX-512.
#[derive(Clone, Copy)]
pub(crate) struct GfniAes(pub(crate) Avx512);

/// Round keys; the first is the key.
#[derive(Zeroize)]
pub(crate) struct Keys([Registers; 11]);

/// Imm8 of the three-input exclusive or.
const XOR3: i32 = 0x96;

impl GfniAes {
    fn zeros(self) -> Registers {
        [[compiled!(self.0, zero()); 4]; GROUPS]
    }

    fn derive(self, from: &Keys, halves: &[u8], to: &mut Keys) {
        compiled!(self.0, load_halves(halves, &mut to.0[0]));
        compiled!(self.0, encrypt(&from.0, &mut to.0[0]));
    }
}

impl Kernel for GfniAes {
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
        compiled!(self.0, load_rows(rows, &mut keys.0[0]));
    }

    fn store_keys(self, keys: &Keys, rows: &mut [u8]) {
        compiled!(self.0, store_rows(&keys.0[0], rows));
    }

    fn schedule(self, keys: &mut Keys) {
        compiled!(self.0, schedule(&mut keys.0));
    }

    fn disperse(self, from: &Keys, factors: &[u8], to: &mut Keys) {
        self.derive(from, factors, to);
    }

    fn session(self, from: &Keys, inputs: &[u8], to: &mut Keys) {
        self.derive(from, inputs, to);
    }

    fn fold(self, keys: &mut Keys) {
        compiled!(self.0, fold(&mut keys.0[0]));
    }

    fn split(self, _: &mut Keys) {}

    fn xor_rows(self, blocks: &mut Registers, rows: &[u8]) {
        compiled!(self.0, xor_rows(blocks, rows));
    }

    fn encrypt(self, keys: &Keys, blocks: &mut Registers) {
        compiled!(self.0, encrypt(&keys.0, blocks));
    }

    fn retail(self, _: &Keys, _: &mut Registers) {}

    fn store(self, blocks: &Registers, rows: &mut [u8]) {
        compiled!(self.0, store_rows(blocks, rows));
    }

    fn mask_last(self, keys: &Keys, padded: PerRow<'_, bool>, blocks: &mut Registers) {
        let mut subkeys = self.zeros();
        self.encrypt(keys, &mut subkeys);
        compiled!(self.0, mask_last(&subkeys, padded, blocks));
        subkeys.zeroize();
    }
}

#[target_feature(enable = "avx512f")]
fn zero() -> __m512i {
    _mm512_setzero_si512()
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes")]
#[inline(never)]
fn encrypt(keys: &[Registers; 11], blocks: &mut Registers) {
    let mut state = *blocks;
    let [first, middle @ .., last] = keys;
    xor(&mut state, first);
    for keys in middle {
        for (state, key) in state.as_flattened_mut().iter_mut().zip(keys.as_flattened()) {
            *state = _mm512_aesenc_epi128(*state, *key);
        }
    }
    for (state, key) in state.as_flattened_mut().iter_mut().zip(last.as_flattened()) {
        *state = _mm512_aesenclast_epi128(*state, *key);
    }
    *blocks = state;
}

/// The key schedule of FIPS 197, section 5.2, on words, so that one S-box instruction serves 16 keys.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,gfni")]
#[inline(never)]
fn schedule(keys: &mut [Registers; 11]) {
    let [first, later @ ..] = keys;
    let affine = _mm512_set1_epi64(const { gfni(&AES_AFFINE).cast_signed() });
    for group in 0..GROUPS {
        let mut words = turn(first[group]);
        let mut constant = 1;
        for kept in later.iter_mut() {
            let turned = _mm512_ror_epi32::<8>(words[3]);
            let substituted = _mm512_gf2p8affineinv_epi64_epi8::<{ AES_CONSTANT as i32 }>(turned, affine);
            words[0] = _mm512_ternarylogic_epi32::<XOR3>(words[0], substituted, _mm512_set1_epi32(constant));
            words[1] = _mm512_xor_si512(words[1], words[0]);
            words[2] = _mm512_xor_si512(words[2], words[1]);
            words[3] = _mm512_xor_si512(words[3], words[2]);
            kept[group] = turn(words);
            constant = constant << 1 ^ if constant & 0x80 != 0 { 0x11B } else { 0 };
        }
    }
}

/// `(L ^ R) || ~(L ^ R)`.
#[target_feature(enable = "avx512f")]
fn fold(keys: &mut Registers) {
    let complement = _mm512_setr_epi64(0, -1, 0, -1, 0, -1, 0, -1);
    for key in keys.as_flattened_mut() {
        let exchanged = _mm512_shuffle_epi32::<0b01_00_11_10>(*key);
        *key = _mm512_ternarylogic_epi32::<XOR3>(*key, exchanged, complement);
    }
}

/// The subkeys of SP 800-38B, section 6.1, from `E(0)`: its products with x and with x squared.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vpclmulqdq")]
fn mask_last(subkeys: &Registers, padded: PerRow<'_, bool>, blocks: &mut Registers) {
    let reversed = broadcast(&[15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    let polynomial = _mm512_set1_epi64(0x87);
    for (number, (block, zero)) in blocks.as_flattened_mut().iter_mut().zip(subkeys.as_flattened()).enumerate() {
        let value = _mm512_shuffle_epi8(*zero, reversed);
        // What a shift pushes out of the low half goes into the high half; what it pushes out of that is reduced.
        let carried = |shifted, carry| {
            let up = _mm512_bslli_epi128::<8>(carry);
            let reduced = _mm512_clmulepi64_epi128::<0x01>(carry, polynomial);
            _mm512_shuffle_epi8(_mm512_ternarylogic_epi32::<XOR3>(shifted, up, reduced), reversed)
        };
        let k1 = || carried(_mm512_slli_epi64::<1>(value), _mm512_srli_epi64::<63>(value));
        let k2 = || carried(_mm512_slli_epi64::<2>(value), _mm512_srli_epi64::<62>(value));
        let subkey = match padded {
            PerRow::Same(true) => k2(),
            PerRow::Same(false) => k1(),
            PerRow::Each(padded) => {
                let rows = padded.iter().skip(4 * number).take(4).enumerate();
                let mask = rows.fold(0, |mask, (row, padded)| mask | if *padded { 3 << (2 * row) } else { 0 });
                _mm512_mask_mov_epi64(k1(), mask, k2())
            }
        };
        *block = _mm512_xor_si512(*block, subkey);
    }
}
