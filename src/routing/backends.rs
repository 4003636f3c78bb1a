//! Configured backends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use claviger_hsm_api::{DriverError, HsmDriver, Secret};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Deserialize;

use super::RouteError;
use super::health::Health;
use super::lanes::{Lane, Lanes, Place as LanePlace};
use super::worker::{Launcher, Options, Start, User, Workers};
use crate::keyring::Place;
use crate::permissions::{Loose, only_they_change, only_we_change};

/// Where calls may go, and where they go first.
#[derive(Debug, Clone, Default)]
pub struct RoutingConfig {
    /// The preferred one first, of those that stand in one place.
    pub backends: Vec<BackendConfig>,
    /// For single tenants.
    pub pins: Vec<PinConfig>,
}

/// One `[[pin]]` table: the backend that a tenant's calls go to first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinConfig {
    /// City or operator.
    pub tenant: String,
    /// A configured backend.
    pub backend: String,
}

/// One `[[backend]]` table. What else stands in it is the driver's business.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// Unique; replicas are named by it, so it must not change.
    pub name: String,
    /// One of the registry.
    #[serde(deserialize_with = "super::tables::known_driver")]
    pub driver: String,
    /// Where it stands.
    #[serde(default = "on_prem")]
    pub place: Place,
    /// The environment of the vendor's library; nothing else of the daemon's reaches it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The user that the vendor's library runs as; the daemon's own if none is named.
    #[serde(default)]
    pub user: Option<String>,
    /// Processes that serve the vendor's library.
    #[serde(default = "one")]
    pub workers: usize,
    /// Calls a second that its licence allows.
    #[serde(default)]
    pub rate: Option<std::num::NonZeroU32>,
    /// Its share of the calls beside other backends with a weight in the same place.
    #[serde(default)]
    pub weight: Option<std::num::NonZeroU32>,
    /// Milliseconds after which a call of the vendor's library is given up and its process killed.
    #[serde(default = "deadline_ms")]
    pub deadline_ms: u64,
    /// Microseconds that a batch has more for each row: of some recipes the token is asked row by row.
    #[serde(default = "deadline_row_us")]
    pub deadline_row_us: u64,
    /// For the driver.
    #[serde(skip)]
    pub settings: toml::Table,
}

fn on_prem() -> Place {
    Place::OnPrem
}

fn one() -> usize {
    1
}

fn deadline_ms() -> u64 {
    2000
}

/// A backend that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// None configured.
    #[error("the configuration names no [[backend]]")]
    None,
    /// Not in this build.
    #[error("backend `{backend}`: this build has no driver `{driver}`")]
    NoDriver {
        /// The backend.
        backend: String,
        /// The driver.
        driver: String,
    },
    /// It does not answer.
    #[error("backend `{backend}`: {error}")]
    Driver {
        /// The backend.
        backend: String,
        /// Why.
        error: DriverError,
    },
    /// A pin to nowhere.
    #[error("the pin of tenant `{tenant}` names `{backend}`, and no [[backend]] has that name")]
    Pin {
        /// The tenant.
        tenant: String,
        /// What stands there.
        backend: String,
    },
    /// Keys are in it now.
    #[error("backend `{0}` keeps its keys in the daemon: its settings change at the next start")]
    Restart(String),
    /// Two of one name: replicas could not be told apart.
    #[error("the configuration names two backends `{0}`")]
    Twice(String),
    /// The threads that prove replicas again and compare answers.
    #[error("the router's threads could not be started: {0}")]
    Thread(String),
    /// A known answer came out wrong.
    #[error("backend `{backend}` does not show its known answer for {capability}")]
    Unproved {
        /// The backend.
        backend: String,
        /// What it got wrong.
        capability: String,
    },
}

/// An open backend.
pub struct Backend {
    /// Its configured name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    pub(super) config: BackendConfig,
    /// Tells its driver from another that had the name before: handles of one are nothing to the other.
    pub(super) instance: u64,
    pub(super) driver: Arc<dyn HsmDriver>,
    /// The processes that a vendor's library runs in.
    workers: Option<Arc<Workers>>,
    pub(super) health: Arc<Health>,
    lanes: Arc<Lanes>,
    rate: Option<DefaultDirectRateLimiter>,
}

/// How long a call waits for a place or for its turn under a rate.
const PATIENCE: Duration = Duration::from_millis(500);

fn deadline_row_us() -> u64 {
    2000
}

impl Backend {
    /// Opens a backend. One that lives in workers need not answer yet: it is asked again until it does.
    pub(super) fn open(
        config: &BackendConfig,
        storage_key: Option<&Secret>,
        launcher: &Arc<Launcher>,
    ) -> Result<Self, BackendError> {
        let name = config.name.clone();
        static INSTANCES: AtomicU64 = AtomicU64::new(0);
        let backend = |driver, workers, lanes| Self {
            name: config.name.clone(),
            place: config.place,
            config: config.clone(),
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
            driver,
            workers,
            health: Arc::default(),
            lanes: Arc::new(lanes),
            rate: config.limiter(),
        };
        let driver = claviger_hsm_registry::find(&config.driver)
            .ok_or_else(|| BackendError::NoDriver { backend: name.clone(), driver: config.driver.clone() })?;
        let failed = |error| BackendError::Driver { backend: name.clone(), error };
        if driver.foreign_code {
            let workers = Workers::start(config.options().map_err(failed)?, Arc::clone(launcher));
            let driver: Arc<dyn HsmDriver> = Arc::clone(&workers) as Arc<dyn HsmDriver>;
            return Ok(backend(driver, Some(workers), Lanes::new(Some(config.places()))));
        }
        let storage_key = storage_key.filter(|_| driver.keeps_keys_here).map(|key| Secret::copy_of(key.expose()));
        let opened = (driver.open)(config.settings.clone(), storage_key).map_err(failed)?;
        let proofs = opened.probe().map_err(failed)?;
        if let Some(wrong) = proofs.into_iter().find(|proof| !proof.proved) {
            return Err(BackendError::Unproved { backend: name, capability: wrong.capability });
        }
        Ok(backend(opened, None, Lanes::new(None)))
    }

    /// The same backend by a changed table: with its driver, its keys and its history if only the router's settings are
    /// others, and opened anew otherwise.
    pub(super) fn changed(&self, config: &BackendConfig, launcher: &Arc<Launcher>) -> Result<Self, BackendError> {
        let now = &self.config;
        let same = BackendConfig { place: now.place, rate: now.rate, weight: now.weight, ..config.clone() } == *now;
        if same {
            return Ok(Self {
                name: self.name.clone(),
                place: config.place,
                config: config.clone(),
                instance: self.instance,
                driver: Arc::clone(&self.driver),
                workers: self.workers.clone(),
                health: Arc::clone(&self.health),
                lanes: Arc::clone(&self.lanes),
                rate: config.limiter(),
            });
        }
        if self.workers.is_none() {
            return Err(BackendError::Restart(self.name.clone()));
        }
        Self::open(config, None, launcher)
    }

    /// Whether a call to it leaves the process.
    pub(super) fn is_remote(&self) -> bool {
        self.workers.is_some()
    }

    /// Whether a call waits for nobody here: it is the daemon itself, and takes as many as come.
    pub(super) fn is_at_hand(&self) -> bool {
        self.workers.is_none() && self.rate.is_none() && self.lanes.are_endless()
    }

    /// A place for a call, and its turn.
    pub(super) fn enter(&self, lane: Lane) -> Result<LanePlace<'_>, RouteError> {
        let busy = || {
            metrics::counter!("claviger_calls_shed_total", "backend" => self.name.clone()).increment(1);
            RouteError::Busy { backend: self.name.clone() }
        };
        let until = Instant::now() + PATIENCE;
        let place = self.lanes.enter(lane, PATIENCE).map_err(|_| busy())?;
        if let Some(rate) = &self.rate {
            while let Err(not_until) = rate.check() {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                if Instant::now() + wait > until {
                    return Err(busy());
                }
                std::thread::sleep(wait);
            }
        }
        Ok(place)
    }

    /// Whether it lives in workers and has none: nothing that is asked of it is answered.
    pub(super) fn is_down(&self) -> bool {
        self.workers.is_some() && self.processes().is_empty()
    }

    /// Process ids of its workers.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.workers.as_ref().map(|workers| workers.processes()).unwrap_or_default()
    }
}

impl BackendConfig {
    fn limiter(&self) -> Option<DefaultDirectRateLimiter> {
        self.rate.map(|rate| RateLimiter::direct(Quota::per_second(rate)))
    }

    /// The same with the paths of a token's module and PIN relative to the configuration's directory.
    pub(crate) fn at(mut self, base: &Path) -> Self {
        let join = |value: &mut toml::Value| {
            if let toml::Value::String(path) = value {
                let joined = base.join(&*path);
                // A worker stands in another directory.
                *path = std::path::absolute(&joined).unwrap_or(joined).display().to_string();
            }
        };
        self.settings.get_mut("module").map(join);
        self.settings.get_mut("pin").and_then(|pin| pin.get_mut("file")).map(join);
        self
    }

    /// Refuses a module or a PIN file that others could put another in the place of: a module is code that runs with the PIN.
    ///
    /// # Errors
    /// [`Loose`].
    pub(crate) fn only_we_change_its_files(&self) -> Result<(), Loose> {
        let file = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).map(PathBuf::from);
        let (module, pin) = (self.settings.get("module"), self.settings.get("pin").and_then(|pin| pin.get("file")));
        // A PIN is its workers' own.
        let user = self.user.as_deref().and_then(User::named).map(|user| user.uid);
        let checks =
            [file(module).map(|module| only_we_change(&module)), file(pin).map(|pin| only_they_change(&pin, user))];
        checks.into_iter().flatten().try_for_each(|checked| match checked {
            // What is not there is missed by the worker, and may come.
            Err(Loose::Look { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            checked => checked,
        })
    }

    /// Calls that it takes at once: as many as its workers have sessions for calls.
    fn places(&self) -> usize {
        let sessions = self.settings.get("sessions").and_then(toml::Value::as_integer).unwrap_or(8);
        usize::try_from(sessions - 1).unwrap_or(1).max(1) * self.workers.max(1)
    }

    fn options(&self) -> Result<Options, DriverError> {
        // What a worker could not be started by is said here, and not when the first one is.
        self.start()?;
        Ok(Options {
            backend: self.name.clone(),
            driver: self.driver.clone(),
            settings: self.settings.clone(),
            count: self.workers,
            deadline: Duration::from_millis(self.deadline_ms),
            deadline_row: Duration::from_micros(self.deadline_row_us),
        })
    }

    /// How its workers are started.
    ///
    /// # Errors
    /// If there is no such user.
    pub fn start(&self) -> Result<Start, DriverError> {
        let user = |name: &String| {
            User::named(name)
                .ok_or_else(|| DriverError::caller("worker", "configure", format!("there is no user `{name}`")))
        };
        // Of the daemon's environment a worker gets what says where its PIN is, and which kernels are forced.
        let inherited = ["CLAVIGER_KERNELS", "CREDENTIALS_DIRECTORY"].into_iter();
        let inherited = inherited.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        Ok(Start {
            driver: self.driver.clone(),
            settings: self.settings.to_string(),
            environment: inherited.chain(self.env.clone()).collect(),
            user: self.user.as_ref().map(user).transpose()?,
        })
    }
}
