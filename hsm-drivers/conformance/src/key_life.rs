//! Which bytes become keys, which stored keys open, and which handles still work.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, Exportability, Exposure, Finish, Input, KeyAttributes, KeyColumn, KeyHandle,
    KeyRank, KeyState, KeyVersion, Message, ModeOfUse, Padding, Raised, Recipe, StoredKey,
};

use crate::Failure;
use crate::bench::{Bench, bare, failure, kcv_rule_for, plain};
use crate::refusals::{KEY, mac, spec};
use crate::sm2::{ORDER, minus};

pub(crate) fn check(bench: &Bench<'_>) -> Result<(), Failure> {
    bytes_that_are_no_key_stay_outside(bench)?;
    altered_keys_do_not_open(bench)?;
    closed_and_destroyed_keys_do_nothing(bench)?;
    a_ceiling_is_raised_for_a_time(bench)?;
    another_key_verifies_and_opens_nothing(bench)
}

fn bytes_that_are_no_key_stay_outside(bench: &Bench<'_>) -> Result<(), Failure> {
    let refused = |rule: &str, algorithm: Algorithm, bytes: &[u8]| {
        bench.not_imported(&format!("{algorithm}, {rule}"), plain(algorithm, "10", ModeOfUse::Any)?, bytes)
    };
    let hmac = |algorithm| matches!(algorithm, Algorithm::HmacSm3 | Algorithm::HmacSha256);
    let bytes: Vec<u8> = (1..=130).collect();
    for algorithm in Algorithm::ALL.iter().copied() {
        let len = algorithm.key_len();
        let (short, long) = if hmac(algorithm) { (13, 129) } else { (len - 1, len + 1) };
        refused("short", algorithm, &bytes[..short])?;
        refused("long", algorithm, &bytes[..long])?;
        refused("nothing", algorithm, &[])?;
        refused("all zeros", algorithm, &vec![0; len])?;
    }
    // DES ignores the low bits: two parts that differ in them alone are equal.
    let [part, same, other] = [[0x10; 8], [0x11; 8], [0x22; 8]];
    refused("equal halves", Algorithm::TripleDes, &[part, part].concat())?;
    refused("halves of another parity", Algorithm::TripleDes, &[part, same].concat())?;
    refused("the first two equal", Algorithm::TripleDes3, &[part, same, other].concat())?;
    refused("the last two equal", Algorithm::TripleDes3, &[other, part, same].concat())?;
    // A private key of SM2 is from 1 to n - 2: with n - 1 there is no signature (GB/T 32918.1, 6.1).
    let mut one = [0; 32];
    one[31] = 1;
    refused("n - 1", Algorithm::Sm2, &minus(&ORDER, &one))?;
    refused("n", Algorithm::Sm2, &ORDER)?;
    refused("more than n", Algorithm::Sm2, &[0xFF; 32])?;
    one[31] = 2;
    bench.attempt(|| bench.key(Algorithm::Sm2, "S0", ModeOfUse::GenerateAndVerify, &minus(&ORDER, &one))).map(drop)
}

/// What is altered, and how.
type Alteration<'a> = (&'a str, &'a dyn Fn(&mut StoredKey));

/// All that a stored key says of itself is authenticated.
fn altered_keys_do_not_open(bench: &Bench<'_>) -> Result<(), Failure> {
    let attributes = plain(bench.cipher, "M0", ModeOfUse::VerifyOnly)?;
    let stored = bench.store(attributes, kcv_rule_for(bench.cipher), &KEY)?;
    bench.driver.close(&bench.open(&stored)?);
    let usage = "D0".parse().map_err(|error| failure("usage", error))?;
    let raised = Some(Raised { ceiling: Exposure::CardKey, until: u64::MAX });
    let alterations: [Alteration<'_>; 14] = [
        ("another mode of use", &|stored| stored.key.attributes.mode = ModeOfUse::Any),
        ("another usage", &|stored| stored.key.attributes.usage = usage),
        ("another algorithm", &|stored| stored.key.attributes.algorithm = Algorithm::TripleDes),
        ("exportable", &|stored| stored.key.attributes.exportability = Exportability::Sensitive),
        ("another rank", &|stored| stored.key.attributes.rank = KeyRank::Card),
        ("another ceiling", &|stored| stored.key.attributes.ceiling = Exposure::MasterKey),
        ("a raised ceiling", &|stored| stored.raised = raised),
        ("another state", &|stored| stored.key.state = KeyState::Suspended),
        ("another version", &|stored| stored.key.version = KeyVersion(2)),
        ("another id", &|stored| stored.key.id.push('0')),
        ("another check value", &|stored| stored.kcv.value = "000000".to_owned()),
        ("a shorter check value", &|stored| stored.kcv.value.truncate(4)),
        ("another rule of its check value", &|stored| stored.key.kcv_rule.take = 4),
        ("no opaque part", &|stored| stored.opaque.clear()),
    ];
    for (rule, alter) in alterations {
        let mut altered = stored.clone();
        alter(&mut altered);
        does_not_open(bench, rule, &altered)?;
    }
    for at in 0..stored.opaque.len() {
        let mut altered = stored.clone();
        altered.opaque[at] ^= 1;
        does_not_open(bench, "a bit of the opaque part turned", &altered)?;
    }
    Ok(())
}

fn does_not_open(bench: &Bench<'_>, rule: &str, altered: &StoredKey) -> Result<(), Failure> {
    bench.count();
    match bench.driver.open(altered) {
        Ok(_) => Err(failure(rule, "the altered key opened")),
        Err(_) => Ok(()),
    }
}

/// A ceiling that is raised holds until its time, is sealed as the key is, and leaves the key what it was.
fn a_ceiling_is_raised_for_a_time(bench: &Bench<'_>) -> Result<(), Failure> {
    let rule = "a ceiling that is raised";
    let rank = KeyRank::Dispersion { steps_left: 1 };
    let attributes = KeyAttributes { rank, ceiling: Exposure::Nothing, ..plain(bench.cipher, "10", ModeOfUse::Any)? };
    let stored = bench.store(attributes, kcv_rule_for(bench.cipher), &KEY)?;
    let expect = |stored: &StoredKey, ceiling: Exposure| {
        bench.count();
        let handle = bench.open(stored)?;
        let found = handle.ceiling();
        bench.driver.close(&handle);
        if found == ceiling { Ok(()) } else { Err(failure(rule, format!("it is {found}, not {ceiling}"))) }
    };
    let restate = |stored: &StoredKey, raised| {
        bench.driver.restate(stored, KeyState::Active, raised).map_err(|error| failure(rule, error))
    };
    let until = |until| Some(Raised { ceiling: Exposure::CardKey, until });
    expect(&stored, Exposure::Nothing)?;
    let raised = restate(&stored, until(u64::MAX))?;
    expect(&raised, Exposure::CardKey)?;
    let mut altered = raised.clone();
    altered.raised = until(u64::MAX - 1);
    does_not_open(bench, "another time", &altered)?;
    altered.raised = None;
    does_not_open(bench, "no time", &altered)?;
    let over = restate(&raised, until(1))?;
    expect(&over, Exposure::Nothing)?;
    // Asked twice, it is done once.
    let lowered = restate(&over, None)?;
    expect(&lowered, Exposure::Nothing)?;
    expect(&restate(&over, None)?, Exposure::Nothing)
}

/// A handle that is no more may be the backend's loss as well as the caller's error, so only that it does nothing
/// is asked.
fn does_nothing(bench: &Bench<'_>, rule: &str, handle: &KeyHandle) -> Result<(), Failure> {
    bench.count();
    let recipe = Recipe::single(bare(bench.cipher), mac());
    let batch = Batch::one(vec![Column::one([0; 16])], 1);
    match bench.driver.run(std::slice::from_ref(handle), &recipe, &batch) {
        Ok(_) => Err(failure(rule, "the key was used")),
        Err(_) => Ok(()),
    }
}

fn closed_and_destroyed_keys_do_nothing(bench: &Bench<'_>) -> Result<(), Failure> {
    let attributes = || plain(bench.cipher, "M0", ModeOfUse::Any);
    let works = |handle: &KeyHandle| {
        let recipe = Recipe::single(bare(bench.cipher), mac());
        let batch = Batch::one(vec![Column::one([0; 16])], 1);
        bench.run("a key that is open", std::slice::from_ref(handle), &recipe, &batch).map(drop)
    };
    let stored = bench.store(attributes()?, kcv_rule_for(bench.cipher), &KEY)?;
    let (closed, open) = (bench.open(&stored)?, bench.open(&stored)?);
    bench.driver.close(&closed);
    does_nothing(bench, "a closed key", &closed)?;
    works(&open)?;
    bench.driver.close(&closed);
    works(&open)?;
    does_nothing(bench, "a key of another epoch", &KeyHandle { epoch: open.epoch + 1, ..open.clone() })?;
    does_nothing(bench, "a key that was never opened", &KeyHandle { object: u64::MAX, ..open.clone() })?;

    let other = bench.store(attributes()?, kcv_rule_for(bench.cipher), b"another of them!")?;
    let handle = bench.open(&other)?;
    let destroy = || bench.driver.destroy(&other).map_err(|error| failure("destroy", error));
    destroy()?;
    bench.driver.close(&handle);
    does_nothing(bench, "a destroyed key", &handle)?;
    // That it is gone already is no error, and other keys are still there.
    destroy()?;
    works(&open)?;
    bench.driver.close(&open);
    Ok(())
}

/// What one key made, another neither verifies nor opens, alone or in a batch with the right one.
fn another_key_verifies_and_opens_nothing(bench: &Bench<'_>) -> Result<(), Failure> {
    use claviger_hsm_api::MacAlgorithm::{CbcMac, Cmac, Hmac};
    for (algorithm, of) in [
        (Algorithm::TripleDes, CbcMac),
        (Algorithm::Aes256, Cmac),
        (Algorithm::Sm4, Cmac),
        (Algorithm::HmacSm3, Hmac),
        (Algorithm::HmacSha256, Hmac),
    ] {
        let make = Finish::Mac { spec: spec(of, 8), message: Message::column(0) };
        let verify = Finish::VerifyMac { spec: spec(of, 8), message: Message::column(0), expected: Input::Column(1) };
        bench.attempt(|| only_its_own(bench, algorithm, "10", make, verify))?;
    }
    let signer_id = || "1234567812345678".to_owned();
    let sign = Finish::Sign { signer_id: signer_id(), message: Message::column(0) };
    let verify =
        Finish::VerifySignature { signer_id: signer_id(), message: Message::column(0), signature: Input::Column(1) };
    bench.attempt(|| only_its_own(bench, Algorithm::Sm2, "S0", sign, verify))?;
    for algorithm in [Algorithm::Aes128, Algorithm::Sm4] {
        let mode = || CipherMode::Gcm { nonce: Input::Constant(vec![9; 12]), associated: Message(Vec::new()) };
        let seal = Finish::Encrypt { mode: mode(), padding: Padding::None, data: Message::column(0) };
        let open = Finish::Decrypt { mode: mode(), data: Message::column(1) };
        bench.attempt(|| only_its_own(bench, algorithm, "10", seal, open))?;
    }
    Ok(())
}

/// `make` reads column 0; `check` reads that or what was made, in column 1.
fn only_its_own(
    bench: &Bench<'_>,
    algorithm: Algorithm,
    usage: &str,
    make: Finish,
    check: Finish,
) -> Result<(), Failure> {
    let len = algorithm.key_len();
    let keys = [1u8, 2]
        .map(|key| bench.key(algorithm, usage, ModeOfUse::Any, &(key..).step_by(3).take(len).collect::<Vec<_>>()));
    let [mine, other] = keys;
    let keys = [mine?, other?];
    let name = format!("{algorithm}, {} by another key", check.verb());
    let message = b"whose is this?";
    let made = bench.bytes(
        &name,
        &keys[..1],
        &Recipe::single(bare(algorithm), make),
        &Batch::one(vec![Column::one(message)], 1),
    )?;
    let check = Recipe::single(bare(algorithm), check);
    for order in [&[1][..], &[0, 1, 0, 1, 1]] {
        let columns = [&message[..], &made].map(|cell| Column::from_rows(order.iter().map(|_| cell))).to_vec();
        let batch = Batch { rows: order.len(), columns, keys: vec![KeyColumn::PerRow(order.to_vec())] };
        let outcome = bench.run(&name, &keys, &check, &batch)?;
        for (row, key) in order.iter().enumerate() {
            let passed = match outcome.verdicts(0) {
                Some(verdicts) => verdicts.get(row) == Some(&true),
                None => outcome.bytes(0, row) == Some(message),
            };
            if passed != (*key == 0) || (*key == 1 && outcome.bytes(0, row).is_some()) {
                return Err(failure(&name, format!("row {row} of {order:?} is wrong")));
            }
            bench.count();
        }
    }
    keys.iter().for_each(|key| bench.driver.close(key));
    Ok(())
}
