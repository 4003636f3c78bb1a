//! Verification by each driver: the whole call, from the batch to its verdict, with a MAC that is wrong in its first byte or in
//! its last.

use std::hint::black_box;
use std::sync::Arc;

use claviger_card_schemes::Schemes;
use claviger_hsm_api::{
    Algorithm, Batch, Column, Exportability, Exposure, Finish, HsmDriver, Input, KcvRule, KeyAttributes, KeyColumn,
    KeyHandle, KeyName, KeyPath, KeyRank, KeyState, KeyVersion, MacAlgorithm, MacSpec, Message, ModeOfUse, NewKey,
    Padding, Recipe, Secret, Truncation,
};

use super::{LIMIT, measure, report, token};

/// What is asked of a driver.
struct Asked {
    name: &'static str,
    key: NewKey,
    recipe: Recipe,
    /// What is known of the only row before its MAC is.
    columns: Vec<Column>,
}

/// Each driver that there is a real part for; whether none of them tells anything.
pub(crate) fn ask(samples: usize, json: bool) -> bool {
    let Some(folder) = token::folder() else { return true };
    let open = |driver: &str, table: &str, storage: Option<Secret>| {
        let driver = claviger_hsm_registry::find(driver).unwrap();
        (driver.open)(table.parse().unwrap(), storage).unwrap()
    };
    let drivers = [
        ("software", open("software", "", Some(Secret::copy_of(&[7; 32])))),
        ("SoftHSM2", open("pkcs11", &token::softhsm(&folder), None)),
        ("NSS", open("pkcs11", &token::make_nss(&folder), None)),
    ];
    let mut sound = true;
    for (name, driver) in &drivers {
        for asked in [tac(), cmac()] {
            let work = asked.name;
            let t = position(driver, asked, samples);
            sound &= t.abs() < LIMIT;
            report(name, (work, 1), "first wrong byte", t, json);
        }
    }
    sound
}

/// The t of MACs that are wrong in the first or in the last of four bytes.
fn position(driver: &Arc<dyn HsmDriver>, asked: Asked, samples: usize) -> f64 {
    let stored = driver.import(asked.key, Secret::copy_of(b"0123456789ABCDEF")).unwrap();
    let key = driver.open(&stored).unwrap();
    let right = made(&**driver, &key, &asked.recipe, &asked.columns);
    let columns = [asked.columns, vec![Column::Fixed { width: right.len(), bytes: right.clone() }]].concat();
    let mut batch = Batch { rows: 1, columns, keys: vec![KeyColumn::Same(0)] };
    let verdict =
        |batch: &Batch| driver.run(std::slice::from_ref(&key), &asked.recipe, batch).unwrap().verdicts(0).unwrap()[0];
    assert!(verdict(&batch), "the right one is right");
    let spoil = |batch: &mut Batch, is_first: bool, _: u64| {
        let Some(Column::Fixed { bytes, .. }) = batch.columns.last_mut() else { panic!("the last column has the MAC") };
        bytes.copy_from_slice(&right);
        bytes[0] ^= u8::from(is_first);
        bytes[right.len() - 1] ^= u8::from(!is_first);
    };
    measure(samples, &mut batch, spoil, |batch| assert!(!black_box(verdict(batch)), "a wrong one is wrong"))
}

/// The right MAC of the row.
fn made(driver: &dyn HsmDriver, key: &KeyHandle, recipe: &Recipe, columns: &[Column]) -> Vec<u8> {
    let mut making = recipe.clone();
    let Finish::VerifyMac { spec, message, .. } = recipe.legs[0].finish.clone() else { panic!("a MAC is verified") };
    making.legs[0].finish = Finish::Mac { spec, message };
    let batch = Batch { rows: 1, columns: columns.to_vec(), keys: vec![KeyColumn::Same(0)] };
    driver.run(std::slice::from_ref(key), &making, &batch).unwrap().bytes(0, 0).unwrap().to_vec()
}

/// A 3DES TAC, one dispersion below a city's key.
fn tac() -> Asked {
    let scheme = Schemes::shipped().unwrap().find("cjt166").unwrap().clone();
    Asked {
        name: "3des-tac",
        key: key("DTK", "10", Algorithm::TripleDes, KeyRank::Dispersion { steps_left: 1 }),
        recipe: scheme.tac_recipe(Algorithm::TripleDes, 1).unwrap(),
        columns: vec![Column::Fixed { width: 8, bytes: vec![3; 8] }, Column::Fixed { width: 22, bytes: vec![5; 22] }],
    }
}

/// An AES-CMAC of four bytes under a key of no scheme.
fn cmac() -> Asked {
    let spec = MacSpec {
        algorithm: MacAlgorithm::Cmac,
        second: None,
        padding: Padding::None,
        initial: None,
        truncation: Truncation::Left(4),
    };
    let finish = Finish::VerifyMac { spec, message: Message::column(0), expected: Input::Column(1) };
    let path = KeyPath { slot: 0, algorithm: Algorithm::Aes128, steps: Vec::new(), steps_left: 0 };
    Asked {
        name: "aes-cmac",
        key: key("CMAC", "M6", Algorithm::Aes128, KeyRank::Plain),
        recipe: Recipe::single(path, finish),
        columns: vec![Column::Fixed { width: 16, bytes: vec![9; 16] }],
    }
}

fn key(role: &str, usage: &str, algorithm: Algorithm, rank: KeyRank) -> NewKey {
    let attributes = KeyAttributes {
        algorithm,
        usage: usage.parse().unwrap(),
        mode: ModeOfUse::GenerateAndVerify,
        exportability: Exportability::None,
        rank,
        ceiling: Exposure::CardKey,
    };
    NewKey {
        id: role.to_lowercase(),
        name: KeyName::new("bench", "timing", role).unwrap(),
        version: KeyVersion(1),
        factors: Vec::new(),
        attributes,
        state: KeyState::Active,
        kcv_rule: KcvRule::ZEROS,
    }
}
