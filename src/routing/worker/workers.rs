//! A backend whose driver runs in worker processes: calls spread over them, a worker that is lost is started again with
//! back-off, and keys are opened and proved anew in it before they are used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use claviger_hsm_api::{
    Batch, DriverError, Exposure, Fault, Finding, HsmDriver, Identity, KeyHandle, KeyState, NewKey, Outcome, Proof,
    Recipe, Secret, StoredKey,
};
use zeroize::Zeroizing;

use super::frame::{Assignment, Bytes, Reply, Task, fits};
use super::launcher::{Launcher, Start, User};
use super::process::Process;
use crate::routing::proof::proof_by;

const NAME: &str = "worker";
/// How often the workers are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often a worker is asked whether its token is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The longest pause before a lost worker is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Beyond so many recipes their exposures are forgotten.
const RECIPES: usize = 512;

/// How a backend's workers are run.
pub(in crate::routing) struct Options {
    pub(in crate::routing) backend: String,
    pub(in crate::routing) driver: String,
    pub(in crate::routing) settings: toml::Table,
    pub(in crate::routing) environment: std::collections::BTreeMap<String, String>,
    pub(in crate::routing) user: Option<User>,
    /// Processes that serve one module.
    pub(in crate::routing) count: usize,
    /// Of a call; a long batch has more.
    pub(in crate::routing) deadline: Duration,
}

/// The workers of a backend, as its driver.
pub(in crate::routing) struct Workers {
    options: Options,
    launcher: Arc<Launcher>,
    slots: Vec<Mutex<Slot>>,
    keys: RwLock<HashMap<u64, Arc<Known>>>,
    next: AtomicU64,
    /// What recipes let out, as long as the tokens are those that said so.
    exposures: Mutex<(u64, Exposures)>,
    stopped: AtomicBool,
}

/// For recipes and ceilings, what the tokens let out.
type Exposures = HashMap<(Recipe, Vec<Exposure>), Result<Vec<Exposure>, DriverError>>;

/// A place for one worker.
struct Slot {
    process: Option<Arc<Process>>,
    /// Counts the processes that were here.
    incarnation: u64,
    failures: u32,
    not_before: Instant,
    asked: Instant,
    /// The keys that are open in the process, by their numbers here.
    opened: HashMap<u64, KeyHandle>,
}

/// An opened key, whichever worker holds it.
struct Known {
    stored: StoredKey,
    /// What it showed first, and must show in every worker.
    proof: OnceLock<Option<String>>,
}

impl Workers {
    /// Starts the workers, and whatever has to be done so that there are some.
    pub(in crate::routing) fn start(options: Options, launcher: Arc<Launcher>) -> Arc<Self> {
        let now = Instant::now();
        let slot = || {
            Mutex::new(Slot {
                process: None,
                incarnation: 0,
                failures: 0,
                not_before: now,
                asked: now,
                opened: HashMap::new(),
            })
        };
        let slots = (0..options.count.max(1)).map(|_| slot()).collect();
        let workers = Arc::new(Self {
            options,
            launcher,
            slots,
            keys: RwLock::default(),
            next: AtomicU64::new(1),
            exposures: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let of = Arc::downgrade(&workers);
        let name = format!("workers {}", workers.options.backend);
        let supervised = std::thread::Builder::new().name(name).spawn(move || {
            while let Some(workers) = of.upgrade().filter(|workers| !workers.stopped.load(Ordering::Acquire)) {
                workers.supervise();
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
        let live = |slot: &Mutex<Slot>| live(&lock(slot)).map(|process| process.id);
        self.slots.iter().filter_map(live).collect()
    }

    fn supervise(&self) {
        for slot in &self.slots {
            let idle = {
                let mut held = lock(slot);
                let due = held.asked.elapsed() > KEEP_ALIVE;
                if due {
                    held.asked = Instant::now();
                }
                live(&held).filter(|_| due)
            };
            match idle {
                Some(process) => {
                    if let Err(error) = process.ask(Task::KeepAlive, self.options.deadline) {
                        tracing::warn!(backend = self.options.backend, %error, "the token does not answer");
                    }
                }
                None => drop(self.process(slot)),
            }
        }
    }

    /// The slot's worker, started again if it is lost and the pause is over.
    fn process(&self, slot: &Mutex<Slot>) -> Result<Arc<Process>, DriverError> {
        let mut held = lock(slot);
        if let Some(process) = live(&held) {
            return Ok(process);
        }
        if Instant::now() < held.not_before {
            return Err(DriverError::backend(NAME, "start", "the worker was lost and is started again soon"));
        }
        held.process = None;
        held.opened.clear();
        held.incarnation += 1;
        let pause = TICK * 2u32.saturating_pow(held.failures.min(10));
        held.not_before = Instant::now() + pause.min(LONGEST_PAUSE);
        held.failures += 1;
        let start = Start {
            backend: self.options.backend.clone(),
            environment: self.options.environment.clone(),
            user: self.options.user,
        };
        let sessions = self.options.settings.get("sessions").and_then(toml::Value::as_integer);
        let assignment = Assignment {
            driver: self.options.driver.clone(),
            settings: self.options.settings.to_string(),
            threads: sessions.and_then(|sessions| usize::try_from(sessions).ok()).unwrap_or(8).clamp(2, 64),
        };
        let process = Process::start(&self.launcher, &start, &assignment)
            .map_err(|error| DriverError::backend(NAME, "start", error))?;
        held.process = Some(Arc::clone(&process));
        Ok(process)
    }

    /// A worker that went well does not wait long when it is lost next.
    fn went_well(&self, slot: &Mutex<Slot>) {
        lock(slot).failures = 0;
    }

    /// The slots, those with the least to do first.
    fn by_load(&self) -> Vec<&Mutex<Slot>> {
        let mut slots: Vec<_> = self
            .slots
            .iter()
            .map(|slot| (live(&lock(slot)).map_or(usize::MAX, |process| process.busy.load(Ordering::Relaxed)), slot))
            .collect();
        slots.sort_by_key(|(busy, _)| *busy);
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Asks the worker with the least to do.
    fn ask(&self, task: Task) -> Result<Reply, DriverError> {
        let slot = self.by_load().into_iter().next().ok_or_else(nobody)?;
        let reply = self.process(slot)?.ask(task, self.options.deadline);
        if reply.is_ok() {
            self.went_well(slot);
        }
        reply
    }

    /// The key's handle in a slot's worker, opened there and proved if it is not.
    fn handle(
        &self,
        slot: &Mutex<Slot>,
        process: &Process,
        object: u64,
        known: &Known,
    ) -> Result<KeyHandle, DriverError> {
        if let Some(handle) = lock(slot).opened.get(&object).filter(|handle| handle.epoch == process.epoch()) {
            return Ok(handle.clone());
        }
        let deadline = self.options.deadline;
        let Reply::Handle(handle) = process.ask(Task::Open { key: known.stored.clone() }, deadline)? else {
            return Err(damaged(process));
        };
        let proof = proof_by(&handle.attributes, |recipe, batch| {
            let keys = vec![handle.clone()];
            match process.ask(Task::Run { keys, recipe: recipe.clone(), batch: batch.clone() }, deadline)? {
                Reply::Outcome(outcome) if fits(&outcome, recipe, batch.rows) => Ok(outcome),
                _ => Err(damaged(process)),
            }
        })?;
        if known.proof.get_or_init(|| proof.clone()) != &proof {
            let _ = process.ask(Task::Close { handle }, deadline);
            let reason = format!("the object of key {} is another key than it was", known.stored.key.id);
            return Err(DriverError::wrong_key(NAME, "prove", reason));
        }
        lock(slot).opened.insert(object, handle.clone());
        Ok(handle)
    }

    fn known(&self, object: u64) -> Result<Arc<Known>, DriverError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&object).cloned().ok_or_else(|| DriverError::backend(NAME, "run", "the key is not open"))
    }

    fn run_in(
        &self,
        slot: &Mutex<Slot>,
        process: &Process,
        keys: &[(u64, Arc<Known>)],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Outcome, DriverError> {
        let handles = keys
            .iter()
            .map(|(object, known)| self.handle(slot, process, *object, known))
            .collect::<Result<Vec<_>, _>>()?;
        // A token takes a call for each row of some recipes: a tenth of a millisecond is generous.
        let deadline = self.options.deadline + Duration::from_micros(100) * batch.rows as u32;
        let task = Task::Run { keys: handles, recipe: recipe.clone(), batch: batch.clone() };
        match process.ask(task, deadline)? {
            Reply::Outcome(outcome) if fits(&outcome, recipe, batch.rows) => Ok(outcome),
            _ => Err(damaged(process)),
        }
    }

    /// Changes whenever a worker or its token does.
    fn generation(&self) -> u64 {
        let of = |slot: &Mutex<Slot>| {
            let held = lock(slot);
            held.incarnation * 1_000_003 + live(&held).map_or(0, |process| process.epoch())
        };
        self.slots.iter().map(of).sum()
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live(slot: &Slot) -> Option<Arc<Process>> {
    slot.process.clone().filter(|process| !process.is_dead())
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
                driver: self.options.driver.clone().into(),
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
        match self.ask(Task::Probe)? {
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
            let process = match self.process(slot) {
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
                Ok(outcome) => {
                    self.went_well(slot);
                    return Ok(outcome);
                }
                Err(error) => match error.fault {
                    Fault::Caller | Fault::Unsupported | Fault::WrongKey => return Err(error),
                    Fault::Unknown if !recipe.is_repeatable() => return Err(error),
                    Fault::Unknown | Fault::Backend => last = error,
                },
            }
        }
        Err(last)
    }

    fn generate(&self, key: NewKey) -> Result<StoredKey, DriverError> {
        stored(self.ask(Task::Generate { key })?)
    }

    fn import(&self, key: NewKey, secret: Secret) -> Result<StoredKey, DriverError> {
        let secret = Bytes(Zeroizing::new(secret.expose().to_vec()));
        stored(self.ask(Task::Import { key, secret })?)
    }

    fn unwrap(&self, key: NewKey, under: &KeyHandle, wrapped: &[u8]) -> Result<StoredKey, DriverError> {
        let known = self.known(under.object)?;
        let slot = self.by_load().into_iter().next().ok_or_else(nobody)?;
        let process = self.process(slot)?;
        let under = self.handle(slot, &process, under.object, &known)?;
        let task = Task::Unwrap { key, under, wrapped: wrapped.to_vec() };
        stored(process.ask(task, self.options.deadline)?)
    }

    fn adopt(&self, key: NewKey, object: &str) -> Result<StoredKey, DriverError> {
        stored(self.ask(Task::Adopt { key, object: object.to_owned() })?)
    }

    fn open(&self, key: &StoredKey) -> Result<KeyHandle, DriverError> {
        let known = Arc::new(Known { stored: key.clone(), proof: OnceLock::new() });
        let object = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = self.by_load().into_iter().next().ok_or_else(nobody)?;
        let process = self.process(slot)?;
        let attributes = self.handle(slot, &process, object, &known)?.attributes;
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(object, known);
        Ok(KeyHandle { object, epoch: 1, attributes })
    }

    fn close(&self, handle: &KeyHandle) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&handle.object);
        for slot in &self.slots {
            let (process, opened) = {
                let mut held = lock(slot);
                (live(&held), held.opened.remove(&handle.object))
            };
            if let (Some(process), Some(handle)) = (process, opened) {
                // A worker that does not answer is killed, and with it whatever it holds.
                let _ = process.ask(Task::Close { handle }, self.options.deadline);
            }
        }
    }

    fn restate(&self, key: &StoredKey, state: KeyState) -> Result<StoredKey, DriverError> {
        stored(self.ask(Task::Restate { key: key.clone(), state })?)
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
