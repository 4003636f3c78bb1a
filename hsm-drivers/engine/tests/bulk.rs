//! What kernels do in bulk is what the general way does. A recipe that has the same leg twice derives the key once
//! and goes the general way, so the two can be held side by side.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use claviger_hsm_api::{
    Algorithm, Batch, Column, DispersionRule, Finish, FoldRule, Input, KeyColumn, KeyPath, Leg, LegOutcome, LegValue,
    MacAlgorithm, MacSpec, Message, Padding, Parity, Recipe, Secret, Step, Truncation, When,
};
use claviger_hsm_engine::{EngineError, PlainKey, run};

/// Columns: a city's factor, a card's factor, a session input, a text of one length, a text of many, a MAC.
const CITY: usize = 0;
const CARD: usize = 1;
const SESSION: usize = 2;
const FIXED: usize = 3;
const MIXED: usize = 4;
const MAC: usize = 5;
/// Three columns of one width each: 6, 11 and 16 bytes.
const PIECES: usize = 6;

fn disperse(column: usize, parity: Parity) -> Step {
    Step::Disperse { rule: DispersionRule::FactorAndComplement, parity, factor: Input::Column(column) }
}

fn paths(algorithm: Algorithm) -> Vec<Vec<Step>> {
    let down = || vec![disperse(CITY, Parity::AsComputed), disperse(CARD, Parity::AsComputed)];
    let session = || Step::Session { input: Input::Column(SESSION) };
    let fold = |rule| Step::FoldHalves { rule };
    let mut paths = vec![
        vec![],
        down(),
        vec![disperse(CARD, Parity::Odd)],
        vec![disperse(CITY, Parity::Odd), disperse(CARD, Parity::AsComputed)],
        vec![session()],
        [down(), vec![session()]].concat(),
        [down(), vec![fold(FoldRule::WithComplement)]].concat(),
        [down(), vec![fold(FoldRule::WithComplement), disperse(CARD, Parity::AsComputed)]].concat(),
        vec![fold(FoldRule::WithComplement)],
        vec![Step::Disperse {
            rule: DispersionRule::Raw,
            parity: Parity::AsComputed,
            factor: Input::Constant((0..16).collect()),
        }],
    ];
    if algorithm == Algorithm::TripleDes {
        paths.pop();
        paths.extend([
            vec![fold(FoldRule::SingleDes)],
            [down(), vec![fold(FoldRule::SingleDes)]].concat(),
            [down(), vec![fold(FoldRule::SingleDes), session()]].concat(),
            [down(), vec![session(), session()]].concat(),
        ]);
    }
    paths
}

fn batch(rows: usize) -> Batch {
    let bytes = |row: usize, column: usize, len: usize| -> Vec<u8> {
        (0..len).map(|at| (row * 151 + column * 89 + at * 31 + row / 7 * at) as u8).collect()
    };
    let column = |of: &dyn Fn(usize) -> Vec<u8>| {
        let cells: Vec<Vec<u8>> = (0..rows).map(of).collect();
        Column::from_rows(cells.iter().map(Vec::as_slice))
    };
    let fixed = |column: usize, width: usize| Column::Fixed {
        width,
        bytes: (0..rows).flat_map(|row| bytes(row, column, width)).collect(),
    };
    Batch {
        rows,
        columns: vec![
            column(&|row| bytes(row % 5, CITY, 8)),
            fixed(CARD, 8),
            column(&|row| bytes(row, SESSION, 8)),
            column(&|row| bytes(row, FIXED, 22)),
            column(&|row| bytes(row, MIXED, row % 50)),
            column(&|row| bytes(row, MAC, 4)),
            fixed(PIECES, 6),
            fixed(PIECES + 1, 11),
            fixed(PIECES + 2, 16),
        ],
        keys: vec![KeyColumn::PerRow((0..rows).map(|row| (row % 3) as u16).collect())],
    }
}

fn keys(algorithm: Algorithm) -> Vec<PlainKey> {
    let key = |seed: usize| -> Vec<u8> { (0..algorithm.key_len()).map(|at| (seed * 97 + at * 41 + 5) as u8).collect() };
    (0..3).map(|seed| PlainKey { algorithm, secret: Secret::copy_of(&key(seed)) }).collect()
}

/// Runs a leg once, and once with itself beside it: the outcomes of both, or what was wrong.
fn both(algorithm: Algorithm, leg: &Leg, batch: &Batch) -> [Result<LegOutcome, String>; 2] {
    let keys = keys(algorithm);
    let keys: Vec<&PlainKey> = keys.iter().collect();
    [1, 2].map(|times| {
        let recipe = Recipe { legs: vec![leg.clone(); times] };
        run(&keys, &recipe, batch, &|_, _| Err(EngineError::NoStore))
            .map(|mut outcome| outcome.legs.remove(0))
            .map_err(|error| error.to_string())
    })
}

fn assert_same(algorithm: Algorithm, leg: &Leg, batch: &Batch) -> Result<LegOutcome, String> {
    let [bulk, general] = both(algorithm, leg, batch);
    match (&bulk, &general) {
        (Ok(bulk), Ok(general)) => {
            assert_eq!(bulk.ran, general.ran, "{leg:?}");
            match (&bulk.value, &general.value) {
                (LegValue::Bytes(a), LegValue::Bytes(b)) => assert_eq!(a, b, "{leg:?}"),
                (LegValue::Verdicts(a), LegValue::Verdicts(b)) => assert_eq!(a, b, "{leg:?}"),
                _ => panic!("{leg:?} gave values of two kinds"),
            }
        }
        (Err(bulk), Err(general)) => assert_eq!(bulk, general, "{leg:?}"),
        _ => panic!("{leg:?}: {:?} beside {:?}", bulk.is_ok(), general.is_ok()),
    }
    bulk
}

/// A text in pieces: of columns of one width, of constants, and of a column of many widths.
fn text(column: usize) -> Message {
    if column == MIXED {
        return Message::column(MIXED);
    }
    let parts =
        [Input::Column(PIECES), Input::Constant(vec![9; 3]), Input::Column(PIECES + 1), Input::Column(PIECES + 2)];
    Message(parts.into_iter().collect())
}

fn leg(algorithm: Algorithm, steps: Vec<Step>, finish: Finish) -> Leg {
    Leg { path: KeyPath { slot: 0, algorithm, steps, steps_left: 0 }, finish, when: When::Always }
}

fn spec(algorithm: MacAlgorithm, padding: Padding, truncation: Truncation) -> MacSpec {
    MacSpec { algorithm, second: None, padding, initial: None, truncation }
}

#[test]
fn macs_of_every_shape_are_those_of_the_general_way() {
    let algorithms = [Algorithm::TripleDes, Algorithm::Sm4, Algorithm::Aes128, Algorithm::Des, Algorithm::Aes256];
    let mut done = 0;
    for algorithm in algorithms {
        for steps in paths(algorithm) {
            for mac in [MacAlgorithm::CbcMac, MacAlgorithm::Retail, MacAlgorithm::Cmac, MacAlgorithm::Lmac] {
                for (at, padding) in
                    [Padding::One, Padding::Zeros, Padding::Length, Padding::OneIfNeeded, Padding::Pkcs7, Padding::None]
                        .into_iter()
                        .enumerate()
                {
                    for column in [FIXED, MIXED] {
                        let truncation =
                            [Truncation::Left(4), Truncation::Right(3), Truncation::Left(9), Truncation::FoldTwice]
                                [at % 4];
                        let finish = Finish::Mac { spec: spec(mac, padding, truncation), message: text(column) };
                        let rows = [70, 0, 1, 130][at % 4];
                        done += usize::from(
                            assert_same(algorithm, &leg(algorithm, steps.clone(), finish), &batch(rows)).is_ok(),
                        );
                    }
                }
            }
        }
    }
    assert!(done > 300, "only {done} shapes were defined");
}

#[test]
fn verdicts_are_those_of_the_general_way_over_many_runs() {
    for (algorithm, last) in [
        (Algorithm::TripleDes, Step::FoldHalves { rule: FoldRule::SingleDes }),
        (Algorithm::Sm4, Step::Session { input: Input::Column(SESSION) }),
        (Algorithm::Aes128, Step::FoldHalves { rule: FoldRule::WithComplement }),
    ] {
        let steps = vec![disperse(CITY, Parity::AsComputed), disperse(CARD, Parity::AsComputed), last];
        let spec = spec(MacAlgorithm::CbcMac, Padding::One, Truncation::Left(4));
        let mut batch = batch(9000);
        let make = leg(algorithm, steps.clone(), Finish::Mac { spec: spec.clone(), message: Message::column(MIXED) });
        let made = assert_same(algorithm, &make, &batch).unwrap();
        let LegValue::Bytes(made) = made.value else { panic!("a MAC is bytes") };
        let tacs: Vec<Vec<u8>> = (0..batch.rows)
            .map(|row| {
                let mut tac = made.cell(row).to_vec();
                if row % 7 == 3 {
                    tac[row % 4] ^= 1 << (row % 8);
                }
                tac
            })
            .collect();
        let of_one_width = Column::Fixed { width: 4, bytes: tacs.concat() };
        for column in [Column::from_rows(tacs.iter().map(Vec::as_slice)), of_one_width] {
            batch.columns[MAC] = column;
            let (spec, expected) = (spec.clone(), Input::Column(MAC));
            let check = Finish::VerifyMac { spec, message: Message::column(MIXED), expected };
            let found = assert_same(algorithm, &leg(algorithm, steps.clone(), check), &batch).unwrap();
            let LegValue::Verdicts(verdicts) = found.value else { panic!("verdicts were asked for") };
            assert_eq!(verdicts, (0..batch.rows).map(|row| row % 7 != 3).collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_is_wrong_with_a_row_is_said_in_the_same_words() {
    let steps = || vec![disperse(CITY, Parity::AsComputed), disperse(CARD, Parity::AsComputed)];
    let check = |steps| {
        let spec = spec(MacAlgorithm::CbcMac, Padding::None, Truncation::Left(4));
        let finish = Finish::VerifyMac { spec, message: Message::column(FIXED), expected: Input::Column(MAC) };
        leg(Algorithm::TripleDes, steps, finish)
    };
    let with_session = [steps(), vec![Step::Session { input: Input::Column(SESSION) }]].concat();
    for (column, wrong, steps, complaint) in [
        (CITY, &[1; 7][..], steps(), "dispersion factor"),
        (CARD, &[1; 9], steps(), "dispersion factor"),
        (SESSION, &[1; 16], with_session, "session input"),
        (FIXED, &[1; 23], steps(), "message"),
        (FIXED, &[], steps(), "message"),
        (MAC, &[1; 3], steps(), "MAC"),
    ] {
        let mut batch = batch(100);
        batch.columns[FIXED] = Column::from_rows((0..100).map(|_| &[7; 24][..]));
        let cells: Vec<Vec<u8>> = (0..100)
            .map(|row| if row == 66 { wrong.to_vec() } else { batch.columns[column].cell(row).to_vec() })
            .collect();
        batch.columns[column] = Column::from_rows(cells.iter().map(Vec::as_slice));
        let error = assert_same(Algorithm::TripleDes, &check(steps), &batch).unwrap_err();
        assert!(error.contains(complaint), "{error}");
    }
}
