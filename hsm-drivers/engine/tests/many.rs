//! What many rows are given at once is what each is given alone: a kernel does the one, a group the other.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use claviger_hsm_api::{
    Algorithm, Batch, Column, DispersionRule, Finish, Input, KcvFunction, KcvInput, KcvRule, KeyColumn, KeyPath, Leg,
    LegValue, Message, Padding, Parity, Recipe, Secret, Step, When, WrapFormat,
};
use claviger_hsm_engine::{EngineError, PlainKey, run};

const ROWS: usize = 600;

fn keys(algorithm: Algorithm) -> Vec<PlainKey> {
    let key = |seed: usize| -> Vec<u8> { (0..algorithm.key_len()).map(|at| (seed * 59 + at * 43 + 7) as u8).collect() };
    (0..4).map(|seed| PlainKey { algorithm, secret: Secret::copy_of(&key(seed)) }).collect()
}

/// Of three cards' masters in any order, under the fourth key.
fn batch(rows: std::ops::Range<usize>) -> Batch {
    let factor = |row: usize| -> Vec<u8> { (0..8).map(|at| (row * 131 + at * 29 + row / 3) as u8).collect() };
    Batch {
        rows: rows.len(),
        columns: vec![
            Column::Fixed { width: 8, bytes: rows.clone().flat_map(factor).collect() },
            Column::from_rows(
                rows.clone().map(|row| factor(row)[..row % 5].to_vec()).collect::<Vec<_>>().iter().map(Vec::as_slice),
            ),
        ],
        keys: vec![KeyColumn::PerRow(rows.map(|row| (row * 7 % 3) as u16).collect()), KeyColumn::Same(3)],
    }
}

fn bytes(
    algorithm: Algorithm,
    steps: &[Step],
    finish: &Finish,
    rows: std::ops::Range<usize>,
) -> Result<Column, String> {
    let keys = keys(algorithm);
    let keys: Vec<&PlainKey> = keys.iter().collect();
    let path = KeyPath { slot: 0, algorithm, steps: steps.to_vec(), steps_left: 0 };
    let recipe = Recipe { legs: vec![Leg { path, finish: finish.clone(), when: When::Always }] };
    let outcome =
        run(&keys, &recipe, &batch(rows), &|_, _| Err(EngineError::NoStore)).map_err(|error| error.to_string())?;
    match outcome.legs.into_iter().next().map(|leg| leg.value) {
        Some(LegValue::Bytes(column)) => Ok(column),
        _ => panic!("a leg that wraps, or shows a check value, gives bytes"),
    }
}

/// Every way in which keys leave, or show themselves, in bulk.
fn finishes(algorithm: Algorithm) -> Vec<Finish> {
    let under = KeyPath { slot: 1, algorithm, steps: Vec::new(), steps_left: 0 };
    let wrap = |prefix: Vec<Input>, padding| Finish::Wrap {
        under: under.clone(),
        format: WrapFormat::Ecb { prefix: Message(prefix), padding },
    };
    let paddings = [Padding::None, Padding::OneIfNeeded, Padding::Zeros, Padding::Length, Padding::Pkcs7];
    let prefixes = [vec![], vec![Input::Constant(vec![0x10])], vec![Input::Column(1)]];
    let mut finishes: Vec<Finish> =
        prefixes.iter().flat_map(|prefix| paddings.map(|padding| wrap(prefix.clone(), padding))).collect();
    for function in [KcvFunction::Ecb, KcvFunction::Cmac] {
        for input in [KcvInput::Zero, KcvInput::Ones] {
            finishes.push(Finish::Kcv { rule: KcvRule { function, input, take: 3 } });
        }
    }
    finishes
}

#[test]
fn keys_leave_from_many_rows_as_from_each_alone() {
    let mut compared = 0;
    for algorithm in [Algorithm::TripleDes, Algorithm::Sm4, Algorithm::Aes128, Algorithm::Aes256, Algorithm::Des] {
        let disperse =
            |parity| Step::Disperse { rule: DispersionRule::FactorAndComplement, parity, factor: Input::Column(0) };
        let paths =
            [vec![], vec![disperse(Parity::AsComputed)], vec![disperse(Parity::Odd), disperse(Parity::AsComputed)]];
        for (steps, finish) in
            paths.iter().flat_map(|steps| finishes(algorithm).into_iter().map(move |finish| (steps, finish)))
        {
            let Ok(many) = bytes(algorithm, steps, &finish, 0..ROWS) else { continue };
            assert_eq!(many.rows(), ROWS);
            for row in (0..ROWS).step_by(37).chain([63, 64, 511, 512, ROWS - 1]) {
                let alone = bytes(algorithm, steps, &finish, row..row + 1).unwrap();
                assert_eq!(many.cell(row), alone.cell(0), "{algorithm} {steps:?} {finish:?}, row {row}");
                compared += 1;
            }
        }
    }
    // 22 rows of at least eight ways for each algorithm and path that there is.
    assert!(compared > 22 * 8 * 11, "only {compared}");
}
