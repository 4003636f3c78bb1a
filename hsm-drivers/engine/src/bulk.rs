//! MACs and dispersion by the kernels of `claviger-bulk-mac`: whole runs of rows, where the last steps of the path
//! and the MAC are what a kernel does in one go.
//!
//! Whatever is out of the ordinary (a factor of another length, a message that cannot be padded) is left to the
//! general way, which then says what is wrong.

use std::borrow::Cow;

use claviger_bulk_mac::{BulkMac, Cipher, Expected, Keys, LastStep, Mac, PerRow, Texts};
use claviger_hsm_api::{
    Algorithm, DispersionRule, Finish, FoldRule, Input, KeyPath, Leg, MacAlgorithm, MacSpec, Message, Parity, Step,
    Truncation,
};
use zeroize::Zeroizing;

use crate::columns::Columns;
use crate::derive::KeyRows;
use crate::kernels::kernels;
use crate::mac::Span;

/// The last steps of a path, which a kernel takes on its way to a MAC.
pub(crate) struct Tail<'a> {
    /// Of the last dispersion.
    factor: Option<&'a Input>,
    last: Last<'a>,
}

#[derive(Clone, Copy, PartialEq)]
enum Last<'a> {
    Whole,
    Fold,
    Session(&'a Input),
}

/// What is left of a leg's path above its tail, and the tail; `None` if no kernel knows the leg's shape.
pub(crate) fn split(leg: &Leg) -> Option<(KeyPath, Tail<'_>)> {
    let (Finish::Mac { spec, .. } | Finish::VerifyMac { spec, .. }) = &leg.finish else { return None };
    if spec.second.is_some() || spec.initial.is_some() {
        return None;
    }
    let above = |steps: &[Step]| KeyPath { steps: steps.to_vec(), ..leg.path.clone() };
    let single = Algorithm::Des;
    // What the key is before the tail's last step, and whether that step changes it.
    let (steps, last, algorithm) = match leg.path.steps.as_slice() {
        [steps @ .., Step::FoldHalves { rule }] => match (rule, algorithm_after(leg.path.algorithm, steps)?) {
            (FoldRule::SingleDes, Algorithm::TripleDes) => (steps, Last::Fold, single),
            (FoldRule::WithComplement, wide @ (Algorithm::Sm4 | Algorithm::Aes128)) => (steps, Last::Fold, wide),
            _ => (leg.path.steps.as_slice(), Last::Whole, algorithm_after(leg.path.algorithm, &leg.path.steps)?),
        },
        [steps @ .., Step::Session { input }] => match algorithm_after(leg.path.algorithm, steps)? {
            Algorithm::TripleDes => (steps, Last::Session(input), single),
            wide @ (Algorithm::Sm4 | Algorithm::Aes128) => (steps, Last::Session(input), wide),
            other => (leg.path.steps.as_slice(), Last::Whole, algorithm_after(other, &leg.path.steps[steps.len()..])?),
        },
        steps => (steps, Last::Whole, algorithm_after(leg.path.algorithm, steps)?),
    };
    let known = match (spec.algorithm, algorithm) {
        (MacAlgorithm::CbcMac, Algorithm::Des | Algorithm::TripleDes | Algorithm::Sm4 | Algorithm::Aes128)
        | (MacAlgorithm::Cmac, Algorithm::Sm4 | Algorithm::Aes128) => true,
        (MacAlgorithm::Retail, Algorithm::TripleDes) => last == Last::Whole,
        _ => false,
    };
    if !known {
        return None;
    }
    let as_computed = |step: &Step| {
        matches!(step, Step::Disperse { rule: DispersionRule::FactorAndComplement, parity: Parity::AsComputed, .. })
    };
    match steps.split_last() {
        Some((step @ Step::Disperse { factor, .. }, steps)) if as_computed(step) => {
            Some((above(steps), Tail { factor: Some(factor), last }))
        }
        _ => Some((above(steps), Tail { factor: None, last })),
    }
}

/// What a key is after some steps down, if they are defined for it.
fn algorithm_after(of: Algorithm, steps: &[Step]) -> Option<Algorithm> {
    steps.iter().try_fold(of, |algorithm, step| match (step, algorithm) {
        (Step::Session { .. }, Algorithm::Des | Algorithm::TripleDes)
        | (Step::FoldHalves { rule: FoldRule::SingleDes }, Algorithm::TripleDes) => Some(Algorithm::Des),
        (Step::FoldHalves { rule: FoldRule::SingleDes }, _) => None,
        _ => Some(algorithm),
    })
}

/// A run of rows on its way to MACs.
pub(crate) struct BulkRun<'a> {
    pub(crate) keys: &'a KeyRows,
    pub(crate) tail: &'a Tail<'a>,
    pub(crate) spec: &'a MacSpec,
    pub(crate) message: &'a Message,
    pub(crate) span: &'a Span<'a>,
    /// Rows that have a key, whether or not they run: the general way reads their factors too.
    pub(crate) keyed: &'a [bool],
}

impl BulkRun<'_> {
    /// The last block of each row that runs, and how long a block is.
    pub(crate) fn blocks(&self) -> Option<(Zeroizing<Vec<u8>>, usize)> {
        let mut block = 0;
        let found = self.lend(|bulk, keys, mac, texts| {
            block = keys.cipher.block_len();
            let mut found = Zeroizing::new(vec![0; self.span.rows.len() * block]);
            bulk.macs(keys, mac, texts, &mut found).ok()?;
            Some(found)
        })?;
        Some((found, block))
    }

    /// The verdict on each row that runs.
    pub(crate) fn verdicts(&self, expected: &Input) -> Option<Vec<bool>> {
        let Truncation::Left(width) = self.spec.truncation else { return None };
        let bytes = self.expected(expected, width)?;
        self.lend(|bulk, keys, mac, texts| {
            bulk.verify(keys, mac, texts, &Expected { width, bytes: &bytes }).ok().filter(|_| width > 0)
        })
    }

    /// The MACs that are expected; `None` if one has another width.
    fn expected(&self, expected: &Input, width: usize) -> Option<Cow<'_, [u8]>> {
        let Span { inputs, first, rows } = *self.span;
        match inputs.fixed(expected) {
            Some((found, cells)) if found == width && self.span.is_whole() => {
                return Some(Cow::Borrowed(&cells[first * width..][..rows.len() * width]));
            }
            _ => {}
        }
        let mut bytes = Vec::with_capacity(rows.len() * width);
        for row in rows {
            let cell = inputs.cell(expected, first + *row as usize).ok()?;
            if cell.len() != width {
                return None;
            }
            bytes.extend_from_slice(cell);
        }
        Some(Cow::Owned(bytes))
    }

    /// Gathers the columns and lends them to a kernel.
    fn lend<T>(&self, run: impl FnOnce(BulkMac, &Keys<'_>, Mac, &Texts<'_>) -> Option<T>) -> Option<T> {
        let masters = Masters::of(self.keys, self.tail)?;
        let chosen: Vec<u32> = self.span.rows.iter().map(|row| self.keys.number(*row as usize)).collect();
        let factors = match self.tail.factor {
            Some(factor) => Some(self.eights(factor)?),
            None => None,
        };
        let session = match self.tail.last {
            Last::Session(input) => Some(self.eights(input)?),
            Last::Whole | Last::Fold => None,
        };
        let mac = match self.spec.algorithm {
            MacAlgorithm::CbcMac => Mac::Cbc,
            MacAlgorithm::Retail => Mac::Retail,
            MacAlgorithm::Cmac => Mac::Cmac,
            _ => return None,
        };
        let levels: Vec<&[[u8; 8]]> = factors.iter().map(|factors| &**factors).collect();
        let keys = Keys {
            cipher: masters.cipher,
            masters: masters.keys(),
            chosen: same_or_each(&chosen),
            levels: &levels,
            last: match (&session, masters.last) {
                (Some(inputs), _) => LastStep::Session(inputs),
                (None, Last::Fold) => LastStep::Fold,
                (None, _) => LastStep::Whole,
            },
        };
        let columns = Columns::gather(self.spec, self.message, self.span, masters.cipher.block_len())?;
        let texts: Vec<&[u8]> = columns.columns.iter().map(Vec::as_slice).collect();
        let texts =
            Texts { columns: &texts, blocks: same_or_each(&columns.blocks), padded: same_or_each(&columns.padded) };
        run(kernels(), &keys, mac, &texts)
    }

    /// A column of 8 bytes a row; `None` if a row that has a key has another width there.
    fn eights(&self, input: &Input) -> Option<Cow<'_, [[u8; 8]]>> {
        let Span { inputs, first, rows } = *self.span;
        if let Some((8, bytes)) = inputs.fixed(input) {
            let cells = &bytes.as_chunks().0[first..];
            if self.span.is_whole() {
                return Some(Cow::Borrowed(&cells[..rows.len()]));
            }
            return Some(rows.iter().map(|row| cells[*row as usize]).collect());
        }
        let cell = |row: usize| inputs.cell(input, first + row).ok()?.try_into().ok();
        if rows.len() < self.keyed.len() {
            for (row, _) in self.keyed.iter().enumerate().filter(|(_, keyed)| **keyed) {
                cell(row)?;
            }
        }
        rows.iter().map(|row| cell(*row as usize)).collect()
    }
}

/// The keys that a run begins with, 16 bytes each.
struct Masters<'a> {
    cipher: Cipher,
    last: Last<'a>,
    given: &'a KeyRows,
    /// Single-DES keys before zeros: their halves' exclusive or is the key itself.
    single: Option<Zeroizing<Vec<[u8; 16]>>>,
}

impl<'a> Masters<'a> {
    fn of(given: &'a KeyRows, tail: &Tail<'a>) -> Option<Self> {
        let (cipher, single) = match given.algorithm() {
            Algorithm::TripleDes => (Cipher::TripleDes, false),
            Algorithm::Sm4 => (Cipher::Sm4, false),
            Algorithm::Aes128 => (Cipher::Aes128, false),
            Algorithm::Des if tail.factor.is_none() && tail.last == Last::Whole => (Cipher::TripleDes, true),
            _ => return None,
        };
        if !single {
            return Some(Self { cipher, last: tail.last, given, single: None });
        }
        let (eights, rest) = given.distinct().as_chunks::<8>();
        if !rest.is_empty() {
            return None;
        }
        let mut keys = Zeroizing::new(vec![[0; 16]; eights.len()]);
        keys.iter_mut().zip(eights).for_each(|(key, eight)| key[..8].copy_from_slice(eight));
        Some(Self { cipher, last: Last::Fold, given, single: Some(keys) })
    }

    fn keys(&self) -> &[[u8; 16]] {
        match &self.single {
            Some(keys) => keys,
            None => self.given.distinct().as_chunks().0,
        }
    }
}

/// One for all, if all are equal.
fn same_or_each<T: Copy + PartialEq + Default>(values: &[T]) -> PerRow<'_, T> {
    let first = values.first().copied().unwrap_or_default();
    if values.iter().all(|value| *value == first) { PerRow::Same(first) } else { PerRow::Each(values) }
}
