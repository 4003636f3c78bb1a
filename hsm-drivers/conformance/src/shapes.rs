//! Every shape of a recipe of one leg, alone and in a mixed batch: what a path and a finish give at once must be
//! what they give when each step is taken by itself, by ECB on a plain key.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, DispersionRule, Exportability, Exposure, Finish, FoldRule, Input,
    KcvFunction, KcvInput, KcvRule, KeyAttributes, KeyColumn, KeyHandle, KeyPath, KeyRank, MacAlgorithm, MacSpec,
    Message, ModeOfUse, Padding, Parity, Recipe, Step, Truncation, WrapFormat,
};

use crate::Failure;
use crate::bench::{Bench, bare, plain};

/// The columns of every batch here, by number.
pub(crate) mod column {
    pub(crate) const FACTOR: usize = 0;
    pub(crate) const SECOND_FACTOR: usize = 1;
    pub(crate) const RAW_FACTOR: usize = 2;
    pub(crate) const SESSION: usize = 3;
    pub(crate) const TEXT: usize = 4;
    pub(crate) const BLOCKS: usize = 5;
    pub(crate) const NARROW_IV: usize = 6;
    pub(crate) const WIDE_IV: usize = 7;
    pub(crate) const NONCE: usize = 8;
    pub(crate) const COUNT: usize = 9;
}

/// The two master keys of a batch, in turn.
const MASTERS: [[u8; 16]; 2] = [*b"a first  master!", *b"another  master?"];
/// Rows that are different, and rows of the mixed batch, which is more than one group.
const ROWS: usize = 6;
const MIXED: usize = 70;

/// The inputs of a row; no two are alike.
pub(crate) fn inputs(row: usize) -> [Vec<u8>; column::COUNT] {
    let bytes = |of: usize, len: usize| (0..len).map(|at| (row * 89 + of * 37 + at * 11 + 5) as u8).collect();
    let lengths = [8, 8, 16, 8, 20 + 5 * row, 32 + 16 * (row % 3), 8, 16, 12];
    std::array::from_fn(|of| bytes(of, lengths[of]))
}

fn columns(rows: &[usize]) -> Vec<Column> {
    let inputs: Vec<_> = rows.iter().map(|row| inputs(*row)).collect();
    (0..column::COUNT).map(|of| Column::from_rows(inputs.iter().map(|row| &row[of][..]))).collect()
}

fn path(slot: usize, algorithm: Algorithm, steps: &[Step]) -> KeyPath {
    KeyPath { slot, algorithm, steps: steps.to_vec(), steps_left: 0 }
}

pub(crate) fn disperse(rule: DispersionRule, parity: Parity, column: usize) -> Step {
    Step::Disperse { rule, parity, factor: Input::Column(column) }
}

/// Every kind of step, in paths that keys admit.
fn paths() -> Vec<(Algorithm, Vec<Step>)> {
    use Algorithm::{Aes128, Sm4, TripleDes};
    let plain = |column| disperse(DispersionRule::FactorAndComplement, Parity::AsComputed, column);
    let odd = |column| disperse(DispersionRule::FactorAndComplement, Parity::Odd, column);
    let raw = disperse(DispersionRule::Raw, Parity::AsComputed, column::RAW_FACTOR);
    let session = || Step::Session { input: Input::Column(column::SESSION) };
    let fold = |rule| Step::FoldHalves { rule };
    vec![
        (TripleDes, vec![plain(column::FACTOR)]),
        (TripleDes, vec![odd(column::FACTOR), odd(column::SECOND_FACTOR)]),
        (TripleDes, vec![plain(column::FACTOR), session()]),
        (TripleDes, vec![plain(column::FACTOR), plain(column::SECOND_FACTOR), fold(FoldRule::SingleDes)]),
        (Sm4, vec![plain(column::FACTOR), plain(column::SECOND_FACTOR)]),
        (Sm4, vec![raw]),
        (Sm4, vec![plain(column::FACTOR), session()]),
        (Sm4, vec![plain(column::FACTOR), fold(FoldRule::WithComplement)]),
        (Aes128, vec![plain(column::FACTOR), session()]),
    ]
}

fn mac(algorithm: MacAlgorithm, padding: Padding, initial: Option<usize>, truncation: Truncation) -> Finish {
    let spec = MacSpec { algorithm, second: None, padding, initial: initial.map(Input::Column), truncation };
    Finish::Mac { spec, message: Message::column(column::TEXT) }
}

/// Every finish that a key of `end` can run by itself.
fn finishes(end: Algorithm) -> Vec<Finish> {
    let wide = end.block_len() == Some(16);
    let iv = if wide { column::WIDE_IV } else { column::NARROW_IV };
    let cbc = || CipherMode::Cbc { initial: Input::Column(iv) };
    let encrypt = |mode, padding, column| Finish::Encrypt { mode, padding, data: Message::column(column) };
    let decrypt = |mode| Finish::Decrypt { mode, data: Message::column(column::BLOCKS) };
    let kcv = |function, input| Finish::Kcv { rule: KcvRule { function, input, take: 3 } };
    let mut finishes = vec![
        mac(MacAlgorithm::CbcMac, Padding::One, None, Truncation::Left(4)),
        mac(MacAlgorithm::CbcMac, Padding::Zeros, Some(iv), Truncation::Right(4)),
        mac(MacAlgorithm::CbcMac, Padding::Length, None, Truncation::Left(8)),
        mac(MacAlgorithm::Cmac, Padding::None, None, Truncation::Left(8)),
        mac(MacAlgorithm::TrCbc, Padding::None, None, Truncation::Left(4)),
        encrypt(CipherMode::Ecb, Padding::None, column::BLOCKS),
        encrypt(CipherMode::Ecb, Padding::OneIfNeeded, column::TEXT),
        encrypt(CipherMode::Ecb, Padding::Zeros, column::TEXT),
        encrypt(cbc(), Padding::Pkcs7, column::TEXT),
        encrypt(cbc(), Padding::One, column::BLOCKS),
        decrypt(CipherMode::Ecb),
        decrypt(cbc()),
        kcv(KcvFunction::Ecb, KcvInput::Zero),
        kcv(KcvFunction::Cmac, KcvInput::Ones),
    ];
    if matches!(end, Algorithm::Des | Algorithm::TripleDes) {
        finishes.push(mac(MacAlgorithm::Retail, Padding::One, Some(iv), Truncation::Left(4)));
    }
    if end == Algorithm::TripleDes {
        finishes.push(mac(MacAlgorithm::Emac, Padding::One, None, Truncation::Left(8)));
        finishes.push(mac(MacAlgorithm::MacDes, Padding::One, None, Truncation::Left(8)));
    } else {
        finishes.push(mac(MacAlgorithm::Lmac, Padding::One, None, Truncation::Left(8)));
    }
    if wide {
        finishes.push(mac(MacAlgorithm::CbcMac, Padding::One, None, Truncation::FoldLeft(4)));
        finishes.push(mac(MacAlgorithm::CbcMac, Padding::One, None, Truncation::FoldTwice));
        let associated = Message(vec![Input::Column(column::TEXT), Input::Constant(vec![7; 3])]);
        let gcm = CipherMode::Gcm { nonce: Input::Column(column::NONCE), associated };
        finishes.push(encrypt(gcm, Padding::None, column::TEXT));
    }
    finishes
}

/// Shapes run, each in its rows alone and in a mixed batch.
pub(crate) fn check(bench: &Bench<'_>) -> Result<usize, Failure> {
    let mut count = 0;
    for (algorithm, steps) in paths() {
        // With card keys that may leave, and with keys of which nothing may: a device goes other ways then.
        for ceiling in [Exposure::CardKey, Exposure::Nothing] {
            let of_path = || of_path(bench, algorithm, &steps, ceiling);
            if ceiling == Exposure::CardKey || bench.goes_other_ways(algorithm, &steps) {
                count += bench.attempt(of_path)?.unwrap_or(0);
            }
        }
    }
    Ok(count)
}

fn of_path(bench: &Bench<'_>, algorithm: Algorithm, steps: &[Step], ceiling: Exposure) -> Result<usize, Failure> {
    let mut count = 0;
    let masters = masters(bench, algorithm, steps, ceiling)?;
    let children = children(bench, algorithm, steps, 0)?;
    let end = children.end;
    for finish in finishes(end) {
        let name = format!("{algorithm} by {steps:?}: {}", finish.verb());
        let whole = Recipe::single(path(0, algorithm, steps), finish.clone());
        let last = Recipe::single(bare(end), finish);
        let expected =
            |row: usize| bench.bytes(&name, std::slice::from_ref(&children.keys[row]), &last, &row_alone(row, vec![0]));
        let one = || agree(bench, &name, &masters, &whole, &expected, &|row| vec![(row % 2) as u16]);
        count += usize::from(bench.attempt(one)?.is_some());
    }
    count += two_paths(bench, algorithm, steps, &masters, &children)?;
    children.keys.iter().for_each(|key| bench.driver.close(key));
    Ok(count)
}

fn row_alone(row: usize, keys: Vec<u16>) -> Batch {
    Batch { rows: 1, columns: columns(&[row]), keys: keys.into_iter().map(KeyColumn::Same).collect() }
}

/// Compares a recipe with what is expected of each row: the rows alone, then all of them, again and again, in one
/// batch in which every row names its own keys.
fn agree(
    bench: &Bench<'_>,
    name: &str,
    keys: &[KeyHandle],
    recipe: &Recipe,
    expected: &dyn Fn(usize) -> Result<Vec<u8>, Failure>,
    slots: &dyn Fn(usize) -> Vec<u16>,
) -> Result<(), Failure> {
    let expected: Vec<Vec<u8>> = (0..ROWS).map(expected).collect::<Result<_, _>>()?;
    for (row, expected) in expected.iter().enumerate() {
        bench.expect(name, &bench.bytes(name, keys, recipe, &row_alone(row, slots(row)))?, expected)?;
    }
    // Seven is prime to the rows there are, so neighbours differ.
    let order: Vec<usize> = (0..MIXED).map(|at| at * 7 % ROWS).collect();
    let key_column = |slot: usize| KeyColumn::PerRow(order.iter().map(|row| slots(*row)[slot]).collect());
    let batch = Batch { rows: MIXED, columns: columns(&order), keys: (0..recipe.slots()).map(key_column).collect() };
    let outcome = bench.run(name, keys, recipe, &batch)?;
    for (at, row) in order.iter().enumerate() {
        bench.expect(&format!("{name}, mixed"), outcome.bytes(0, at).unwrap_or_default(), &expected[*row])?;
    }
    Ok(())
}

/// The keys that the path starts from, of a rank that the path takes down to a card.
fn masters(
    bench: &Bench<'_>,
    algorithm: Algorithm,
    steps: &[Step],
    ceiling: Exposure,
) -> Result<Vec<KeyHandle>, Failure> {
    let steps_left = steps.iter().filter(|step| matches!(step, Step::Disperse { .. })).count() as u8;
    let attributes =
        KeyAttributes { rank: KeyRank::Dispersion { steps_left }, ceiling, ..plain(algorithm, "10", ModeOfUse::Any)? };
    MASTERS.iter().map(|key| bench.open(&bench.store(attributes.clone(), KcvRule::ZEROS, key)?)).collect()
}

/// The keys at the end of a path, one for each row, made step by step.
struct Children {
    end: Algorithm,
    bytes: Vec<Vec<u8>>,
    keys: Vec<KeyHandle>,
}

/// A row starts from the master key of its turn, or from the other one.
fn children(bench: &Bench<'_>, algorithm: Algorithm, steps: &[Step], other: usize) -> Result<Children, Failure> {
    let mut children = Children { end: algorithm, bytes: Vec::new(), keys: Vec::new() };
    for row in 0..ROWS {
        let (mut end, mut key) = (algorithm, MASTERS[(row + other) % 2].to_vec());
        for step in steps {
            (end, key) = one_step(bench, end, &key, step, row)?;
        }
        let attributes = KeyAttributes {
            exportability: Exportability::Sensitive,
            rank: KeyRank::Card,
            ..plain(end, "10", ModeOfUse::Any)?
        };
        children.keys.push(bench.open(&bench.store(attributes, KcvRule::ZEROS, &key)?)?);
        children.bytes.push(key);
        children.end = end;
    }
    Ok(children)
}

fn one_step(
    bench: &Bench<'_>,
    algorithm: Algorithm,
    key: &[u8],
    step: &Step,
    row: usize,
) -> Result<(Algorithm, Vec<u8>), Failure> {
    let cell = |input: &Input| if let Input::Column(of) = input { inputs(row)[*of].clone() } else { Vec::new() };
    let with_complement = |x: Vec<u8>| [&x[..], &x.iter().map(|byte| !byte).collect::<Vec<_>>()].concat();
    match step {
        Step::Disperse { rule, parity, factor } => {
            let factor = cell(factor);
            let block = if *rule == DispersionRule::Raw { factor } else { with_complement(factor) };
            let mut child = ecb(bench, algorithm, key, block)?;
            if *parity == Parity::Odd {
                child.iter_mut().for_each(|byte| *byte ^= u8::from(byte.count_ones() % 2 == 0));
            }
            Ok((algorithm, child))
        }
        Step::Session { input } if algorithm.is_des() => Ok((Algorithm::Des, ecb(bench, algorithm, key, cell(input))?)),
        Step::Session { input } => Ok((algorithm, ecb(bench, algorithm, key, with_complement(cell(input)))?)),
        Step::FoldHalves { rule } => {
            let folded: Vec<u8> = key[..8].iter().zip(&key[8..]).map(|(left, right)| left ^ right).collect();
            match rule {
                FoldRule::SingleDes => Ok((Algorithm::Des, folded)),
                FoldRule::WithComplement => Ok((algorithm, with_complement(folded))),
            }
        }
    }
}

fn ecb(bench: &Bench<'_>, algorithm: Algorithm, key: &[u8], data: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let handle = bench.key(algorithm, "D0", ModeOfUse::EncryptOnly, key)?;
    let finish = Finish::Encrypt { mode: CipherMode::Ecb, padding: Padding::None, data: Message::column(0) };
    let recipe = Recipe::single(bare(algorithm), finish);
    let made =
        bench.bytes("a step by ECB", std::slice::from_ref(&handle), &recipe, &Batch::one(vec![Column::one(data)], 1));
    bench.driver.close(&handle);
    made
}

/// Finishes with a second path: K'' of a MAC and a wrapping key, each at the end of a path of its own.
fn two_paths(
    bench: &Bench<'_>,
    algorithm: Algorithm,
    steps: &[Step],
    masters: &[KeyHandle],
    children: &Children,
) -> Result<usize, Failure> {
    let end = children.end;
    let under = |path: &KeyPath, format| Finish::Wrap { under: path.clone(), format };
    let second_mac = |path: &KeyPath, algorithm| {
        let spec = MacSpec {
            algorithm,
            second: Some(path.clone()),
            padding: Padding::One,
            initial: None,
            truncation: Truncation::Left(8),
        };
        Finish::Mac { spec, message: Message::column(column::TEXT) }
    };
    let prefix = |parts| WrapFormat::Ecb { prefix: Message(parts), padding: Padding::OneIfNeeded };
    let shapes = |path: &KeyPath| {
        let mut shapes = vec![
            under(path, prefix(Vec::new())),
            under(path, prefix(vec![Input::Constant(vec![0x14, 0x01]), Input::Column(column::NONCE)])),
            second_mac(path, MacAlgorithm::Emac),
            second_mac(path, MacAlgorithm::Retail),
            second_mac(path, MacAlgorithm::MacDes),
        ];
        if end == Algorithm::Aes128 {
            shapes.push(under(path, WrapFormat::KeyWrap));
        }
        shapes
    };
    let mut count = 0;
    // The other key of a row is that of the other master, by the same factors.
    let others = self::children(bench, algorithm, steps, 1)?.keys;
    let (derived, stored) = (path(1, algorithm, steps), KeyPath { slot: 1, ..bare(end) });
    for (whole, last) in shapes(&derived).into_iter().zip(shapes(&stored)) {
        let name = format!("{algorithm} by {steps:?} under another: {}", whole.verb());
        let whole = Recipe::single(path(0, algorithm, steps), whole);
        let last = Recipe::single(bare(end), last);
        let expected = |row: usize| match wrapped_by_ecb(&last, end, &children.bytes[row]) {
            Some(recipe) => bench.bytes(&name, std::slice::from_ref(&others[row]), &recipe, &row_alone(row, vec![0])),
            None => {
                let pair = [children.keys[row].clone(), others[row].clone()];
                bench.bytes(&name, &pair, &last, &row_alone(row, vec![0, 1]))
            }
        };
        let slots = |row: usize| vec![(row % 2) as u16, ((row + 1) % 2) as u16];
        count += usize::from(bench.attempt(|| agree(bench, &name, masters, &whole, &expected, &slots))?.is_some());
    }
    others.iter().for_each(|key| bench.driver.close(key));
    Ok(count)
}

/// The encryption that a wrapping in ECB is: of the key's bytes as data, behind the prefix.
fn wrapped_by_ecb(wrapping: &Recipe, end: Algorithm, key: &[u8]) -> Option<Recipe> {
    let Finish::Wrap { format: WrapFormat::Ecb { prefix, .. }, .. } = &wrapping.legs.first()?.finish else {
        return None;
    };
    let data = Message(prefix.0.iter().cloned().chain([Input::Constant(key.to_vec())]).collect());
    Some(Recipe::single(bare(end), Finish::Encrypt { mode: CipherMode::Ecb, padding: Padding::OneIfNeeded, data }))
}
