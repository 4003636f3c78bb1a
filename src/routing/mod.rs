//! Which backend answers: the only caller of drivers.
//!
//! A request runs on a backend that holds a proven replica of every key it needs and on which no more
//! leaves than each key's ceiling allows: on-prem first, then hosted, then cloud, each in the order of the
//! configuration; another one if it fails, rests, is full, or takes longer than it mostly does. Nothing is run without a
//! [`Permit`] that covers the keys.

mod backends;
mod catalogue;
mod examination;
mod health;
mod lanes;
mod life;
mod opened;
mod proof;
mod run;
mod shadow;
mod tables;
pub mod worker;

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use claviger_hsm_api::{DriverError, Exposure, Fault, Outcome, Recipe, Secret, StoredKey};

use crate::keyring::{Entry, KeyUnusable, Replica};
use crate::policy::Permit;
pub use backends::{Backend, BackendConfig, BackendError, PinConfig, RoutingConfig};
pub use examination::{Examination, Report, examine};
use opened::OpenKeys;
pub use proof::prove;
pub use shadow::Comparison;
use shadow::Shadows;
pub use tables::{WrongTable, take_backends};
pub use worker::Launcher;

/// Why no backend ran a recipe.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// No backend holds all the keys; which, and where they are.
    #[error("no backend that answers holds a proven replica of every key that is needed{0}")]
    NoReplica(String),
    /// The configuration names no such backend.
    #[error("the configuration has no backend `{0}`")]
    NoBackend(String),
    /// The key may not live where the backend stands.
    #[error("backend `{backend}` stands where key {key} may not live")]
    Place {
        /// The backend.
        backend: String,
        /// The key.
        key: String,
    },
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
    /// The backend has too much to do.
    #[error("backend `{backend}` takes no more calls of this kind just now")]
    Busy {
        /// The backend.
        backend: String,
    },
    /// The backend failed too often, and is left alone for a while.
    #[error("backend `{backend}` failed too often and is tried again in {seconds} s")]
    Resting {
        /// The backend.
        backend: String,
        /// Until it is tried again.
        seconds: u64,
    },
    /// The backend failed.
    #[error("{0}")]
    Failed(DriverError),
}

impl From<DriverError> for RouteError {
    fn from(error: DriverError) -> Self {
        match error.fault {
            Fault::Caller => Self::Refused(error),
            Fault::Unsupported => Self::Unsupported(error),
            Fault::Backend | Fault::Unknown | Fault::WrongKey | Fault::Credentials => Self::Failed(error),
        }
    }
}

impl RouteError {
    /// Whether no other backend would do better.
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NotPermitted(_) | Self::Stale(_) | Self::Unusable(_))
    }

    /// Of two reasons the one that a caller can do more about: what may pass says more than what never will.
    fn weight(&self) -> u8 {
        match self {
            Self::NoReplica(_) => 0,
            Self::Unsupported(_) => 1,
            Self::Ceiling { .. } | Self::Place { .. } => 2,
            Self::Resting { .. } => 3,
            Self::Failed(_) => 4,
            _ => 5,
        }
    }

    fn or(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    /// What is said as long as nothing better is known.
    pub(crate) fn no_replica() -> Self {
        Self::NoReplica(String::new())
    }

    /// Says which backend failed.
    fn on(self, backend: &str) -> Self {
        match self {
            Self::Failed(error) => {
                let reason = format!("backend `{backend}`: {}", error.reason);
                Self::Failed(DriverError { reason, ..error })
            }
            other => other,
        }
    }

    /// Says which keys no backend holds together.
    pub(crate) fn of(self, keys: &[Arc<Entry>]) -> Self {
        let Self::NoReplica(_) = self else { return self };
        let place = |key: &Arc<Entry>| {
            let backends: Vec<_> = key.replicas.iter().map(|replica| replica.backend.as_str()).collect();
            format!("{} is in {}", key.record.label(), backends.join(", "))
        };
        Self::NoReplica(format!(": {}", keys.iter().map(place).collect::<Vec<_>>().join("; ")))
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
    ways: RwLock<Arc<Ways>>,
    launcher: Arc<Launcher>,
    opened: OpenKeys,
    /// Calls that a second backend may still be asked to answer beside the first, in hundredths.
    hedges: AtomicU32,
    shadows: Shadows,
    /// Turns that backends with a weight have had.
    turns: AtomicU32,
}

/// Where calls may go; replaced as a whole when the configuration is read again.
struct Ways {
    /// The preferred one first.
    backends: Vec<Arc<Backend>>,
    pins: Vec<PinConfig>,
}

impl Ways {
    /// What is open, by a configuration: backends that were there before stay as they are if they can.
    fn new(
        config: &RoutingConfig,
        before: &[Arc<Backend>],
        open: impl Fn(&BackendConfig) -> Result<Backend, BackendError>,
        launcher: &Arc<Launcher>,
    ) -> Result<Self, BackendError> {
        let opened = |table: &BackendConfig| match before.iter().find(|backend| backend.name == table.name) {
            Some(same) if same.config == *table => Ok(Arc::clone(same)),
            Some(known) => known.changed(table, launcher).map(Arc::new),
            None => open(table).map(Arc::new),
        };
        let is_twice =
            |table: &&BackendConfig| config.backends.iter().filter(|other| other.name == table.name).count() > 1;
        if let Some(twice) = config.backends.iter().find(is_twice) {
            return Err(BackendError::Twice(twice.name.clone()));
        }
        let nowhere = |pin: &&PinConfig| config.backends.iter().all(|table| table.name != pin.backend);
        if let Some(PinConfig { tenant, backend }) = config.pins.iter().find(nowhere).cloned() {
            return Err(BackendError::Pin { tenant, backend });
        }
        let mut backends = config.backends.iter().map(opened).collect::<Result<Vec<_>, _>>()?;
        if backends.is_empty() {
            return Err(BackendError::None);
        }
        backends.sort_by_key(|backend| backend.place);
        Ok(Self { backends, pins: config.pins.clone() })
    }
}

/// A key that backends have made: what the store keeps, the copies, and the second known answer.
pub struct Made {
    /// Of the first copy.
    pub stored: StoredKey,
    /// Every copy.
    pub replicas: Vec<Replica>,
    /// What every copy must show.
    pub proof: Option<String>,
}

/// How often the replicas that are in use are proved again.
const SWEEP: Duration = Duration::from_secs(60);
/// How often it is seen whether a backend has rested enough.
const TICK: Duration = Duration::from_secs(1);

impl Router {
    /// Opens every configured backend. One that lives in workers need not answer yet.
    ///
    /// # Errors
    /// [`BackendError`] for the first that cannot be used at all.
    pub fn open(
        config: &RoutingConfig,
        storage_key: &Secret,
        launcher: &Arc<Launcher>,
    ) -> Result<Arc<Self>, BackendError> {
        let open = |table: &BackendConfig| Backend::open(table, Some(storage_key), launcher);
        let ways = Ways::new(config, &[], open, launcher)?;
        let (shadows, attend) = Shadows::new();
        let router = Arc::new(Self {
            ways: RwLock::new(Arc::new(ways)),
            launcher: Arc::clone(launcher),
            opened: OpenKeys::default(),
            hedges: AtomicU32::new(run::HEDGES),
            shadows,
            turns: AtomicU32::new(0),
        });
        let of = Arc::downgrade(&router);
        std::thread::Builder::new()
            .name("shadow".to_owned())
            .spawn(move || attend(of))
            .map_err(|error| BackendError::Thread(error.to_string()))?;
        let of = Arc::downgrade(&router);
        let sweep = std::thread::Builder::new().name("sweep".to_owned()).spawn(move || {
            let mut swept = Instant::now();
            loop {
                std::thread::sleep(TICK);
                let Some(router) = of.upgrade() else { return };
                router.try_rested();
                if swept.elapsed() >= SWEEP {
                    router.sweep();
                    claviger_locked_memory::wipe_stack();
                    swept = Instant::now();
                }
            }
        });
        sweep.map_err(|error| BackendError::Thread(error.to_string()))?;
        Ok(router)
    }

    /// Takes another configuration: calls that are under way end where they are, later ones go by it.
    ///
    /// # Errors
    /// [`BackendError`]; then everything stays as it was.
    pub fn reload(&self, config: &RoutingConfig) -> Result<(), BackendError> {
        // A backend that keeps its keys in the daemon needs the storage key, which is not here any more.
        let open = |table: &BackendConfig| match claviger_hsm_registry::find(&table.driver) {
            Some(driver) if driver.keeps_keys_here => Err(BackendError::Restart(table.name.clone())),
            _ => Backend::open(table, None, &self.launcher),
        };
        let before = self.ways();
        let ways = Arc::new(Ways::new(config, &before.backends, open, &self.launcher)?);
        *self.ways.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&ways);
        let gone = |old: &&Arc<Backend>| ways.backends.iter().all(|backend| backend.instance != old.instance);
        before.backends.iter().filter(gone).for_each(|old| self.opened.forget(old.instance));
        Ok(())
    }

    fn ways(&self) -> Arc<Ways> {
        Arc::clone(&self.ways.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The backends, the preferred one first.
    fn backends(&self) -> Vec<Arc<Backend>> {
        self.ways().backends.clone()
    }

    fn backend(&self, name: &str) -> Result<Arc<Backend>, RouteError> {
        let found = self.ways().backends.iter().find(|backend| backend.name == name).cloned();
        found.ok_or_else(|| RouteError::NoBackend(name.to_owned()))
    }

    /// How each backend is: for operators.
    pub fn status(&self) -> Vec<BackendStatus> {
        let status = |backend: &Arc<Backend>| BackendStatus {
            name: backend.name.clone(),
            driver: backend.config.driver.clone(),
            place: backend.place,
            resting: backend.health.is_resting() || backend.is_down(),
            p95: backend.health.p95(),
            workers: backend.processes(),
            quarantined: self.opened.quarantined(backend),
        };
        self.backends().iter().map(status).collect()
    }
}

/// How a backend is.
#[derive(Debug, Clone)]
pub struct BackendStatus {
    /// As configured.
    pub name: String,
    /// As configured.
    pub driver: String,
    /// As configured.
    pub place: crate::keyring::Place,
    /// Whether it failed too often and is left alone, or has no worker.
    pub resting: bool,
    /// Below which nineteen of twenty answers take.
    pub p95: Option<Duration>,
    /// Process ids of its workers.
    pub workers: Vec<u32>,
    /// Ids of keys whose replica there is not that key.
    pub quarantined: Vec<String>,
}

fn permitted(permit: &Permit, key_id: &str) -> Result<(), RouteError> {
    if permit.covers(key_id) { Ok(()) } else { Err(RouteError::NotPermitted(format!("key {key_id}"))) }
}

fn replicas_on<'a>(keys: &'a [Arc<Entry>], backend: &Backend) -> Option<Vec<&'a Replica>> {
    keys.iter().map(|key| key.replica_on(&backend.name)).collect()
}

/// Whether a recipe may be run twice.
fn may_repeat(recipe: &Recipe, error: &RouteError) -> bool {
    match error {
        RouteError::Failed(error) => error.fault != Fault::Unknown || recipe.is_repeatable(),
        _ => true,
    }
}
