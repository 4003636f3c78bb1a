//! The trait, on the engine.

use std::sync::Arc;

use claviger_hsm_api::{
    Arrival, Batch, DriverError, Exposure, HsmDriver, Identity, KeyHandle, KeyState, NewKey, Outcome, Proof, Raised,
    Recipe, Secret, StoredKey, WrappedKey,
};
use claviger_hsm_engine::{EngineError, OpenKeys, PlainKey, check_key, fill_random, kcv, open_wrapped, platform, run};

use crate::probe::probe;
use crate::sealing::{seal, unseal};

/// The driver's name in the registry.
pub(crate) const NAME: &str = "software";
/// Keys of this driver are lost only with the process, so there is one epoch.
const EPOCH: u64 = 1;

/// The embedded backend.
pub struct SoftwareDriver {
    storage_key: Secret,
    open: OpenKeys<PlainKey>,
    plays_device: bool,
}

impl SoftwareDriver {
    /// A backend whose keys are sealed under `storage_key`, 32 bytes.
    ///
    /// # Errors
    /// If the key has another length.
    pub fn new(storage_key: Secret) -> Result<Self, DriverError> {
        if storage_key.len() != 32 {
            return Err(DriverError::caller(NAME, "configure", "the storage master key is not 32 bytes"));
        }
        platform().map_err(|error| DriverError::caller(NAME, "configure", error))?;
        Ok(Self { storage_key, open: OpenKeys::default(), plays_device: false })
    }

    /// The same, playing a device that holds whatever key is asked for, or not.
    #[must_use]
    pub fn playing_device(self, plays_device: bool) -> Self {
        Self { plays_device, ..self }
    }

    fn keep(&self, key: NewKey, secret: Secret) -> Result<StoredKey, DriverError> {
        key.check_kcv()?;
        let plain = PlainKey { algorithm: key.attributes.algorithm, secret };
        let kcv = kcv(&plain, key.kcv_rule).map_err(|error| DriverError::caller(NAME, "kcv", error))?;
        seal(&self.storage_key, key, kcv, None, plain.secret.expose())
    }

    fn find(&self, handle: &KeyHandle) -> Result<Arc<PlainKey>, DriverError> {
        let alive = (handle.epoch == EPOCH).then(|| self.open.get(handle.object)).flatten();
        alive.ok_or_else(|| DriverError::backend(NAME, "run", "the key is not open"))
    }
}

impl HsmDriver for SoftwareDriver {
    fn identity(&self) -> Identity {
        Identity {
            driver: NAME.into(),
            model: "Claviger embedded backend".to_owned(),
            serial: String::new(),
            firmware: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: EPOCH,
        }
    }

    fn probe(&self) -> Result<Vec<Proof>, DriverError> {
        Ok(probe())
    }

    fn exposure(&self, recipe: &Recipe, _: &[Exposure]) -> Result<Vec<Exposure>, DriverError> {
        // The backend is the daemon itself: nothing leaves it.
        Ok(vec![Exposure::Nothing; recipe.slots()])
    }

    fn run(&self, keys: &[KeyHandle], recipe: &Recipe, batch: &Batch) -> Result<Outcome, DriverError> {
        recipe.check_batch(keys, batch)?;
        let opened = keys.iter().map(|handle| self.find(handle)).collect::<Result<Vec<_>, _>>()?;
        let plain: Vec<&PlainKey> = opened.iter().map(Arc::as_ref).collect();
        let store = |child: &NewKey, key: PlainKey| {
            self.keep(child.clone(), key.secret).map_err(|error| EngineError::NotKept(error.reason))
        };
        run(&plain, recipe, batch, &store).map_err(|error| match error {
            EngineError::Random | EngineError::NotKept(_) => DriverError::backend(NAME, "run", error),
            _ => DriverError::caller(NAME, "run", error),
        })
    }

    fn plays_device(&self) -> bool {
        self.plays_device
    }

    fn adopt(&self, key: NewKey, _: &str, _: &[Vec<u8>]) -> Result<StoredKey, DriverError> {
        self.can_take(Arrival::Adopted, &key.attributes)?;
        self.generate(key)
    }

    fn generate(&self, key: NewKey) -> Result<StoredKey, DriverError> {
        let algorithm = key.attributes.algorithm;
        loop {
            let mut failed = None;
            let secret = Secret::init(algorithm.key_len(), |bytes| failed = fill_random(bytes).err());
            if let Some(error) = failed {
                return Err(DriverError::backend(NAME, "generate", error));
            }
            if check_key(algorithm, secret.expose()).is_ok() {
                return self.keep(key, secret);
            }
        }
    }

    fn import(&self, key: NewKey, secret: Secret) -> Result<StoredKey, DriverError> {
        check_key(key.attributes.algorithm, secret.expose())
            .map_err(|error| DriverError::caller(NAME, "import", error))?;
        self.keep(key, secret)
    }

    fn opens_blocks(&self) -> bool {
        true
    }

    fn unwrap(&self, key: NewKey, under: &KeyHandle, wrapped: &WrappedKey) -> Result<StoredKey, DriverError> {
        wrapped.check_opener(&under.attributes)?;
        let secret = open_wrapped(&*self.find(under)?, &key, wrapped)
            .map_err(|error| DriverError::caller(NAME, "unwrap", error))?;
        self.import(key, secret)
    }

    fn open(&self, key: &StoredKey) -> Result<KeyHandle, DriverError> {
        let plain = PlainKey { algorithm: key.key.attributes.algorithm, secret: unseal(&self.storage_key, key)? };
        let shown = kcv_again(&plain, key)?;
        if shown != key.kcv {
            return Err(DriverError::wrong_key(
                NAME,
                "open",
                format!("key {} shows another KCV than it was stored with", key.key.id),
            ));
        }
        let attributes = key.key.attributes.clone();
        Ok(KeyHandle { object: self.open.insert(plain), epoch: EPOCH, attributes, raised: key.raised })
    }

    fn close(&self, handle: &KeyHandle) {
        self.open.remove(handle.object);
    }

    fn restate(&self, key: &StoredKey, state: KeyState, raised: Option<Raised>) -> Result<StoredKey, DriverError> {
        let secret = unseal(&self.storage_key, key)?;
        seal(&self.storage_key, NewKey { state, ..key.key.clone() }, key.kcv.clone(), raised, secret.expose())
    }

    fn destroy(&self, _: &StoredKey) -> Result<(), DriverError> {
        // The sealed key is the store's row: the keyring overwrites it.
        Ok(())
    }

    fn abandon(&self, _: &str) -> Result<(), DriverError> {
        // A key that the store does not have is nowhere.
        Ok(())
    }

    fn random(&self, len: usize) -> Result<Vec<u8>, DriverError> {
        let mut bytes = vec![0; len];
        fill_random(&mut bytes).map_err(|error| DriverError::backend(NAME, "random", error))?;
        Ok(bytes)
    }
}

fn kcv_again(plain: &PlainKey, key: &StoredKey) -> Result<claviger_hsm_api::Kcv, DriverError> {
    kcv(plain, key.kcv.rule).map_err(|error| DriverError::backend(NAME, "open", error))
}
