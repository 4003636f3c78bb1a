//! 256 bits.

#![expect(unsafe_code, reason = "vector instructions; each block says what proves that the machine has them")]

use core::arch::x86_64::{
    __m256i, _mm_cvtsi64_si128, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256, _mm256_set1_epi64x,
    _mm256_sll_epi64, _mm256_srl_epi64, _mm256_storeu_si256, _mm256_xor_si256,
};
use std::ops::{BitAnd, BitOr, BitXor, Not};

use zeroize::Zeroize;

use super::{Cpu, Vector, Work};
use crate::platform::Platform;

/// Proof that the machine has what [`Platform::Avx2`] lists.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, if the machine gives it.
    pub(crate) fn new() -> Option<Self> {
        Platform::Avx2.is_available().then_some(Self(()))
    }
}

/// Whoever has AVX-512 has AVX2.
impl From<super::avx512::Avx512> for Avx2 {
    fn from(_: super::avx512::Avx512) -> Self {
        Self(())
    }
}

impl Cpu for Avx2 {
    type Vector = Half;

    #[inline(always)]
    fn call<W: Work<Self>>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2,aes")]
        #[inline(never)]
        fn compiled<W: Work<Avx2>>(cpu: Avx2, work: W) -> W::Output {
            work.run(cpu)
        }
        // SAFETY: `self` exists only where detection found these features.
        unsafe { compiled(self, work) }
    }
}

/// Calls an intrinsic of AVX2 on vectors or with a token.
macro_rules! avx2 {
    ($($call:tt)*) => {
        // SAFETY: a `Half` or an `Avx2` is at hand, and either exists only where AVX2 does.
        unsafe { $($call)* }
    };
}

/// 256 lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Half(__m256i);

impl Vector for Half {
    const WORDS: usize = 4;
    type Cpu = Avx2;

    #[inline(always)]
    fn splat(_: Avx2, word: u64) -> Self {
        Self(avx2!(_mm256_set1_epi64x(word.cast_signed())))
    }

    #[inline(always)]
    fn load(_: Avx2, bytes: &[u8]) -> Self {
        let bytes = &bytes[..32];
        // SAFETY: the token proves AVX2, and the slice has the 32 bytes that are read, at any alignment.
        Self(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..32];
        // SAFETY: a `Half` proves AVX2, and the slice has the 32 bytes that are written, at any alignment.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        Self(avx2!(_mm256_sll_epi64(self.0, _mm_cvtsi64_si128(i64::from(N)))))
    }

    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        Self(avx2!(_mm256_srl_epi64(self.0, _mm_cvtsi64_si128(i64::from(N)))))
    }
}

impl BitAnd for Half {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(avx2!(_mm256_and_si256(self.0, other.0)))
    }
}

impl BitOr for Half {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(avx2!(_mm256_or_si256(self.0, other.0)))
    }
}

impl BitXor for Half {
    type Output = Self;
    #[inline(always)]
    fn bitxor(self, other: Self) -> Self {
        Self(avx2!(_mm256_xor_si256(self.0, other.0)))
    }
}

impl Not for Half {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        self ^ Self(avx2!(_mm256_set1_epi64x(-1)))
    }
}

impl Zeroize for Half {
    #[inline(always)]
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}
