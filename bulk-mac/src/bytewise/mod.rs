//! Kernels that keep bytes whole, in the registers of AVX2: AES for any number of rows, DES and SM4 for a few, which would
//! leave bitsliced lanes empty.
//!
//! S-boxes are looked up by shuffles and by the AES instructions, which take the same time whatever they find.

#![expect(unsafe_code, reason = "vector instructions; each block says what proves that the machine has them")]

pub(crate) mod aes;
pub(crate) mod des;
pub(crate) mod sm4;

use core::arch::x86_64::{
    __m128i, _mm_loadu_si128, _mm_unpackhi_epi32, _mm_unpackhi_epi64, _mm_unpacklo_epi32, _mm_unpacklo_epi64,
};

/// Calls a function compiled for AVX2 and AES-NI.
macro_rules! compiled {
    ($kernel:expr, $($call:tt)*) => {{
        let _: crate::vector::avx2::Avx2 = $kernel.0;
        // SAFETY: the token exists only where detection found the features that the function is compiled for.
        unsafe { $($call)* }
    }};
}
use compiled;

#[target_feature(enable = "avx2")]
fn load_one(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: exactly the bytes of the array are read, at any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
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
