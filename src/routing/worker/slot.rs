//! A place for one worker: starts it, has it try its token before it gets calls, and starts another when it is lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use claviger_hsm_api::{DriverError, Fault, KeyHandle};

use super::frame::{Assignment, Task};
use super::launcher::Launcher;
use super::process::Process;
use super::workers::{NAME, Options};

/// How often the workers are looked at.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// How often a worker is asked whether its token is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// After so many times in a row that it is not, the module is loaded anew: some never find a token again.
const UNWELL: u32 = 3;
/// The longest pause before a lost worker is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a worker may take to try everything that its token can do: hundreds of calls.
pub(super) const TRYING: Duration = Duration::from_secs(60);

/// What all slots of a backend share.
pub(super) struct Crew {
    pub(super) options: Options,
    launcher: Arc<Launcher>,
    /// Whether a token has let one of the workers in: before that only one tries.
    admitted: AtomicBool,
    /// How a token refused the PIN. Each further try would bring it nearer to locking itself.
    refused: OnceLock<DriverError>,
}

/// A place for one worker.
pub(super) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    process: Option<Arc<Process>>,
    /// Whether the process has tried its token.
    ready: bool,
    /// Why the last one was not ready.
    why: Option<DriverError>,
    /// Counts the processes that were here.
    incarnation: u64,
    failures: u32,
    not_before: Instant,
    asked: Instant,
    /// Keep-alives in a row that failed.
    unwell: u32,
    /// The keys that are open in the process, by their numbers here.
    opened: HashMap<u64, KeyHandle>,
}

impl Crew {
    pub(super) fn new(options: Options, launcher: Arc<Launcher>) -> Self {
        Self { options, launcher, admitted: AtomicBool::new(false), refused: OnceLock::new() }
    }

    /// Remembers that the PIN was refused, if that is what the error says.
    pub(super) fn learn(&self, error: &DriverError) {
        if error.fault == Fault::Credentials && self.refused.set(error.clone()).is_ok() {
            tracing::error!(backend = self.options.backend, %error, "the token refuses the PIN");
        }
    }
}

impl Slot {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let state = State {
            process: None,
            ready: false,
            why: None,
            incarnation: 0,
            failures: 0,
            not_before: now,
            asked: now,
            unwell: 0,
            opened: HashMap::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker that lives here, whether it is ready or not.
    pub(super) fn live(&self) -> Option<Arc<Process>> {
        live(&self.lock())
    }

    /// The worker, when it is ready; started again if it is lost and the pause is over.
    pub(super) fn process(self: &Arc<Self>, crew: &Arc<Crew>) -> Result<Arc<Process>, DriverError> {
        let deadline = Instant::now() + crew.options.deadline;
        let mut state = self.lock();
        loop {
            if let Some(refused) = crew.refused.get() {
                return Err(refused.clone());
            }
            match live(&state) {
                Some(process) if state.ready => return Ok(process),
                Some(_) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(DriverError::backend(
                            NAME,
                            "start",
                            "the worker still tries what its token can do",
                        ));
                    }
                    state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
                None => self.start(&mut state, crew)?,
            }
        }
    }

    /// Starts a worker if there is none and the pause is over; asks one that has not been asked for a while whether its
    /// token is there.
    pub(super) fn tend(self: &Arc<Self>, crew: &Arc<Crew>, first: bool) {
        if crew.refused.get().is_some() || !(first || crew.admitted.load(Ordering::Acquire)) {
            return;
        }
        let idle = {
            let mut state = self.lock();
            let due = state.asked.elapsed() > KEEP_ALIVE;
            match live(&state) {
                None => {
                    // Why it is not started is told to whoever needs it.
                    let _ = self.start(&mut state, crew);
                    return;
                }
                Some(process) if due && state.ready => {
                    state.asked = Instant::now();
                    process
                }
                Some(_) => return,
            }
        };
        let alive = idle.ask(Task::KeepAlive, crew.options.deadline);
        let mut state = self.lock();
        match alive {
            Ok(_) => state.unwell = 0,
            Err(error) => {
                tracing::warn!(backend = crew.options.backend, %error, "the token does not answer");
                crew.learn(&error);
                state.unwell += 1;
                if state.unwell >= UNWELL {
                    state.why = Some(error);
                    idle.kill();
                }
            }
        }
    }

    fn start(self: &Arc<Self>, state: &mut State, crew: &Arc<Crew>) -> Result<(), DriverError> {
        if Instant::now() < state.not_before {
            let lost = || DriverError::backend(NAME, "start", "the worker was lost and is started again soon");
            return Err(state.why.clone().unwrap_or_else(lost));
        }
        state.process = None;
        state.ready = false;
        state.unwell = 0;
        state.opened.clear();
        state.incarnation += 1;
        let pause = TICK * 2u32.saturating_pow(state.failures.min(10));
        state.not_before = Instant::now() + pause.min(LONGEST_PAUSE);
        state.failures += 1;
        let options = &crew.options;
        let sessions = options.settings.get("sessions").and_then(toml::Value::as_integer);
        let assignment = Assignment {
            threads: sessions.and_then(|sessions| usize::try_from(sessions).ok()).unwrap_or(8).clamp(2, 64),
        };
        let failed = |error: std::io::Error| DriverError::backend(NAME, "start", error);
        let process = Process::start(&crew.launcher, &options.backend, &assignment).map_err(failed)?;
        state.process = Some(Arc::clone(&process));
        let (slot, crew) = (Arc::clone(self), Arc::clone(crew));
        let trying = std::thread::Builder::new().name(format!("trying {}", options.backend));
        trying.spawn(move || slot.try_out(&crew, &process)).map(drop).map_err(failed)
    }

    /// Has a new worker try its token. One whose token is not there is lost: the next may find it.
    fn try_out(&self, crew: &Crew, process: &Process) {
        let tried = process.ask(Task::Probe, TRYING);
        let mut state = self.lock();
        match tried {
            Ok(_) => {
                crew.admitted.store(true, Ordering::Release);
                (state.ready, state.why, state.asked) = (true, None, Instant::now());
                // One that has shown all that it can does not wait long when it is lost next.
                (state.failures, state.not_before) = (0, Instant::now());
            }
            Err(error) => {
                crew.learn(&error);
                // Said once, not at each new try.
                if state.why.as_ref() != Some(&error) {
                    tracing::warn!(backend = crew.options.backend, %error, "a worker is of no use");
                }
                state.why = Some(error);
                process.kill();
            }
        }
        self.changed.notify_all();
    }

    /// How much there is to do here, for choosing the slot with the least.
    pub(super) fn busy(&self) -> usize {
        let state = self.lock();
        let ready = live(&state).filter(|_| state.ready);
        ready.map_or(usize::MAX, |process| process.busy.load(Ordering::Relaxed))
    }

    /// Changes whenever the worker or its token does.
    pub(super) fn generation(&self) -> u64 {
        let state = self.lock();
        state.incarnation * 1_000_003 + live(&state).map_or(0, |process| process.epoch())
    }

    /// The handle of a key that is open here.
    pub(super) fn opened(&self, object: u64) -> Option<KeyHandle> {
        self.lock().opened.get(&object).cloned()
    }

    /// Notes that a key is open in a worker, if that is still the one that lives here.
    pub(super) fn note(&self, process: &Process, object: u64, handle: KeyHandle) {
        let mut state = self.lock();
        if live(&state).is_some_and(|here| here.id == process.id) {
            state.opened.insert(object, handle);
        }
    }

    /// Forgets a key that is open here, with the worker that has it.
    pub(super) fn forget(&self, object: u64) -> Option<(Arc<Process>, KeyHandle)> {
        let mut state = self.lock();
        let handle = state.opened.remove(&object)?;
        Some((live(&state)?, handle))
    }
}

fn live(state: &State) -> Option<Arc<Process>> {
    state.process.clone().filter(|process| !process.is_dead())
}
