//! Recipes on a device: legs that end inside run there row by row, and what comes out goes on in the engine.

use std::collections::HashMap;

use claviger_hsm_api::{
    Algorithm, Batch, Finish, Input, KcvFunction, KcvInput, KeyPath, Leg, MacAlgorithm, MacSpec, MalformedBatch,
    Message, Outcome, Padding, Parity, Recipe, Step, WrapFormat,
};
use claviger_locked_memory::LockedBytes;
use zeroize::Zeroizing;

use crate::derive::{KeyRows, derivation_block};
use crate::device::{Derived, Device, Direction};
use crate::input::Inputs;
use crate::lowering::{LegCut, Runs, algorithm_after};
use crate::mac::{Span, truncate};
use crate::padding::pad;
use crate::run::{EngineError, Holder, Sink, compare, run_with};

/// Runs `recipe` over `batch` as [`split`](crate::lowering::split) has cut it. `keys` are numbered as the batch's key
/// columns number them.
///
/// # Errors
/// An [`EngineError`]; then nothing of the outcome is given.
pub fn run_on<D: Device>(
    device: &D,
    keys: &[&D::Key],
    recipe: &Recipe,
    cuts: &[LegCut],
    batch: &Batch,
) -> Result<Outcome, EngineError> {
    let mut starts = Vec::new();
    let mut rest = recipe.clone();
    for (leg, cut) in rest.legs.iter_mut().zip(cuts).filter(|(_, cut)| cut.runs != Runs::Inside) {
        shorten(&mut leg.path, cut.path, &mut starts);
        let under = match &mut leg.finish {
            Finish::Wrap { under, .. } => Some(under),
            Finish::Mac { spec, .. } | Finish::VerifyMac { spec, .. } => spec.second.as_mut(),
            _ => None,
        };
        if let (Some(under), Some(other)) = (under, cut.other) {
            shorten(under, other, &mut starts);
        }
    }
    let holder = OnDevice { device, keys, cuts, starts };
    run_with(&holder, &rest, batch)
}

/// A path that is cut begins where its key comes out, in a slot of its own.
fn shorten(path: &mut KeyPath, cut: Option<usize>, starts: &mut Vec<(KeyPath, usize)>) {
    let Some(step) = cut else { return };
    let start = (KeyPath { steps: path.steps[..=step].to_vec(), ..path.clone() }, step);
    let slot = starts.iter().position(|known| *known == start).unwrap_or_else(|| {
        starts.push(start);
        starts.len() - 1
    });
    path.algorithm = algorithm_after(path.algorithm, &path.steps[..=step]);
    path.slot = slot;
    path.steps.drain(..=step);
}

struct OnDevice<'a, D: Device> {
    device: &'a D,
    keys: &'a [&'a D::Key],
    cuts: &'a [LegCut],
    /// For each slot of the shortened paths: the path down to where a key comes out, and the number of that step.
    starts: Vec<(KeyPath, usize)>,
}

/// A key inside, stored or derived on the way.
enum Inside<'a, K> {
    Stored(&'a K),
    Derived(K),
}

impl<K> Inside<'_, K> {
    fn key(&self) -> &K {
        match self {
            Self::Stored(key) => key,
            Self::Derived(key) => key,
        }
    }
}

/// What leads to a key inside: the stored key's number and the block of each step.
type Way = (u16, Vec<[u8; 16]>);

/// Rows by what leads to their key, in the order in which the ways are met. Neighbours mostly go the same way.
#[derive(Default)]
struct Groups {
    groups: Vec<(Way, Vec<usize>)>,
    places: HashMap<Way, usize>,
    last: usize,
}

impl Groups {
    fn add(&mut self, way: Way, row: usize) {
        if self.groups.get(self.last).is_none_or(|(last, _)| !same_way(last, &way)) {
            self.last = *self.places.entry(way.clone()).or_insert(self.groups.len());
            if self.last == self.groups.len() {
                self.groups.push((way, Vec::new()));
            }
        }
        self.groups[self.last].1.push(row);
    }
}

/// Block by block: a comparison of two empty slices costs 140 ns where the C library reads them under a mask, since they
/// point nowhere, and most ways are empty.
fn same_way(one: &Way, other: &Way) -> bool {
    one.0 == other.0 && one.1.iter().eq(&other.1)
}

/// The keys down to the one that a row used last: the next row takes over those that lead the same way.
struct Chain<'a, K> {
    way: Way,
    keys: Vec<Inside<'a, K>>,
}

impl<D: Device> Holder for OnDevice<'_, D> {
    fn start(&self, path: &KeyPath, inputs: &Inputs<'_>, first: usize, keyed: &[bool]) -> Result<KeyRows, EngineError> {
        let (path, cut) = &self.starts[path.slot];
        let above = algorithm_after(path.algorithm, &path.steps[..*cut]);
        let step = &path.steps[*cut];
        let child = algorithm_after(above, std::slice::from_ref(step));
        // A session key of DES is one block, everything else sixteen bytes.
        let width = child.key_len();
        // Rows by the key that stands above what comes out: one call each.
        let mut groups = Groups::default();
        for row in (0..keyed.len()).filter(|row| keyed[*row]) {
            groups.add(self.way(path, *cut, inputs, first + row)?, row);
        }
        let mut keys = LockedBytes::zeroed(width * keyed.len());
        for (block, row) in keys.expose_mut().chunks_exact_mut(width).zip(0..).filter(|(_, row)| keyed[*row]) {
            block.copy_from_slice(&derivation_block(above, step, inputs, first + row)?[..width]);
        }
        for (way, rows) in groups.groups {
            let mut chain = Chain { way: (way.0, Vec::new()), keys: Vec::new() };
            let key = self.walk(&mut chain, path, &way, false)?;
            if rows.len() == keyed.len() {
                self.device.ecb(key, Direction::Encrypt, keys.expose_mut())?;
                continue;
            }
            let mut blocks = LockedBytes::zeroed(width * rows.len());
            for (to, row) in blocks.expose_mut().chunks_exact_mut(width).zip(&rows) {
                to.copy_from_slice(&keys.expose()[row * width..][..width]);
            }
            self.device.ecb(key, Direction::Encrypt, blocks.expose_mut())?;
            for (row, block) in rows.iter().zip(blocks.expose().chunks_exact(width)) {
                keys.expose_mut()[row * width..][..width].copy_from_slice(block);
            }
        }
        if matches!(step, Step::Disperse { parity: Parity::Odd, .. }) && child.is_des() {
            keys.expose_mut().iter_mut().for_each(|byte| *byte ^= u8::from(byte.count_ones().is_multiple_of(2)));
        }
        Ok(KeyRows::derived(child, keys, (0..keyed.len() as u32).collect()))
    }

    fn finishes(&self, leg: usize) -> bool {
        self.cuts[leg].runs != Runs::InEngine
    }

    fn finish(
        &self,
        number: usize,
        leg: &Leg,
        span: &Span<'_>,
        keyed: &[bool],
        out: &mut Sink<'_>,
    ) -> Result<(), EngineError> {
        if self.cuts[number].runs == Runs::Enciphered {
            return self.encipher(leg, span, keyed, out);
        }
        let mut chains =
            [Chain { way: (0, Vec::new()), keys: Vec::new() }, Chain { way: (0, Vec::new()), keys: Vec::new() }];
        if matches!(leg.finish, Finish::Store { .. }) && span.inputs.batch.rows != 1 {
            return Err(EngineError::OneChild);
        }
        for row in span.rows {
            let at = span.first + *row as usize;
            let [own, other] = &mut chains;
            let task = Row { holder: self, leg, inputs: span.inputs, at };
            task.run(own, other, *row, out)?;
        }
        Ok(())
    }
}

impl<'a, D: Device> OnDevice<'a, D> {
    /// What leads to the key after `steps` steps of a path in one row.
    fn way(&self, path: &KeyPath, steps: usize, inputs: &Inputs<'_>, row: usize) -> Result<Way, EngineError> {
        let mut algorithm = path.algorithm;
        let mut blocks = Vec::with_capacity(steps);
        for step in &path.steps[..steps] {
            blocks.push(derivation_block(algorithm, step, inputs, row)?);
            algorithm = algorithm_after(algorithm, std::slice::from_ref(step));
        }
        Ok((inputs.batch.keys[path.slot].at(row), blocks))
    }

    /// Goes a way, or the part of it that the last row did not go.
    fn walk<'c>(
        &self,
        chain: &'c mut Chain<'a, D::Key>,
        path: &KeyPath,
        way: &Way,
        leaves: bool,
    ) -> Result<&'c D::Key, EngineError> {
        let same = if chain.keys.is_empty() || chain.way.0 != way.0 {
            0
        } else {
            1 + chain.way.1.iter().zip(&way.1).take_while(|(a, b)| a == b).count()
        };
        chain.keys.truncate(same);
        chain.way.1.truncate(same.saturating_sub(1));
        if chain.keys.is_empty() {
            chain.way.0 = way.0;
            chain.keys.push(Inside::Stored(self.keys[usize::from(way.0)]));
        }
        for (number, block) in way.1.iter().enumerate().skip(chain.keys.len() - 1) {
            let algorithm = algorithm_after(path.algorithm, &path.steps[..=number]);
            let made = Derived { algorithm, leaves: leaves && number + 1 == way.1.len() };
            let parent = chain.keys.last().map(Inside::key).ok_or(EngineError::NoStore)?;
            let child = self.device.derive(parent, made, block)?;
            chain.keys.push(Inside::Derived(child));
            chain.way.1.push(*block);
        }
        chain.keys.last().map(Inside::key).ok_or(EngineError::NoStore)
    }

    /// A wrapping whose key has come out: laid out here, enciphered by the device.
    fn encipher(&self, leg: &Leg, span: &Span<'_>, keyed: &[bool], out: &mut Sink<'_>) -> Result<(), EngineError> {
        let Finish::Wrap { under, format: WrapFormat::Ecb { prefix, padding } } = &leg.finish else { return Ok(()) };
        let keys = KeyRows::walk(self, &leg.path, span.inputs, span.first, keyed)?;
        let block = algorithm_after(under.algorithm, &under.steps).block_len().unwrap_or(8);
        let mut groups = Groups::default();
        let mut frames = Vec::with_capacity(span.rows.len());
        for (number, row) in span.rows.iter().enumerate() {
            let at = span.first + *row as usize;
            let mut shape = Vec::new();
            span.inputs.append(prefix, at, &mut shape)?;
            let place = shape.len();
            let key = keys.key(*row as usize);
            shape.resize(place + key.len(), 0);
            pad(&mut shape, 0, *padding, block)?;
            frames.push(LockedBytes::init(shape.len(), |frame| {
                frame.copy_from_slice(&shape);
                frame[place..place + key.len()].copy_from_slice(key);
            }));
            groups.add(self.way(under, under.steps.len(), span.inputs, at)?, number);
        }
        for (way, numbers) in groups.groups {
            let mut chain = Chain { way: (way.0, Vec::new()), keys: Vec::new() };
            let key = self.walk(&mut chain, under, &way, false)?;
            let len = numbers.iter().map(|number| frames[*number].len()).sum();
            let mut together = LockedBytes::zeroed(len);
            let mut at = 0;
            for number in &numbers {
                let frame = frames[*number].expose();
                together.expose_mut()[at..at + frame.len()].copy_from_slice(frame);
                at += frame.len();
            }
            self.device.ecb(key, Direction::Encrypt, together.expose_mut())?;
            at = 0;
            for number in &numbers {
                let frame = frames[*number].expose_mut();
                frame.copy_from_slice(&together.expose()[at..at + frame.len()]);
                at += frame.len();
            }
        }
        span.rows.iter().zip(&frames).for_each(|(row, frame)| out.bytes(*row, frame.expose()));
        Ok(())
    }
}

/// One row of a leg that ends inside.
struct Row<'a, 'd, D: Device> {
    holder: &'a OnDevice<'d, D>,
    leg: &'a Leg,
    inputs: &'a Inputs<'a>,
    at: usize,
}

impl<'d, D: Device> Row<'_, 'd, D> {
    fn run(
        &self,
        own: &mut Chain<'d, D::Key>,
        other: &mut Chain<'d, D::Key>,
        row: u32,
        out: &mut Sink<'_>,
    ) -> Result<(), EngineError> {
        let device = self.holder.device;
        let path = &self.leg.path;
        match &self.leg.finish {
            Finish::Mac { spec, message } => out.bytes(row, &self.mac(spec, message, own, other)?),
            Finish::VerifyMac { spec, message, expected } => {
                let mac = self.mac(spec, message, own, other)?;
                out.verdict(row, compare(&mac, self.inputs.cell(expected, self.at)?)?);
            }
            Finish::Encrypt { mode, padding, data } => {
                let data = self.cipher(own, mode, Some(*padding), data)?;
                out.bytes(row, &data);
            }
            Finish::Decrypt { mode, data } => {
                let data = self.cipher(own, mode, None, data)?;
                out.bytes(row, &data);
            }
            Finish::Kcv { rule } => {
                let fill = u8::from(rule.input == KcvInput::Ones);
                let (key, algorithm) = self.end(own, path, false)?;
                let block = algorithm.block_len().unwrap_or(16);
                let full = match rule.function {
                    KcvFunction::Ecb => device.check_block(key, fill)?,
                    KcvFunction::Cmac => device.cmac(key, &vec![fill; block])?,
                    _ => device.hmac(key, &[fill; 16])?,
                };
                let kept = full.get(..usize::from(rule.take)).filter(|kept| !kept.is_empty());
                out.bytes(row, kept.ok_or(EngineError::KcvRule(algorithm))?);
            }
            Finish::Wrap { under, format } => {
                let (key, _) = self.end(own, path, true)?;
                let (under, _) = self.end(other, under, false)?;
                out.bytes(row, &device.wrap(key, under, format)?);
            }
            Finish::Store { child } => {
                let (last, steps) = path.steps.split_last().ok_or(EngineError::NoStore)?;
                let parent = self.holder.way(path, steps.len(), self.inputs, self.at)?;
                let algorithm = algorithm_after(path.algorithm, steps);
                let block = derivation_block(algorithm, last, self.inputs, self.at)?;
                let key = self.holder.walk(own, path, &parent, false)?;
                out.stored(row, device.keep(key, &block, child)?);
            }
            Finish::Sign { .. } | Finish::VerifySignature { .. } | Finish::Envelop { .. } | Finish::PublicKey => {
                return Err(EngineError::NoBlockCipher(path.algorithm));
            }
        }
        Ok(())
    }

    fn end<'c>(
        &self,
        chain: &'c mut Chain<'d, D::Key>,
        path: &KeyPath,
        leaves: bool,
    ) -> Result<(&'c D::Key, Algorithm), EngineError> {
        let way = self.holder.way(path, path.steps.len(), self.inputs, self.at)?;
        let algorithm = algorithm_after(path.algorithm, &path.steps);
        Ok((self.holder.walk(chain, path, &way, leaves)?, algorithm))
    }

    /// The row's MAC, truncated.
    fn mac(
        &self,
        spec: &MacSpec,
        message: &Message,
        own: &mut Chain<'d, D::Key>,
        other: &mut Chain<'d, D::Key>,
    ) -> Result<Vec<u8>, EngineError> {
        let device = self.holder.device;
        let mut text = Zeroizing::new(Vec::new());
        self.inputs.append(message, self.at, &mut text)?;
        let path = &self.leg.path;
        let algorithm = algorithm_after(path.algorithm, &path.steps);
        let full = match spec.algorithm {
            MacAlgorithm::Cmac => device.cmac(self.end(own, path, false)?.0, &text)?,
            MacAlgorithm::Hmac => device.hmac(self.end(own, path, false)?.0, &text)?,
            _ => {
                let block = algorithm.block_len().ok_or(EngineError::NoBlockCipher(algorithm))?;
                let partial = text.is_empty() || !text.len().is_multiple_of(block);
                let initial = self.initial(spec.initial.as_ref(), block)?;
                self.pad_mac(spec, &mut text, block)?;
                match spec.algorithm {
                    MacAlgorithm::Retail => self.retail(own, &initial, &mut text, block)?,
                    _ => device.cbc(self.end(own, path, false)?.0, Direction::Encrypt, &initial, &mut text)?,
                }
                let end = text.len() - block;
                let mut last = text.split_off(end);
                if let (MacAlgorithm::Emac, Some(second)) = (spec.algorithm, &spec.second) {
                    device.ecb(self.end(other, second, false)?.0, Direction::Encrypt, &mut last)?;
                }
                if spec.algorithm == MacAlgorithm::TrCbc {
                    // The left half for a whole message, the right half for a padded one.
                    if partial {
                        last.drain(..block / 2);
                    } else {
                        last.truncate(block / 2);
                    }
                }
                last
            }
        };
        let (kept, len) = truncate(&full, spec.truncation)?;
        Ok(kept[..len].to_vec())
    }

    fn pad_mac(&self, spec: &MacSpec, text: &mut Vec<u8>, block: usize) -> Result<(), EngineError> {
        let padding = if spec.algorithm == MacAlgorithm::TrCbc { Padding::OneIfNeeded } else { spec.padding };
        if text.is_empty() && padding == Padding::OneIfNeeded {
            text.push(0x80);
        }
        pad(text, 0, if text == &[0x80] { Padding::Zeros } else { padding }, block)?;
        if text.is_empty() {
            return Err(MalformedBatch::Length { what: "message", found: 0, wanted: "at least one block" }.into());
        }
        Ok(())
    }

    fn initial(&self, initial: Option<&Input>, block: usize) -> Result<Vec<u8>, EngineError> {
        let Some(initial) = initial else { return Ok(vec![0; block]) };
        let value = self.inputs.cell(initial, self.at)?;
        if value.len() != block {
            let wanted = "one block";
            return Err(MalformedBatch::Length { what: "initial value", found: value.len(), wanted }.into());
        }
        Ok(value.to_vec())
    }

    /// The retail MAC of a key `K' || K''`, by two objects: all blocks but the last are chained under `K' || K'`, which is
    /// single DES, and the last under the key itself, which is what algorithm 3 ends with.
    fn retail(
        &self,
        own: &mut Chain<'d, D::Key>,
        initial: &[u8],
        text: &mut [u8],
        block: usize,
    ) -> Result<(), EngineError> {
        let device = self.holder.device;
        let path = &self.leg.path;
        let (head, last) = text.split_at_mut(text.len() - block);
        let mut chained = initial.to_vec();
        if !head.is_empty() {
            match path.steps.split_last() {
                None => {
                    let (key, algorithm) = self.end(own, path, false)?;
                    // A key of single DES is both halves already.
                    let left = if algorithm == Algorithm::Des { key } else { device.left_half(key)? };
                    device.cbc(left, Direction::Encrypt, initial, head)?;
                }
                Some((Step::Disperse { .. }, above)) => {
                    let way = self.holder.way(path, path.steps.len(), self.inputs, self.at)?;
                    let parent = self.holder.walk(own, path, &(way.0, way.1[..above.len()].to_vec()), false)?;
                    let mut twice = way.1[above.len()];
                    twice.copy_within(..8, 8);
                    let made = Derived { algorithm: Algorithm::TripleDes, leaves: false };
                    device.cbc(&device.derive(parent, made, &twice)?, Direction::Encrypt, initial, head)?;
                }
                Some(_) => {
                    let (key, _) = self.end(own, path, false)?;
                    device.cbc(key, Direction::Encrypt, initial, head)?;
                }
            }
            chained = head[head.len() - block..].to_vec();
        }
        device.cbc(self.end(own, path, false)?.0, Direction::Encrypt, &chained, last)?;
        Ok(())
    }

    /// Enciphers with a padding, deciphers without.
    fn cipher(
        &self,
        own: &mut Chain<'d, D::Key>,
        mode: &claviger_hsm_api::CipherMode,
        padding: Option<Padding>,
        data: &Message,
    ) -> Result<Zeroizing<Vec<u8>>, EngineError> {
        use claviger_hsm_api::CipherMode;
        let device = self.holder.device;
        let mut text = Zeroizing::new(Vec::new());
        self.inputs.append(data, self.at, &mut text)?;
        let (key, algorithm) = self.end(own, &self.leg.path, false)?;
        let block = algorithm.block_len().ok_or(EngineError::NoBlockCipher(algorithm))?;
        let direction = if padding.is_some() { Direction::Encrypt } else { Direction::Decrypt };
        pad(&mut text, 0, padding.unwrap_or(Padding::None), block)?;
        match mode {
            CipherMode::Ecb => device.ecb(key, direction, &mut text)?,
            CipherMode::Cbc { initial } => {
                device.cbc(key, direction, &self.initial(Some(initial), block)?, &mut text)?;
            }
            CipherMode::Gcm { .. } => return Err(EngineError::NoBlockCipher(algorithm)),
        }
        Ok(text)
    }
}
