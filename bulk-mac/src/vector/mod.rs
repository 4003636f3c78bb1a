//! What a bitsliced algorithm asks of a vector, and how code comes to run with a processor's instructions.
//!
//! Algorithms are written once over [`Vector`]. A backend is one file: a token that only exists where
//! the instructions do, the vector type, and one call into code compiled for them. A vector can only be made
//! with the token or from another vector, so whoever holds one may use its operations.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod portable;
pub(crate) mod word;

use std::ops::{BitAnd, BitOr, BitXor, Not};

use zeroize::Zeroize;

/// Proof that this machine has the instructions of one backend.
pub(crate) trait Cpu: Copy {
    /// Its vector.
    type Vector: Vector<Cpu = Self>;

    /// Runs `work` as one function compiled for those instructions. Everything that `work` calls has to be
    /// inlined into it, or it is compiled without them; calls within calls stay functions of their own, which
    /// keeps the code small.
    fn call<W: Work<Self>>(self, work: W) -> W::Output;
}

/// A piece of an algorithm, compiled once for each backend.
pub(crate) trait Work<C: Cpu> {
    /// What it gives.
    type Output;
    /// Does it. Implementations are `#[inline(always)]`.
    fn run(self, cpu: C) -> Self::Output;
}

/// Bits of 64 times [`Vector::WORDS`] lanes.
pub(crate) trait Vector:
    Copy + Zeroize + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self> + Not<Output = Self>
{
    /// 64-bit words.
    const WORDS: usize;
    /// Lanes, each one bit wide.
    const LANES: usize = 64 * Self::WORDS;
    /// Whether [`Vector::ternary`] is one instruction.
    const TERNARY: bool = false;
    /// What proves that it may be made.
    type Cpu: Cpu<Vector = Self>;

    /// The same word everywhere.
    fn splat(cpu: Self::Cpu, word: u64) -> Self;
    /// From exactly `8 * WORDS` bytes, words little-endian.
    fn load(cpu: Self::Cpu, bytes: &[u8]) -> Self;
    /// To exactly `8 * WORDS` bytes.
    fn store(self, bytes: &mut [u8]);
    /// Every word shifted towards its most significant bit.
    fn shl<const N: u32>(self) -> Self;
    /// Every word shifted towards its least significant bit.
    fn shr<const N: u32>(self) -> Self;

    /// All bits zero.
    #[inline(always)]
    fn zeros(self) -> Self {
        self & !self
    }

    /// All bits one.
    #[inline(always)]
    fn ones(self) -> Self {
        self | !self
    }

    /// Bits of `a` where `self` is one, of `b` where it is zero.
    #[inline(always)]
    fn select(self, a: Self, b: Self) -> Self {
        (self & a) | (!self & b)
    }

    /// The function of three bits whose value for `4 * self + 2 * b + c` is that bit of `TABLE`.
    #[inline(always)]
    fn ternary<const TABLE: i32>(self, b: Self, c: Self) -> Self {
        let mut sum = self.zeros();
        for row in 0..8 {
            if TABLE >> row & 1 == 1 {
                let literal = |vector: Self, place: i32| if row >> place & 1 == 1 { vector } else { !vector };
                sum = sum | (literal(self, 2) & literal(b, 1) & literal(c, 0));
            }
        }
        sum
    }
}

/// `N` vectors of zeros.
#[inline(always)]
pub(crate) fn zeros<V: Vector, const N: usize>(cpu: V::Cpu) -> [V; N] {
    [V::splat(cpu, 0); N]
}
