//! Records verified together get the verdicts that each gets by itself.

use std::cell::RefCell;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use claviger_hsm_api::{Algorithm, Batch, KeyColumn, KeyVersion, LegOutcome, LegValue, Outcome, Recipe, Verdict};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Reason, SelectableKey, TacVerifier, Verified};
use crate::fields::{Field, FieldSet};
use crate::records::LineFault;
use crate::schemes::Schemes;

static SCHEMES: LazyLock<Schemes> = LazyLock::new(|| Schemes::shipped().unwrap());

/// An engine to which half of all MACs are right: what it says of a row depends on all that it is given of that row.
fn engine(recipe: &Recipe, batch: &Batch, keys_seen: &RefCell<Vec<u16>>) -> Outcome {
    batch.check(1, usize::from(u16::MAX)).unwrap();
    let [KeyColumn::PerRow(keys)] = batch.keys.as_slice() else { panic!("rows have keys of their own") };
    keys_seen.borrow_mut().extend(keys);
    let valid = |leg: usize, row: usize| {
        let mut hasher = DefaultHasher::new();
        (leg, format!("{recipe:?}"), keys[row]).hash(&mut hasher);
        batch.columns.iter().for_each(|column| column.cell(row).hash(&mut hasher));
        hasher.finish().is_multiple_of(2)
    };
    let outcome = |leg| LegOutcome {
        ran: vec![true; batch.rows],
        value: LegValue::Verdicts((0..batch.rows).map(|row| valid(leg, row)).collect()),
    };
    Outcome { legs: (0..recipe.legs.len()).map(outcome).collect() }
}

/// The verdicts of some records, and the keys that were used.
fn verify(
    verifier: &mut TacVerifier,
    records: &[Result<FieldSet, LineFault>],
    usable: Option<&[bool]>,
) -> (Vec<Verified>, Vec<u16>) {
    for (record, line) in records.iter().zip(7..) {
        match record {
            Ok(fields) => verifier.push(fields),
            Err(fault) => verifier.push_fault(*fault, line),
        }
    }
    if let Some(usable) = usable {
        verifier.forget(usable);
    }
    let (keys, mut verdicts) = (RefCell::new(Vec::new()), Vec::new());
    let mut run = |recipe: &Recipe, batch: &Batch| Ok::<_, Infallible>(engine(recipe, batch, &keys));
    verifier.finish(&mut run, |verified| verdicts.push(verified)).unwrap();
    assert!(verifier.is_empty());
    (verdicts, keys.into_inner())
}

fn keys() -> impl Strategy<Value = Vec<SelectableKey>> {
    let factor = select(vec![0x11u8, 0x12, 0x13]).prop_map(|city| vec![0x10, city, 0xFF, 0, 0, 0, 0, 0]);
    let algorithm = select(vec![Algorithm::TripleDes, Algorithm::Sm4]);
    vec((algorithm, 1u8..3, vec(factor, 0..2)), 1..7).prop_map(|keys| {
        let key = |(algorithm, version, factors)| SelectableKey { algorithm, version: KeyVersion(version), factors };
        keys.into_iter().map(key).collect()
    })
}

/// Mostly with all its fields, of few cities, versions and types, so that many are alike.
fn record() -> impl Strategy<Value = Result<FieldSet, LineFault>> {
    let value = |field: &Field| match field {
        Field::CityCode => {
            select(vec![[0x10, 0x11], [0x10, 0x12], [0x10, 0x13], [0x10, 0x14]]).prop_map(Vec::from).boxed()
        }
        Field::TxnType => select(vec![1u8, 2, 3, 5, 6, 7, 9, 0x55]).prop_map(|byte| vec![byte]).boxed(),
        Field::KeyVersion => (1u8..4).prop_map(|byte| vec![byte]).boxed(),
        Field::AlgId => select(vec![0u8, 1, 4, 9]).prop_map(|byte| vec![byte]).boxed(),
        field => vec(any::<u8>(), field.width()).boxed(),
    };
    let fields: Vec<_> = Field::OF_RECORDS.iter().map(|field| option::weighted(0.97, value(field))).collect();
    let fields = fields.prop_map(|values| {
        let mut fields = FieldSet::default();
        for (field, value) in Field::OF_RECORDS.iter().zip(values) {
            value.into_iter().for_each(|value| fields.set(*field, &value).unwrap());
        }
        Ok(fields)
    });
    prop_oneof![30 => fields, 1 => Just(Err(LineFault::NoId)), 1 => Just(Err(LineFault::Field(Field::Asn)))]
}

proptest! {
    #[test]
    fn together_is_as_one_by_one(
        scheme in select(vec!["cjt166", "jtt978", "pboc"]),
        keys in keys(),
        batches in vec(vec(record(), 0..200), 1..4),
        usable in vec(any::<bool>(), 7),
    ) {
        let scheme = SCHEMES.find(scheme).unwrap();
        let new = || TacVerifier::new(Arc::clone(scheme), keys.clone());
        let mut together = new();
        for (number, records) in batches.iter().enumerate() {
            // Keys are taken away from the records of the last batch.
            let usable = Some(&usable[..keys.len()]).filter(|_| number + 1 == batches.len());
            let (found, _) = verify(&mut together, records, usable);
            prop_assert_eq!(found.len(), records.len());
            for ((record, found), line) in records.iter().zip(found).zip(7..) {
                let (alone, keys) = verify(&mut new(), std::slice::from_ref(record), None);
                let gone = usable.is_some_and(|usable| keys.iter().any(|key| !usable[usize::from(*key)]));
                let expected = match (gone, alone[0].reason) {
                    (true, _) => Verified { verdict: Verdict::UnknownKey, reason: Reason::UnknownVersion },
                    (_, Reason::Line(_)) => Verified { reason: Reason::Line(line), ..alone[0] },
                    _ => alone[0],
                };
                prop_assert_eq!(found, expected);
            }
        }
    }
}
