//! SM4 and AES with the Galois-field and AES instructions of AVX-512 machines: blocks lie side by side in
//! registers, four to a register.

#![expect(unsafe_code, reason = "vector instructions; each block says what proves that the machine has them")]

mod aes;
mod sm4;

pub(crate) use aes::GfniAes;
pub(crate) use sm4::GfniSm4;

use core::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm512_broadcast_i32x4, _mm512_loadu_si512, _mm512_permutexvar_epi64, _mm512_setr_epi64,
    _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};

/// Registers of four blocks. So many chains are needed to hide the latency of one.
const GROUPS: usize = 4;
/// Rows side by side.
const LANES: usize = 16 * GROUPS;

/// A block of each row, in one of two orders: row `16 g + 4 r + l` is lane `l` of register `r` of group `g`
/// (blocks), or, after [`turn`], word `w` of row `16 g + 4 r + l` is word `r` in lane `l` of register `w` (words).
type Registers = [[__m512i; 4]; GROUPS];

/// Calls a function compiled for AVX-512, GFNI and VAES.
macro_rules! compiled {
    ($cpu:expr, $($call:tt)*) => {{
        let _: crate::vector::avx512::Avx512 = $cpu;
        // SAFETY: the token exists only where detection found the features that the function is compiled for.
        unsafe { $($call)* }
    }};
}
use compiled;

#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: exactly the bytes of the array are read, at any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn store(register: __m512i, bytes: &mut [u8; 64]) {
    // SAFETY: exactly the bytes of the array are written, at any alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), register) }
}

/// The same 16 bytes four times.
#[target_feature(enable = "avx512f")]
fn broadcast(bytes: &[u8; 16]) -> __m512i {
    // SAFETY: exactly the bytes of the array are read, at any alignment.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Registers of `16 * LANES` bytes.
#[target_feature(enable = "avx512f")]
fn load_rows(rows: &[u8], registers: &mut Registers) {
    for (register, bytes) in registers.as_flattened_mut().iter_mut().zip(rows.as_chunks().0) {
        *register = load(bytes);
    }
}

#[target_feature(enable = "avx512f")]
fn store_rows(registers: &Registers, rows: &mut [u8]) {
    for (register, bytes) in registers.as_flattened().iter().zip(rows.as_chunks_mut().0) {
        store(*register, bytes);
    }
}

/// Blocks `x || ~x` of `8 * LANES` bytes.
#[target_feature(enable = "avx512f")]
fn load_halves(halves: &[u8], registers: &mut Registers) {
    let complement = _mm512_setr_epi64(0, -1, 0, -1, 0, -1, 0, -1);
    let low = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
    let high = _mm512_setr_epi64(4, 4, 5, 5, 6, 6, 7, 7);
    for (pair, bytes) in registers.as_flattened_mut().as_chunks_mut::<2>().0.iter_mut().zip(halves.as_chunks().0) {
        let eight = load(bytes);
        pair[0] = _mm512_xor_si512(_mm512_permutexvar_epi64(low, eight), complement);
        pair[1] = _mm512_xor_si512(_mm512_permutexvar_epi64(high, eight), complement);
    }
}

/// Blocks to words and back: in each quarter of four registers, the transpose of 4 by 4 words.
#[target_feature(enable = "avx512f")]
fn turn([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

#[target_feature(enable = "avx512f")]
fn xor(registers: &mut Registers, other: &Registers) {
    for (register, other) in registers.as_flattened_mut().iter_mut().zip(other.as_flattened()) {
        *register = _mm512_xor_si512(*register, *other);
    }
}

/// Exclusive or with `16 * LANES` bytes.
#[target_feature(enable = "avx512f")]
fn xor_rows(registers: &mut Registers, rows: &[u8]) {
    for (register, bytes) in registers.as_flattened_mut().iter_mut().zip(rows.as_chunks().0) {
        *register = _mm512_xor_si512(*register, load(bytes));
    }
}
