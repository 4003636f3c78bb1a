//! The one entry to the kernels.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use crate::bytewise::{aes::NiAes, des::FewDes, sm4::FewSm4};
use crate::des::kernel::Des;
#[cfg(target_arch = "x86_64")]
use crate::gfni::{GfniAes, GfniSm4};
use crate::job::{Cipher, Expected, Keys, Mac, Misfit, Texts};
use crate::kernel::Kernel;
use crate::platform::Platform;
use crate::run;
use crate::sliced::{Aes, SlicedKernel, Sm4};
use crate::vector::Vector;
use crate::vector::portable::Portable;
use crate::vector::word::Word;
#[cfg(target_arch = "x86_64")]
use crate::vector::{avx2::Avx2, avx512::Avx512};

/// The kernels of one platform. Costs nothing to make.
#[derive(Clone, Copy)]
pub struct BulkMac(Tier);

#[derive(Clone, Copy)]
enum Tier {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable,
    /// The same in half as many lanes.
    Word,
    /// Whole bytes of a few rows.
    #[cfg(target_arch = "x86_64")]
    Few(Avx2),
}

/// Calls a function over the kernel that a tier has of a cipher.
macro_rules! with_kernel {
    ($tier:expr, $cipher:expr, |$kernel:ident| $call:expr) => {
        match ($tier, $cipher) {
            #[cfg(target_arch = "x86_64")]
            (Tier::Avx512(cpu), Cipher::TripleDes) => {
                let $kernel = Des(cpu);
                $call
            }
            #[cfg(target_arch = "x86_64")]
            (Tier::Avx2(cpu), Cipher::TripleDes) => {
                let $kernel = Des(cpu);
                $call
            }
            (Tier::Portable, Cipher::TripleDes) => {
                let $kernel = Des(Portable);
                $call
            }
            (Tier::Word, Cipher::TripleDes) => {
                let $kernel = Des(Word);
                $call
            }
            #[cfg(target_arch = "x86_64")]
            (Tier::Avx512(cpu), Cipher::Sm4) => {
                let $kernel = GfniSm4(cpu);
                $call
            }
            #[cfg(target_arch = "x86_64")]
            (Tier::Avx2(cpu), Cipher::Sm4) => {
                let $kernel = SlicedKernel::<_, Sm4>::new(cpu);
                $call
            }
            (Tier::Portable, Cipher::Sm4) => {
                let $kernel = SlicedKernel::<_, Sm4>::new(Portable);
                $call
            }
            (Tier::Word, Cipher::Sm4) => {
                let $kernel = SlicedKernel::<_, Sm4>::new(Word);
                $call
            }
            #[cfg(target_arch = "x86_64")]
            (Tier::Avx512(cpu), Cipher::Aes128) => {
                let $kernel = GfniAes(cpu);
                $call
            }
            #[cfg(target_arch = "x86_64")]
            (Tier::Avx2(cpu), Cipher::Aes128) => {
                let $kernel = NiAes::<64>(cpu);
                $call
            }
            #[cfg(target_arch = "x86_64")]
            (Tier::Few(cpu), Cipher::TripleDes) => {
                let $kernel = FewDes(cpu);
                $call
            }
            #[cfg(target_arch = "x86_64")]
            (Tier::Few(cpu), Cipher::Sm4) => {
                let $kernel = FewSm4(cpu);
                $call
            }
            #[cfg(target_arch = "x86_64")]
            (Tier::Few(cpu), Cipher::Aes128) => {
                let $kernel = NiAes::<8>(cpu);
                $call
            }
            (Tier::Portable, Cipher::Aes128) => {
                let $kernel = SlicedKernel::<_, Aes>::new(Portable);
                $call
            }
            (Tier::Word, Cipher::Aes128) => {
                let $kernel = SlicedKernel::<_, Aes>::new(Word);
                $call
            }
        }
    };
}

impl Tier {
    /// The tier that is fastest for so many rows. A run costs the same however few rows fill it, so that a few are done
    /// sooner in fewer lanes. The answer is the same.
    fn for_rows(self, cipher: Cipher, rows: usize) -> Self {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(cpu) if rows <= few_beside_avx512(cipher) => Self::Few(cpu.into()),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(cpu) if rows <= few_beside_avx2(cipher) => Self::Few(cpu),
            Self::Portable if rows <= u64::LANES => Self::Word,
            _ => self,
        }
    }

    /// The rows of a call in parts, each with the tier that does it: those that fill whole runs, and what is left where a few
    /// rows are done sooner than a run that is partly empty.
    fn parts(self, cipher: Cipher, rows: usize) -> impl Iterator<Item = (Self, Range<usize>)> {
        let left = rows % with_kernel!(self, cipher, |kernel| lanes_of(kernel));
        let few = self.for_rows(cipher, left);
        let is_one = std::mem::discriminant(&few) == std::mem::discriminant(&self);
        let whole = if is_one { rows } else { rows - left };
        [(self, 0..whole), (few, whole..rows)].into_iter().filter(|(_, rows)| !rows.is_empty())
    }

    fn platform(self) -> Platform {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Platform::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) | Self::Few(_) => Platform::Avx2,
            Self::Portable | Self::Word => Platform::Portable,
        }
    }
}

/// Rows up to which few lanes are taken in place of AVX-512's: those of DES are 512, and its kernel was measured at what some sixteen
/// rows would take. Those of the others are fewer and were not compared.
#[cfg(target_arch = "x86_64")]
fn few_beside_avx512(cipher: Cipher) -> usize {
    match cipher {
        Cipher::TripleDes => 8,
        Cipher::Sm4 | Cipher::Aes128 => 0,
    }
}

/// Rows up to which few lanes are done sooner than AVX2's, measured on a Zen 3: a TAC of DES with three blocks takes 3
/// microseconds and 16 take 11, where 256 lanes take 12; 192 of SM4 with two take 30, where 256 lanes take 35.
#[cfg(target_arch = "x86_64")]
fn few_beside_avx2(cipher: Cipher) -> usize {
    match cipher {
        Cipher::TripleDes => 16,
        Cipher::Sm4 => 192,
        Cipher::Aes128 => 64,
    }
}

fn lanes_of<K: Kernel>(_: K) -> usize {
    K::LANES
}

impl BulkMac {
    /// The best platform of this machine.
    #[must_use]
    pub fn new() -> Self {
        Platform::available().find_map(Self::on).unwrap_or(Self(Tier::Portable))
    }

    /// A platform of choice, if this machine has it.
    #[must_use]
    pub fn on(platform: Platform) -> Option<Self> {
        match platform {
            #[cfg(target_arch = "x86_64")]
            Platform::Avx512 => Avx512::new().map(Tier::Avx512).map(Self),
            #[cfg(target_arch = "x86_64")]
            Platform::Avx2 => Avx2::new().map(Tier::Avx2).map(Self),
            #[cfg(not(target_arch = "x86_64"))]
            Platform::Avx512 | Platform::Avx2 => None,
            Platform::Portable => Some(Self(Tier::Portable)),
        }
    }

    /// Which platform this is.
    #[must_use]
    pub fn platform(self) -> Platform {
        self.0.platform()
    }

    /// The key of each row, parity bits as computed. Of a single-DES key only the first 8 bytes have a meaning.
    ///
    /// # Errors
    /// A [`Misfit`].
    pub fn disperse(self, keys: &Keys<'_>, out: &mut [[u8; 16]]) -> Result<(), Misfit> {
        keys.check(out.len())?;
        for (tier, rows) in self.0.parts(keys.cipher, out.len()) {
            with_kernel!(tier, keys.cipher, |kernel| run::disperse(kernel, keys, rows.clone(), &mut out[rows]));
        }
        Ok(())
    }

    /// The last block of each row's MAC, whole: `out` has a block for each row.
    ///
    /// # Errors
    /// A [`Misfit`].
    pub fn macs(self, keys: &Keys<'_>, mac: Mac, texts: &Texts<'_>, out: &mut [u8]) -> Result<(), Misfit> {
        let block = keys.cipher.block_len();
        if !out.len().is_multiple_of(block) {
            return Err(Misfit::Rows);
        }
        let rows = out.len() / block;
        keys.check(rows)?;
        texts.check(keys, mac, rows)?;
        let mut write = |first: usize, found: &[u8]| out[first * block..][..found.len()].copy_from_slice(found);
        for (tier, rows) in self.0.parts(keys.cipher, rows) {
            with_kernel!(tier, keys.cipher, |kernel| run::macs(kernel, keys, mac, texts, rows, &mut write));
        }
        Ok(())
    }

    /// Whether each row's MAC begins with the bytes expected of it. All bytes of all rows are compared.
    ///
    /// # Errors
    /// A [`Misfit`].
    pub fn verify(
        self,
        keys: &Keys<'_>,
        mac: Mac,
        texts: &Texts<'_>,
        expected: &Expected<'_>,
    ) -> Result<Vec<bool>, Misfit> {
        let (block, width) = (keys.cipher.block_len(), expected.width);
        if width == 0 || width > block {
            return Err(Misfit::Width);
        }
        if !expected.bytes.len().is_multiple_of(width) {
            return Err(Misfit::Rows);
        }
        let rows = expected.bytes.len() / width;
        keys.check(rows)?;
        texts.check(keys, mac, rows)?;
        let mut verdicts = Vec::with_capacity(rows);
        let mut compare = |first: usize, found: &[u8]| {
            let expected = &expected.bytes[first * width..];
            if width == 4 {
                // The width of a TAC, in one comparison a row.
                let pairs = found.chunks_exact(block).zip(expected.as_chunks::<4>().0);
                let word = |bytes: &[u8; 4]| u32::from_ne_bytes(*bytes);
                verdicts.extend(pairs.map(|(found, expected)| found.first_chunk().map(word) == Some(word(expected))));
            } else {
                let pairs = found.chunks_exact(block).zip(expected.chunks_exact(width));
                verdicts.extend(pairs.map(|(found, expected)| {
                    found.iter().zip(expected).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
                }));
            }
        };
        for (tier, rows) in self.0.parts(keys.cipher, rows) {
            with_kernel!(tier, keys.cipher, |kernel| run::macs(kernel, keys, mac, texts, rows, &mut compare));
        }
        Ok(verdicts)
    }
}

impl Default for BulkMac {
    fn default() -> Self {
        Self::new()
    }
}
