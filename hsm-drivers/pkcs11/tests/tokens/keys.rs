//! Keys that the tests bring into a token, and the MACs that they make there.

use claviger_driver_pkcs11::Pkcs11Driver;
use claviger_hsm_api::{
    Algorithm, Batch, Column, DriverError, Exportability, Exposure, Finish, HsmDriver, KcvRule, KeyAttributes,
    KeyColumn, KeyHandle, KeyName, KeyPath, KeyRank, KeyState, KeyVersion, MacAlgorithm, MacSpec, Message, ModeOfUse,
    NewKey, Padding, Recipe, Secret, StoredKey, Truncation,
};

pub(crate) const MESSAGE: [u8; 16] = *b"sixteen bytes ok";

/// A key and what it should say.
pub(crate) struct Known {
    pub(crate) stored: StoredKey,
    /// Of [`MESSAGE`].
    mac: Vec<u8>,
}

fn new_key(id: &str, algorithm: Algorithm) -> NewKey {
    NewKey {
        id: id.to_owned(),
        name: KeyName::new("tests", "generic", "TEST").unwrap(),
        version: KeyVersion(1),
        factors: Vec::new(),
        attributes: KeyAttributes {
            algorithm,
            usage: "M6".parse().unwrap(),
            mode: ModeOfUse::GenerateAndVerify,
            exportability: Exportability::None,
            rank: KeyRank::Plain,
            ceiling: Exposure::Nothing,
        },
        state: KeyState::Active,
        kcv_rule: KcvRule::ZEROS,
    }
}

/// Brings an AES key of sixteen equal bytes in.
pub(crate) fn aes(driver: &Pkcs11Driver, id: &str, fill: u8) -> Known {
    let stored = driver.import(new_key(id, Algorithm::Aes128), Secret::copy_of(&[fill; 16])).unwrap();
    // The reference: RustCrypto, which the driver does not use for this.
    let mut reference = <cmac::Cmac<aes::Aes128> as cmac::KeyInit>::new(&[fill; 16].into());
    cmac::Mac::update(&mut reference, &MESSAGE);
    let mac = cmac::Mac::finalize(reference).into_bytes().to_vec();
    Known { stored, mac }
}

/// Brings a triple-DES key in, whose retail MACs take a second object.
pub(crate) fn triple_des(driver: &Pkcs11Driver, id: &str) -> StoredKey {
    let mut key = new_key(id, Algorithm::TripleDes);
    key.attributes.usage = "M3".parse().unwrap();
    driver.import(key, Secret::copy_of(b"0123456789ABCDEF")).unwrap()
}

fn recipe() -> Recipe {
    let path = KeyPath { slot: 0, algorithm: Algorithm::Aes128, steps: Vec::new(), steps_left: 0 };
    let spec = MacSpec {
        algorithm: MacAlgorithm::Cmac,
        second: None,
        padding: Padding::None,
        initial: None,
        truncation: Truncation::Left(16),
    };
    Recipe::single(path, Finish::Mac { spec, message: Message::column(0) })
}

impl Known {
    /// The MAC by a handle: right, or an error that says that the handle or the token is lost; never another.
    pub(crate) fn mac(&self, driver: &Pkcs11Driver, handle: &KeyHandle) -> Result<(), DriverError> {
        let batch = Batch::one(vec![Column::one(MESSAGE)], 1);
        let outcome = driver.run(std::slice::from_ref(handle), &recipe(), &batch)?;
        assert_eq!(outcome.bytes(0, 0).unwrap(), self.mac, "the MAC of another key");
        Ok(())
    }

    /// A MAC over each of many messages: keeps a session busy.
    pub(crate) fn many(&self, driver: &Pkcs11Driver, handle: &KeyHandle, rows: usize) {
        let column = Column::from_rows(std::iter::repeat_n(&MESSAGE[..], rows));
        let batch = Batch { rows, columns: vec![column], keys: vec![KeyColumn::Same(0)] };
        let outcome = driver.run(std::slice::from_ref(handle), &recipe(), &batch).unwrap();
        assert_eq!(outcome.bytes(0, rows - 1).unwrap(), self.mac);
    }

    /// As whoever stands above the driver does it: a key that is not open any more is opened again.
    pub(crate) fn mac_somehow(&self, driver: &Pkcs11Driver, handle: &mut KeyHandle) {
        let mut last = None;
        for _ in 0..20 {
            match self.mac(driver, handle) {
                Ok(()) => return,
                Err(error) => last = Some(error),
            }
            if let Ok(opened) = driver.open(&self.stored) {
                *handle = opened;
            }
        }
        panic!("twenty tries failed: {last:?}");
    }
}
