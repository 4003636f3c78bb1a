//! What a leg puts out, read by a later one.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, Finish, Input, KcvRule, KeyColumn, KeyPath, Leg, Message, Padding, Recipe,
    Secret, Step, When,
};
use claviger_hsm_engine::{EngineError, PlainKey, run};

/// A row whose tag is wrong gives no session input. The rows beside it must not suffer.
#[test]
fn a_row_without_a_session_input_does_not_run_and_disturbs_no_other() {
    let key = PlainKey { algorithm: Algorithm::Sm4, secret: Secret::copy_of(b"a key for a test") };
    let run = |recipe: &Recipe, batch: &Batch| run(&[&key], recipe, batch, &|_, _| Err(EngineError::NoStore)).unwrap();
    let path = |steps| KeyPath { slot: 0, algorithm: Algorithm::Sm4, steps, steps_left: 0 };
    let gcm = || CipherMode::Gcm { nonce: Input::Constant(vec![1; 12]), associated: Message(Vec::new()) };
    let seal = Finish::Encrypt { mode: gcm(), padding: Padding::None, data: Message::column(0) };
    let sealed = run(&Recipe::single(path(Vec::new()), seal), &Batch::one(vec![Column::one([7; 8])], 1));
    let good = sealed.bytes(0, 0).unwrap().to_vec();
    let bad: Vec<u8> = good.iter().map(|byte| byte ^ 1).collect();

    let open = Finish::Decrypt { mode: gcm(), data: Message::column(0) };
    let session = path(vec![Step::Session { input: Input::Output(0) }]);
    let kcv = Finish::Kcv { rule: KcvRule::ZEROS };
    let legs = [(path(Vec::new()), open), (session, kcv)];
    let recipe =
        Recipe { legs: legs.map(|(path, finish)| Leg { path, finish, when: When::Always }).into_iter().collect() };
    for rows in [&[&good[..], &bad, &good][..], &[&bad, &good], &[&bad]] {
        let columns = vec![Column::from_rows(rows.iter().copied())];
        let outcome = run(&recipe, &Batch { rows: rows.len(), columns, keys: vec![KeyColumn::Same(0)] });
        let shown: Vec<bool> = (0..rows.len()).map(|row| outcome.bytes(1, row).is_some()).collect();
        assert_eq!(shown, rows.iter().map(|row| *row == good).collect::<Vec<_>>());
    }
}
