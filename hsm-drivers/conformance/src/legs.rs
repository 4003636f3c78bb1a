//! Recipes of several legs: conditions, and what earlier legs put out. Each row of a mixed batch must get what the
//! same row gets alone, and a row whose leg does not run must not disturb the others.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, Finish, Input, KcvRule, KeyColumn, KeyHandle, KeyPath, Leg, MacAlgorithm,
    MacSpec, Message, ModeOfUse, Outcome, Padding, Recipe, Step, Truncation, When,
};

use crate::Failure;
use crate::bench::{Bench, bare, failure};

const KEYS: [[u8; 16]; 2] = [*b"conformance key!", *b"another of them!"];
/// More than any driver can be thought to take at once, and no multiple of a group.
const MANY: usize = 5003;

/// What a leg must give in a row.
#[derive(Debug, PartialEq, Eq)]
enum Gives {
    Nothing,
    Verdict(bool),
    Bytes(Vec<u8>),
}

pub(crate) fn check(bench: &Bench<'_>) -> Result<usize, Failure> {
    let purses = [Algorithm::TripleDes, Algorithm::Sm4, Algorithm::Aes128];
    let purse = |algorithm: Algorithm| bench.attempt(move || a_purse(bench, algorithm));
    let mut done: Vec<Option<()>> = purses.into_iter().map(purse).collect::<Result<_, _>>()?;
    done.push(bench.attempt(|| a_sealed_factor(bench))?);
    done.push(bench.attempt(|| a_chain_of_conditions(bench))?);
    done.push(bench.attempt(|| a_signature_first(bench))?);
    Ok(done.iter().flatten().count())
}

fn leg(path: KeyPath, finish: Finish, when: When) -> Leg {
    Leg { path, finish, when }
}

fn spec(padding: Padding, len: usize) -> MacSpec {
    let truncation = Truncation::Left(len);
    MacSpec { algorithm: MacAlgorithm::CbcMac, second: None, padding, initial: None, truncation }
}

fn mac(parts: Vec<Input>, len: usize) -> Finish {
    Finish::Mac { spec: spec(Padding::One, len), message: Message(parts) }
}

fn verify(expected: usize) -> Finish {
    Finish::VerifyMac { spec: spec(Padding::One, 4), message: Message::column(0), expected: Input::Column(expected) }
}

fn by_session(algorithm: Algorithm, input: Input) -> KeyPath {
    KeyPath { steps: vec![Step::Session { input }], ..bare(algorithm) }
}

fn keys(bench: &Bench<'_>, algorithm: Algorithm) -> Result<Vec<KeyHandle>, Failure> {
    KEYS.iter().map(|key| bench.key(algorithm, "10", ModeOfUse::Any, key)).collect()
}

fn given(outcome: &Outcome, leg: usize, row: usize) -> Gives {
    let ran = outcome.legs.get(leg).is_some_and(|leg| leg.ran.get(row) == Some(&true));
    match (outcome.verdicts(leg), outcome.bytes(leg, row)) {
        (Some(verdicts), _) if ran => Gives::Verdict(verdicts.get(row) == Some(&true)),
        // What did not run was not valid either.
        (Some(verdicts), _) if verdicts.get(row) == Some(&true) => Gives::Verdict(true),
        (None, Some(bytes)) => Gives::Bytes(bytes.to_vec()),
        _ => Gives::Nothing,
    }
}

/// Rows, each a key's number and the cells of its columns.
type Rows = Vec<(u16, Vec<Vec<u8>>)>;

fn batch(rows: &[&(u16, Vec<Vec<u8>>)]) -> Batch {
    let width = rows.first().map_or(0, |row| row.1.len());
    let columns = (0..width).map(|of| Column::from_rows(rows.iter().map(|row| &row.1[of][..]))).collect();
    Batch { rows: rows.len(), columns, keys: vec![KeyColumn::PerRow(rows.iter().map(|row| row.0).collect())] }
}

/// Each row alone must give what `wanted` says, and all of them over and over in one batch the same.
fn agree(
    bench: &Bench<'_>,
    name: &str,
    keys: &[KeyHandle],
    recipe: &Recipe,
    rows: &Rows,
    wanted: &[Vec<Gives>],
) -> Result<(), Failure> {
    let same = |case: &str, outcome: &Outcome, at: usize, wanted: &[Gives]| {
        let found: Vec<Gives> = (0..recipe.legs.len()).map(|leg| given(outcome, leg, at)).collect();
        let told = || failure(&format!("{name}, {case}"), format!("{found:?} instead of {wanted:?}"));
        if found == *wanted { Ok(()) } else { Err(told()) }
    };
    for (number, (row, wanted)) in rows.iter().zip(wanted).enumerate() {
        let outcome = bench.run(&format!("{name}, row {number} alone"), keys, recipe, &batch(&[row]))?;
        same(&format!("row {number} alone"), &outcome, 0, wanted)?;
    }
    let order: Vec<usize> = (0..MANY).map(|at| (at * at + at / 7) % rows.len()).collect();
    let mixed: Vec<_> = order.iter().map(|row| &rows[*row]).collect();
    let outcome = bench.run(&format!("{name}, mixed"), keys, recipe, &batch(&mixed))?;
    for (at, row) in order.iter().enumerate() {
        same(&format!("row {row} at place {at} of many"), &outcome, at, &wanted[*row])?;
    }
    Ok(())
}

/// The bytes of one leg over one row, with what it reads given as columns.
fn alone(bench: &Bench<'_>, keys: &[KeyHandle], key: u16, leg: Leg, cells: &[&[u8]]) -> Result<Vec<u8>, Failure> {
    let batch = batch(&[&(key, cells.iter().map(|cell| cell.to_vec()).collect())]);
    bench.bytes("one leg alone", keys, &Recipe { legs: vec![leg] }, &batch)
}

/// MAC1 is verified; where it was right MAC2 is made, where it was wrong another MAC. MAC2 then goes into a message
/// and, as a session's input, into a path.
fn a_purse(bench: &Bench<'_>, algorithm: Algorithm) -> Result<(), Failure> {
    let keys = keys(bench, algorithm)?;
    let second = || mac(vec![Input::Column(1), Input::Constant(vec![2])], 8);
    let third = |from: Input| mac(vec![from, Input::Column(1)], 4);
    let recipe = Recipe {
        legs: vec![
            leg(bare(algorithm), verify(2), When::Always),
            leg(bare(algorithm), second(), When::AfterValid(0)),
            leg(bare(algorithm), mac(vec![Input::Column(0), Input::Column(2)], 4), When::AfterInvalid(0)),
            leg(bare(algorithm), third(Input::Output(1)), When::Always),
            leg(by_session(algorithm, Input::Output(1)), third(Input::Column(0)), When::AfterValid(0)),
            leg(by_session(algorithm, Input::Output(1)), third(Input::Output(3)), When::Always),
        ],
    };
    let (mut rows, mut wanted) = (Vec::new(), Vec::new());
    for number in 0..5u8 {
        let (key, right) = (u16::from(number % 2), !number.is_multiple_of(3));
        let cells = [vec![number; 9 + usize::from(number)], vec![0x40 + number; 11]];
        let always = |path: KeyPath, finish: Finish| leg(path, finish, When::Always);
        let first = always(bare(algorithm), mac(vec![Input::Column(0)], 4));
        let mut mac1 = alone(bench, &keys, key, first, &[&cells[0]])?;
        mac1[3] ^= u8::from(!right);
        let ours: [&[u8]; 3] = [&cells[0], &cells[1], &mac1];
        let of = |finish: Finish| alone(bench, &keys, key, always(bare(algorithm), finish), &ours);
        wanted.push(if right {
            let mac2 = of(second())?;
            let mac3 = of(third(Input::Constant(mac2.clone())))?;
            let session = |input: Input| {
                let path = by_session(algorithm, Input::Constant(mac2.clone()));
                alone(bench, &keys, key, always(path, third(input)), &ours)
            };
            let (mac4, mac5) = (session(Input::Column(0))?, session(Input::Constant(mac3.clone()))?);
            let [mac2, mac3, mac4, mac5] = [mac2, mac3, mac4, mac5].map(Gives::Bytes);
            vec![Gives::Verdict(true), mac2, Gives::Nothing, mac3, mac4, mac5]
        } else {
            let reason = Gives::Bytes(of(mac(vec![Input::Column(0), Input::Column(2)], 4))?);
            vec![Gives::Verdict(false), Gives::Nothing, reason, Gives::Nothing, Gives::Nothing, Gives::Nothing]
        });
        let [text, other] = cells;
        rows.push((key, vec![text, other, mac1]));
    }
    agree(bench, &format!("a purse of {algorithm}"), &keys, &recipe, &rows, &wanted)?;
    keys.iter().for_each(|key| bench.driver.close(key));
    Ok(())
}

/// What GCM opens is a session's input and a message; rows whose tag is wrong do not run, nor does what reads them.
fn a_sealed_factor(bench: &Bench<'_>) -> Result<(), Failure> {
    let keys = keys(bench, Algorithm::Sm4)?;
    let gcm = || CipherMode::Gcm { nonce: Input::Column(1), associated: Message(Vec::new()) };
    let seal = Finish::Encrypt { mode: gcm(), padding: Padding::None, data: Message::column(0) };
    let open = |data| Finish::Decrypt { mode: gcm(), data };
    let recipe = Recipe {
        legs: vec![
            leg(bare(Algorithm::Sm4), open(Message::column(0)), When::Always),
            leg(by_session(Algorithm::Sm4, Input::Output(0)), mac(vec![Input::Column(1)], 4), When::Always),
            leg(bare(Algorithm::Sm4), mac(vec![Input::Output(0), Input::Output(1)], 4), When::Always),
            leg(bare(Algorithm::Sm4), Finish::Kcv { rule: KcvRule::ZEROS }, When::Always),
        ],
    };
    let (mut rows, mut wanted) = (Vec::new(), Vec::new());
    for number in 0..5u8 {
        let (key, right) = (u16::from(number % 2), number != 1 && number != 4);
        let (factor, nonce) = ([0x70 + number; 8], [number; 12]);
        let of = |path: KeyPath, finish: Finish, cells: &[&[u8]]| {
            alone(bench, &keys, key, leg(path, finish, When::Always), cells)
        };
        let mut sealed = of(bare(Algorithm::Sm4), seal.clone(), &[&factor, &nonce])?;
        let kcv = Gives::Bytes(of(bare(Algorithm::Sm4), Finish::Kcv { rule: KcvRule::ZEROS }, &[])?);
        wanted.push(if right {
            let path = by_session(Algorithm::Sm4, Input::Column(0));
            let under = of(path, mac(vec![Input::Column(1)], 4), &[&factor, &nonce])?;
            let both = mac(vec![Input::Column(0), Input::Column(1)], 4);
            let last = of(bare(Algorithm::Sm4), both, &[&factor, &under])?;
            vec![Gives::Bytes(factor.to_vec()), Gives::Bytes(under), Gives::Bytes(last), kcv]
        } else {
            sealed[usize::from(number)] ^= 0x80;
            vec![Gives::Nothing, Gives::Nothing, Gives::Nothing, kcv]
        });
        rows.push((key, vec![sealed, nonce.to_vec()]));
    }
    agree(bench, "a sealed factor", &keys, &recipe, &rows, &wanted)?;
    keys.iter().for_each(|key| bench.driver.close(key));
    Ok(())
}

/// A leg that verifies only some rows: in the others it is neither valid nor invalid.
fn a_chain_of_conditions(bench: &Bench<'_>) -> Result<(), Failure> {
    let keys = keys(bench, bench.cipher)?;
    let answer = |of: u8| mac(vec![Input::Constant(vec![of])], 4);
    let recipe = Recipe {
        legs: vec![
            leg(bare(bench.cipher), verify(1), When::Always),
            leg(bare(bench.cipher), verify(2), When::AfterValid(0)),
            leg(bare(bench.cipher), answer(1), When::AfterValid(1)),
            leg(bare(bench.cipher), answer(2), When::AfterInvalid(1)),
            leg(bare(bench.cipher), answer(3), When::AfterInvalid(0)),
        ],
    };
    let (mut rows, mut wanted) = (Vec::new(), Vec::new());
    for number in 0..4u8 {
        let (key, first, second) = (u16::from(number % 2), number & 1 == 0, number & 2 == 0);
        let text = vec![number; 20];
        let of = |finish: Finish| alone(bench, &keys, key, leg(bare(bench.cipher), finish, When::Always), &[&text]);
        let right = of(mac(vec![Input::Column(0)], 4))?;
        let turned = |wrong: bool| right.iter().map(|byte| byte ^ u8::from(wrong)).collect::<Vec<u8>>();
        rows.push((key, vec![text.clone(), turned(!first), turned(!second)]));
        let answers = [of(answer(1))?, of(answer(2))?, of(answer(3))?];
        let ran = [first && second, first && !second, !first];
        let verdict = if first { Gives::Verdict(second) } else { Gives::Nothing };
        let answers =
            answers.into_iter().zip(ran).map(|(mac, ran)| if ran { Gives::Bytes(mac) } else { Gives::Nothing });
        wanted.push([Gives::Verdict(first), verdict].into_iter().chain(answers).collect());
    }
    agree(bench, "a chain of conditions", &keys, &recipe, &rows, &wanted)?;
    keys.iter().for_each(|key| bench.driver.close(key));
    Ok(())
}

/// A signature decides whether another one is made, and a signature is itself what is signed and verified.
fn a_signature_first(bench: &Bench<'_>) -> Result<(), Failure> {
    let key = bench.key(Algorithm::Sm2, "S0", ModeOfUse::GenerateAndVerify, &[0x39; 32])?;
    let keys = std::slice::from_ref(&key);
    let signer_id = || "1234567812345678".to_owned();
    let sign = |message| Finish::Sign { signer_id: signer_id(), message };
    let verify = |message, signature| Finish::VerifySignature { signer_id: signer_id(), message, signature };
    let bare = || bare(Algorithm::Sm2);
    let recipe = Recipe {
        legs: vec![
            leg(bare(), verify(Message::column(0), Input::Column(1)), When::Always),
            leg(bare(), sign(Message::column(1)), When::AfterValid(0)),
            leg(bare(), verify(Message::column(1), Input::Output(1)), When::Always),
            leg(bare(), verify(Message::column(0), Input::Output(1)), When::AfterValid(0)),
        ],
    };
    let message = b"a day's list".to_vec();
    let first = leg(bare(), sign(Message::column(0)), When::Always);
    let good = alone(bench, keys, 0, first, &[&message])?;
    let batch = |rows: &[&[u8]]| Batch {
        rows: rows.len(),
        columns: vec![Column::from_rows(rows.iter().map(|_| &message[..])), Column::from_rows(rows.iter().copied())],
        keys: vec![KeyColumn::Same(0)],
    };
    let mut bad = good.clone();
    bad[40] ^= 4;
    for rows in [&[&good[..]][..], &[&bad], &[&good, &bad, &bad, &good, &good[..10]]] {
        let outcome = bench.run("a signature first", keys, &recipe, &batch(rows))?;
        for (row, signature) in rows.iter().enumerate() {
            let right = *signature == good;
            let signed = matches!(given(&outcome, 1, row), Gives::Bytes(made) if made.len() == 64);
            let verified = if right { Gives::Verdict(true) } else { Gives::Nothing };
            let of_another = if right { Gives::Verdict(false) } else { Gives::Nothing };
            let found = [given(&outcome, 0, row), given(&outcome, 2, row), given(&outcome, 3, row)];
            if signed != right || found != [Gives::Verdict(right), verified, of_another] {
                return Err(failure("a signature first", format!("row {row} of {}: {found:?}", rows.len())));
            }
        }
    }
    bench.driver.close(&key);
    Ok(())
}
