//! Which backend answers: the only caller of drivers.
//!
//! A request runs on a backend that holds a proven replica of every key it needs and on which no more
//! leaves than each key's ceiling allows. Nothing is run without a [`Permit`] that covers the keys.

mod backends;
mod catalogue;
mod examination;
mod proof;
pub mod worker;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use claviger_hsm_api::{
    Batch, DriverError, Exposure, Fault, KeyHandle, KeyState, LegValue, NewKey, Outcome, Recipe, Secret, StoredKey,
};

use jiff::Timestamp;

use crate::keyring::{Entry, KeyUnusable, Purpose, Replica};
use crate::policy::Permit;
pub use backends::{Backend, BackendConfig, BackendError};
pub use examination::{Examination, Report, examine};
pub use proof::prove;
pub use worker::Launcher;

/// Why no backend ran a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The permit is for other keys or for something else.
    #[error("the permit does not cover {0}")]
    NotPermitted(String),
    /// A key may not be used for this now.
    #[error(transparent)]
    Unusable(#[from] KeyUnusable),
    /// A key was changed since the request began.
    #[error("key {0} was changed in the meantime")]
    Stale(String),
    /// No backend can run the recipe.
    #[error("{0}")]
    Unsupported(DriverError),
    /// No backend holds all the keys.
    #[error("no backend holds a proven replica of every key that is needed")]
    NoReplica,
    /// More would leave than a key allows.
    #[error("on backend `{backend}` {exposure} would leave for key {key}, whose ceiling is {ceiling}")]
    Ceiling {
        /// The backend.
        backend: String,
        /// What would leave.
        exposure: Exposure,
        /// The key.
        key: String,
        /// Its ceiling.
        ceiling: Exposure,
    },
    /// The request itself is wrong.
    #[error("{0}")]
    Refused(DriverError),
    /// The backend failed.
    #[error("{0}")]
    Failed(DriverError),
}

impl From<DriverError> for RouteError {
    fn from(error: DriverError) -> Self {
        match error.fault {
            Fault::Caller => Self::Refused(error),
            Fault::Unsupported => Self::Unsupported(error),
            Fault::Backend | Fault::Unknown => Self::Failed(error),
        }
    }
}

/// What a run left for the audit record.
#[derive(Debug)]
pub struct Ran {
    /// The recipe's outcome.
    pub outcome: Outcome,
    /// The backend's name.
    pub backend: String,
    /// Backend and greatest exposure, as the audit record names them.
    pub on: String,
}

/// The backends of an unsealed daemon.
pub struct Router {
    backends: Vec<Backend>,
    opened: RwLock<Opened>,
}

/// Keys that are open, and which of their records are out of date.
#[derive(Default)]
struct Opened {
    /// Opened and proved keys, by key id and backend.
    handles: HashMap<(String, String), (i64, KeyHandle)>,
    /// The oldest record of a key that may still be opened: a request that began before a change must not
    /// bring back what the change has closed.
    oldest: HashMap<String, i64>,
}

/// A key that a backend has made: what the store keeps, the backend's name, and the second known answer.
pub type Made = (StoredKey, String, Option<String>);

impl Router {
    /// Opens every configured backend and probes it.
    ///
    /// # Errors
    /// [`BackendError`] for the first that does not answer or does not show its known answers.
    pub fn open(
        configs: &[BackendConfig],
        storage_key: &Secret,
        launcher: &Arc<Launcher>,
    ) -> Result<Self, BackendError> {
        let open = |config| Backend::open(config, Some(storage_key), launcher);
        let backends = configs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        if backends.is_empty() {
            return Err(BackendError::None);
        }
        Ok(Self { backends, opened: RwLock::default() })
    }

    /// Runs a recipe; blocks. `keys` are numbered as the batch's key columns number them.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn run(&self, permit: &Permit, keys: &[Arc<Entry>], recipe: &Recipe, batch: &Batch) -> Result<Ran, RouteError> {
        if let Some(leg) = recipe.legs.iter().find(|leg| !permit.admits(leg.finish.verb())) {
            return Err(RouteError::NotPermitted(format!("`{}`", leg.finish.verb())));
        }
        let now = Timestamp::now();
        let protects = recipe.legs.iter().any(|leg| leg.finish.protects());
        let purpose = if protects { Purpose::Protect } else { Purpose::Process };
        for key in keys {
            permitted(permit, key.id())?;
            key.record.admits(purpose, now)?;
        }
        let mut refusal = RouteError::NoReplica;
        for backend in &self.backends {
            let Some(replicas) = replicas_on(keys, backend) else { continue };
            match self.run_on(backend, keys, &replicas, recipe, batch) {
                Ok(ran) => return Ok(ran),
                // The caller's fault is the same everywhere; other failures let the next backend try, if the
                // recipe did not run or may run twice.
                Err(error @ (RouteError::Refused(_) | RouteError::NotPermitted(_) | RouteError::Stale(_))) => {
                    return Err(error);
                }
                Err(RouteError::Failed(error)) if error.fault == Fault::Unknown && !recipe.is_repeatable() => {
                    return Err(RouteError::Failed(error));
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn run_on(
        &self,
        backend: &Backend,
        keys: &[Arc<Entry>],
        replicas: &[&Replica],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Ran, RouteError> {
        let ceiling = |number: u16| Some(keys.get(usize::from(number))?.record.key.attributes.ceiling);
        let ceilings = recipe.ceilings(batch, ceiling);
        let exposures = backend.driver.exposure(recipe, &ceilings)?;
        for (slot, exposure) in exposures.iter().enumerate() {
            let used = batch.keys.get(slot).map(claviger_hsm_api::KeyColumn::used).unwrap_or_default();
            let over = used
                .iter()
                .filter_map(|number| keys.get(usize::from(*number)))
                .find(|key| *exposure > key.record.key.attributes.ceiling);
            if let Some(key) = over {
                let (backend, key_name) = (backend.name.clone(), key.record.label());
                let ceiling = key.record.key.attributes.ceiling;
                return Err(RouteError::Ceiling { backend, exposure: *exposure, key: key_name, ceiling });
            }
        }
        let handles = keys
            .iter()
            .zip(replicas)
            .map(|(key, replica)| self.handle(backend, key, replica))
            .collect::<Result<Vec<_>, _>>()?;
        let outcome = backend.driver.run(&handles, recipe, batch).map_err(|error| match self.purged(keys) {
            // A key was closed while the request was on its way to it: no fault of the backend's.
            Some(key) if error.fault == Fault::Backend => RouteError::Stale(key),
            _ => error.into(),
        })?;
        let most = exposures.into_iter().max().unwrap_or(Exposure::Nothing);
        Ok(Ran { outcome, backend: backend.name.clone(), on: format!("{} exposing {most}", backend.name) })
    }

    /// A key that has changed since these entries were read.
    fn purged(&self, keys: &[Arc<Entry>]) -> Option<String> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let changed =
            |key: &&Arc<Entry>| opened.oldest.get(key.id()).is_some_and(|oldest| key.record_version() < *oldest);
        keys.iter().find(changed).map(|key| key.record.label())
    }

    /// Opens a key's replica the first time and has it prove that it is the same key.
    fn handle(&self, backend: &Backend, key: &Arc<Entry>, replica: &Replica) -> Result<KeyHandle, RouteError> {
        let place = (key.id().to_owned(), backend.name.clone());
        let version = key.record_version();
        let current = |opened: &Opened| match opened.handles.get(&place) {
            _ if opened.oldest.get(key.id()).is_some_and(|oldest| version < *oldest) => {
                Err(RouteError::Stale(key.record.label()))
            }
            Some((known, handle)) if *known == version => Ok(Some(handle.clone())),
            _ => Ok(None),
        };
        if let Some(handle) = current(&self.opened.read().unwrap_or_else(PoisonError::into_inner))? {
            return Ok(handle);
        }
        let handle = backend.driver.open(&key.stored(replica))?;
        if prove(&*backend.driver, &handle)? != key.record.proof {
            backend.driver.close(&handle);
            let reason = format!("the replica of key {} is another key", key.record.label());
            return Err(RouteError::Failed(DriverError::backend("router", "prove", reason)));
        }
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have opened or changed the key while this thread did.
        match current(&opened) {
            Ok(None) => {
                opened.handles.insert(place, (version, handle.clone()));
                Ok(handle)
            }
            other => {
                backend.driver.close(&handle);
                other.map(|theirs| theirs.unwrap_or(handle))
            }
        }
    }

    /// Makes a key in the preferred backend.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn generate(&self, permit: &Permit, key: NewKey) -> Result<Made, RouteError> {
        self.make(permit, "generate", &key.id.clone(), |backend| backend.driver.generate(key))
    }

    /// Brings a plain key into the preferred backend.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn import(&self, permit: &Permit, key: NewKey, secret: Secret) -> Result<Made, RouteError> {
        self.make(permit, "import", &key.id.clone(), |backend| backend.driver.import(key, secret))
    }

    /// Runs a recipe that stores a child of `parent`, which stays in the backend that made it.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn derive(
        &self,
        permit: &Permit,
        parent: &Arc<Entry>,
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Made, RouteError> {
        let ran = self.run(permit, std::slice::from_ref(parent), recipe, batch)?;
        let stored = ran.outcome.legs.into_iter().find_map(|leg| match leg.value {
            LegValue::Stored(mut children) => children.pop(),
            _ => None,
        });
        let nothing = || DriverError::backend("router", "derive", "the backend stored nothing");
        let stored = stored.ok_or_else(|| RouteError::Failed(nothing()))?;
        let backend = self.backends.iter().find(|backend| backend.name == ran.backend).ok_or(RouteError::NoReplica)?;
        self.proved(backend, stored)
    }

    fn make(
        &self,
        permit: &Permit,
        verb: &str,
        key_id: &str,
        make: impl FnOnce(&Backend) -> Result<StoredKey, DriverError>,
    ) -> Result<Made, RouteError> {
        permitted(permit, key_id)?;
        if !permit.admits(verb) {
            return Err(RouteError::NotPermitted(format!("`{verb}`")));
        }
        let backend = self.backends.first().ok_or(RouteError::NoReplica)?;
        self.proved(backend, make(backend)?)
    }

    /// A key that a backend has just made, with its second known answer.
    fn proved(&self, backend: &Backend, stored: StoredKey) -> Result<Made, RouteError> {
        let handle = backend.driver.open(&stored)?;
        let proof = prove(&*backend.driver, &handle);
        backend.driver.close(&handle);
        Ok((stored, backend.name.clone(), proof?))
    }

    /// The replicas of a key in another state, each authenticated anew. A destroyed key's are empty.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn restate(&self, permit: &Permit, key: &Entry, state: KeyState) -> Result<Vec<Replica>, RouteError> {
        permitted(permit, key.id())?;
        if !permit.admits(&format!("make-{state}")) {
            return Err(RouteError::NotPermitted(format!("`{state}`")));
        }
        let restate = |replica: &Replica| {
            let backend =
                self.backends.iter().find(|backend| backend.name == replica.backend).ok_or(RouteError::NoReplica)?;
            let stored = key.stored(replica);
            let opaque = if state == KeyState::Destroyed {
                backend.driver.destroy(&stored)?;
                Vec::new()
            } else {
                backend.driver.restate(&stored, state)?.opaque
            };
            Ok(Replica { backend: replica.backend.clone(), opaque })
        };
        key.replicas.iter().map(restate).collect()
    }

    /// Closes a key everywhere, and for ever in all its records before `oldest`: it and all that was derived
    /// from it are gone when this returns.
    pub fn purge(&self, key_id: &str, oldest: i64) {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        let floor = opened.oldest.entry(key_id.to_owned()).or_insert(oldest);
        *floor = oldest.max(*floor);
        opened.handles.retain(|(id, name), (version, handle)| {
            if id != key_id || *version >= oldest {
                return true;
            }
            if let Some(backend) = self.backends.iter().find(|backend| backend.name == *name) {
                backend.driver.close(handle);
            }
            false
        });
    }

    /// Random bytes of the preferred backend for something that is permitted to encipher.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn draw(&self, permit: &Permit, len: usize) -> Result<Vec<u8>, RouteError> {
        if !permit.admits("encrypt") {
            return Err(RouteError::NotPermitted("`encrypt`".to_owned()));
        }
        self.random_bytes(len)
    }

    /// Random bytes of the preferred backend.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn random(&self, permit: &Permit, len: usize) -> Result<Vec<u8>, RouteError> {
        if !permit.admits("random") {
            return Err(RouteError::NotPermitted("`random`".to_owned()));
        }
        self.random_bytes(len)
    }

    fn random_bytes(&self, len: usize) -> Result<Vec<u8>, RouteError> {
        let backend = self.backends.first().ok_or(RouteError::NoReplica)?;
        Ok(backend.driver.random(len)?)
    }
}

fn permitted(permit: &Permit, key_id: &str) -> Result<(), RouteError> {
    if permit.covers(key_id) { Ok(()) } else { Err(RouteError::NotPermitted(format!("key {key_id}"))) }
}

fn replicas_on<'a>(keys: &'a [Arc<Entry>], backend: &Backend) -> Option<Vec<&'a Replica>> {
    keys.iter()
        .map(|key| key.replicas.iter().find(|replica| replica.backend == backend.name && !replica.opaque.is_empty()))
        .collect()
}
