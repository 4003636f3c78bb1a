//! What a cipher has to do for [`crate::run`], which knows dispersion, chaining and columns.

use zeroize::Zeroize;

use crate::job::PerRow;
use crate::wipe::Room;

/// One cipher on one backend, with as many rows side by side as suit it.
///
/// Rows are given as bytes, one row after another, always [`Kernel::LANES`] of them.
pub(crate) trait Kernel: Copy {
    /// Rows that run side by side.
    const LANES: usize;
    /// Bytes of a block: 8 or 16.
    const BLOCK: usize;
    /// A 16-byte key, or what became of it, for each row, ready for use.
    type Keys: Zeroize;
    /// A block for each row.
    type Blocks: Zeroize + Clone;

    /// Keys of zeros, to be set.
    fn keys(self) -> Box<Self::Keys>;
    /// Blocks of zeros.
    fn blocks(self) -> Self::Blocks;
    /// Takes keys of 16 bytes. They are not [scheduled](Kernel::schedule) yet.
    fn load_keys(self, rows: &[u8], keys: &mut Self::Keys);
    /// Gives keys of 16 bytes.
    fn store_keys(self, keys: &Self::Keys, rows: &mut [u8]);
    /// Makes keys fit for [`Kernel::encrypt`], [`Kernel::disperse`] and [`Kernel::session`].
    fn schedule(self, keys: &mut Self::Keys);
    /// Keys one level down: `E(f) || E(~f)`, or `E(f || ~f)` where the block has 16 bytes. Factors have 8.
    fn disperse(self, from: &Self::Keys, factors: &[u8], to: &mut Self::Keys);
    /// Session keys from inputs of 8 bytes: `E(x)` as a single-DES key, or `E(x || ~x)`.
    fn session(self, from: &Self::Keys, inputs: &[u8], to: &mut Self::Keys);
    /// `L ^ R` as a single-DES key, or `(L ^ R) || ~(L ^ R)` where the block has 16 bytes.
    fn fold(self, keys: &mut Self::Keys);
    /// Keeps only the left half of DES keys for [`Kernel::encrypt`]; the retail MAC uses the right one in the end.
    fn split(self, keys: &mut Self::Keys);
    /// Exclusive or with rows of blocks.
    fn xor_rows(self, blocks: &mut Self::Blocks, rows: &[u8]);
    /// Enciphers.
    fn encrypt(self, keys: &Self::Keys, blocks: &mut Self::Blocks);
    /// The last two steps of the retail MAC: deciphers under K'', enciphers under K'.
    fn retail(self, keys: &Self::Keys, blocks: &mut Self::Blocks);
    /// Gives rows of blocks.
    fn store(self, blocks: &Self::Blocks, rows: &mut [u8]);

    /// Exclusive or of the blocks with the subkeys of CMAC (SP 800-38B, section 6.1): K2 where the last block of
    /// a row was padded, K1 where not. Only for blocks of 16 bytes.
    fn mask_last(self, keys: &Self::Keys, padded: PerRow<'_, bool>, blocks: &mut Self::Blocks) {
        let mut rows = Room::new(Self::LANES * Self::BLOCK);
        let mut subkeys = self.blocks();
        self.encrypt(keys, &mut subkeys);
        self.store(&subkeys, &mut rows.0);
        double_rows(&mut rows.0);
        match padded {
            PerRow::Same(true) => double_rows(&mut rows.0),
            PerRow::Same(false) => {}
            PerRow::Each(padded) => {
                let padded = rows.0.chunks_exact_mut(Self::BLOCK).zip(padded).filter(|(_, padded)| **padded);
                padded.for_each(|(row, _)| double_rows(row));
            }
        }
        self.xor_rows(blocks, &rows.0);
        subkeys.zeroize();
    }
}

/// `x || ~x` for each row of 8 bytes, in `rows` of 16.
pub(crate) fn with_complements(halves: &[u8], rows: &mut [u8]) {
    for (row, half) in rows.as_chunks_mut::<16>().0.iter_mut().zip(halves.as_chunks::<8>().0) {
        row[..8].copy_from_slice(half);
        row[8..].copy_from_slice(&(!u64::from_ne_bytes(*half)).to_ne_bytes());
    }
}

/// Doubles each row of 16 bytes in the field of CMAC, without a branch.
pub(crate) fn double_rows(rows: &mut [u8]) {
    for row in rows.as_chunks_mut::<16>().0 {
        let value = u128::from_be_bytes(*row);
        *row = (value << 1 ^ 0x87 & 0u128.wrapping_sub(value >> 127)).to_be_bytes();
    }
}
