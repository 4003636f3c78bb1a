//! What a bulk call is given: keys, texts and MACs of many rows, in columns.

/// A block cipher with 16-byte keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// Triple DES with two keys (SP 800-67, keying option 2); blocks of 8 bytes.
    TripleDes,
    /// SM4 (GB/T 32907); blocks of 16 bytes.
    Sm4,
    /// AES-128 (FIPS 197); blocks of 16 bytes.
    Aes128,
}

impl Cipher {
    /// Bytes of a block.
    #[must_use]
    pub fn block_len(self) -> usize {
        match self {
            Self::TripleDes => 8,
            Self::Sm4 | Self::Aes128 => 16,
        }
    }
}

/// One of something for all rows, or one for each.
#[derive(Debug, Clone, Copy)]
pub enum PerRow<'a, T> {
    /// For all.
    Same(T),
    /// For each row.
    Each(&'a [T]),
}

impl<T: Copy> PerRow<'_, T> {
    /// Those of `rows` rows from `first` on.
    pub(crate) fn part(&self, first: usize, rows: usize) -> Self {
        match self {
            Self::Same(value) => Self::Same(*value),
            Self::Each(values) => Self::Each(&values[first..first + rows]),
        }
    }

    fn fits(&self, rows: usize) -> bool {
        match self {
            Self::Same(_) => true,
            Self::Each(values) => values.len() == rows,
        }
    }

    /// Whether `test` holds for every value.
    pub(crate) fn all(&self, test: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Same(value) => test(*value),
            Self::Each(values) => values.iter().all(|value| test(*value)),
        }
    }
}

/// What becomes of a card's key before it is used.
#[derive(Debug, Clone, Copy)]
pub enum LastStep<'a> {
    /// Nothing.
    Whole,
    /// Its halves are XORed: for triple DES the single-DES key `L ^ R`, for the others `(L ^ R) || ~(L ^ R)`.
    Fold,
    /// A session key from 8 bytes `x` a row: for triple DES the single-DES key `E(K, x)`, for the others
    /// `E(K, x || ~x)`.
    Session(&'a [[u8; 8]]),
}

/// How each row comes to its key.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    /// Of every key on the way.
    pub cipher: Cipher,
    /// The keys that the rows begin with. Parity bits of DES keys do not matter.
    pub masters: &'a [[u8; 16]],
    /// Which of them each row begins with. The time taken does not depend on it, so cities, versions and levels may
    /// come in any order.
    pub chosen: PerRow<'a, u32>,
    /// Dispersion (分散), level by level, by 8 bytes a row: `E(K, f) || E(K, ~f)`, or `E(K, f || ~f)` where the
    /// block has 16 bytes.
    pub levels: &'a [&'a [[u8; 8]]],
    /// What is done to the key at the end.
    pub last: LastStep<'a>,
}

/// Padded messages, block by block: a column holds one block of every row.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    /// Column `n` has block `n` of each row, `rows * block_len` bytes. Of a row with fewer blocks the rest is ignored.
    pub columns: &'a [&'a [u8]],
    /// Blocks of each row, one or more.
    pub blocks: PerRow<'a, u32>,
    /// Whether the last block had to be padded. Only CMAC asks.
    pub padded: PerRow<'a, bool>,
}

/// A MAC algorithm of ISO/IEC 9797-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mac {
    /// Algorithm 1: CBC-MAC from an initial value of zeros.
    Cbc,
    /// Algorithm 3, the retail MAC, with K' and K'' in a 16-byte triple-DES key that was neither folded nor made
    /// into a session key.
    Retail,
    /// Algorithm 5: CMAC, of a cipher with blocks of 16 bytes. The subkeys are applied here; the padding is not.
    Cmac,
}

/// MACs to compare with: the leftmost `width` bytes.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// Bytes a row, from 1 to the cipher's block.
    pub width: usize,
    /// Row after row.
    pub bytes: &'a [u8],
}

/// A bulk call whose parts do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// A column has another number of rows than the output.
    Rows,
    /// A row begins with a master key that is not there.
    Master,
    /// A row has no block, or more than there are columns.
    Blocks,
    /// The MAC algorithm is not defined for these keys.
    Algorithm,
    /// MACs of no byte, or of more than a block.
    Width,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rows => "a column has another number of rows than the output",
            Self::Master => "a row begins with a master key that is not there",
            Self::Blocks => "a row has no block, or more than there are columns",
            Self::Algorithm => "the MAC algorithm is not defined for these keys",
            Self::Width => "a MAC has no byte, or more than a block",
        })
    }
}

impl std::error::Error for Misfit {}

impl PerRow<'_, u32> {
    /// The greatest.
    pub(crate) fn most(&self) -> u32 {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values.iter().copied().max().unwrap_or(0),
        }
    }
}

impl Keys<'_> {
    pub(crate) fn check(&self, rows: usize) -> Result<(), Misfit> {
        let session = match self.last {
            LastStep::Session(inputs) => inputs.len() == rows,
            _ => true,
        };
        if !session || !self.chosen.fits(rows) || self.levels.iter().any(|level| level.len() != rows) {
            return Err(Misfit::Rows);
        }
        if !self.chosen.all(|master| (master as usize) < self.masters.len()) {
            return Err(Misfit::Master);
        }
        Ok(())
    }
}

impl Texts<'_> {
    pub(crate) fn check(&self, keys: &Keys<'_>, mac: Mac, rows: usize) -> Result<(), Misfit> {
        let column = rows * keys.cipher.block_len();
        if !self.blocks.fits(rows) || !self.padded.fits(rows) || self.columns.iter().any(|c| c.len() != column) {
            return Err(Misfit::Rows);
        }
        if !self.blocks.all(|blocks| blocks > 0 && blocks as usize <= self.columns.len()) {
            return Err(Misfit::Blocks);
        }
        match mac {
            Mac::Cbc => Ok(()),
            Mac::Retail if keys.cipher == Cipher::TripleDes && matches!(keys.last, LastStep::Whole) => Ok(()),
            Mac::Cmac if keys.cipher.block_len() == 16 => Ok(()),
            _ => Err(Misfit::Algorithm),
        }
    }
}
