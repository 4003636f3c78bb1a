//! A derived key that is kept inside as a stored key of its own.

use claviger_hsm_api::{
    Algorithm, Batch, Column, DispersionRule, Exposure, Finish, Input, KcvRule, KeyAttributes, KeyColumn, KeyHandle,
    KeyName, KeyPath, KeyRank, KeyState, KeyVersion, LegValue, ModeOfUse, NewKey, Parity, Recipe, Step, StoredKey,
};

use crate::Failure;
use crate::bench::{Bench, failure, plain};
use crate::refusals::{KEY, mac, refused};

/// The child of `KEY` by two factors makes the MACs that the parent makes down the same path; it is no more than
/// its parent, and there is one of its name.
pub(crate) fn check(bench: &Bench<'_>) -> Result<(), Failure> {
    long_check_values_are_refused(bench)?;
    for algorithm in [Algorithm::TripleDes, Algorithm::Sm4, Algorithm::Aes128] {
        bench.attempt(|| of(bench, algorithm))?;
    }
    Ok(())
}

fn of(bench: &Bench<'_>, algorithm: Algorithm) -> Result<(), Failure> {
    let parent = bench.open(&bench.store(attributes(algorithm, 2)?, KcvRule::ZEROS, &KEY)?)?;
    let city = bench.open(&store(bench, &parent, 1, attributes(algorithm, 1)?)?)?;
    let card =
        bench.open(&store(bench, &parent, 2, KeyAttributes { rank: KeyRank::Card, ..attributes(algorithm, 1)? })?)?;
    let direct = made(bench, &parent, 0)?;
    bench.expect("a city's child makes the parent's MACs", &made(bench, &city, 1)?, &direct)?;
    bench.expect("a card's child makes the parent's MACs", &made(bench, &card, 2)?, &direct)?;
    stays_within(bench, algorithm, &parent)?;
    Ok(())
}

fn attributes(algorithm: Algorithm, steps_left: u8) -> Result<KeyAttributes, Failure> {
    let rank = KeyRank::Dispersion { steps_left };
    Ok(KeyAttributes { rank, ceiling: Exposure::CardKey, ..plain(algorithm, "10", ModeOfUse::GenerateAndVerify)? })
}

/// A check value is public, and one of more than three bytes under a dispersion key is part of a child.
fn long_check_values_are_refused(bench: &Bench<'_>) -> Result<(), Failure> {
    bench.count();
    let long = KcvRule { take: 4, ..KcvRule::ZEROS };
    match bench.store(attributes(Algorithm::TripleDes, 2)?, long, &KEY) {
        Ok(_) => Err(failure("a long check value of a dispersion key", "the key was taken")),
        Err(_) => Ok(()),
    }
}

/// The steps from level `from` to level `to`, by factors that differ.
fn path(algorithm: Algorithm, from: u8, to: u8) -> KeyPath {
    let step = |level: u8| Step::Disperse {
        rule: DispersionRule::FactorAndComplement,
        parity: Parity::AsComputed,
        factor: Input::Constant(vec![level; 8]),
    };
    KeyPath { slot: 0, algorithm, steps: (from..to).map(step).collect(), steps_left: 2 - to }
}

fn child(attributes: KeyAttributes, number: usize) -> Result<NewKey, Failure> {
    Ok(NewKey {
        id: format!("conformance-child-{}-{number}", attributes.algorithm),
        name: KeyName::new("conformance", "generic", "TEST").map_err(|error| failure("key name", error))?,
        version: KeyVersion(1),
        factors: Vec::new(),
        attributes,
        state: KeyState::Active,
        kcv_rule: KcvRule::ZEROS,
    })
}

fn storing(algorithm: Algorithm, to: u8, attributes: KeyAttributes) -> Result<Recipe, Failure> {
    let child = Box::new(child(attributes, usize::from(to))?);
    Ok(Recipe::single(path(algorithm, 0, to), Finish::Store { child }))
}

fn store(bench: &Bench<'_>, parent: &KeyHandle, to: u8, attributes: KeyAttributes) -> Result<StoredKey, Failure> {
    let recipe = storing(parent.attributes.algorithm, to, attributes)?;
    let outcome = bench.run("store a child", std::slice::from_ref(parent), &recipe, &Batch::one(Vec::new(), 1))?;
    match outcome.legs.into_iter().next().map(|leg| leg.value) {
        Some(LegValue::Stored(mut children)) if children.len() == 1 => {
            children.pop().ok_or_else(|| failure("store a child", "nothing was stored"))
        }
        _ => Err(failure("store a child", "it gave no stored key")),
    }
}

fn made(bench: &Bench<'_>, key: &KeyHandle, held: u8) -> Result<Vec<u8>, Failure> {
    let recipe = Recipe::single(path(key.attributes.algorithm, held, 2), mac());
    let batch = Batch::one(vec![Column::one(*b"sixteen bytes ok")], 1);
    bench.bytes("a MAC of a card", std::slice::from_ref(key), &recipe, &batch)
}

fn stays_within(bench: &Bench<'_>, algorithm: Algorithm, parent: &KeyHandle) -> Result<(), Failure> {
    let keys = std::slice::from_ref(parent);
    let wider = |widen: &dyn Fn(&mut KeyAttributes)| {
        let mut attributes = attributes(algorithm, 1)?;
        widen(&mut attributes);
        storing(algorithm, 1, attributes)
    };
    refused(bench, "a child with a higher ceiling", keys, &wider(&|a| a.ceiling = Exposure::MasterKey)?, &[0; 8])?;
    refused(bench, "a child with another mode", keys, &wider(&|a| a.mode = ModeOfUse::Any)?, &[0; 8])?;
    refused(bench, "a child that claims to be a card's", keys, &wider(&|a| a.rank = KeyRank::Card)?, &[0; 8])?;
    refused(bench, "a child of no level", keys, &storing(algorithm, 0, attributes(algorithm, 2)?)?, &[0; 8])?;
    bench.count();
    let two = Batch { rows: 2, columns: Vec::new(), keys: vec![KeyColumn::Same(0)] };
    match bench.driver.run(keys, &storing(algorithm, 1, attributes(algorithm, 1)?)?, &two) {
        Ok(_) => Err(failure("one name is one key", "two children of one name were stored")),
        Err(_) => Ok(()),
    }
}
