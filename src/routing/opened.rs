//! Keys that are open in backends, each proved to be the key that its record says, and those that turned out not to be.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use claviger_hsm_api::{DriverError, Fault, KeyHandle};

use super::backends::Backend;
use super::proof::prove;
use super::{RouteError, Router};
use crate::keyring::{Entry, Replica};

/// Keys that are open, and which of their records are out of date.
#[derive(Default)]
pub(super) struct OpenKeys(RwLock<Opened>);

/// A key's id and a backend's instance.
type Place = (String, u64);

#[derive(Default)]
struct Opened {
    handles: HashMap<Place, Known>,
    /// The oldest record of a key that may still be opened: a request that began before a change must not
    /// bring back what the change has closed.
    oldest: HashMap<String, i64>,
    /// Replicas that are another key.
    quarantine: HashSet<Place>,
}

struct Known {
    version: i64,
    handle: KeyHandle,
    /// What it showed, and must show again.
    proof: Option<String>,
    label: String,
}

impl OpenKeys {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Opened> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Opened> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key that has changed since these entries were read.
    pub(super) fn purged(&self, keys: &[Arc<Entry>]) -> Option<String> {
        let opened = self.read();
        let changed =
            |key: &&Arc<Entry>| opened.oldest.get(key.id()).is_some_and(|oldest| key.record_version() < *oldest);
        keys.iter().find(changed).map(|key| key.record.label())
    }

    /// Whether a replica was found to be another key.
    pub(super) fn is_quarantined(&self, key_id: &str, backend: &Backend) -> bool {
        let opened = self.read();
        !opened.quarantine.is_empty() && opened.quarantine.contains(&(key_id.to_owned(), backend.instance))
    }

    /// Ids of the keys whose replicas on a backend are quarantined.
    pub(super) fn quarantined(&self, backend: &Backend) -> Vec<String> {
        let opened = self.read();
        let here = opened.quarantine.iter().filter(|(_, on)| *on == backend.instance);
        let mut ids: Vec<String> = here.map(|(id, _)| id.clone()).collect();
        ids.sort();
        ids
    }

    /// Forgets what was open in a backend that is gone.
    pub(super) fn forget(&self, instance: u64) {
        let mut opened = self.write();
        opened.handles.retain(|(_, on), _| *on != instance);
        opened.quarantine.retain(|(_, on)| *on != instance);
    }

    /// A replica that is not the key it should be serves nobody, until it is that key again.
    pub(super) fn quarantine(&self, backend: &Backend, key_id: &str, label: &str, reason: &str) {
        let place = (key_id.to_owned(), backend.instance);
        let (known, new) = {
            let mut opened = self.write();
            (opened.handles.remove(&place), opened.quarantine.insert(place))
        };
        // A backend may take its time: nobody waits for it with the lock held.
        if let Some(known) = known {
            backend.driver.close(&known.handle);
        }
        if new {
            metrics::counter!("claviger_replicas_quarantined_total", "backend" => backend.name.clone()).increment(1);
            tracing::error!(backend = backend.name, key = label, reason, "a replica is another key and is quarantined");
        }
    }

    /// Opens a key's replica the first time and has it prove that it is the same key.
    pub(super) fn handle(&self, backend: &Backend, key: &Entry, replica: &Replica) -> Result<KeyHandle, RouteError> {
        let place = (key.id().to_owned(), backend.instance);
        let version = key.record_version();
        let epoch = backend.driver.epoch();
        let current = |opened: &Opened| match opened.handles.get(&place) {
            _ if opened.oldest.get(key.id()).is_some_and(|oldest| version < *oldest) => {
                Err(RouteError::Stale(key.record.label()))
            }
            Some(known) if known.version == version && known.handle.epoch == epoch => Ok(Some(known.handle.clone())),
            _ => Ok(None),
        };
        if let Some(handle) = current(&self.read())? {
            return Ok(handle);
        }
        let wrong = |reason: &str| {
            self.quarantine(backend, key.id(), &key.record.label(), reason);
            let reason = format!("the replica of key {} is another key", key.record.label());
            RouteError::Failed(DriverError::wrong_key("router", "prove", reason))
        };
        let handle = backend.driver.open(&key.stored(replica)).map_err(|error| match error.fault {
            Fault::WrongKey => wrong(&error.reason),
            _ => error.into(),
        })?;
        let proof = prove(&*backend.driver, &handle).inspect_err(|_| backend.driver.close(&handle))?;
        if proof != key.record.proof {
            backend.driver.close(&handle);
            return Err(wrong("it does not show the known answer"));
        }
        // Somebody may have opened or changed the key while this thread did.
        let (result, superfluous) = {
            let mut opened = self.write();
            match current(&opened) {
                Ok(None) => {
                    let known = Known { version, handle: handle.clone(), proof, label: key.record.label() };
                    let older = opened.handles.insert(place, known).map(|known| known.handle);
                    (Ok(handle), older)
                }
                Ok(Some(theirs)) => (Ok(theirs), Some(handle)),
                Err(stale) => (Err(stale), Some(handle)),
            }
        };
        // A backend may take its time: nobody waits for it with the lock held.
        if let Some(handle) = superfluous {
            backend.driver.close(&handle);
        }
        result
    }
}

impl Router {
    /// Closes a key everywhere, and for ever in all its records before `oldest`: it and all that was derived
    /// from it are gone when this returns.
    pub fn purge(&self, key_id: &str, oldest: i64) {
        let closed: Vec<(Place, Known)> = {
            let mut opened = self.opened.write();
            let floor = opened.oldest.entry(key_id.to_owned()).or_insert(oldest);
            *floor = oldest.max(*floor);
            opened.quarantine.retain(|(id, _)| id != key_id);
            opened.handles.extract_if(|(id, _), known| id == key_id && known.version < oldest).collect()
        };
        // Nobody finds them any more; a backend that takes its time to close them holds nobody else up.
        for ((_, instance), known) in closed {
            if let Some(backend) = self.backends().iter().find(|backend| backend.instance == instance) {
                backend.driver.close(&known.handle);
            }
        }
    }

    /// Forgets quarantines, since whoever is wrong still is found out at the next use, and has every replica that is in
    /// use and has a second known answer show it again.
    pub fn sweep(&self) {
        self.opened.write().quarantine.clear();
        for backend in self.backends().iter() {
            let known: Vec<(String, KeyHandle, Option<String>, String)> = {
                let opened = self.opened.read();
                let here = opened.handles.iter().filter(|((_, instance), _)| *instance == backend.instance);
                here.map(|((id, _), known)| {
                    (id.clone(), known.handle.clone(), known.proof.clone(), known.label.clone())
                })
                .collect()
            };
            for (id, handle, proof, label) in known {
                match prove(&*backend.driver, &handle) {
                    Ok(found) if found == proof => {}
                    Ok(_) => self.opened.quarantine(backend, &id, &label, "it does not show the known answer any more"),
                    Err(error) if error.fault == Fault::WrongKey => {
                        self.opened.quarantine(backend, &id, &label, &error.reason);
                    }
                    // Closed meanwhile, or the backend fails: its health is measured elsewhere.
                    Err(_) => {}
                }
            }
        }
    }
}
