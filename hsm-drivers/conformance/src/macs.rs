//! MAC algorithms: alone, in a batch with rows of other lengths, and verified.

use claviger_hsm_api::{
    Algorithm, Batch, Column, Finish, Input, KeyColumn, KeyPath, MacAlgorithm, MacSpec, Message, ModeOfUse, Padding,
    Recipe, Truncation,
};

use crate::Failure;
use crate::bench::{Bench, Case, bare, failure};

pub(crate) fn iso9797(bench: &Bench<'_>) -> Result<usize, Failure> {
    let mut count = 0;
    for case in &bench.cases("iso9797-1-mac.json")? {
        let mut key = case.bytes("key")?;
        let algorithm = match (case.text("cipher"), case.number("mac_algorithm"), key.len()) {
            (Some("AES-128"), ..) => Algorithm::Aes128,
            (_, Some(3), 8) => {
                // K' and K'' side by side are one key of sixteen bytes.
                key.extend(case.bytes("key2")?);
                Algorithm::TripleDes
            }
            (_, _, 8) => Algorithm::Des,
            (_, _, 16) => Algorithm::TripleDes,
            _ => Algorithm::TripleDes3,
        };
        count += usize::from(bench.attempt(|| check(bench, case, algorithm, &key, None))?.is_some());
    }
    Ok(count)
}

pub(crate) fn gbt15852(bench: &Bench<'_>) -> Result<usize, Failure> {
    let mut count = 0;
    for case in &bench.cases("gbt15852-1-sm4-mac.json")? {
        let second = case.text("key2").map(|_| case.bytes("key2")).transpose()?;
        let key = case.bytes("key")?;
        count += usize::from(bench.attempt(|| check(bench, case, Algorithm::Sm4, &key, second))?.is_some());
    }
    Ok(count)
}

/// Algorithm 7 is half of algorithm 1's last block: the left half for a whole message, the right half for a padded
/// one. The standard's example is of whole blocks only.
pub(crate) fn halves(bench: &Bench<'_>) -> Result<usize, Failure> {
    let count = |algorithm| Ok(bench.attempt(|| halves_of(bench, algorithm))?.unwrap_or(0));
    [Algorithm::TripleDes, Algorithm::Aes256, Algorithm::Sm4].into_iter().map(count).sum()
}

fn halves_of(bench: &Bench<'_>, algorithm: Algorithm) -> Result<usize, Failure> {
    let lengths = [0, 1, 15, 16, 17, 32, 47, 64];
    let key: Vec<u8> = (1..=algorithm.key_len() as u8).collect();
    let keys = [bench.key(algorithm, "M0", ModeOfUse::GenerateAndVerify, &key)?];
    let block = algorithm.block_len().unwrap_or_default();
    for len in lengths {
        let name = format!("algorithm 7 of {len} bytes under {algorithm}");
        let whole = len > 0 && len % block == 0;
        let padding = if whole { Padding::None } else { Padding::One };
        let mac = |algorithm_of_mac, padding, len| {
            let truncation = Truncation::Left(len);
            let spec = MacSpec { algorithm: algorithm_of_mac, second: None, padding, initial: None, truncation };
            Recipe::single(bare(algorithm), Finish::Mac { spec, message: Message::column(0) })
        };
        let batch =
            Batch { rows: 1, columns: vec![Column::from_rows([&vec![0x3C; len][..]])], keys: vec![KeyColumn::Same(0)] };
        let full = bench.bytes(&name, &keys, &mac(MacAlgorithm::CbcMac, padding, block), &batch)?;
        let half = bench.bytes(&name, &keys, &mac(MacAlgorithm::TrCbc, Padding::None, block / 2), &batch)?;
        let (left, right) = full.split_at(block / 2);
        bench.expect(&name, &half, if whole { left } else { right })?;
    }
    Ok(lengths.len())
}

fn check(
    bench: &Bench<'_>,
    case: &Case,
    algorithm: Algorithm,
    key: &[u8],
    second: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let expected = case.bytes("expected")?;
    let message = case.bytes("message")?;
    let mut keys = vec![bench.key(algorithm, "M0", ModeOfUse::GenerateAndVerify, key)?];
    let path = |slot| KeyPath { slot, algorithm, steps: Vec::new(), steps_left: 0 };
    if let Some(second) = &second {
        keys.push(bench.key(algorithm, "M0", ModeOfUse::GenerateAndVerify, second)?);
    }
    let spec = MacSpec {
        algorithm: mac_algorithm(case)?,
        second: second.as_ref().map(|_| path(1)),
        padding: match case.number("padding") {
            Some(1) => Padding::Zeros,
            Some(2) => Padding::One,
            Some(3) => Padding::Length,
            _ => Padding::None,
        },
        initial: None,
        truncation: Truncation::Left(expected.len()),
    };
    let make = Recipe::single(path(0), Finish::Mac { spec: spec.clone(), message: Message::column(0) });
    let alone =
        bench.bytes(&case.id, &keys, &make, &Batch::one(vec![Column::one(message.clone())], keys.len() as u16))?;
    bench.expect(&case.id, &alone, &expected)?;

    // Seventy rows, more than a group: every third is the case, the others have other messages.
    let longer = [&message[..], &[0x5A; 37]].concat();
    let rows: Vec<&[u8]> = (0..70).map(|row| if row % 3 == 0 { &message[..] } else { &longer[..] }).collect();
    let slots = || (0..keys.len() as u16).map(KeyColumn::Same).collect();
    let batch = Batch { rows: 70, columns: vec![Column::from_rows(rows.iter().copied())], keys: slots() };
    let outcome = bench.run(&case.id, &keys, &make, &batch)?;
    for row in (0..70).step_by(3) {
        bench.expect(&format!("{} in row {row}", case.id), outcome.bytes(0, row).unwrap_or_default(), &expected)?;
    }

    let verify = Finish::VerifyMac { spec, message: Message::column(0), expected: Input::Column(1) };
    let mut wrong = expected.clone();
    wrong[0] ^= 1;
    let columns = vec![Column::from_rows([&message[..], &message[..]]), Column::from_rows([&expected[..], &wrong[..]])];
    let batch = Batch { rows: 2, columns, keys: slots() };
    let outcome = bench.run(&case.id, &keys, &Recipe::single(path(0), verify), &batch)?;
    if outcome.verdicts(0) == Some(&[true, false]) { Ok(()) } else { Err(failure(&case.id, "the verdicts are wrong")) }
}

fn mac_algorithm(case: &Case) -> Result<MacAlgorithm, Failure> {
    match case.number("mac_algorithm") {
        Some(1) => Ok(MacAlgorithm::CbcMac),
        Some(2) => Ok(MacAlgorithm::Emac),
        Some(3) => Ok(MacAlgorithm::Retail),
        Some(4) => Ok(MacAlgorithm::MacDes),
        Some(5) => Ok(MacAlgorithm::Cmac),
        Some(6) => Ok(MacAlgorithm::Lmac),
        Some(7) => Ok(MacAlgorithm::TrCbc),
        _ => Err(failure(&case.id, "names no MAC algorithm")),
    }
}
