//! One 64-bit word: for groups of 64 rows.

use super::{Cpu, Vector, Work};

/// Needs no proof.
#[derive(Clone, Copy)]
pub(crate) struct Word;

impl Cpu for Word {
    type Vector = u64;

    #[inline(never)]
    fn call<W: Work<Self>>(self, work: W) -> W::Output {
        work.run(self)
    }
}

impl Vector for u64 {
    const WORDS: usize = 1;
    type Cpu = Word;

    #[inline(always)]
    fn splat(_: Word, word: u64) -> Self {
        word
    }

    #[inline(always)]
    fn load(_: Word, bytes: &[u8]) -> Self {
        bytes.first_chunk().map_or(0, |bytes| Self::from_le_bytes(*bytes))
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.to_le_bytes());
    }

    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        self << N
    }

    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        self >> N
    }
}
