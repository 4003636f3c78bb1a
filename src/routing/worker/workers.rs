//! A backend whose driver runs in worker processes: calls spread over them, a worker that is lost is started again with
//! back-off, and keys are opened and proved anew in it before they are used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use claviger_hsm_api::{
    Arrival, Attestation, Batch, DriverError, Exposure, Fault, Finding, HsmDriver, Identity, KeyAttributes, KeyHandle,
    KeyState, NewKey, Outcome, Proof, Raised, Recipe, Secret, StoredKey, WrappedKey,
};
use zeroize::Zeroizing;

use super::frame::{Bytes, Reply, Task, fits};
use super::launcher::Launcher;
use super::process::Process;
use super::slot::{Crew, Slot, TICK, TRYING};
use crate::routing::proof::proof_by;

/// The driver's name in errors about the workers themselves.
pub(super) const NAME: &str = "worker";
/// How long the batches that use a key may take to end when it is closed.
const CLOSING: Duration = Duration::from_secs(30);
/// Beyond so many recipes their exposures are forgotten.
const RECIPES: usize = 512;

/// How a backend's workers are run.
pub(in crate::routing) struct Options {
    pub(in crate::routing) backend: String,
    pub(in crate::routing) driver: String,
    pub(in crate::routing) settings: toml::Table,
    /// Processes that serve one module.
    pub(in crate::routing) count: usize,
    /// Of a call.
    pub(in crate::routing) deadline: Duration,
    /// What a batch has more, for each row.
    pub(in crate::routing) deadline_row: Duration,
}

/// The workers of a backend, as its driver.
pub(in crate::routing) struct Workers {
    crew: Arc<Crew>,
    slots: Vec<Arc<Slot>>,
    keys: RwLock<HashMap<u64, Arc<Known>>>,
    next: AtomicU64,
    /// What recipes let out, as long as the tokens are those that said so.
    exposures: Mutex<(u64, Exposures)>,
    stopped: AtomicBool,
}

/// For recipes and ceilings, what the tokens let out.
type Exposures = HashMap<(Recipe, Vec<Exposure>), Result<Vec<Exposure>, DriverError>>;

/// An opened key, whichever worker holds it.
struct Known {
    stored: StoredKey,
    /// What it showed first, and must show in every worker.
    proof: OnceLock<Option<String>>,
}

impl Workers {
    /// Starts the workers, and whatever has to be done so that there are some.
    pub(in crate::routing) fn start(options: Options, launcher: Arc<Launcher>) -> Arc<Self> {
        let slots = (0..options.count.max(1)).map(|_| Arc::new(Slot::new())).collect();
        let name = format!("workers {}", options.backend);
        let workers = Arc::new(Self {
            crew: Arc::new(Crew::new(options, launcher)),
            slots,
            keys: RwLock::default(),
            next: AtomicU64::new(1),
            exposures: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let of = Arc::downgrade(&workers);
        let supervised = std::thread::Builder::new().name(name).spawn(move || {
            while let Some(workers) = of.upgrade().filter(|workers| !workers.stopped.load(Ordering::Acquire)) {
                for (number, slot) in workers.slots.iter().enumerate() {
                    slot.tend(&workers.crew, number == 0);
                }
                drop(workers);
                std::thread::sleep(TICK);
            }
        });
        if let Err(error) = supervised {
            tracing::error!(%error, "lost workers will only be started again when they are needed");
        }
        workers
    }

    /// Process ids of the workers that live, for operators and for tests that end them.
    pub(in crate::routing) fn processes(&self) -> Vec<u32> {
        self.slots.iter().filter_map(|slot| slot.live()).map(|process| process.id).collect()
    }

    /// The slots, those with the least to do first.
    fn by_load(&self) -> Vec<&Arc<Slot>> {
        let mut slots: Vec<_> = self.slots.iter().map(|slot| (slot.busy(), slot)).collect();
        slots.sort_by_key(|(busy, _)| *busy);
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Asks the worker with the least to do.
    fn ask(&self, task: Task) -> Result<Reply, DriverError> {
        self.ask_within(task, self.crew.options.deadline)
    }

    fn ask_within(&self, task: Task, deadline: Duration) -> Result<Reply, DriverError> {
        let slot = self.by_load().into_iter().next().ok_or_else(nobody)?;
        let reply = slot.process(&self.crew)?.ask(task, deadline);
        reply.inspect_err(|error| self.crew.learn(error))
    }

    /// The key's handle in a slot's worker, opened there and proved if it is not.
    fn handle(&self, slot: &Slot, process: &Process, object: u64, known: &Known) -> Result<KeyHandle, DriverError> {
        if let Some(handle) = slot.opened(object).filter(|handle| handle.epoch == process.epoch()) {
            return Ok(handle);
        }
        let deadline = self.crew.options.deadline;
        let Reply::Handle(handle) = process.ask(Task::Open { key: known.stored.clone() }, deadline)? else {
            return Err(damaged(process));
        };
        let proof = proof_by(&handle.attributes, |recipe, batch| {
            let keys = vec![handle.clone()];
            match process.ask(Task::Run { keys, recipe: recipe.clone(), batch: batch.clone() }, deadline)? {
                Reply::Outcome(outcome) if fits(&outcome, recipe, batch.rows) => Ok(outcome),
                _ => Err(damaged(process)),
            }
        });
        let proved = proof.and_then(|proof| {
            if known.proof.get_or_init(|| proof.clone()) == &proof {
                return Ok(());
            }
            let reason = format!("the object of key {} is another key than it was", known.stored.key.id);
            Err(DriverError::wrong_key(NAME, "prove", reason))
        });
        if let Err(error) = proved {
            let _ = process.ask(Task::Close { handle }, CLOSING);
            return Err(error);
        }
        slot.note(process, object, handle.clone());
        if let Err(closed) = self.known(object) {
            // Somebody closed the key meanwhile, and did not find this.
            self.close_in(slot, object);
            return Err(closed);
        }
        Ok(handle)
    }

    fn close_in(&self, slot: &Slot, object: u64) {
        if let Some((process, handle)) = slot.forget(object) {
            // A worker that does not answer is killed, and with it whatever it holds.
            let _ = process.ask(Task::Close { handle }, CLOSING);
        }
    }

    fn known(&self, object: u64) -> Result<Arc<Known>, DriverError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&object).cloned().ok_or_else(|| DriverError::backend(NAME, "run", "the key is not open"))
    }

    fn run_in(
        &self,
        slot: &Slot,
        process: &Process,
        keys: &[(u64, Arc<Known>)],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Outcome, DriverError> {
        let handles = keys
            .iter()
            .map(|(object, known)| self.handle(slot, process, *object, known))
            .collect::<Result<Vec<_>, _>>()?;
        // A token takes a call for each row of some recipes.
        let deadline = self.crew.options.deadline + self.crew.options.deadline_row * batch.rows as u32;
        let task = Task::Run { keys: handles, recipe: recipe.clone(), batch: batch.clone() };
        match process.ask(task, deadline)? {
            Reply::Outcome(outcome) if fits(&outcome, recipe, batch.rows) => Ok(outcome),
            _ => Err(damaged(process)),
        }
    }

    /// Changes whenever a worker or its token does.
    fn generation(&self) -> u64 {
        self.slots.iter().map(|slot| slot.generation()).sum()
    }
}

fn nobody() -> DriverError {
    DriverError::backend(NAME, "ask", "there is no worker")
}

/// An answer of another kind than the question: the worker is not to be trusted any more.
fn damaged(process: &Process) -> DriverError {
    process.kill();
    DriverError::unknown(NAME, "ask", "the worker's answer does not fit the question")
}

fn unexpected() -> DriverError {
    DriverError::unknown(NAME, "ask", "the worker's answer does not fit the question")
}

impl HsmDriver for Workers {
    fn identity(&self) -> Identity {
        match self.ask(Task::Identity) {
            Ok(Reply::Identity(identity)) => Identity { epoch: 1, ..identity },
            _ => Identity {
                driver: self.crew.options.driver.clone().into(),
                model: String::new(),
                serial: String::new(),
                firmware: String::new(),
                epoch: 1,
            },
        }
    }

    /// Handles here outlive workers: they are opened and proved anew in each.
    fn epoch(&self) -> u64 {
        1
    }

    fn keep_alive(&self) -> Result<(), DriverError> {
        self.ask(Task::KeepAlive).map(drop)
    }

    fn probe(&self) -> Result<Vec<Proof>, DriverError> {
        // The worker has done it before; after a loss of its token it does it once more.
        match self.ask_within(Task::Probe, TRYING)? {
            Reply::Proofs(proofs) => Ok(proofs),
            _ => Err(unexpected()),
        }
    }

    fn findings(&self) -> Result<Vec<Finding>, DriverError> {
        match self.ask(Task::Findings)? {
            Reply::Findings(findings) => Ok(findings),
            _ => Err(unexpected()),
        }
    }

    fn exposure(&self, recipe: &Recipe, ceilings: &[Exposure]) -> Result<Vec<Exposure>, DriverError> {
        let question = (recipe.clone(), ceilings.to_vec());
        let generation = self.generation();
        let mut known = self.exposures.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != generation || known.1.len() > RECIPES {
            *known = (generation, HashMap::new());
        }
        if let Some(answer) = known.1.get(&question) {
            return answer.clone();
        }
        drop(known);
        let task = Task::Exposure { recipe: recipe.clone(), ceilings: ceilings.to_vec() };
        let answer = match self.ask(task) {
            Ok(Reply::Exposure(exposure)) if exposure.len() == recipe.slots() => Ok(exposure),
            Ok(_) => return Err(unexpected()),
            Err(error) if error.fault != Fault::Unsupported => return Err(error),
            // Unlike what is wrong with a worker, this is not mended in a moment.
            Err(error) => Err(error),
        };
        let mut known = self.exposures.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 == self.generation() {
            known.1.insert(question, answer.clone());
        }
        answer
    }

    fn run(&self, keys: &[KeyHandle], recipe: &Recipe, batch: &Batch) -> Result<Outcome, DriverError> {
        let keys = keys
            .iter()
            .map(|handle| Ok((handle.object, self.known(handle.object)?)))
            .collect::<Result<Vec<_>, DriverError>>()?;
        let mut last = nobody();
        for slot in self.by_load() {
            let process = match slot.process(&self.crew) {
                Ok(process) => process,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let before = process.epoch();
            let mut result = self.run_in(slot, &process, &keys, recipe, batch);
            let lost = |error: &DriverError| error.fault == Fault::Backend && process.epoch() != before;
            if result.as_ref().is_err_and(lost) && !process.is_dead() {
                // The token was lost and is there again: its handles are new, and the recipe did not run.
                result = self.run_in(slot, &process, &keys, recipe, batch);
            }
            match result {
                Ok(outcome) => return Ok(outcome),
                Err(error) => match error.fault {
                    Fault::Caller | Fault::Unsupported | Fault::WrongKey => return Err(error),
                    Fault::Unknown if !recipe.is_repeatable() => return Err(error),
                    Fault::Unknown | Fault::Backend | Fault::Credentials => {
                        self.crew.learn(&error);
                        last = error;
                    }
                },
            }
        }
        Err(last)
    }

    fn can_take(&self, arrival: Arrival, attributes: &KeyAttributes) -> Result<(), DriverError> {
        self.ask(Task::CanTake { arrival, attributes: attributes.clone() }).map(drop)
    }

    fn generate(&self, key: NewKey) -> Result<StoredKey, DriverError> {
        stored(self.ask(Task::Generate { key })?)
    }

    fn import(&self, key: NewKey, secret: Secret) -> Result<StoredKey, DriverError> {
        let secret = Bytes(Zeroizing::new(secret.expose().to_vec()));
        stored(self.ask(Task::Import { key, secret })?)
    }

    fn unwrap(&self, key: NewKey, under: &KeyHandle, wrapped: &WrappedKey) -> Result<StoredKey, DriverError> {
        let known = self.known(under.object)?;
        let slot = self.by_load().into_iter().next().ok_or_else(nobody)?;
        let process = slot.process(&self.crew)?;
        let under = self.handle(slot, &process, under.object, &known)?;
        let task = Task::Unwrap { key, under, wrapped: wrapped.clone() };
        stored(process.ask(task, self.crew.options.deadline)?)
    }

    fn adopt(&self, key: NewKey, object: &str, others: &[Vec<u8>]) -> Result<StoredKey, DriverError> {
        stored(self.ask(Task::Adopt { key, object: object.to_owned(), others: others.to_vec() })?)
    }

    fn open(&self, key: &StoredKey) -> Result<KeyHandle, DriverError> {
        let known = Arc::new(Known { stored: key.clone(), proof: OnceLock::new() });
        let object = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = self.by_load().into_iter().next().ok_or_else(nobody)?;
        let process = slot.process(&self.crew)?;
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(object, Arc::clone(&known));
        match self.handle(slot, &process, object, &known) {
            Ok(handle) => Ok(KeyHandle { object, epoch: 1, ..handle }),
            Err(error) => {
                self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&object);
                Err(error)
            }
        }
    }

    fn close(&self, handle: &KeyHandle) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&handle.object);
        self.slots.iter().for_each(|slot| self.close_in(slot, handle.object));
    }

    fn restate(&self, key: &StoredKey, state: KeyState, raised: Option<Raised>) -> Result<StoredKey, DriverError> {
        stored(self.ask(Task::Restate { key: key.clone(), state, raised })?)
    }

    fn destroy(&self, key: &StoredKey) -> Result<(), DriverError> {
        self.ask(Task::Destroy { key: key.clone() }).map(drop)
    }

    fn abandon(&self, key_id: &str) -> Result<(), DriverError> {
        self.ask(Task::Abandon { key_id: key_id.to_owned() }).map(drop)
    }

    fn random(&self, len: usize) -> Result<Vec<u8>, DriverError> {
        match self.ask(Task::Random { len })? {
            Reply::Bytes(bytes) if bytes.0.len() == len => Ok(bytes.0.to_vec()),
            _ => Err(unexpected()),
        }
    }

    fn attest(&self, name: &str, message: &[u8]) -> Result<Attestation, DriverError> {
        match self.ask(Task::Attest { name: name.to_owned(), message: message.to_vec() })? {
            Reply::Attestation(attestation) => Ok(attestation),
            _ => Err(unexpected()),
        }
    }
}

fn stored(reply: Reply) -> Result<StoredKey, DriverError> {
    match reply {
        Reply::Stored(key) => Ok(key),
        _ => Err(unexpected()),
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
    }
}
