//! AES key wrap: the cases of Project Wycheproof that wrap.
//!
//! A driver does not unwrap in this version, so a case that only asks whether something unwraps does not apply,
//! nor does one whose message is as long as no key.

use claviger_hsm_api::{
    Algorithm, Batch, Exportability, Finish, KeyAttributes, KeyColumn, KeyHandle, KeyPath, ModeOfUse, Recipe,
    WrapFormat,
};
use wycheproof::TestResult;
use wycheproof::keywrap::{Test, TestName, TestSet};

use crate::bench::{Bench, bare, failure, kcv_rule_for, plain};
use crate::wycheproof::aes;
use crate::{Failure, Tally};

pub(crate) fn check(bench: &Bench<'_>) -> Result<Tally, Failure> {
    let set = TestSet::load(TestName::AesKeyWrap).map_err(|error| failure("aes_wrap", error))?;
    let (mut wrapped, mut refused) = (0, 0);
    for group in &set.test_groups {
        let wrapper = aes(group.key_size / 8).ok_or_else(|| failure("aes_wrap", "a key that is of no AES"))?;
        for algorithm in [Algorithm::Aes128, Algorithm::Aes192, Algorithm::Aes256] {
            let fits = |test: &&Test| test.pt.len() == algorithm.key_len() && test.result == TestResult::Valid;
            let tests: Vec<&Test> = group.tests.iter().filter(fits).collect();
            let all = || wraps(bench, &tests, wrapper, algorithm).map(|()| tests.len());
            wrapped += bench.attempt(all)?.unwrap_or(0);
        }
        for test in &group.tests {
            // Keys, but not of two or more whole units of eight bytes.
            let algorithm = match test.pt.len() {
                8 => Algorithm::Des,
                20 => Algorithm::HmacSha256,
                _ => continue,
            };
            let one = || {
                let keys = opened(bench, &[test], wrapper, algorithm)?;
                bench.refused(&id(test), &keys, &recipe(wrapper, algorithm), &Batch::one(Vec::new(), 2))
            };
            refused += usize::from(bench.attempt(one)?.is_some());
        }
    }
    let others = set.number_of_tests - wrapped - refused;
    Ok(vec![
        ("wycheproof aes_wrap", wrapped),
        ("wycheproof aes_wrap, a key that is not whole units: refused", refused),
        ("wycheproof aes_wrap, of unwrapping or as long as no key: not run", others),
    ])
}

fn id(test: &Test) -> String {
    format!("aes_wrap#{}", test.tc_id)
}

fn recipe(wrapper: Algorithm, algorithm: Algorithm) -> Recipe {
    let under = KeyPath { slot: 1, ..bare(wrapper) };
    Recipe::single(bare(algorithm), Finish::Wrap { under, format: WrapFormat::KeyWrap })
}

/// The keys to be wrapped, in the order of the tests, and then those that wrap them.
fn opened(
    bench: &Bench<'_>,
    tests: &[&Test],
    wrapper: Algorithm,
    algorithm: Algorithm,
) -> Result<Vec<KeyHandle>, Failure> {
    let attributes =
        KeyAttributes { exportability: Exportability::Sensitive, ..plain(algorithm, "D0", ModeOfUse::Both)? };
    let rule = kcv_rule_for(algorithm);
    let inner = |test: &&Test| bench.open(&bench.store(attributes.clone(), rule, &test.pt)?);
    let outer = |test: &&Test| bench.key(wrapper, "K0", ModeOfUse::EncryptOnly, &test.key);
    tests.iter().map(inner).chain(tests.iter().map(outer)).collect()
}

/// Alone, and all at once.
fn wraps(bench: &Bench<'_>, tests: &[&Test], wrapper: Algorithm, algorithm: Algorithm) -> Result<(), Failure> {
    let recipe = recipe(wrapper, algorithm);
    let keys = opened(bench, tests, wrapper, algorithm)?;
    let rows = tests.len();
    for (row, test) in tests.iter().enumerate() {
        let pair = [keys[row].clone(), keys[rows + row].clone()];
        bench.expect(&id(test), &bench.bytes(&id(test), &pair, &recipe, &Batch::one(Vec::new(), 2))?, &test.ct)?;
    }
    let column = |from: usize| KeyColumn::PerRow((from..from + rows).map(|key| key as u16).collect());
    let batch = Batch { rows, columns: Vec::new(), keys: vec![column(0), column(rows)] };
    let outcome = bench.run("aes_wrap", &keys, &recipe, &batch)?;
    for (row, test) in tests.iter().enumerate() {
        bench.expect(&id(test), outcome.bytes(0, row).unwrap_or_default(), &test.ct)?;
    }
    keys.iter().for_each(|key| bench.driver.close(key));
    Ok(())
}
