//! Key paths: dispersion, session keys, folding.

use claviger_bulk_mac::{Cipher, Keys, LANES, LastStep, PerRow};
use claviger_hsm_api::{Algorithm, DispersionRule, FoldRule, Input, KeyPath, MalformedBatch, Parity, Step};
use claviger_locked_memory::LockedBytes;
use zeroize::Zeroize;

use crate::group::{Blocks, CipherGroup};
use crate::input::Inputs;
use crate::kernels::kernels;
use crate::run::{EngineError, Holder, PlainKey};

/// The keys of a run of rows, in locked memory. Rows may share a key: a day's cards come from a few
/// cities, and a city's key is derived once.
pub struct KeyRows {
    algorithm: Algorithm,
    keys: LockedBytes,
    /// From one key to the next.
    stride: usize,
    /// Bytes of each key, where they differ.
    sizes: Vec<usize>,
    /// Which key each row uses.
    index: Vec<u32>,
}

/// Beyond this many distinct pairs of key and factor in a run of rows, sharing no longer pays.
const SHARED: usize = 128;

impl KeyRows {
    /// The stored keys themselves, of which each row uses that of its number in `index`.
    pub(crate) fn stored(keys: &[&PlainKey], index: Vec<u32>, algorithm: Algorithm) -> Result<Self, EngineError> {
        // Keys of another algorithm are never chosen: the recipe check saw to that. They keep their places.
        let sizes: Vec<usize> =
            keys.iter().map(|key| if key.algorithm == algorithm { key.secret.len() } else { 0 }).collect();
        let of_other_length =
            |size: &&usize| algorithm.block_len().is_some() && **size != 0 && **size != algorithm.key_len();
        if sizes.iter().find(of_other_length).is_some() {
            return Err(EngineError::KeyLength(algorithm));
        }
        let stride = sizes.iter().copied().max().unwrap_or(0).max(1);
        let mut bytes = LockedBytes::zeroed(stride * keys.len());
        for (to, (key, size)) in bytes.expose_mut().chunks_exact_mut(stride).zip(keys.iter().zip(&sizes)) {
            to[..*size].copy_from_slice(&key.secret.expose()[..*size]);
        }
        Ok(Self { algorithm, keys: bytes, stride, sizes, index })
    }

    /// Keys of one length, made from others.
    pub(crate) fn derived(algorithm: Algorithm, keys: LockedBytes, index: Vec<u32>) -> Self {
        Self { algorithm, keys, stride: algorithm.key_len(), sizes: Vec::new(), index }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn rows(&self) -> usize {
        self.index.len()
    }

    /// The distinct keys, one after another.
    pub(crate) fn distinct(&self) -> &[u8] {
        self.keys.expose()
    }

    /// Which of the distinct keys a row uses.
    pub(crate) fn number(&self, row: usize) -> u32 {
        self.index[row]
    }

    /// The key of one row.
    pub(crate) fn key(&self, row: usize) -> &[u8] {
        let number = self.index[row] as usize;
        // HMAC keys come in all lengths; derived keys all have that of their algorithm.
        let size = self.sizes.get(number).copied().unwrap_or(self.stride);
        &self.keys.expose()[number * self.stride..][..size]
    }

    /// The keys of these rows, if they were derived and lie one after another.
    pub(crate) fn in_a_row(&self, rows: &[u32]) -> Option<&[u8]> {
        let first = self.number(*rows.first()? as usize);
        let follow = rows.iter().zip(first..).all(|(row, number)| self.number(*row as usize) == number);
        let keys = self.keys.expose().get(first as usize * self.stride..)?.get(..rows.len() * self.stride)?;
        (follow && self.sizes.is_empty()).then_some(keys)
    }

    /// A cipher for each of the given rows; `part` cuts the key, as the retail MAC does.
    pub(crate) fn group(
        &self,
        rows: &[u32],
        algorithm: Algorithm,
        part: std::ops::Range<usize>,
    ) -> Result<CipherGroup, EngineError> {
        let mut gathered = LockedBytes::zeroed(rows.len() * part.len());
        for (to, row) in gathered.expose_mut().chunks_exact_mut(part.len()).zip(rows) {
            to.copy_from_slice(&self.key(*row as usize)[part.clone()]);
        }
        CipherGroup::new(algorithm, gathered.expose()).ok_or(EngineError::NoBlockCipher(algorithm))
    }

    /// Walks a path down from where its holder lets the engine begin, for as many rows of the batch from `first` on as
    /// `keyed` has. Those that it denies a key get some key or none: they do not run.
    pub(crate) fn walk(
        holder: &dyn Holder,
        path: &KeyPath,
        inputs: &Inputs<'_>,
        first: usize,
        keyed: &[bool],
    ) -> Result<Self, EngineError> {
        let mut here = holder.start(path, inputs, first, keyed)?;
        for step in &path.steps {
            here = here.step(step, inputs, first, keyed)?;
        }
        Ok(here)
    }

    fn step(self, step: &Step, inputs: &Inputs<'_>, first: usize, keyed: &[bool]) -> Result<Self, EngineError> {
        match step {
            Step::Disperse { rule, parity, factor } => {
                let shared = self.shared(inputs, factor, first, keyed)?;
                self.disperse(*rule, *parity, &shared)
            }
            Step::Session { input } => self.session(inputs, input, first, keyed),
            Step::FoldHalves { rule } => self.fold(*rule),
        }
    }

    /// The distinct pairs of key and factor, and which pair each row uses; one pair a row where they
    /// hardly repeat.
    fn shared<'a>(
        &self,
        inputs: &Inputs<'a>,
        factor: &'a Input,
        first: usize,
        keyed: &[bool],
    ) -> Result<Shared<'a>, EngineError> {
        // A table with one place for each hash: a pair that is driven out is derived again when it comes back. Keys
        // are here as numbers and factors are public, so what the table tells of time is public too.
        let mut seen: Vec<Option<(u32, &[u8], u32)>> = vec![None; 4 * SHARED];
        let mut pairs = Vec::new();
        let mut index = Vec::with_capacity(self.rows());
        for (row, key) in self.index.iter().enumerate() {
            if !keyed[row] {
                index.push(0);
                continue;
            }
            let factor = inputs.cell(factor, first + row)?;
            if pairs.len() > SHARED {
                index.push(pairs.len() as u32);
                pairs.push((*key, factor));
                continue;
            }
            let place = &mut seen[place(*key, factor) % (4 * SHARED)];
            match place {
                Some((of, with, number)) if (*of, *with) == (*key, factor) => index.push(*number),
                _ => {
                    let number = pairs.len() as u32;
                    *place = Some((*key, factor, number));
                    index.push(number);
                    pairs.push((*key, factor));
                }
            }
        }
        Ok(Shared { pairs, index })
    }

    fn disperse(self, rule: DispersionRule, parity: Parity, shared: &Shared<'_>) -> Result<Self, EngineError> {
        let wide = self.algorithm.block_len() == Some(16);
        if self.algorithm.key_len() != 16 {
            return Err(EngineError::Underivable(self.algorithm));
        }
        let mut children = LockedBytes::zeroed(16 * shared.pairs.len());
        if rule == DispersionRule::FactorAndComplement
            && let Some(cipher) = bulk_cipher(self.algorithm)
            && let Some(factors) =
                shared.pairs.iter().map(|(_, factor)| (*factor).try_into().ok()).collect::<Option<Vec<_>>>()
        {
            let chosen: Vec<u32> = shared.pairs.iter().map(|(key, _)| *key).collect();
            let path = Keys {
                cipher,
                masters: self.keys.expose().as_chunks().0,
                chosen: PerRow::Each(&chosen),
                levels: &[&factors],
                last: LastStep::Whole,
            };
            kernels()
                .disperse(&path, children.expose_mut().as_chunks_mut().0)
                .map_err(|_| EngineError::Underivable(self.algorithm))?;
            return Ok(self.dispersed(children, parity, shared));
        }
        for (pairs, children) in shared.pairs.chunks(LANES).zip(children.expose_mut().chunks_mut(16 * LANES)) {
            let mut keys = LockedBytes::zeroed(16 * pairs.len());
            let mut blocks: Blocks = [[0; 16]; LANES];
            for (at, (key, factor)) in pairs.iter().enumerate() {
                keys.expose_mut()[16 * at..][..16].copy_from_slice(&self.keys.expose()[*key as usize * 16..][..16]);
                blocks[at] = dispersion_block(rule, wide, factor)?;
            }
            let group =
                CipherGroup::new(self.algorithm, keys.expose()).ok_or(EngineError::Underivable(self.algorithm))?;
            let mut complements = blocks;
            group.encrypt(&mut blocks);
            if !wide {
                // The second half of the key is the complement of the factor enciphered.
                complements.iter_mut().for_each(|block| block.rotate_left(8));
                group.encrypt(&mut complements);
                for (block, half) in blocks.iter_mut().zip(&complements) {
                    block[8..].copy_from_slice(&half[..8]);
                }
                complements.zeroize();
            }
            for (child, block) in children.chunks_exact_mut(16).zip(&blocks) {
                child.copy_from_slice(block);
            }
            blocks.zeroize();
        }
        Ok(self.dispersed(children, parity, shared))
    }

    fn dispersed(&self, mut children: LockedBytes, parity: Parity, shared: &Shared<'_>) -> Self {
        if parity == Parity::Odd && self.algorithm.is_des() {
            children.expose_mut().iter_mut().for_each(|byte| *byte ^= u8::from(byte.count_ones().is_multiple_of(2)));
        }
        Self::derived(self.algorithm, children, shared.index.clone())
    }

    fn session(self, inputs: &Inputs<'_>, input: &Input, first: usize, keyed: &[bool]) -> Result<Self, EngineError> {
        let (child, wide) = match self.algorithm {
            Algorithm::Des | Algorithm::TripleDes => (Algorithm::Des, false),
            Algorithm::Sm4 | Algorithm::Aes128 => (self.algorithm, true),
            other => return Err(EngineError::Underivable(other)),
        };
        let len = child.key_len();
        let rows: Vec<u32> = (0..self.rows() as u32).filter(|row| keyed[*row as usize]).collect();
        let mut index = vec![0; self.rows()];
        (0..).zip(&rows).for_each(|(number, row)| index[*row as usize] = number);
        let mut keys = LockedBytes::zeroed(len * rows.len());
        let eights = |row: &u32| inputs.cell(input, first + *row as usize).ok()?.try_into().ok();
        if let Some(cipher) = bulk_cipher(self.algorithm)
            && let Some(values) = rows.iter().map(eights).collect::<Option<Vec<[u8; 8]>>>()
        {
            let chosen: Vec<u32> = rows.iter().map(|row| self.number(*row as usize)).collect();
            let path = Keys {
                cipher,
                masters: self.keys.expose().as_chunks().0,
                chosen: PerRow::Each(&chosen),
                levels: &[],
                last: LastStep::Session(&values),
            };
            let mut wide = LockedBytes::zeroed(16 * rows.len());
            kernels()
                .disperse(&path, wide.expose_mut().as_chunks_mut().0)
                .map_err(|_| EngineError::Underivable(self.algorithm))?;
            for (key, found) in keys.expose_mut().chunks_exact_mut(len).zip(wide.expose().chunks_exact(16)) {
                key.copy_from_slice(&found[..len]);
            }
            return Ok(Self::derived(child, keys, index));
        }
        for (rows, keys) in rows.chunks(LANES).zip(keys.expose_mut().chunks_mut(len * LANES)) {
            let mut blocks: Blocks = [[0; 16]; LANES];
            for (block, row) in blocks.iter_mut().zip(rows) {
                *block = session_block(inputs.cell(input, first + *row as usize)?, wide)?;
            }
            self.group(rows, self.algorithm, 0..self.algorithm.key_len())?.encrypt(&mut blocks);
            for (key, block) in keys.chunks_exact_mut(len).zip(&blocks) {
                key.copy_from_slice(&block[..len]);
            }
            blocks.zeroize();
        }
        Ok(Self::derived(child, keys, index))
    }

    fn fold(self, rule: FoldRule) -> Result<Self, EngineError> {
        if self.algorithm.key_len() != 16 {
            return Err(EngineError::Underivable(self.algorithm));
        }
        let (algorithm, len) = match rule {
            FoldRule::SingleDes => (Algorithm::Des, 8),
            FoldRule::WithComplement => (self.algorithm, 16),
        };
        let mut keys = LockedBytes::zeroed(self.keys.len() / 16 * len);
        for (folded, key) in keys.expose_mut().chunks_exact_mut(len).zip(self.keys.expose().chunks_exact(16)) {
            for (i, byte) in folded.iter_mut().enumerate() {
                let sum = key[i % 8] ^ key[i % 8 + 8];
                *byte = if i < 8 { sum } else { !sum };
            }
        }
        Ok(Self::derived(algorithm, keys, self.index))
    }
}

/// The cipher of the bulk kernels that derives keys of this algorithm.
pub(crate) fn bulk_cipher(algorithm: Algorithm) -> Option<Cipher> {
    match algorithm {
        Algorithm::TripleDes => Some(Cipher::TripleDes),
        Algorithm::Sm4 => Some(Cipher::Sm4),
        Algorithm::Aes128 => Some(Cipher::Aes128),
        _ => None,
    }
}

/// A hash of a key's number and a factor.
fn place(key: u32, factor: &[u8]) -> usize {
    let word = factor.chunks(8).fold(u64::from(key), |hash, chunk| {
        let part = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        (hash ^ part).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
    (word >> 40) as usize
}

struct Shared<'a> {
    pairs: Vec<(u32, &'a [u8])>,
    index: Vec<u32>,
}

/// The 16 bytes that a step from a key of `algorithm` enciphers in one row: for a key of DES two blocks, of which a
/// session key is both.
pub(crate) fn derivation_block(
    algorithm: Algorithm,
    step: &Step,
    inputs: &Inputs<'_>,
    row: usize,
) -> Result<[u8; 16], EngineError> {
    let wide = algorithm.block_len() == Some(16);
    match step {
        Step::Disperse { rule, factor, .. } => Ok(dispersion_block(*rule, wide, inputs.cell(factor, row)?)?),
        Step::Session { input } => {
            let mut block = session_block(inputs.cell(input, row)?, wide)?;
            if !wide {
                block.copy_within(..8, 8);
            }
            Ok(block)
        }
        Step::FoldHalves { .. } => Err(EngineError::Underivable(algorithm)),
    }
}

/// `x || ~x`, or, for a 16-byte block, 16 bytes as they are. For 8-byte blocks only the first half counts.
fn session_block(x: &[u8], wide: bool) -> Result<[u8; 16], MalformedBatch> {
    let rule = if wide && x.len() == 16 { DispersionRule::Raw } else { DispersionRule::FactorAndComplement };
    let wanted = if wide { "8 or 16" } else { "8" };
    let wrong = |_| MalformedBatch::Length { what: "session input", found: x.len(), wanted };
    dispersion_block(rule, wide, x).map_err(wrong)
}

/// `f || ~f`, or 16 bytes as they are. For 8-byte blocks the two halves are two blocks.
fn dispersion_block(rule: DispersionRule, wide: bool, factor: &[u8]) -> Result<[u8; 16], MalformedBatch> {
    let wrong = |wanted| MalformedBatch::Length { what: "dispersion factor", found: factor.len(), wanted };
    match rule {
        DispersionRule::FactorAndComplement => {
            let f: [u8; 8] = factor.try_into().map_err(|_| wrong("8"))?;
            Ok(std::array::from_fn(|i| if i < 8 { f[i] } else { !f[i - 8] }))
        }
        DispersionRule::Raw if wide => factor.try_into().map_err(|_| wrong("16")),
        DispersionRule::Raw => Err(wrong("8, since the block has 8")),
    }
}
