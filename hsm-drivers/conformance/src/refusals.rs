//! What keys do not admit, whatever the backend.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, DispersionRule, Finish, Input, KcvRule, KeyAttributes, KeyPath, KeyRank,
    MacAlgorithm, MacSpec, Message, ModeOfUse, Padding, Parity, Recipe, Step, Truncation, WrapFormat,
};

use crate::Failure;
use crate::bench::{Bench, failure, plain};

const KEY: [u8; 16] = *b"conformance key!";

pub(crate) fn check(bench: &Bench<'_>) -> Result<(), Failure> {
    a_dispersion_key_is_no_oracle(bench)?;
    modes_and_usages_hold(bench)?;
    malformed_batches_are_the_callers_fault(bench)?;
    closed_and_altered_keys_do_not_open(bench)
}

fn path(algorithm: Algorithm, steps: Vec<Step>, steps_left: u8) -> KeyPath {
    KeyPath { slot: 0, algorithm, steps, steps_left }
}

fn mac() -> Finish {
    let truncation = Truncation::Left(4);
    let spec =
        MacSpec { algorithm: MacAlgorithm::CbcMac, second: None, padding: Padding::One, initial: None, truncation };
    Finish::Mac { spec, message: Message::column(0) }
}

fn refused(
    bench: &Bench<'_>,
    rule: &str,
    keys: &[claviger_hsm_api::KeyHandle],
    recipe: &Recipe,
    columns: Vec<Column>,
) -> Result<(), Failure> {
    bench.refused(rule, keys, recipe, &Batch::one(columns, keys.len() as u16))
}

fn a_dispersion_key_is_no_oracle(bench: &Bench<'_>) -> Result<(), Failure> {
    let rule = "a dispersion key is never an oracle";
    let attributes = KeyAttributes {
        rank: KeyRank::Dispersion { steps_left: 2 },
        ..plain(Algorithm::TripleDes, "10", ModeOfUse::Any)?
    };
    let key = bench.open(&bench.store(attributes, KcvRule::ZEROS, &KEY)?)?;
    let keys = std::slice::from_ref(&key);
    let disperse = Step::Disperse {
        rule: DispersionRule::FactorAndComplement,
        parity: Parity::AsComputed,
        factor: Input::Column(0),
    };
    let encrypt = Finish::Encrypt { mode: CipherMode::Ecb, padding: Padding::None, data: Message::column(0) };
    let block = || vec![Column::one([0x11; 8])];
    for (steps, left) in [(0, 2), (1, 1), (0, 0), (3, 0)] {
        for finish in [mac(), encrypt.clone()] {
            refused(
                bench,
                rule,
                keys,
                &Recipe::single(path(Algorithm::TripleDes, vec![disperse.clone(); steps], left), finish),
                block(),
            )?;
        }
    }
    let long_kcv = Finish::Kcv { rule: KcvRule { take: 8, ..KcvRule::ZEROS } };
    refused(bench, rule, keys, &Recipe::single(path(Algorithm::TripleDes, Vec::new(), 2), long_kcv), block())?;
    let session = Step::Session { input: Input::Column(0) };
    refused(bench, rule, keys, &Recipe::single(path(Algorithm::TripleDes, vec![session], 2), mac()), block())?;
    let under = KeyPath { slot: 1, ..path(Algorithm::TripleDes, Vec::new(), 0) };
    let wrapper = bench.key(Algorithm::TripleDes, "K0", ModeOfUse::Both, &KEY)?;
    let wrap = Finish::Wrap { under, format: WrapFormat::Ecb { prefix: Message(Vec::new()) } };
    refused(
        bench,
        "a master key does not leave",
        &[key, wrapper],
        &Recipe::single(path(Algorithm::TripleDes, Vec::new(), 2), wrap),
        Vec::new(),
    )
}

fn modes_and_usages_hold(bench: &Bench<'_>) -> Result<(), Failure> {
    let encrypt = Finish::Encrypt { mode: CipherMode::Ecb, padding: Padding::None, data: Message::column(0) };
    let decrypt = Finish::Decrypt { mode: CipherMode::Ecb, data: Message::column(0) };
    let wrong = [
        ("a verifying key makes no MAC", "M0", ModeOfUse::VerifyOnly, mac()),
        ("a MAC key does not encrypt", "M0", ModeOfUse::Any, encrypt.clone()),
        ("a data key makes no MAC", "D0", ModeOfUse::Any, mac()),
        ("a wrapping key does not decrypt", "K0", ModeOfUse::Both, decrypt.clone()),
        ("an encrypting key does not decrypt", "D0", ModeOfUse::EncryptOnly, decrypt),
        ("a decrypting key does not encrypt", "D0", ModeOfUse::DecryptOnly, encrypt),
    ];
    for (rule, usage, mode, finish) in wrong {
        let key = bench.key(Algorithm::Sm4, usage, mode, &KEY)?;
        refused(
            bench,
            rule,
            &[key],
            &Recipe::single(path(Algorithm::Sm4, Vec::new(), 0), finish),
            vec![Column::one([0; 16])],
        )?;
    }
    let key = bench.key(Algorithm::Sm4, "M0", ModeOfUse::Any, &KEY)?;
    refused(
        bench,
        "a key of another algorithm",
        &[key],
        &Recipe::single(path(Algorithm::Aes128, Vec::new(), 0), mac()),
        vec![Column::one([0; 16])],
    )
}

fn malformed_batches_are_the_callers_fault(bench: &Bench<'_>) -> Result<(), Failure> {
    let key = bench.key(Algorithm::Sm4, "M0", ModeOfUse::Any, &KEY)?;
    let keys = std::slice::from_ref(&key);
    let recipe = Recipe::single(path(Algorithm::Sm4, Vec::new(), 0), mac());
    refused(bench, "a column that is not there", keys, &recipe, Vec::new())?;
    refused(
        bench,
        "a column with two rows for one",
        keys,
        &recipe,
        vec![Column::from_rows([&[0; 4][..], &[0; 4][..]])],
    )?;
    let spec = MacSpec {
        algorithm: MacAlgorithm::CbcMac,
        second: None,
        padding: Padding::None,
        initial: None,
        truncation: Truncation::Left(4),
    };
    let unpadded = Recipe::single(
        path(Algorithm::Sm4, Vec::new(), 0),
        Finish::Mac { spec: spec.clone(), message: Message::column(0) },
    );
    refused(bench, "a message that is not whole", keys, &unpadded, vec![Column::one([0; 5])])?;
    let greedy = MacSpec { truncation: Truncation::Left(17), padding: Padding::One, ..spec };
    let greedy =
        Recipe::single(path(Algorithm::Sm4, Vec::new(), 0), Finish::Mac { spec: greedy, message: Message::column(0) });
    refused(bench, "more MAC than there is", keys, &greedy, vec![Column::one([0; 5])])
}

fn closed_and_altered_keys_do_not_open(bench: &Bench<'_>) -> Result<(), Failure> {
    let recipe = Recipe::single(path(Algorithm::Sm4, Vec::new(), 0), mac());
    let key = bench.key(Algorithm::Sm4, "M0", ModeOfUse::Any, &KEY)?;
    bench.driver.close(&key);
    if bench.driver.run(&[key], &recipe, &Batch::one(vec![Column::one([0; 16])], 1)).is_ok() {
        return Err(failure("a closed key is gone", "it was used"));
    }
    let stored = bench.store(plain(Algorithm::Sm4, "M0", ModeOfUse::VerifyOnly)?, KcvRule::ZEROS, &KEY)?;
    let mut widened = stored.clone();
    widened.key.attributes.mode = ModeOfUse::Any;
    let mut revived = stored;
    revived.key.state = claviger_hsm_api::KeyState::Suspended;
    for (rule, altered) in [("a widened mode of use", widened), ("another state", revived)] {
        if bench.driver.open(&altered).is_ok() {
            return Err(failure(rule, "a key with altered attributes opened"));
        }
    }
    Ok(())
}
