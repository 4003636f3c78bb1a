//! A whole daemon from its configuration: store, policy, schemes, seal, API, server.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use claviger_card_schemes::{CardScheme, ProfileError, Schemes};
use claviger_locked_memory::Protection;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::api;
use crate::config::{Config, ConfigError};
use crate::confinement::out_of_reach;
use crate::permissions::{
    Loose, only_its_owner_reads, only_one_person_reads, only_we_change, only_we_enter, only_we_write_in,
};
use crate::policy::{Authorizer, PolicyError, PolicySource};
use crate::routing::Launcher;
use crate::seal::{Opener, SealError};
use crate::server::{Door, DoorError, Turned, serve};
use crate::service::{Rules, Service, ServiceError};

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each wraps an error that says everything")]
pub enum StartError {
    #[error("secrets cannot be locked into memory: raise LimitMEMLOCK (systemd) or `ulimit -l`")]
    MemoryLock,
    #[error("scheme profile {path}: {error}")]
    Scheme { path: PathBuf, error: Box<ProfileError> },
    #[error("{path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Loose(#[from] Loose),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(
        "{error}; {} is in none of the directories that the configuration named at the start, which are all that the daemon \
         can reach: restart it", place.display()
    )]
    OutOfReach { place: PathBuf, error: Box<StartError> },
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
}

impl StartError {
    /// For the audit log, which holds no secret.
    fn reason(&self) -> String {
        match self {
            Self::Config(error) => error.place(),
            other => other.to_string(),
        }
    }
}

/// Sent when a file would grow beyond its limit.
const SIGXFSZ: i32 = libc::SIGXFSZ;

/// How often what could not be finished is tried again.
const TEND: Duration = Duration::from_secs(15);

/// A daemon that listens and does not serve yet.
pub struct Daemon {
    path: PathBuf,
    service: Arc<Service>,
    listener: TcpListener,
    door: watch::Sender<Arc<Door>>,
    config: Config,
    hangups: std::io::Result<Signal>,
}

impl Daemon {
    /// Opens everything that the configuration at `path` says, unseals with the key file if one is configured, and
    /// listens.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(path: &Path, launcher: Arc<Launcher>) -> Result<Self, StartError> {
        // Before anybody hears that it serves: a hangup that nobody waits for ends the process.
        let hangups = signal(SignalKind::hangup());
        let config = Config::load(path)?;
        is_strict(path, &config)?;
        let relaxed = config.policies == "dev";
        if claviger_locked_memory::protection() == Protection::Unlocked {
            if !relaxed {
                return Err(StartError::MemoryLock);
            }
            tracing::warn!("secrets cannot be locked into memory; outside development the daemon would not start");
        }
        let (door, _) = watch::channel(Arc::new(Door::new(&config)?));
        let rules = rules(&config, &door.borrow())?;
        let schemes = load_schemes(config.schemes.as_deref())?;
        make_private_directory(&config.data)?;
        // Whoever writes there has the store, and can put another log in the place of this one.
        only_we_write_in(&config.data)?;
        only_we_enter(&config.data)?;
        let (routing, signing) = (config.routing(), config.audit.clone());
        let service = Service::open(&config.data, rules, schemes, routing, signing, launcher).await?;
        if let Some(path) = &config.seal.key_file {
            service.unseal_at_start(Opener::KeyFile(path)).await?;
        } else if let Some(credential) = &config.seal.systemd_credential {
            let path = credential.path().ok_or(ServiceError::Seal(SealError::NoCredentials))?;
            service.unseal_at_start(Opener::Credential(&path)).await?;
        }
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| StartError::Listen { address: config.listen, error })?;
        // That there are none is said by the backends that need them.
        if let Ok(platform) = claviger_hsm_engine::platform() {
            tracing::info!(kernels = platform.name(), "MACs and dispersion run in bulk on these");
        }
        Ok(Self { path: path.to_owned(), service, listener, door, config, hangups })
    }

    /// The same with so many seconds for what still runs when it is told to stop.
    #[must_use]
    pub fn draining_for(mut self, seconds: u64) -> Self {
        self.config.limits.drain_seconds = seconds;
        self
    }

    /// Where it listens; the port is a real one even if the configuration left it open.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.config.listen)
    }

    /// Whether its backends are open.
    pub fn is_unsealed(&self) -> bool {
        self.service.is_unsealed()
    }

    /// Serves until `stop`, then drains. At each SIGHUP it reads its configuration again.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        // A file that may grow no more is an error of the write, and no end of the process.
        let _too_large = signal(SignalKind::from_raw(SIGXFSZ));
        let tended = Arc::downgrade(&self.service);
        let log_end = self.service.log_end();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TEND).await;
                let Some(service) = tended.upgrade() else { return };
                service.tend().await;
            }
        });
        let state = api::State { service: self.service, limits: self.config.limits.clone(), metrics: recorder() };
        let doors = self.door.subscribe();
        let (limits, started) = (self.config.limits.clone(), self.config);
        let (service, door) = (Arc::clone(&state.service), self.door);
        let reloading = tokio::spawn(reload_at_hangups(self.hangups, self.path, started, service, door));
        let service = Arc::clone(&state.service);
        let turned_away: Turned = Arc::new(move |from, who, why| service.failed_login(from, who, why));
        serve(self.listener, doors, api::router(state), &limits, turned_away, stop).await;
        reloading.abort();
        let _ = reloading.await;
        log_end.wait().await;
    }
}

/// Reads the configuration again whenever the process is told to. A wrong one changes nothing.
async fn reload_at_hangups(
    hangups: std::io::Result<Signal>,
    path: PathBuf,
    started: Config,
    service: Arc<Service>,
    door: watch::Sender<Arc<Door>>,
) {
    let Ok(mut hangups) = hangups else {
        tracing::error!("SIGHUP cannot be listened for: the configuration is read at start only");
        return;
    };
    while hangups.recv().await.is_some() {
        match reload(&path, &started, &service, &door).await {
            Ok(fixed) if fixed.is_empty() => {}
            Ok(fixed) => tracing::warn!(settings = fixed.join(", "), "these change at the next start only"),
            Err(error) => tracing::error!(%error, "the configuration is wrong, and the old one stays in force"),
        }
    }
}

/// Whether nobody else could change what the daemon goes by, or read its key.
fn is_strict(path: &Path, config: &Config) -> Result<(), Loose> {
    only_we_change(path)?;
    let tls = &config.tls;
    for file in [&tls.certificate, &tls.key, &tls.client_ca].into_iter().chain(&tls.crl) {
        only_we_change(file)?;
    }
    only_its_owner_reads(&tls.key)?;
    if let Some(file) = config.seal.key_file.as_deref().filter(|file| file.exists()) {
        only_we_change(file)?;
        only_one_person_reads(file)?;
    }
    if let PolicySource::Directory(directory) = config.policy_source() {
        only_we_write_in(&directory)?;
    }
    config.schemes.as_deref().map_or(Ok(()), only_we_write_in)
}

fn rules(config: &Config, door: &Arc<Door>) -> Result<Rules, PolicyError> {
    let at_the_door = Arc::clone(door);
    let policy = Authorizer::load(&config.policy_source())?;
    let spoken_of = policy.roles().callers;
    for principal in &config.principals {
        for role in principal.roles.iter().filter(|role| !spoken_of.contains(*role)) {
            tracing::warn!(principal = principal.uri, role, "no policy speaks of this role");
        }
    }
    Ok(Rules {
        policy: Arc::new(policy),
        principals: door.principals(),
        known: Arc::new(move |chain| at_the_door.caller(chain)),
        surroundings: Arc::new(config.surroundings()),
        quotas: config.quota(),
    })
}

/// The settings that are others now than at the start, and cannot be changed while the daemon runs.
async fn reload(
    path: &Path,
    started: &Config,
    service: &Service,
    door: &watch::Sender<Arc<Door>>,
) -> Result<Vec<&'static str>, StartError> {
    let open = |config: &Config| -> Result<_, StartError> {
        is_strict(path, config)?;
        let next = Arc::new(Door::new(config)?);
        let rules = rules(config, &next)?;
        Ok((next, rules))
    };
    let read = || -> Result<_, StartError> {
        let config = Config::load(path)?;
        match open(&config) {
            Ok((next, rules)) => Ok((config, next, rules)),
            Err(error) => Err(match out_of_reach(started, &config, path) {
                Some(place) => StartError::OutOfReach { place, error: Box::new(error) },
                None => error,
            }),
        }
    };
    let (config, next, rules) = match read() {
        Ok(read) => read,
        Err(error) => {
            service.reload_refused(&error.reason()).await?;
            return Err(error);
        }
    };
    service.reload(rules, config.routing(), || drop(door.send_replace(next))).await?;
    let fixed = [
        ("listen", config.listen != started.listen),
        ("data", config.data != started.data),
        ("schemes", config.schemes != started.schemes),
        ("audit", config.audit != started.audit),
        ("seal", config.seal != started.seal),
        ("limits", config.limits != started.limits),
    ];
    Ok(fixed.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect())
}

/// The shipped schemes, and those of a directory.
///
/// # Errors
/// [`StartError::Scheme`] for the first that is not used.
pub fn load_schemes(directory: Option<&Path>) -> Result<Schemes, StartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| StartError::Scheme { path, error: Box::new(error) }
    };
    let mut schemes = Schemes::shipped().map_err(failed(Path::new("(shipped)")))?;
    let Some(directory) = directory else { return Ok(schemes) };
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error| StartError::Read { path, error }
    };
    let entries = std::fs::read_dir(directory).map_err(unreadable(directory))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        schemes.add(CardScheme::load(&text).map_err(failed(&path))?);
    }
    Ok(schemes)
}

/// Makes a directory that only its owner enters.
///
/// # Errors
/// [`StartError::Read`].
pub fn make_private_directory(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| StartError::Read { path: path.to_owned(), error })
}

/// The process's one metrics recorder.
fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Only this function installs one, and only once.
        let _ = metrics::set_global_recorder(recorder);
        handle
    };
    RECORDER.get_or_init(install).clone()
}
