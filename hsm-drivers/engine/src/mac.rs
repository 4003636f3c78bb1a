//! The MAC algorithms of ISO/IEC 9797-1:2011 and GB/T 15852.1-2020, written once over groups of rows.

use claviger_bulk_mac::LANES;
use claviger_hsm_api::{Algorithm, MacAlgorithm, MacSpec, MalformedBatch, Message, Padding, Truncation};
use hmac::KeyInit;
use zeroize::Zeroize;

use crate::derive::KeyRows;
use crate::group::{Blocks, CipherGroup};
use crate::input::Inputs;
use crate::padding::pad;
use crate::run::EngineError;

/// Rows that run, counted from `first`, and where they read.
pub(crate) struct Span<'a> {
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) first: usize,
    pub(crate) rows: &'a [u32],
}

impl Span<'_> {
    /// Whether no row before the last one is left out.
    pub(crate) fn is_whole(&self) -> bool {
        self.rows.last().is_none_or(|last| *last as usize + 1 == self.rows.len())
    }
}

/// MACs of the span's rows, truncated, given to `each` in order with their row.
pub(crate) fn macs(
    keys: &KeyRows,
    second: Option<&KeyRows>,
    spec: &MacSpec,
    message: &Message,
    span: &Span<'_>,
    mut each: impl FnMut(u32, &[u8]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    if spec.algorithm == MacAlgorithm::Hmac {
        return hmacs(keys, spec.truncation, message, span, each);
    }
    let Span { inputs, first, rows } = *span;
    let ciphers = MacCiphers::plan(keys, second, spec.algorithm)?;
    let mut text = Texts { block: ciphers.block, bytes: Vec::new(), ends: Vec::new() };
    for rows in rows.chunks(LANES) {
        let mut chain: Blocks = [[0; 16]; LANES];
        if let Some(initial) = &spec.initial {
            for (block, row) in chain.iter_mut().zip(rows) {
                let value = inputs.cell(initial, first + *row as usize)?;
                if value.len() != text.block {
                    return Err(MalformedBatch::Length {
                        what: "initial value",
                        found: value.len(),
                        wanted: "one block",
                    }
                    .into());
                }
                block[..text.block].copy_from_slice(value);
            }
        }
        text.fill(spec, message, inputs, first, rows)?;
        ciphers.run(rows, &mut text, &mut chain)?;
        for (at, (row, block)) in rows.iter().zip(&chain).enumerate() {
            let kept = truncate(text.given(spec, at, &block[..text.block]), spec.truncation)?;
            each(*row, &kept.0[..kept.1])?;
        }
        chain.zeroize();
    }
    text.bytes.zeroize();
    Ok(())
}

/// The padded messages of a group.
struct Texts {
    block: usize,
    bytes: Vec<u8>,
    /// Where each row's message ends, and whether its last block was padded (algorithms 5 and 7).
    ends: Vec<(usize, bool)>,
}

impl Texts {
    fn fill(
        &mut self,
        spec: &MacSpec,
        message: &Message,
        inputs: &Inputs<'_>,
        first: usize,
        rows: &[u32],
    ) -> Result<(), EngineError> {
        self.bytes.zeroize();
        self.ends.clear();
        let padding = match spec.algorithm {
            // "Padding 4": 80 only where the last block is not whole; an empty message is not.
            MacAlgorithm::Cmac | MacAlgorithm::TrCbc => Padding::OneIfNeeded,
            _ => spec.padding,
        };
        for row in rows {
            let start = self.bytes.len();
            inputs.append(message, first + *row as usize, &mut self.bytes)?;
            let len = self.bytes.len() - start;
            let partial = len == 0 || !len.is_multiple_of(self.block);
            if len == 0 && padding == Padding::OneIfNeeded {
                self.bytes.push(0x80);
                self.bytes.resize(start + self.block, 0);
            }
            pad(&mut self.bytes, start, padding, self.block)?;
            if self.bytes.len() == start {
                return Err(MalformedBatch::Length { what: "message", found: 0, wanted: "at least one block" }.into());
            }
            self.ends.push((self.bytes.len(), partial));
        }
        Ok(())
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1].0 }
    }

    fn blocks(&self, at: usize) -> usize {
        (self.ends[at].0 - self.start(at)) / self.block
    }

    fn most_blocks(&self) -> usize {
        (0..self.ends.len()).map(|at| self.blocks(at)).max().unwrap_or(0)
    }

    fn block(&self, at: usize, number: usize) -> &[u8] {
        &self.bytes[self.start(at) + number * self.block..][..self.block]
    }

    /// What of the last block a MAC is cut from. Algorithm 7 never gives more than half of it: the left half for a
    /// whole message, the right half for a padded one.
    fn given<'b>(&self, spec: &MacSpec, at: usize, block: &'b [u8]) -> &'b [u8] {
        let (left, right) = block.split_at(block.len() / 2);
        match (spec.algorithm, self.ends[at].1) {
            (MacAlgorithm::TrCbc, true) => right,
            (MacAlgorithm::TrCbc, false) => left,
            _ => block,
        }
    }
}

/// Which keys an algorithm needs, and the cipher they are keys of.
struct MacCiphers<'a> {
    algorithm: MacAlgorithm,
    keys: &'a KeyRows,
    /// The cipher of the chain and the part of the key that it takes.
    main: (Algorithm, std::ops::Range<usize>),
    /// The same for K''.
    second: Option<(&'a KeyRows, Algorithm, std::ops::Range<usize>)>,
    block: usize,
}

impl<'a> MacCiphers<'a> {
    fn plan(keys: &'a KeyRows, second: Option<&'a KeyRows>, algorithm: MacAlgorithm) -> Result<Self, EngineError> {
        let of_keys = keys.algorithm();
        let block = of_keys.block_len().ok_or(EngineError::NoBlockCipher(of_keys))?;
        let whole = (of_keys, 0..of_keys.key_len());
        let needs_second = matches!(algorithm, MacAlgorithm::Emac | MacAlgorithm::Retail | MacAlgorithm::MacDes);
        let (main, second) = match (needs_second, second) {
            (false, _) => (whole, None),
            (true, Some(other)) if other.algorithm() == of_keys => {
                (whole, Some((other, of_keys, 0..of_keys.key_len())))
            }
            // A 16-byte DES key is K' and K'' side by side (PBOC, X9.19).
            (true, None) if of_keys == Algorithm::TripleDes => {
                ((Algorithm::Des, 0..8), Some((keys, Algorithm::Des, 8..16)))
            }
            // An 8-byte key means single DES everywhere, and algorithm 3 with K' = K'' is algorithm 1.
            (true, None) if of_keys == Algorithm::Des && algorithm == MacAlgorithm::Retail => {
                (whole.clone(), Some((keys, Algorithm::Des, 0..8)))
            }
            _ => return Err(EngineError::SecondKey),
        };
        Ok(Self { algorithm, keys, main, second, block })
    }

    fn run(&self, rows: &[u32], text: &mut Texts, chain: &mut Blocks) -> Result<(), EngineError> {
        let main = self.keys.group(rows, self.main.0, self.main.1.clone())?;
        let second = match &self.second {
            Some((keys, algorithm, part)) => Some((keys.group(rows, *algorithm, part.clone())?, keys, part)),
            None => None,
        };
        let mut first_block: Option<CipherGroup> = None;
        let mut last_block: Option<CipherGroup> = None;
        match self.algorithm {
            MacAlgorithm::Cmac => mask_last_blocks(&main, text),
            MacAlgorithm::Lmac => {
                first_block = Some(self.counter_key(&main, 1)?);
                last_block = Some(self.counter_key(&main, 2)?);
            }
            MacAlgorithm::MacDes => {
                // K''' is K'' with every other nibble complemented, and algorithm 4 needs two blocks.
                if (0..rows.len()).any(|at| text.blocks(at) < 2) {
                    return Err(
                        MalformedBatch::Length { what: "message", found: 1, wanted: "at least two blocks" }.into()
                    );
                }
                if let Some((_, keys, part)) = &second {
                    let mut third: Vec<u8> = rows
                        .iter()
                        .flat_map(|row| keys.key(*row as usize)[(*part).clone()].iter().map(|b| b ^ 0xF0))
                        .collect();
                    first_block = CipherGroup::new(self.main.0, &third);
                    third.zeroize();
                }
            }
            _ => {}
        }
        let mut done = *chain;
        for number in 0..text.most_blocks() {
            for at in (0..rows.len()).filter(|at| number < text.blocks(*at)) {
                chain[at].iter_mut().zip(text.block(at, number)).for_each(|(c, t)| *c ^= t);
            }
            let mut under_last = *chain;
            match (self.algorithm, &first_block, &last_block) {
                (MacAlgorithm::Lmac, Some(k1), Some(k2)) => {
                    k1.encrypt(chain);
                    k2.encrypt(&mut under_last);
                }
                _ => {
                    main.encrypt(chain);
                    if let (0, MacAlgorithm::MacDes, Some(third)) = (number, self.algorithm, &first_block) {
                        third.encrypt(chain);
                    }
                    under_last = *chain;
                }
            }
            for at in (0..rows.len()).filter(|at| number + 1 == text.blocks(*at)) {
                done[at] = under_last[at];
            }
            under_last.zeroize();
        }
        if let Some((second, ..)) = &second {
            if self.algorithm == MacAlgorithm::Retail {
                second.decrypt(&mut done);
                main.encrypt(&mut done);
            } else {
                second.encrypt(&mut done);
            }
        }
        *chain = done;
        done.zeroize();
        Ok(())
    }

    /// LMAC's keys are `E(K, i)` of the block number `i`.
    fn counter_key(&self, main: &CipherGroup, counter: u8) -> Result<CipherGroup, EngineError> {
        let mut blocks: Blocks = [[0; 16]; LANES];
        blocks.iter_mut().for_each(|block| block[self.block - 1] = counter);
        main.encrypt(&mut blocks);
        let len = self.main.0.key_len();
        let mut keys: Vec<u8> =
            blocks[..main.rows()].iter().flat_map(|block| block[..len.min(16)].iter().copied()).collect();
        let group = if len == self.block { CipherGroup::new(self.main.0, &keys) } else { None };
        blocks.zeroize();
        keys.zeroize();
        group.ok_or(EngineError::SecondKey)
    }
}

/// SP 800-38B, section 6.1: the last block is masked with K1 if it was whole, with K2 if it was padded.
fn mask_last_blocks(main: &CipherGroup, text: &mut Texts) {
    let mut subkeys: Blocks = [[0; 16]; LANES];
    main.encrypt(&mut subkeys);
    for ((end, partial), subkey) in text.ends.iter().zip(&mut subkeys) {
        let subkey = &mut subkey[..text.block];
        double(subkey);
        if *partial {
            double(subkey);
        }
        text.bytes[end - text.block..*end].iter_mut().zip(subkey).for_each(|(t, k)| *t ^= *k);
    }
    subkeys.zeroize();
}

/// Multiplication by x in GF(2^64) or GF(2^128), without a branch on the secret.
fn double(block: &mut [u8]) {
    let reduce = if block.len() == 8 { 0x1B } else { 0x87 };
    let top = block[0] >> 7;
    let mut carry = 0;
    for byte in block.iter_mut().rev() {
        let next = *byte >> 7;
        *byte = *byte << 1 | carry;
        carry = next;
    }
    if let Some(last) = block.last_mut() {
        *last ^= reduce & 0u8.wrapping_sub(top);
    }
}

/// What of a last block is kept, and how many bytes that is.
pub(crate) fn truncate(block: &[u8], truncation: Truncation) -> Result<([u8; 32], usize), EngineError> {
    let mut kept = [0; 32];
    let len = truncation.len();
    let fold = |half: usize| -> Vec<u8> {
        (0..half).map(|i| block.iter().skip(i).step_by(half).fold(0, |a, b| a ^ b)).collect()
    };
    let folded;
    let source: &[u8] = match truncation {
        Truncation::Left(n) => block.get(..n).unwrap_or_default(),
        Truncation::Right(n) => block.len().checked_sub(n).map_or(&[][..], |from| &block[from..]),
        Truncation::FoldLeft(n) => {
            folded = fold(8);
            folded.get(..n).unwrap_or_default()
        }
        Truncation::FoldTwice => {
            folded = fold(4);
            &folded
        }
    };
    if source.len() != len || len == 0 {
        return Err(MalformedBatch::Length { what: "MAC", found: len, wanted: "1 to what the algorithm gives" }.into());
    }
    kept[..len].copy_from_slice(source);
    Ok((kept, len))
}

fn hmacs(
    keys: &KeyRows,
    truncation: Truncation,
    message: &Message,
    span: &Span<'_>,
    mut each: impl FnMut(u32, &[u8]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let Span { inputs, first, rows } = *span;
    let mut text = Vec::new();
    for row in rows {
        text.clear();
        inputs.append(message, first + *row as usize, &mut text)?;
        let key = keys.key(*row as usize);
        let mut full = [0; 32];
        match keys.algorithm() {
            Algorithm::HmacSm3 => full.copy_from_slice(&one_hmac::<hmac::Hmac<sm3::Sm3>>(key, &text)?),
            Algorithm::HmacSha256 => full.copy_from_slice(&one_hmac::<hmac::Hmac<sha2::Sha256>>(key, &text)?),
            other => return Err(EngineError::NoHmac(other)),
        }
        let kept = truncate(&full, truncation)?;
        each(*row, &kept.0[..kept.1])?;
        full.zeroize();
    }
    text.zeroize();
    Ok(())
}

fn one_hmac<M: hmac::Mac + KeyInit>(key: &[u8], text: &[u8]) -> Result<Vec<u8>, EngineError> {
    let mut mac = <M as KeyInit>::new_from_slice(key).map_err(|_| EngineError::SecondKey)?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().to_vec())
}
