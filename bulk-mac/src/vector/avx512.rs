//! 512 bits, with the three-input logic of AVX-512.

#![expect(unsafe_code, reason = "vector instructions; each block says what proves that the machine has them")]

use core::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_loadu_si512, _mm512_or_si512, _mm512_set1_epi64, _mm512_slli_epi64,
    _mm512_srli_epi64, _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_xor_si512,
};
use std::ops::{BitAnd, BitOr, BitXor, Not};

use zeroize::Zeroize;

use super::{Cpu, Vector, Work};
use crate::platform::Platform;

/// Proof that the machine has what [`Platform::Avx512`] lists.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, if the machine gives it.
    pub(crate) fn new() -> Option<Self> {
        Platform::Avx512.is_available().then_some(Self(()))
    }
}

impl Cpu for Avx512 {
    type Vector = Wide;

    #[inline(always)]
    fn call<W: Work<Self>>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,gfni,vaes,vpclmulqdq")]
        #[inline(never)]
        fn compiled<W: Work<Avx512>>(cpu: Avx512, work: W) -> W::Output {
            work.run(cpu)
        }
        // SAFETY: `self` exists only where detection found these features.
        unsafe { compiled(self, work) }
    }
}

/// Calls an intrinsic of AVX-512F on vectors or with a token.
macro_rules! avx512 {
    ($($call:tt)*) => {
        // SAFETY: a `Wide` or an `Avx512` is at hand, and either exists only where AVX-512F does.
        unsafe { $($call)* }
    };
}

/// 512 lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Wide(__m512i);

impl Vector for Wide {
    const WORDS: usize = 8;
    const TERNARY: bool = true;
    type Cpu = Avx512;

    #[inline(always)]
    fn splat(_: Avx512, word: u64) -> Self {
        Self(avx512!(_mm512_set1_epi64(word.cast_signed())))
    }

    #[inline(always)]
    fn load(_: Avx512, bytes: &[u8]) -> Self {
        let bytes = &bytes[..64];
        // SAFETY: the token proves AVX-512F, and the slice has the 64 bytes that are read, at any alignment.
        Self(unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..64];
        // SAFETY: a `Wide` proves AVX-512F, and the slice has the 64 bytes that are written, at any alignment.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        Self(avx512!(_mm512_slli_epi64::<N>(self.0)))
    }

    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        Self(avx512!(_mm512_srli_epi64::<N>(self.0)))
    }

    #[inline(always)]
    fn select(self, a: Self, b: Self) -> Self {
        self.ternary::<0xCA>(a, b)
    }

    #[inline(always)]
    fn ternary<const TABLE: i32>(self, b: Self, c: Self) -> Self {
        Self(avx512!(_mm512_ternarylogic_epi64::<TABLE>(self.0, b.0, c.0)))
    }
}

impl BitAnd for Wide {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(avx512!(_mm512_and_si512(self.0, other.0)))
    }
}

impl BitOr for Wide {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(avx512!(_mm512_or_si512(self.0, other.0)))
    }
}

impl BitXor for Wide {
    type Output = Self;
    #[inline(always)]
    fn bitxor(self, other: Self) -> Self {
        Self(avx512!(_mm512_xor_si512(self.0, other.0)))
    }
}

impl Not for Wide {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        self.ternary::<0x0F>(self, self)
    }
}

impl Zeroize for Wide {
    #[inline(always)]
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}
