//! Runs a recipe over a batch.

use claviger_hsm_api::{
    Algorithm, Batch, Column, DriverError, Finish, KeyColumn, KeyPath, Leg, LegOutcome, LegValue, MalformedBatch,
    NewKey, Outcome, Recipe, RecipeRefused, Secret, StoredKey, When, WrapFormat,
};
use subtle::ConstantTimeEq;

use crate::bulk::{BulkRun, Tail, split};
use crate::cipher::{decrypt, encrypt};
use crate::derive::KeyRows;
use crate::exchange::envelope;
use crate::input::Inputs;
use crate::kcv::kcvs;
use crate::mac::{Span, macs, truncate};
use crate::signature::{public_point, sign, verify};
use crate::wrap::wrap;

/// A key in plain, in locked memory.
pub struct PlainKey {
    /// What it is a key of.
    pub algorithm: Algorithm,
    /// Its bytes.
    pub secret: Secret,
}

/// Why the engine could not run a recipe. Always the request's fault; holds no secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The batch does not fit.
    #[error(transparent)]
    Batch(#[from] MalformedBatch),
    /// The keys do not admit it.
    #[error(transparent)]
    Refused(#[from] RecipeRefused),
    /// Only block ciphers do this.
    #[error("{0} is no block cipher of this mode")]
    NoBlockCipher(Algorithm),
    /// Only AES keys do this.
    #[error("AES key wrap is under an AES key, not {0}")]
    NoKeyWrap(Algorithm),
    /// Nothing that was sent under this key.
    #[error("the blob is not of this wrapping key")]
    Foreign,
    /// A key block, an envelope or a key in ECB that is not good.
    #[error(transparent)]
    KeyBlock(#[from] claviger_key_blocks::KeyBlockError),
    /// What came does not say that the key is what it is to be.
    #[error("`{field}` of what came is not what the key is to be")]
    Header {
        /// Which.
        field: &'static str,
    },
    /// The key that protects it is of another cipher.
    #[error("key blocks of version {version} are not under a key of {under}")]
    BlockVersion {
        /// Of the block.
        version: String,
        /// The cipher.
        under: Algorithm,
    },
    /// A key that came under a weaker one.
    #[error("it came under a key of {under}, which is weaker than a key of {key}")]
    Weaker {
        /// What it came under.
        under: Algorithm,
        /// What it is to be.
        key: Algorithm,
    },
    /// X9.143 has no letter for it.
    #[error("key blocks hold no keys of {0}")]
    NoBlockAlgorithm(Algorithm),
    /// Two letters or digits.
    #[error("`key version` of a key block is two letters or digits")]
    KeyVersion,
    /// Only HMAC keys do this.
    #[error("{0} is no HMAC key")]
    NoHmac(Algorithm),
    /// No such derivation exists for this algorithm.
    #[error("no derivation of this kind is defined for {0}")]
    Underivable(Algorithm),
    /// The MAC algorithm takes two keys, or one of another length.
    #[error("the MAC algorithm needs a second key of the same algorithm")]
    SecondKey,
    /// The rule does not fit.
    #[error("the KCV rule does not fit {0}")]
    KcvRule(Algorithm),
    /// A key of another length than its algorithm's.
    #[error("a key is not as long as {0} keys are")]
    KeyLength(Algorithm),
    /// Zero, or not below the group order.
    #[error("the key is not an SM2 private key")]
    NoSm2Key,
    /// More than the mode can take.
    #[error("the message is too long")]
    TooLong,
    /// The device that holds the keys failed.
    #[error(transparent)]
    Device(#[from] DriverError),
    /// The backend does not keep child keys.
    #[error("this backend cannot keep a derived key")]
    NoStore,
    /// The backend keeps child keys, but not this one.
    #[error("the derived key could not be kept: {0}")]
    NotKept(String),
    /// A named child of several rows would be several keys of one name.
    #[error("a child key is stored from a batch of one row")]
    OneChild,
    /// The environment forces kernels that there are not.
    #[error("CLAVIGER_KERNELS is `{0}`, which is no platform of this machine: it has {has}", has = crate::kernels::names())]
    Kernels(String),
    /// The operating system gave no randomness.
    #[error("the operating system's random generator failed")]
    Random,
}

/// Keeps a derived key as the stored key that it is to be.
pub type KeepChild<'a> = dyn Fn(&NewKey, PlainKey) -> Result<StoredKey, EngineError> + 'a;

/// Rows that are taken down a path at once: bounds the locked memory a batch needs.
const RUN: usize = 4096;

/// Where the keys of a recipe are.
pub(crate) trait Holder {
    /// The keys from which a path goes down in the engine, for as many rows from `first` on as `keyed` has. Those that
    /// it denies a key get some key or none: they do not run.
    fn start(&self, path: &KeyPath, inputs: &Inputs<'_>, first: usize, keyed: &[bool]) -> Result<KeyRows, EngineError>;

    /// Whether the holder runs a leg to its end by itself.
    fn finishes(&self, _: usize) -> bool {
        false
    }

    /// Runs such a leg.
    fn finish(&self, _: usize, _: &Leg, _: &Span<'_>, _: &[bool], _: &mut Sink<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    /// Keeps a derived key as the stored key that it is to be.
    fn keep(&self, _: &NewKey, _: PlainKey) -> Result<StoredKey, EngineError> {
        Err(EngineError::NoStore)
    }
}

/// Keys in plain.
struct Plain<'a> {
    keys: &'a [&'a PlainKey],
    store: &'a KeepChild<'a>,
}

impl Holder for Plain<'_> {
    fn start(&self, path: &KeyPath, inputs: &Inputs<'_>, first: usize, keyed: &[bool]) -> Result<KeyRows, EngineError> {
        let chosen = match &inputs.batch.keys[path.slot] {
            KeyColumn::Same(key) => vec![u32::from(*key); keyed.len()],
            KeyColumn::PerRow(keys) => keys[first..first + keyed.len()].iter().copied().map(u32::from).collect(),
        };
        KeyRows::stored(self.keys, chosen, path.algorithm)
    }

    fn keep(&self, child: &NewKey, key: PlainKey) -> Result<StoredKey, EngineError> {
        (self.store)(child, key)
    }
}

/// Runs `recipe` over `batch` on plain keys. `store` keeps a derived key for `Finish::Store`.
///
/// # Errors
/// An [`EngineError`]; then nothing of the outcome is given.
pub fn run(keys: &[&PlainKey], recipe: &Recipe, batch: &Batch, store: &KeepChild<'_>) -> Result<Outcome, EngineError> {
    batch.check(recipe.slots(), keys.len())?;
    for path in recipe.paths() {
        check_algorithms(keys, path, batch)?;
    }
    run_with(&Plain { keys, store }, recipe, batch)
}

/// Runs `recipe` over `batch`, which has been checked, on keys that somebody holds.
pub(crate) fn run_with(holder: &dyn Holder, recipe: &Recipe, batch: &Batch) -> Result<Outcome, EngineError> {
    let mut legs: Vec<LegOutcome> = recipe.legs.iter().map(|leg| empty_outcome(&leg.finish, batch.rows)).collect();
    let mut outputs: Vec<Option<Column>> = recipe.legs.iter().map(|_| None).collect();
    // Where two legs need the same key, it is derived once and used in the general way.
    let alone = |leg: &Leg| recipe.paths().filter(|path| **path == leg.path).count() == 1;
    let tails: Vec<_> = recipe.legs.iter().map(|leg| if alone(leg) { split(leg) } else { None }).collect();
    let mut first = 0;
    while first < batch.rows {
        let rows = RUN.min(batch.rows - first);
        let mut derived: Vec<(&KeyPath, KeyRows)> = Vec::new();
        for (number, leg) in recipe.legs.iter().enumerate() {
            let inputs = Inputs { batch, outputs: &outputs };
            let chosen = choose(leg, &legs, first, rows);
            let span = Span { inputs: &inputs, first, rows: &chosen };
            if holder.finishes(number) {
                let keyed = keyed(&leg.path, &legs, first, rows);
                let mut out = Sink { outcome: &mut legs[number], first, next: first };
                holder.finish(number, leg, &span, &keyed, &mut out)?;
                out.fill_to(first + rows);
                keep_output(recipe, number, &legs, &mut outputs);
                continue;
            }
            if let Some((above, tail)) = &tails[number] {
                let keyed = keyed(&leg.path, &legs, first, rows);
                let above = KeyRows::walk(holder, above, &inputs, first, &keyed)?;
                if in_bulk(&leg.finish, &above, tail, &span, &keyed, &mut legs[number])? {
                    keep_output(recipe, number, &legs, &mut outputs);
                    continue;
                }
            }
            for path in std::iter::once(&leg.path).chain(leg.finish.other_path()) {
                if !derived.iter().any(|(known, _)| *known == path) {
                    let keyed = keyed(path, &legs, first, rows);
                    derived.push((path, KeyRows::walk(holder, path, &inputs, first, &keyed)?));
                }
            }
            let of = |path: &KeyPath| derived.iter().find(|(known, _)| *known == path).map(|(_, rows)| rows);
            let (Some(main), other) = (of(&leg.path), leg.finish.other_path().and_then(of)) else { continue };
            let task = Task { holder, keys: main, other, inputs, first, chosen: &chosen };
            task.finish(&leg.finish, &mut legs[number])?;
            keep_output(recipe, number, &legs, &mut outputs);
        }
        first += rows;
    }
    Ok(Outcome { legs })
}

/// Lets later legs read what this one put out, if they do.
fn keep_output(recipe: &Recipe, number: usize, legs: &[LegOutcome], outputs: &mut [Option<Column>]) {
    if let LegValue::Bytes(column) = &legs[number].value
        && recipe.legs[number + 1..].iter().any(|later| later.reads().contains(&number))
    {
        outputs[number] = Some(column.clone());
    }
}

/// A leg that MACs, by a kernel that takes the last steps of the path as well; whether one could.
fn in_bulk(
    finish: &Finish,
    above: &KeyRows,
    tail: &Tail<'_>,
    span: &Span<'_>,
    keyed: &[bool],
    outcome: &mut LegOutcome,
) -> Result<bool, EngineError> {
    let (Finish::Mac { spec, message } | Finish::VerifyMac { spec, message, .. }) = finish else { return Ok(false) };
    let run = BulkRun { keys: above, tail, spec, message, span, keyed };
    let mut out = Sink { outcome, first: span.first, next: span.first };
    if let Finish::VerifyMac { expected, .. } = finish {
        let Some(verdicts) = run.verdicts(expected) else { return Ok(false) };
        if span.rows.len() == above.rows() {
            out.verdicts(&verdicts);
        } else {
            span.rows.iter().zip(verdicts).for_each(|(row, valid)| out.verdict(*row, valid));
        }
    } else {
        let Some((blocks, block)) = run.blocks() else { return Ok(false) };
        for (row, block) in span.rows.iter().zip(blocks.chunks_exact(block)) {
            let (kept, len) = truncate(block, spec.truncation)?;
            out.bytes(*row, &kept[..len]);
        }
    }
    out.fill_to(span.first + above.rows());
    Ok(true)
}

/// One leg over one run of rows.
struct Task<'a> {
    holder: &'a dyn Holder,
    keys: &'a KeyRows,
    other: Option<&'a KeyRows>,
    inputs: Inputs<'a>,
    first: usize,
    /// Rows that run, counted from `first`.
    chosen: &'a [u32],
}

impl Task<'_> {
    fn finish(&self, finish: &Finish, outcome: &mut LegOutcome) -> Result<(), EngineError> {
        let Self { holder, keys, other, inputs, first, chosen } = self;
        let span = Span { inputs, first: *first, rows: chosen };
        let mut out = Sink { outcome, first: *first, next: *first };
        match finish {
            Finish::Mac { spec, message } => macs(keys, *other, spec, message, &span, |row, mac| {
                out.bytes(row, mac);
                Ok(())
            })?,
            Finish::VerifyMac { spec, message, expected } => {
                macs(keys, *other, spec, message, &span, |row, mac| {
                    out.verdict(row, compare(mac, inputs.cell(expected, first + row as usize)?)?);
                    Ok(())
                })?;
            }
            Finish::Encrypt { mode, padding, data } => {
                for row in *chosen {
                    out.bytes(*row, &encrypt(keys, mode, *padding, data, inputs, *first, *row)?);
                }
            }
            Finish::Decrypt { mode, data } => {
                for row in *chosen {
                    if let Some(plain) = decrypt(keys, mode, data, inputs, *first, *row)? {
                        out.bytes(*row, &plain);
                    }
                }
            }
            Finish::Kcv { rule } => {
                kcvs(keys, chosen, *rule, |row, kcv| out.bytes(row, kcv))?;
            }
            Finish::Wrap { format, .. } => {
                let under = other.ok_or(EngineError::SecondKey)?;
                wrap(keys, under, format, &span, |row, wrapped| out.bytes(row, wrapped))?;
            }
            Finish::Envelop { recipient, form } => {
                for row in *chosen {
                    let key = keys.key(*row as usize);
                    out.bytes(*row, &envelope(recipient, *form, keys.algorithm(), key)?);
                }
            }
            Finish::PublicKey => {
                for row in *chosen {
                    let point = public_point(keys, *row)?;
                    out.bytes(*row, point.get(1..).ok_or(EngineError::NoSm2Key)?);
                }
            }
            Finish::Store { child } => {
                if inputs.batch.rows != 1 {
                    return Err(EngineError::OneChild);
                }
                for row in *chosen {
                    let secret = Secret::copy_of(keys.key(*row as usize));
                    out.stored(*row, holder.keep(child, PlainKey { algorithm: keys.algorithm(), secret })?);
                }
            }
            Finish::Sign { signer_id, message } => {
                for row in *chosen {
                    let mut text = Vec::new();
                    inputs.append(message, first + *row as usize, &mut text)?;
                    out.bytes(*row, &sign(keys, *row, signer_id, &text)?);
                }
            }
            Finish::VerifySignature { signer_id, message, signature } => {
                for row in *chosen {
                    let mut text = Vec::new();
                    inputs.append(message, first + *row as usize, &mut text)?;
                    let signature = inputs.cell(signature, first + *row as usize)?;
                    out.verdict(*row, verify(keys, *row, signer_id, &text, signature)?);
                }
            }
        }
        out.fill_to(first + keys.rows());
        Ok(())
    }
}

/// Whether a MAC is the expected one, in constant time.
pub(crate) fn compare(mac: &[u8], expected: &[u8]) -> Result<bool, MalformedBatch> {
    if expected.len() != mac.len() {
        let wanted = "as the rule truncates";
        return Err(MalformedBatch::Length { what: "MAC", found: expected.len(), wanted });
    }
    Ok(mac.ct_eq(expected).into())
}

/// Writes a leg's outcome, leaving empty what rows that do not run would have written.
pub(crate) struct Sink<'a> {
    outcome: &'a mut LegOutcome,
    first: usize,
    /// The row that is written next.
    next: usize,
}

impl Sink<'_> {
    pub(crate) fn bytes(&mut self, row: u32, value: &[u8]) {
        self.fill_to(self.first + row as usize);
        if let LegValue::Bytes(column) = &mut self.outcome.value {
            column.push(value);
        }
        self.ran();
    }

    pub(crate) fn verdict(&mut self, row: u32, valid: bool) {
        self.fill_to(self.first + row as usize);
        if let LegValue::Verdicts(verdicts) = &mut self.outcome.value {
            verdicts.push(valid);
        }
        self.ran();
    }

    /// Those of all rows from the next one on.
    fn verdicts(&mut self, found: &[bool]) {
        if let LegValue::Verdicts(verdicts) = &mut self.outcome.value {
            verdicts.extend_from_slice(found);
        }
        self.outcome.ran.resize(self.outcome.ran.len() + found.len(), true);
        self.next += found.len();
    }

    pub(crate) fn stored(&mut self, row: u32, key: StoredKey) {
        self.fill_to(self.first + row as usize);
        if let LegValue::Stored(keys) = &mut self.outcome.value {
            keys.push(key);
        }
        self.ran();
    }

    fn ran(&mut self) {
        self.outcome.ran.push(true);
        self.next += 1;
    }

    fn fill_to(&mut self, row: usize) {
        while self.next < row {
            match &mut self.outcome.value {
                LegValue::Bytes(column) => column.push(&[]),
                LegValue::Verdicts(verdicts) => verdicts.push(false),
                LegValue::Stored(_) => {}
            }
            self.outcome.ran.push(false);
            self.next += 1;
        }
    }
}

fn empty_outcome(finish: &Finish, rows: usize) -> LegOutcome {
    let value = match finish {
        Finish::VerifyMac { .. } | Finish::VerifySignature { .. } => LegValue::Verdicts(Vec::with_capacity(rows)),
        Finish::Store { .. } => LegValue::Stored(Vec::new()),
        // One that grows is copied and wiped again and again.
        _ => LegValue::Bytes(Column::Variable {
            ends: Vec::with_capacity(rows),
            bytes: Vec::with_capacity(rows * expected_len(finish)),
        }),
    };
    LegOutcome { ran: Vec::with_capacity(rows), value }
}

/// Bytes that a leg puts out for a row, where most are of one length.
fn expected_len(finish: &Finish) -> usize {
    match finish {
        Finish::Kcv { rule } => rule.take.into(),
        Finish::Wrap { format: WrapFormat::Ecb { .. }, .. } => 16,
        _ => 0,
    }
}

/// Whether each row has a key at the end of a path: not where a step reads what a leg did not put out.
fn keyed(path: &KeyPath, legs: &[LegOutcome], first: usize, rows: usize) -> Vec<bool> {
    let reads = path.reads();
    if reads.is_empty() {
        return vec![true; rows];
    }
    (first..first + rows).map(|row| reads.iter().all(|on| ran(legs, *on, row))).collect()
}

fn ran(legs: &[LegOutcome], leg: usize, row: usize) -> bool {
    legs.get(leg).is_some_and(|leg| leg.ran.get(row) == Some(&true))
}

/// Rows whose condition holds and for which every leg that is read from ran.
fn choose(leg: &Leg, legs: &[LegOutcome], first: usize, rows: usize) -> Vec<u32> {
    let reads = leg.reads();
    if leg.when == When::Always && reads.is_empty() {
        return (0..rows as u32).collect();
    }
    let verdict = |on: usize, row: usize, wanted: bool| match legs.get(on).map(|leg| &leg.value) {
        Some(LegValue::Verdicts(verdicts)) => ran(legs, on, row) && verdicts.get(row) == Some(&wanted),
        _ => false,
    };
    let holds = |row: &u32| {
        let at = first + *row as usize;
        let condition = match leg.when {
            When::Always => true,
            When::AfterValid(on) => verdict(on, at, true),
            When::AfterInvalid(on) => verdict(on, at, false),
        };
        condition && reads.iter().all(|on| ran(legs, *on, at))
    };
    (0..rows as u32).filter(holds).collect()
}

fn check_algorithms(keys: &[&PlainKey], path: &KeyPath, batch: &Batch) -> Result<(), EngineError> {
    if keys.iter().all(|key| key.algorithm == path.algorithm) {
        return Ok(());
    }
    let foreign = batch.keys[path.slot].used().iter().find_map(|number| {
        let found = keys[usize::from(*number)].algorithm;
        (found != path.algorithm).then_some(found)
    });
    match foreign {
        Some(found) => Err(RecipeRefused::Algorithm { wanted: path.algorithm, found }.into()),
        None => Ok(()),
    }
}
