//! Two 64-bit words, in safe Rust and on any machine: the compiler makes vectors of them where all machines of the kind have some
//! (SSE2, NEON).

use std::ops::{BitAnd, BitOr, BitXor, Not};

use zeroize::Zeroize;

use super::{Cpu, Vector, Work};

/// Needs no proof.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Cpu for Portable {
    type Vector = Pair;

    #[inline(never)]
    fn call<W: Work<Self>>(self, work: W) -> W::Output {
        work.run(self)
    }
}

/// 128 lanes. Aligned as vectors are that the compiler makes of it: their instructions take no others from memory.
#[derive(Clone, Copy, Zeroize)]
#[repr(C, align(16))]
pub(crate) struct Pair([u64; 2]);

impl Pair {
    #[inline(always)]
    fn each(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self([of(self.0[0], other.0[0]), of(self.0[1], other.0[1])])
    }
}

impl Vector for Pair {
    const WORDS: usize = 2;
    type Cpu = Portable;

    #[inline(always)]
    fn splat(_: Portable, word: u64) -> Self {
        Self([word; 2])
    }

    #[inline(always)]
    fn load(_: Portable, bytes: &[u8]) -> Self {
        let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self([word(bytes.first_chunk()), word(bytes.last_chunk())])
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8]) {
        let [low, high] = self.0;
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[8..].copy_from_slice(&high.to_le_bytes());
    }

    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        Self(self.0.map(|word| word << N))
    }

    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        Self(self.0.map(|word| word >> N))
    }
}

impl BitAnd for Pair {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        self.each(other, |a, b| a & b)
    }
}

impl BitOr for Pair {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        self.each(other, |a, b| a | b)
    }
}

impl BitXor for Pair {
    type Output = Self;
    #[inline(always)]
    fn bitxor(self, other: Self) -> Self {
        self.each(other, |a, b| a ^ b)
    }
}

impl Not for Pair {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Self(self.0.map(|word| !word))
    }
}
