//! What every check stands on: keys in the driver, cases from files.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use claviger_hsm_api::{
    Algorithm, Batch, DriverError, Exportability, Exposure, Fault, Finish, HsmDriver, KcvRule, KeyAttributes,
    KeyHandle, KeyName, KeyPath, KeyRank, KeyState, KeyVersion, ModeOfUse, NewKey, Outcome, Recipe, Secret, Step,
    StoredKey,
};
use serde_json::Value;

use crate::Failure;

pub(crate) struct Bench<'a> {
    pub(crate) driver: &'a dyn HsmDriver,
    vectors: &'a Path,
    next: AtomicU32,
    refusals: AtomicUsize,
    impossible: AtomicUsize,
    /// The keys that are there now.
    stored: Mutex<Vec<StoredKey>>,
    /// A cipher of 16-byte blocks that the driver has.
    pub(crate) cipher: Algorithm,
}

/// A case of a vector file.
pub(crate) struct Case {
    pub(crate) id: String,
    fields: Value,
}

pub(crate) fn failure(case: &str, reason: impl ToString) -> Failure {
    Failure { case: case.to_owned(), reason: reason.to_string(), impossible: false }
}

/// A driver's error; that it cannot do something is not a failure of what was tried.
fn of_driver(case: &str, error: DriverError) -> Failure {
    Failure { impossible: error.fault == Fault::Unsupported, ..failure(case, error) }
}

impl<'a> Bench<'a> {
    pub(crate) fn new(driver: &'a dyn HsmDriver, vectors: &'a Path) -> Self {
        let counter = || AtomicUsize::new(0);
        let cipher = Algorithm::Sm4;
        let bench = Self {
            driver,
            vectors,
            next: AtomicU32::new(0),
            refusals: counter(),
            impossible: counter(),
            stored: Mutex::default(),
            cipher,
        };
        match bench.key(Algorithm::Sm4, "D0", ModeOfUse::Both, b"is there an SM4?") {
            Err(failure) if failure.impossible => Self { cipher: Algorithm::Aes128, ..bench },
            _ => bench,
        }
    }

    /// Does something that the driver may say it cannot; that is counted. The keys that it stored are destroyed: a
    /// device has only so much room.
    pub(crate) fn attempt<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<Option<T>, Failure> {
        let before = self.keys().len();
        let result = work();
        let done = self.keys().split_off(before);
        done.iter().try_for_each(|key| self.driver.destroy(key).map_err(|error| failure("destroy", error)))?;
        match result {
            Err(failure) if failure.impossible => {
                self.impossible.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Whether the driver lets a key out on its way down a path where the ceiling allows it.
    pub(crate) fn goes_other_ways(&self, algorithm: Algorithm, steps: &[Step]) -> bool {
        let path = KeyPath { slot: 0, algorithm, steps: steps.to_vec(), steps_left: 0 };
        let recipe = Recipe::single(path, Finish::Kcv { rule: KcvRule::ZEROS });
        let stated = self.driver.exposure(&recipe, &[Exposure::CardKey]);
        stated.is_ok_and(|exposure| exposure.iter().any(|exposure| *exposure > Exposure::Nothing))
    }

    fn keys(&self) -> MutexGuard<'_, Vec<StoredKey>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attempts that the driver could not make.
    pub(crate) fn impossible(&self) -> usize {
        self.impossible.load(Ordering::Relaxed)
    }

    pub(crate) fn cases(&self, file: &str) -> Result<Vec<Case>, Failure> {
        let text = std::fs::read(self.vectors.join(file)).map_err(|error| failure(file, error))?;
        let document: Value = serde_json::from_slice(&text).map_err(|error| failure(file, error))?;
        let cases = document["cases"].as_array().ok_or_else(|| failure(file, "holds no cases"))?;
        Ok(cases
            .iter()
            .map(|fields| Case {
                id: format!("{file}#{}", fields["id"].as_str().unwrap_or("?")),
                fields: fields.clone(),
            })
            .collect())
    }

    /// Brings a key in.
    pub(crate) fn store(
        &self,
        attributes: KeyAttributes,
        kcv_rule: KcvRule,
        bytes: &[u8],
    ) -> Result<StoredKey, Failure> {
        let key = self.new_key(attributes, kcv_rule)?;
        let stored = self.driver.import(key, Secret::copy_of(bytes)).map_err(|error| of_driver("import", error))?;
        self.keys().push(stored.clone());
        Ok(stored)
    }

    fn new_key(&self, attributes: KeyAttributes, kcv_rule: KcvRule) -> Result<NewKey, Failure> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = KeyName::new("conformance", "generic", "TEST").map_err(|error| failure("key name", error))?;
        Ok(NewKey {
            id: format!("conformance-{number}"),
            name,
            version: KeyVersion(1),
            factors: Vec::new(),
            attributes,
            state: KeyState::Active,
            kcv_rule,
        })
    }

    /// Brings a plain key of that usage and mode in and opens it.
    pub(crate) fn key(
        &self,
        algorithm: Algorithm,
        usage: &str,
        mode: ModeOfUse,
        bytes: &[u8],
    ) -> Result<KeyHandle, Failure> {
        self.open(&self.store(plain(algorithm, usage, mode)?, kcv_rule_for(algorithm), bytes)?)
    }

    pub(crate) fn open(&self, key: &StoredKey) -> Result<KeyHandle, Failure> {
        self.driver.open(key).map_err(|error| of_driver("open", error))
    }

    pub(crate) fn run(
        &self,
        case: &str,
        keys: &[KeyHandle],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Outcome, Failure> {
        self.driver.run(keys, recipe, batch).map_err(|error| of_driver(case, error))
    }

    /// The bytes that one row of a recipe's first leg gives.
    pub(crate) fn bytes(
        &self,
        case: &str,
        keys: &[KeyHandle],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Vec<u8>, Failure> {
        let outcome = self.run(case, keys, recipe, batch)?;
        outcome.bytes(0, 0).map(<[u8]>::to_vec).ok_or_else(|| failure(case, "nothing came out"))
    }

    /// Counts a refusal.
    pub(crate) fn count(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Refusals counted so far.
    pub(crate) fn refusals(&self) -> usize {
        self.refusals.load(Ordering::Relaxed)
    }

    /// That the driver refuses, and does not say that the fault is its own.
    pub(crate) fn refused(
        &self,
        case: &str,
        keys: &[KeyHandle],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<(), Failure> {
        self.count();
        match self.driver.run(keys, recipe, batch) {
            Err(error) if matches!(error.fault, Fault::Caller | Fault::Unsupported) => Ok(()),
            Err(error) => Err(failure(case, format!("refused, but as a fault of the backend: {error}"))),
            Ok(_) => Err(failure(case, "it was done")),
        }
    }

    /// That bytes are no key, as the driver sees it.
    pub(crate) fn not_imported(&self, case: &str, attributes: KeyAttributes, bytes: &[u8]) -> Result<(), Failure> {
        self.count();
        let rule = kcv_rule_for(attributes.algorithm);
        match self.driver.import(self.new_key(attributes, rule)?, Secret::copy_of(bytes)) {
            Err(error) if matches!(error.fault, Fault::Caller | Fault::Unsupported) => Ok(()),
            Err(error) => Err(failure(case, format!("refused, but as a fault of the backend: {error}"))),
            Ok(_) => Err(failure(case, "it was imported")),
        }
    }

    pub(crate) fn expect(&self, case: &str, found: &[u8], expected: &[u8]) -> Result<(), Failure> {
        let told = || format!("{} instead of {}", hex::encode_upper(found), hex::encode_upper(expected));
        if found == expected { Ok(()) } else { Err(failure(case, told())) }
    }
}

impl Case {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields[name].as_str()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.fields[name].as_u64()
    }

    pub(crate) fn list(&self, name: &str) -> Vec<Vec<u8>> {
        let list = self.fields[name].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|item| hex::decode(item.as_str()?).ok()).collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let text = self.text(name).ok_or_else(|| failure(&self.id, format!("has no `{name}`")))?;
        hex::decode(text).map_err(|error| failure(&self.id, error))
    }
}

/// Attributes of a key of no scheme.
pub(crate) fn plain(algorithm: Algorithm, usage: &str, mode: ModeOfUse) -> Result<KeyAttributes, Failure> {
    let usage = usage.parse().map_err(|error| failure("usage", error))?;
    Ok(KeyAttributes {
        algorithm,
        usage,
        mode,
        exportability: Exportability::None,
        rank: KeyRank::Plain,
        ceiling: Exposure::Nothing,
    })
}

/// The key of the first slot, as it is stored.
pub(crate) fn bare(algorithm: Algorithm) -> KeyPath {
    KeyPath { slot: 0, algorithm, steps: Vec::new(), steps_left: 0 }
}

/// A rule that fits any key of the algorithm.
pub(crate) fn kcv_rule_for(algorithm: Algorithm) -> KcvRule {
    use claviger_hsm_api::KcvFunction;
    let function = match algorithm {
        Algorithm::HmacSm3 | Algorithm::HmacSha256 => KcvFunction::Hmac,
        Algorithm::Sm2 => KcvFunction::Fingerprint,
        _ => KcvFunction::Ecb,
    };
    KcvRule { function, ..KcvRule::ZEROS }
}
