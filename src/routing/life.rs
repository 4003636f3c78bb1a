//! The life of keys in backends: made, brought in, restated, destroyed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_hsm_api::{
    Arrival, Attestation, Batch, DriverError, Fault, Finish, KeyAttributes, KeyPath, KeyRank, KeyState, LegValue,
    NewKey, Recipe, Secret, StoredKey, WrapFormat, WrappedKey,
};

use jiff::Timestamp;

use super::backends::Backend;
use super::health::{Admission, Result as Health};
use super::lanes::Lane;
use super::proof::prove;
use super::{Made, RouteError, Router, permitted};
use crate::keyring::{Entry, KeyRecord, Place, Purpose, Replica};
use crate::policy::Permit;

/// A backend that takes longer for random bytes, and gives none, is not well.
const SLOW: Duration = Duration::from_millis(100);

impl Router {
    /// Where the backends of these names stand; the preferred one's place if none is named.
    ///
    /// # Errors
    /// [`RouteError::NoBackend`].
    pub fn places(&self, names: &[String]) -> Result<Vec<Place>, RouteError> {
        let mut places = match names {
            [] => self.backends().first().map(|backend| backend.place).into_iter().collect(),
            names => names.iter().map(|name| Ok(self.backend(name)?.place)).collect::<Result<Vec<_>, RouteError>>()?,
        };
        places.sort();
        places.dedup();
        Ok(places)
    }

    /// The backends that a new key is to be made in: those of these names, or the preferred ones that may hold it.
    ///
    /// # Errors
    /// [`RouteError`] for one that is not there, or stands where the key may not live.
    pub fn destinations(&self, record: &KeyRecord, names: &[String]) -> Result<Vec<String>, RouteError> {
        let may = |backend: &Backend| record.places.contains(&backend.place);
        if names.is_empty() {
            let backends = self.backends();
            return Ok(backends.iter().filter(|backend| may(backend)).map(|backend| backend.name.clone()).collect());
        }
        for name in names {
            let backend = self.backend(name)?;
            if !may(&backend) {
                return Err(RouteError::Place { backend: name.clone(), key: record.label() });
            }
        }
        Ok(names.to_vec())
    }

    /// Whether these backends could come to hold a key in that way: each of them, or any.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn can_take(
        &self,
        arrival: Arrival,
        attributes: &KeyAttributes,
        backends: &[String],
        each: bool,
    ) -> Result<(), RouteError> {
        let mut refusal = RouteError::no_replica();
        for name in backends {
            let backend = self.backend(name)?;
            match backend.driver.can_take(arrival, attributes).map_err(|error| RouteError::from(error).on(name)) {
                Ok(()) if each => {}
                Ok(()) => return Ok(()),
                Err(error) if each => return Err(error),
                Err(error) => refusal = refusal.or(error),
            }
        }
        if each && !backends.is_empty() { Ok(()) } else { Err(refusal) }
    }

    /// Makes a key in the first of these backends that can.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn generate(&self, permit: &Permit, key: &NewKey, backends: &[String]) -> Result<Made, RouteError> {
        self.may_make(permit, "generate", &key.id)?;
        self.in_first(backends, |backend| Ok(backend.driver.generate(key.clone())?))
    }

    /// Brings a plain key in: into each of these backends, or into the first that can hold it.
    ///
    /// # Errors
    /// [`RouteError`]; then none of them holds it.
    pub fn import(
        &self,
        permit: &Permit,
        key: &NewKey,
        secret: &Secret,
        backends: &[String],
        each: bool,
    ) -> Result<Made, RouteError> {
        self.may_make(permit, "import", &key.id)?;
        let import = |backend: &Backend| backend.driver.import(key.clone(), Secret::copy_of(secret.expose()));
        if !each {
            return self.in_first(backends, |backend| Ok(import(backend)?));
        }
        let mut made: Option<Made> = None;
        for name in backends {
            let next = self.backend(name).and_then(|backend| self.proved(&backend, import(&backend)?));
            made = match (made, next) {
                (None, next) => Some(next?),
                (Some(first), Ok(next)) if next.stored.kcv == first.stored.kcv && next.proof == first.proof => {
                    let replicas = first.replicas.into_iter().chain(next.replicas).collect();
                    Some(Made { replicas, ..first })
                }
                (Some(first), next) => {
                    self.undo(key, &first.replicas);
                    return Err(next.err().unwrap_or_else(|| {
                        let reason = "two backends do not show the same answers for the same key";
                        RouteError::Failed(DriverError::wrong_key("router", "import", reason))
                    }));
                }
            };
        }
        made.ok_or_else(RouteError::no_replica)
    }

    /// Takes a key in that came under another: in the first of these backends that holds that one and can open it.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn unwrap(
        &self,
        permit: &Permit,
        key: &NewKey,
        under: &Arc<Entry>,
        wrapped: &WrappedKey,
        backends: &[String],
    ) -> Result<Made, RouteError> {
        self.may_make(permit, "unwrap", &key.id)?;
        permitted(permit, under.id())?;
        under.record.admits(Purpose::Process, Timestamp::now())?;
        let holding: Vec<String> = backends.iter().filter(|name| under.replica_on(name).is_some()).cloned().collect();
        if holding.is_empty() {
            return Err(RouteError::no_replica().of(std::slice::from_ref(under)));
        }
        let handle = |backend: &Backend| match under.replica_on(&backend.name) {
            Some(replica) => self.opened.handle(backend, under, replica),
            None => Err(RouteError::no_replica()),
        };
        self.in_first(&holding, |backend| Ok(backend.driver.unwrap(key.clone(), &handle(backend)?, wrapped)?))
    }

    fn in_first(
        &self,
        backends: &[String],
        make: impl Fn(&Backend) -> Result<StoredKey, RouteError>,
    ) -> Result<Made, RouteError> {
        let mut refusal = RouteError::no_replica();
        for name in backends {
            let backend = self.backend(name)?;
            let _place = backend.enter(Lane::Ceremony)?;
            match make(&backend) {
                Ok(stored) => return self.proved(&backend, stored),
                // Another kind of backend may be able to; one that fails is not passed over in silence.
                Err(error @ RouteError::Unsupported(_)) => refusal = refusal.or(error),
                Err(error) => return Err(error.on(backend.name.as_str())),
            }
        }
        Err(refusal)
    }

    /// Runs a recipe that stores a child of `parent`, which stays in the backend that made it.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn derive(
        self: &Arc<Self>,
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
        self.proved(&*self.backend(&ran.backend)?, stored)
    }

    /// Whether a backend plays a device, for rehearsals.
    ///
    /// # Errors
    /// [`RouteError`] if there is no such backend.
    pub fn plays_device(&self, backend: &str) -> Result<bool, RouteError> {
        Ok(self.backend(backend)?.driver.plays_device())
    }

    /// Takes over a key that a backend holds already, unless it is one of `others`, the opaque parts of what it holds
    /// for keys that there are.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn adopt(
        &self,
        permit: &Permit,
        key: &NewKey,
        backend: &str,
        object: &str,
        others: &[Vec<u8>],
    ) -> Result<Made, RouteError> {
        self.may_make(permit, "adopt", &key.id)?;
        let backend = self.backend(backend)?;
        self.proved(&backend, backend.driver.adopt(key.clone(), object, others)?)
    }

    /// Makes a backend a copy of a key, wrapped on its way under a key that both hold, and has the copy prove itself.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn replicate(
        &self,
        permit: &Permit,
        key: &Arc<Entry>,
        under: &Arc<Entry>,
        to: &str,
    ) -> Result<Replica, RouteError> {
        self.may_make(permit, "replicate", key.id())?;
        permitted(permit, under.id())?;
        let to = self.backend(to)?;
        let now = Timestamp::now();
        key.record.admits(Purpose::Process, now)?;
        under.record.admits(Purpose::Protect, now)?;
        let handle_on = |backend: &Backend, entry: &Arc<Entry>| {
            let replica = entry.replica_on(&backend.name);
            let nowhere = || RouteError::no_replica().of(std::slice::from_ref(entry));
            self.opened.handle(backend, entry, replica.ok_or_else(nowhere)?)
        };
        let there = handle_on(&to, under)?;
        let attributes = &key.record.key.attributes;
        let steps_left = match attributes.rank {
            KeyRank::Dispersion { steps_left } => steps_left,
            KeyRank::Card | KeyRank::Plain => 0,
        };
        let path = |slot, of: &KeyAttributes, steps_left| KeyPath {
            slot,
            algorithm: of.algorithm,
            steps: Vec::new(),
            steps_left,
        };
        let wrapping = path(1, &under.record.key.attributes, 0);
        let recipe = Recipe::single(
            path(0, attributes, steps_left),
            Finish::Wrap { under: wrapping, format: WrapFormat::KeyWrap },
        );
        let mut refusal = RouteError::no_replica();
        for from in self.backends().iter().filter(|from| from.name != to.name) {
            let wrapped = handle_on(from, key).and_then(|key| {
                let outcome = from.driver.run(&[key, handle_on(from, under)?], &recipe, &Batch::one(Vec::new(), 2))?;
                let nothing = || RouteError::Failed(DriverError::backend("router", "replicate", "nothing came out"));
                outcome.bytes(0, 0).map(<[u8]>::to_vec).ok_or_else(nothing)
            });
            match wrapped {
                Ok(wrapped) => {
                    let stored = to.driver.unwrap(key.record.key.clone(), &there, &WrappedKey::KeyWrap(wrapped))?;
                    if stored.kcv != key.record.kcv {
                        let reason = "the copy does not show the key's check value";
                        return Err(RouteError::Failed(DriverError::wrong_key("router", "replicate", reason)));
                    }
                    let made = self.proved(&to, stored)?;
                    if made.proof != key.record.proof {
                        let reason = "the copy does not show the key's known answer";
                        return Err(RouteError::Failed(DriverError::wrong_key("router", "replicate", reason)));
                    }
                    return made.replicas.into_iter().next().ok_or_else(RouteError::no_replica);
                }
                Err(error) => refusal = refusal.or(error),
            }
        }
        Err(refusal)
    }

    fn may_make(&self, permit: &Permit, verb: &str, key_id: &str) -> Result<(), RouteError> {
        permitted(permit, key_id)?;
        if permit.admits(verb) { Ok(()) } else { Err(RouteError::NotPermitted(format!("`{verb}`"))) }
    }

    /// A key that a backend has just made, with its second known answer.
    fn proved(&self, backend: &Backend, stored: StoredKey) -> Result<Made, RouteError> {
        let handle = backend.driver.open(&stored)?;
        let proof = prove(&*backend.driver, &handle);
        backend.driver.close(&handle);
        let (backend, opaque, state) = (backend.name.clone(), stored.opaque.clone(), stored.key.state);
        let replicas = vec![Replica { backend, opaque, state, raised: stored.raised }];
        Ok(Made { stored, replicas, proof: proof? })
    }

    /// Removes copies of a key that was not made in the end.
    fn undo(&self, key: &NewKey, replicas: &[Replica]) {
        for replica in replicas {
            if let Err(error) = self.abandon(&key.id, &replica.backend, &[]) {
                tracing::warn!(backend = replica.backend, key = key.id, %error, "a copy of a key that was not made is left");
            }
        }
    }

    /// Removes from a backend whatever a creation that nobody acknowledged left of a key; that there is nothing is as
    /// good. It takes no permit: the one for the creation covers that it did not happen. `kept` are the backends that hold
    /// the key for good: two of them may reach one device, whose objects are found by the key's id.
    ///
    /// # Errors
    /// [`RouteError`]; then it is to be tried again.
    pub fn abandon(&self, key_id: &str, backend: &str, kept: &[&str]) -> Result<(), RouteError> {
        let backend = self.backend(backend)?;
        if !kept.is_empty() {
            // What the daemon itself keeps is in no device.
            let device = |backend: &Backend| backend.is_remote().then(|| backend.driver.identity().serial);
            let here = device(&backend);
            for other in kept {
                let there = device(&*self.backend(other)?);
                let unknown = |serial: &String| serial.is_empty();
                let one = here.as_ref().zip(there.as_ref());
                if one.is_some_and(|(here, there)| unknown(here) || unknown(there) || here == there) {
                    let reason = format!("`{}` and `{other}` may be one device", backend.name);
                    return Err(RouteError::Failed(DriverError::backend("router", "abandon", reason)));
                }
            }
        }
        Ok(backend.driver.abandon(key_id)?)
    }

    /// Whether a key may be given a state.
    ///
    /// # Errors
    /// [`RouteError::NotPermitted`].
    pub fn may_restate(&self, permit: &Permit, key_id: &str, state: KeyState) -> Result<(), RouteError> {
        self.may_make(permit, &format!("make-{state}"), key_id)
    }

    /// Whether a key's ceiling may be raised for a time, or that taken back.
    ///
    /// # Errors
    /// [`RouteError::NotPermitted`].
    pub fn may_change_ceiling(&self, permit: &Permit, key_id: &str, verb: &str) -> Result<(), RouteError> {
        self.may_make(permit, verb, key_id)
    }

    /// A replica in the state of its key's record and under its ceiling, authenticated anew; a destroyed key's is empty. It takes no permit: the
    /// record was changed by one.
    ///
    /// # Errors
    /// [`RouteError`]; then it is to be tried again.
    pub fn follow(&self, key: &Entry, replica: &Replica) -> Result<Replica, RouteError> {
        let backend = self.backend(&replica.backend)?;
        let (state, raised) = (key.record.key.state, key.record.raised);
        if let Admission::Resting(left) = backend.health.admit(Instant::now()) {
            return Err(RouteError::Resting { backend: backend.name.clone(), seconds: left.as_secs() + 1 });
        }
        let stored = key.stored(replica);
        let begun = Instant::now();
        let opaque = if state == KeyState::Destroyed {
            backend.driver.destroy(&stored).map(|()| Vec::new())
        } else {
            backend.driver.restate(&stored, state, raised).map(|stored| stored.opaque)
        };
        let failed = opaque.as_ref().is_err_and(|error| matches!(error.fault, Fault::Backend | Fault::Unknown));
        let health = if failed { Health::Failed } else { Health::Answered(begun.elapsed()) };
        backend.health.record(Instant::now(), health);
        Ok(Replica { backend: replica.backend.clone(), opaque: opaque?, state, raised })
    }

    /// Asks backends that have rested for something small, so that one that nobody calls is known to be well again.
    pub(super) fn try_rested(&self) {
        for backend in self.backends().iter() {
            if backend.health.admit(Instant::now()) != Admission::Trial {
                continue;
            }
            let begun = Instant::now();
            let failed = match backend.driver.random(8) {
                Ok(_) => false,
                Err(error) => matches!(error.fault, Fault::Backend | Fault::Unknown | Fault::Credentials),
            };
            let health = if failed { Health::Failed } else { Health::Answered(begun.elapsed()) };
            backend.health.record(Instant::now(), health);
        }
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

    /// A signature of the daemon's own by a key pair that a backend keeps.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn attest(&self, backend: &str, name: &str, message: &[u8]) -> Result<Attestation, RouteError> {
        let backend = self.backend(backend)?;
        backend.driver.attest(name, message).map_err(|error| RouteError::from(error).on(&backend.name))
    }

    /// Of the first backend that gives any: one generator is as good as another.
    fn random_bytes(&self, len: usize) -> Result<Vec<u8>, RouteError> {
        let mut refusal = RouteError::no_replica();
        // One that rests is asked when no other is left.
        let (resting, well): (Vec<_>, Vec<_>) =
            self.backends().into_iter().partition(|backend| backend.health.is_resting());
        for backend in well.into_iter().chain(resting) {
            let begun = Instant::now();
            match backend.driver.random(len) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    // One that answers at once that it does not is left to the calls that need it.
                    if begun.elapsed() > SLOW {
                        backend.health.record(Instant::now(), Health::Failed);
                    }
                    refusal = refusal.or(error.into());
                }
            }
        }
        Err(refusal)
    }
}
