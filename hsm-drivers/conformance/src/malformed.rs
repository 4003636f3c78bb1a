//! Batches that do not fit their recipe: the caller's fault, whatever the backend, and never more than a refusal.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, Finish, Input, KeyColumn, MacAlgorithm, MacSpec, Message, ModeOfUse, Padding,
    Recipe, Truncation,
};

use crate::Failure;
use crate::bench::{Bench, bare, failure};
use crate::refusals::{KEY, mac, spec};

pub(crate) fn check(bench: &Bench<'_>) -> Result<(), Failure> {
    columns_have_the_rows_of_the_batch(bench)?;
    key_columns_name_keys_that_were_given(bench)?;
    cells_have_the_lengths_that_are_needed(bench)?;
    nothing_is_no_error(bench)
}

fn columns_have_the_rows_of_the_batch(bench: &Bench<'_>) -> Result<(), Failure> {
    let key = bench.key(bench.cipher, "M0", ModeOfUse::Any, &KEY)?;
    let keys = std::slice::from_ref(&key);
    let recipe = Recipe::single(bare(bench.cipher), mac());
    let fixed = |width, len| Column::Fixed { width, bytes: vec![0; len] };
    let variable = |ends: &[usize], len| Column::Variable { ends: ends.to_vec(), bytes: vec![0; len] };
    for (rule, rows, columns) in [
        ("a column that is not there", 1, Vec::new()),
        ("a column with two rows for one", 1, vec![variable(&[4, 8], 8)]),
        ("a column with one row for two", 2, vec![fixed(8, 8)]),
        ("a column that ends within a row", 2, vec![fixed(8, 15)]),
        ("a column that ends after its last row", 2, vec![fixed(8, 17)]),
        ("rows that end where they should not", 2, vec![variable(&[4, 9], 8)]),
        ("rows that end before they begin", 2, vec![variable(&[5, 4], 4)]),
        ("rows without bytes", 2, vec![variable(&[], 0)]),
        ("bytes that are of no row", 2, vec![variable(&[2, 4], 8)]),
        ("a column beside that does not fit", 1, vec![fixed(8, 8), variable(&[1, 2], 2)]),
    ] {
        bench.refused(rule, keys, &recipe, &Batch { rows, columns, keys: vec![KeyColumn::Same(0)] })?;
    }
    Ok(())
}

fn key_columns_name_keys_that_were_given(bench: &Bench<'_>) -> Result<(), Failure> {
    let key = bench.key(bench.cipher, "M0", ModeOfUse::Any, &KEY)?;
    let other = bench.key(Algorithm::TripleDes, "M0", ModeOfUse::Any, &KEY)?;
    let given = [key, other];
    let recipe = Recipe::single(bare(bench.cipher), mac());
    let batch = |keys| Batch { rows: 2, columns: vec![Column::from_rows([&[1][..], &[2]])], keys };
    for (rule, keys) in [
        ("no key column", Vec::new()),
        ("a key that was not given", vec![KeyColumn::Same(2)]),
        ("a key that was not given in one row", vec![KeyColumn::PerRow(vec![0, 2])]),
        ("a key column with too few rows", vec![KeyColumn::PerRow(vec![0])]),
        ("a key column with too many rows", vec![KeyColumn::PerRow(vec![0; 3])]),
        ("a key of another algorithm in one row", vec![KeyColumn::PerRow(vec![0, 1])]),
    ] {
        bench.refused(rule, &given, &recipe, &batch(keys))?;
    }
    bench.refused("no keys at all", &[], &recipe, &batch(vec![KeyColumn::Same(0)]))?;
    // A key column that the recipe has no slot for is never looked at.
    let beside = batch(vec![KeyColumn::Same(0), KeyColumn::Same(9)]);
    let rule = "a key column beside";
    bench.run(rule, &given, &recipe, &beside)?;
    Ok(())
}

fn cells_have_the_lengths_that_are_needed(bench: &Bench<'_>) -> Result<(), Failure> {
    let key = bench.key(bench.cipher, "10", ModeOfUse::Any, &KEY)?;
    let keys = std::slice::from_ref(&key);
    let message = || Message::column(0);
    let mac = |spec: MacSpec| Finish::Mac { spec, message: message() };
    let of = |algorithm, truncation| mac(MacSpec { truncation, ..spec(algorithm, 4) });
    let verify = |expected: usize| Finish::VerifyMac {
        spec: spec(MacAlgorithm::CbcMac, 4),
        message: message(),
        expected: Input::Constant(vec![0; expected]),
    };
    let encrypt = |mode| Finish::Encrypt { mode, padding: Padding::None, data: message() };
    let gcm = |len| CipherMode::Gcm { nonce: Input::Constant(vec![0; len]), associated: Message(Vec::new()) };
    let initial = |len| MacSpec { initial: Some(Input::Constant(vec![0; len])), ..spec(MacAlgorithm::CbcMac, 4) };
    let second = || MacSpec { second: Some(bare(bench.cipher)), ..spec(MacAlgorithm::MacDes, 4) };
    let (five, block) = (&[0; 5][..], &[0; 16][..]);
    for (rule, finish, cell) in [
        ("a message that is not whole", mac(MacSpec { padding: Padding::None, ..spec(MacAlgorithm::CbcMac, 4) }), five),
        ("a message that is not there", mac(MacSpec { padding: Padding::None, ..spec(MacAlgorithm::CbcMac, 4) }), &[]),
        ("one block for algorithm 4", mac(second()), five),
        ("more MAC than there is", of(MacAlgorithm::CbcMac, Truncation::Left(17)), five),
        ("more MAC than there is, from the right", of(MacAlgorithm::CbcMac, Truncation::Right(17)), five),
        ("more MAC than folding leaves", of(MacAlgorithm::CbcMac, Truncation::FoldLeft(9)), five),
        ("more MAC than half a block, padded", of(MacAlgorithm::TrCbc, Truncation::Left(9)), five),
        ("more MAC than half a block, whole", of(MacAlgorithm::TrCbc, Truncation::Left(9)), block),
        ("no MAC at all", of(MacAlgorithm::CbcMac, Truncation::Left(0)), five),
        ("no MAC at all, from the right", of(MacAlgorithm::CbcMac, Truncation::Right(0)), five),
        ("a first chaining value that is short", mac(initial(15)), five),
        ("a first chaining value that is long", mac(initial(17)), five),
        ("a MAC to compare with that is short", verify(3), five),
        ("a MAC to compare with that is long", verify(5), five),
        ("no MAC to compare with", verify(0), five),
        ("data that are not whole", encrypt(CipherMode::Ecb), five),
        ("a ciphertext that is not whole", Finish::Decrypt { mode: CipherMode::Ecb, data: message() }, five),
        ("a nonce that is short", encrypt(gcm(11)), five),
        ("a nonce that is long", encrypt(gcm(13)), five),
    ] {
        let recipe = Recipe::single(bare(bench.cipher), finish);
        bench.refused(rule, keys, &recipe, &Batch::one(vec![Column::one(cell)], 1))?;
    }
    Ok(())
}

/// A batch of no rows gives nothing, and a ciphertext too short for a tag does not open.
fn nothing_is_no_error(bench: &Bench<'_>) -> Result<(), Failure> {
    let key = bench.key(bench.cipher, "10", ModeOfUse::Any, &KEY)?;
    let keys = std::slice::from_ref(&key);
    let empty = Batch { rows: 0, columns: vec![Column::from_rows([])], keys: vec![KeyColumn::Same(0)] };
    let outcome = bench.run("no rows", keys, &Recipe::single(bare(bench.cipher), mac()), &empty)?;
    if outcome.legs.len() != 1 || !outcome.legs[0].ran.is_empty() {
        return Err(failure("no rows", "something ran"));
    }
    let mode = CipherMode::Gcm { nonce: Input::Constant(vec![0; 12]), associated: Message(Vec::new()) };
    let open = Recipe::single(bare(bench.cipher), Finish::Decrypt { mode, data: Message::column(0) });
    for len in [0, 1, 15] {
        let batch =
            Batch { rows: 1, columns: vec![Column::from_rows([&vec![0; len][..]])], keys: vec![KeyColumn::Same(0)] };
        let opened = bench.attempt(|| bench.run("a short tag", keys, &open, &batch))?;
        if opened.is_some_and(|outcome| outcome.bytes(0, 0).is_some()) {
            return Err(failure("a short tag", "it was opened"));
        }
    }
    Ok(())
}
