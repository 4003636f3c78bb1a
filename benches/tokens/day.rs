//! A day of TACs on a token.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use claviger_card_schemes::Schemes;
use claviger_hsm_api::{
    Algorithm, Batch, Column, Exportability, Exposure, Finish, HsmDriver, KcvRule, KeyAttributes, KeyColumn, KeyHandle,
    KeyName, KeyRank, KeyState, KeyVersion, ModeOfUse, NewKey, Recipe, Secret,
};
use serde_json::json;

use crate::quartiles;
use crate::raw::Raw;
use crate::token::{PIN, SOFTHSM, softhsm};

/// Records of a batch, as the daemon makes them.
const BATCH: usize = 8192;
/// Records of a round that goes record by record.
const ALONE: usize = 2000;
const MASTER: [u8; 16] = *b"0123456789ABCDEF";
/// Bytes that a TAC of the scheme covers.
const TEXT: usize = 22;

pub(crate) fn report(folder: &Path, rounds: usize, json: bool) {
    let raw = Raw::new(SOFTHSM, PIN);
    let master = raw.key(cryptoki_sys::CKK_DES2, &MASTER);
    let token = token(folder);
    let software = software();
    let recipe = Schemes::shipped().unwrap().find("cjt166").unwrap().tac_recipe(Algorithm::TripleDes, 1).unwrap();
    let batch = day(&*software.0, &software.1, &recipe);
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        times[0].push(per_record(ALONE, || {
            for row in 0..ALONE {
                let factor = batch.columns[0].cell(row).try_into().unwrap();
                let mut text = [0; 24];
                text[..TEXT].copy_from_slice(batch.columns[1].cell(row));
                std::hint::black_box(raw.derive_mac_destroy(master, factor, &mut text));
            }
        }));
        times[1].push(per_record(BATCH, || {
            let outcome = token.0.run(std::slice::from_ref(&token.1), &recipe, &batch).unwrap();
            let right = outcome.verdicts(0).unwrap();
            // One in ten was spoilt.
            assert!(right.iter().enumerate().all(|(row, valid)| *valid == (row % 10 != 0)));
        }));
        let mut blocks = vec![0x5A; 16 * BATCH];
        times[2].push(per_record(BATCH, || raw.ecb(master, &mut blocks)));
    }
    let [alone, batched, bulk] = times.map(quartiles);
    let (ratio, share) = (alone[1] / batched[1], bulk[1] / batched[1]);
    if json {
        println!(
            "{}",
            json!({ "bench": "purse-day", "ns_alone": alone, "ns_batched": batched, "ns_token_ecb": bulk,
                "ratio": ratio, "share_of_token_ecb": share })
        );
        return;
    }
    let line = |name: &str, [low, median, high]: [f64; 3]| {
        println!("{name:<44} {median:>8.0} ns a record ({low:.0}-{high:.0}), {:>9.0} a second", 1e9 / median);
    };
    line("record by record: derive, MAC, destroy", alone);
    line("in batches: dispersed in bulk, finished here", batched);
    line("the token's own ECB over two blocks a record", bulk);
    println!("{ratio:.1} times as fast, {:.0} % of the token's bulk rate", 100.0 * share);
}

/// Nanoseconds.
fn per_record(records: usize, work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_nanos() as f64 / records as f64
}

type Opened = (Arc<dyn HsmDriver>, KeyHandle);

fn token(folder: &Path) -> Opened {
    let driver = claviger_hsm_registry::find("pkcs11").unwrap();
    open((driver.open)(softhsm(folder).parse().unwrap(), None).unwrap())
}

fn software() -> Opened {
    let driver = claviger_hsm_registry::find("software").unwrap();
    open((driver.open)(toml::Table::new(), Some(Secret::copy_of(&[7; 32]))).unwrap())
}

/// A city's key for TACs: one dispersion above its cards.
fn open(driver: Arc<dyn HsmDriver>) -> Opened {
    let attributes = KeyAttributes {
        algorithm: Algorithm::TripleDes,
        usage: "10".parse().unwrap(),
        mode: ModeOfUse::GenerateAndVerify,
        exportability: Exportability::None,
        rank: KeyRank::Dispersion { steps_left: 1 },
        ceiling: Exposure::CardKey,
    };
    let key = NewKey {
        id: "bench".to_owned(),
        name: KeyName::new("bench", "cjt166", "DTK").unwrap(),
        version: KeyVersion(1),
        factors: Vec::new(),
        attributes,
        state: KeyState::Active,
        kcv_rule: KcvRule::ZEROS,
    };
    let stored = driver.import(key, Secret::copy_of(&MASTER)).unwrap();
    let handle = driver.open(&stored).unwrap();
    (driver, handle)
}

/// A batch of cards, each with its record and its TAC; one in ten is spoilt.
fn day(driver: &dyn HsmDriver, key: &KeyHandle, recipe: &Recipe) -> Batch {
    let mut making = recipe.clone();
    let Finish::VerifyMac { spec, message, .. } = recipe.legs[0].finish.clone() else { panic!("a TAC is verified") };
    making.legs[0].finish = Finish::Mac { spec, message };
    let bytes = |row: usize, width: usize, salt: u8| -> Vec<u8> {
        (0..width).map(|at| ((row * 31 + at * 7) as u8).wrapping_mul(salt) ^ (row >> 8) as u8).collect()
    };
    let column = |width: usize, salt: u8| Column::Fixed {
        width,
        bytes: (0..BATCH).flat_map(|row| bytes(row, width, salt)).collect(),
    };
    let mut batch = Batch { rows: BATCH, columns: vec![column(8, 3), column(TEXT, 5)], keys: vec![KeyColumn::Same(0)] };
    let made = driver.run(std::slice::from_ref(key), &making, &batch).unwrap();
    let tacs = (0..BATCH).flat_map(|row| {
        let mut tac = made.bytes(0, row).unwrap().to_vec();
        tac[0] ^= u8::from(row % 10 == 0);
        tac
    });
    batch.columns.push(Column::Fixed { width: 4, bytes: tacs.collect() });
    batch
}
