//! Where keyring, policy, router and audit meet: [`Service::execute`] is the one way in.

mod approvals;
mod asked;
mod backups;
mod cards;
mod ceilings;
mod ceremonies;
mod decide;
mod error;
mod exchange;
mod failed_logins;
mod generic;
mod inquiries;
mod job;
mod keys;
mod outcome;
mod perform;
mod personalise;
mod policies;
mod purse;
mod quotas;
mod reload;
mod replicas;
mod shares;
mod transactions;
mod under_way;
mod unsealing;

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use claviger_card_schemes::{CardScheme, Schemes};
use claviger_hsm_api::{KeyName, Secret};
use claviger_key_ceremonies::Share;

use crate::audit::{Audit, AuditConfig, End, Event};
use crate::backup::BackupKey;
use crate::keyring::{Entry, Keyring};
use crate::operation::Operation;
use crate::policy::{Authorizer, Permit, Principal, Resource, Surroundings};
use crate::routing::{Launcher, Router, RoutingConfig};
use crate::store::Store;
pub use approvals::{ApprovalError, Proposal};
use asked::Asked;
pub use backups::Backup;
use ceremonies::{Ceremonies, InCeremony};
pub use ceremonies::{CeremonyError, Taken};
use decide::refused;
pub use error::ServiceError;
pub use exchange::Exported;
use failed_logins::FailedLogins;
pub use inquiries::Standing;
pub use job::BATCH;
use job::JobIds;
pub use keys::factor;
pub use outcome::{Moving, Outcome, Sealed};
pub use personalise::{CardFault, PersonaliseJob};
pub use policies::PolicyStatus;
pub use quotas::Turn;
pub use quotas::{CallerLimits, QuotaConfig};
use quotas::{Quotas, TooMany};
pub use transactions::VerifyJob;
use under_way::UnderWay;

/// Streamed jobs at once, well below the threads that may wait.
const JOBS: usize = 64;

/// Who may call, and what they may do.
#[derive(Clone)]
pub struct Rules {
    /// The policies in force.
    pub policy: Arc<Authorizer>,
    /// Everybody whom the configuration knows.
    pub principals: Vec<Arc<Principal>>,
    /// Who of them shows a certificate.
    pub known: Known,
    /// What the configuration calls networks, times and backends.
    pub surroundings: Arc<Surroundings>,
    /// How much they may do.
    pub quotas: QuotaConfig,
}

impl Rules {
    /// Whether ceremonies are rehearsals: keys of development are for nothing else.
    fn is_rehearsal(&self) -> bool {
        self.policy.in_force().name == "dev"
    }

    /// The same under other policies.
    fn with(&self, policy: Arc<Authorizer>) -> Self {
        Self { policy, ..self.clone() }
    }
}

/// Whom a chain of certificates lets in, if anybody.
pub type Known = Arc<dyn Fn(&[CertificateDer<'static>]) -> Option<Arc<Principal>> + Send + Sync>;

/// Who asks, and from where.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The authenticated name.
    pub principal: Arc<Principal>,
    /// The address of the connection.
    pub source: IpAddr,
    /// The certificates that it showed.
    chain: Arc<[CertificateDer<'static>]>,
    /// The proposal that it says others have approved.
    approval: Option<String>,
    /// What it asks for, if that is something to approve.
    asked: Option<Arc<Asked>>,
    /// The ceremony that it takes a step of.
    ceremony: Option<InCeremony>,
    /// That it is among the calls that its limits let in.
    turn: Option<Arc<Turn>>,
}

impl Caller {
    /// A caller who comes without approvals, and the certificates by which it is let in.
    pub fn new(principal: Arc<Principal>, source: IpAddr, chain: Arc<[CertificateDer<'static>]>) -> Self {
        Self { principal, source, chain, approval: None, asked: None, ceremony: None, turn: None }
    }

    /// Whether it would be let in as the same caller now: it may have been revoked, or have other duties.
    fn is_still_known(&self, rules: &Rules) -> bool {
        (rules.known)(&self.chain).as_ref() == Some(&self.principal)
    }

    /// The same, asking under a proposal that it says others have approved.
    #[must_use]
    pub fn under(self, approval: Option<String>) -> Self {
        Self { approval, ..self }
    }

    /// The same, let in.
    #[must_use]
    pub fn let_in(self, turn: Option<Arc<Turn>>) -> Self {
        Self { turn, ..self }
    }

    /// What says that it was let in: whoever does what it asks holds it until that is done.
    pub fn take_turn(&mut self) -> Option<Arc<Turn>> {
        self.turn.take()
    }

    /// The proposal that it may use for an action, and how many have approved it.
    fn approved(&self, action: &str) -> Option<&(String, u64)> {
        self.asked.as_ref().filter(|asked| asked.action == action)?.approved.as_ref()
    }
}

/// The service behind every front.
pub struct Service {
    store: Store,
    keyring: Keyring,
    rules: RwLock<Arc<Rules>>,
    /// The policies that the configuration names, while they are not in force. Held while others take their place.
    waiting: tokio::sync::Mutex<Option<Arc<Authorizer>>>,
    /// Set once the storage master key has vouched for the policies in force.
    policies_settled: OnceLock<()>,
    schemes: Schemes,
    audit: Audit,
    signing: AuditConfig,
    routing: Mutex<RoutingConfig>,
    launcher: Arc<Launcher>,
    /// Absent while the daemon is sealed.
    router: OnceLock<Arc<Router>>,
    /// Held while copies of a key are made or changed: of two who copy the same, one would undo what the other has made.
    copying: tokio::sync::Mutex<()>,
    /// Held while something is proposed: of the same twice at once, one would be lost.
    proposing: tokio::sync::Mutex<()>,
    /// Approvals that something was begun by, as the log has them.
    used: Mutex<HashSet<String>>,
    /// What the store was made with, to tell it from others.
    installation: String,
    under_way: UnderWay,
    quotas: Arc<Quotas>,
    failed_logins: FailedLogins,
    ceremonies: Ceremonies,
    data: PathBuf,
    /// Absent while the daemon is sealed.
    backup_key: OnceLock<Arc<BackupKey>>,
    /// What the store is sealed with, to seal it anew; absent while the daemon is sealed.
    storage_key: OnceLock<Secret>,
    /// Shares that custodians have brought to a sealed daemon, and who brought each.
    shares: tokio::sync::Mutex<Vec<(String, Share)>>,
    /// Places for streamed jobs: each holds a thread.
    jobs: Arc<Semaphore>,
    job_ids: JobIds,
    /// Held as long as the service lives.
    _lock: File,
}

impl Service {
    /// Opens store and audit log in `data`; the service is sealed until [`unseal`](Self::unseal).
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn open(
        data: &Path,
        rules: Rules,
        schemes: Schemes,
        routing: RoutingConfig,
        signing: AuditConfig,
        launcher: Arc<Launcher>,
    ) -> Result<Arc<Self>, ServiceError> {
        let lock = lock_directory(data)?;
        let audit = Audit::open(&data.join("audit.jsonl")).map_err(ServiceError::AuditLog)?;
        let quotas = Quotas::new(rules.quotas.clone(), &data.join("audit.jsonl"));
        let quotas = Arc::new(quotas.map_err(|error| ServiceError::Directory(error.to_string()))?);
        let store = Store::open(&data.join("claviger.db")).await?;
        let installation = store.installation().await?;
        let keyring = Keyring::load(store.clone()).await?;
        let job_ids = JobIds::new().map_err(|_| ServiceError::Stopped)?;
        let (rules, waiting) = policies::begin(&store, rules).await?;
        audit.append(reload::in_force(&rules, "start", "sealed")).await?;
        Ok(Arc::new(Self {
            store,
            keyring,
            rules: RwLock::new(Arc::new(rules)),
            waiting: tokio::sync::Mutex::new(waiting),
            policies_settled: OnceLock::new(),
            schemes,
            used: Mutex::new(audit.before().used.clone()),
            audit,
            signing,
            routing: Mutex::new(routing),
            launcher,
            router: OnceLock::new(),
            copying: tokio::sync::Mutex::default(),
            proposing: tokio::sync::Mutex::default(),
            installation,
            under_way: UnderWay::default(),
            quotas,
            failed_logins: FailedLogins::default(),
            ceremonies: Ceremonies::default(),
            data: data.to_owned(),
            backup_key: OnceLock::new(),
            storage_key: OnceLock::new(),
            shares: tokio::sync::Mutex::default(),
            jobs: Arc::new(Semaphore::new(JOBS)),
            job_ids,
            _lock: lock,
        }))
    }

    /// For whoever waits until the audit log is written to its end, once the service is gone.
    pub fn log_end(&self) -> End {
        self.audit.end()
    }

    /// The store, for the seal.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The card schemes in use.
    pub fn schemes(&self) -> &Schemes {
        &self.schemes
    }

    /// Writes down that somebody was not let in, and why: a handshake that failed, or a certificate that names nobody.
    pub fn failed_login(&self, from: IpAddr, shown: &str, why: &str) {
        self.failed_logins.note(&self.audit, from, shown, why);
    }

    /// Whether the audit log takes records: without it nothing is answered.
    ///
    /// # Errors
    /// [`ServiceError::Audit`].
    pub fn is_written_down(&self) -> Result<(), ServiceError> {
        Ok(self.audit.is_open()?)
    }

    /// Whether the backends are open.
    pub fn is_unsealed(&self) -> bool {
        self.router.get().is_some()
    }

    /// Does what is asked, if policy permits it, and writes down that it did before it answers.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn execute(self: &Arc<Self>, caller: &Caller, operation: Operation) -> Result<Outcome, ServiceError> {
        let action = operation.action();
        let caller = self.with_approvals(caller, &operation).await?;
        self.perform_operation(&caller, action, operation).await
    }

    /// Lets a call in, if its caller's limits do: before anything of it is read but who asks.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`], or that it cannot be written down.
    pub async fn let_in(&self, caller: &Caller) -> Result<Arc<Turn>, ServiceError> {
        match self.quotas.enter(caller.principal.to_string()) {
            Ok(turn) => Ok(Arc::new(turn)),
            Err(TooMany { error, is_news }) => {
                // Whoever asks too much does not fill the log as well.
                if is_news {
                    self.audit.append(refused(caller, "call", &[], error.code())).await?;
                }
                Err(error)
            }
        }
    }

    async fn perform_operation(
        self: &Arc<Self>,
        caller: &Caller,
        action: &'static str,
        operation: Operation,
    ) -> Result<Outcome, ServiceError> {
        match operation {
            Operation::Unseal { passphrase } => {
                self.unseal_with(caller, action, &passphrase).await.map(|()| Outcome::Done)
            }
            Operation::BringShare { share } => self.bring_share(caller, action, share).await,
            Operation::GenerateKey(request) => self.generate_key(caller, action, request).await.map(Outcome::Key),
            Operation::ImportKey { request, components, kcv, odd_parity } => {
                self.import_key(caller, action, request, components, kcv, odd_parity).await.map(Outcome::Key)
            }
            Operation::AdoptKey { request, object, kcv, records } => {
                self.adopt_key(caller, action, request, object, kcv, records).await.map(Outcome::Key)
            }
            Operation::ReplicateKey { id, to, under } => {
                self.replicate_key(caller, action, &id, to, under).await.map(Outcome::Key)
            }
            Operation::UnwrapKey(request) => self.unwrap_key(caller, action, request).await.map(Outcome::Key),
            Operation::ExportKey { id, form } => {
                self.export_key(caller, action, &id, form).await.map(Outcome::Exported)
            }
            Operation::ShowPublicKey { id } => self.show_public_key(caller, action, &id).await.map(Outcome::Bytes),
            Operation::MoveKey { id, step } => self.move_key(caller, action, &id, step).await.map(Outcome::Moving),
            Operation::ShowMove { id } => self.show_move(caller, action, &id).await.map(Outcome::Moving),
            Operation::ListKeys { tenant } => self.list_keys(caller, action, tenant).await.map(Outcome::Keys),
            Operation::ShowKey { id } => self.show_key(caller, action, &id).await.map(Outcome::Key),
            Operation::SetKeyState { id, state } => {
                self.set_key_state(caller, action, &id, state).await.map(Outcome::Key)
            }
            Operation::RaiseCeiling { id, raise } => {
                self.change_ceiling(caller, action, &id, Some(raise)).await.map(Outcome::Key)
            }
            Operation::LowerCeiling { id } => self.change_ceiling(caller, action, &id, None).await.map(Outcome::Key),
            Operation::VerifyTransactions { tenant, scheme, before, streamed } => {
                let job = VerifyJob::open(self, caller, action, (&tenant, &scheme), before, streamed).await?;
                Ok(Outcome::Job(Box::new(job)))
            }
            Operation::DisperseKey { parent, factors } => {
                self.disperse_key(caller, action, parent, factors).await.map(Outcome::Key)
            }
            Operation::ComputeKcv { id, rule } => self.compute_kcv(caller, action, &id, rule).await.map(Outcome::Bytes),
            Operation::CardCommand(request) => self.card_command(caller, action, request).await,
            Operation::WriteKey(request) => self.write_key(caller, action, request).await,
            Operation::AuthenticateCard(request) => self.authenticate_card(caller, action, request).await,
            Operation::PersonaliseCards(request) => {
                PersonaliseJob::open(self, caller, action, request).await.map(|job| Outcome::Personalise(Box::new(job)))
            }
            Operation::Generic(request) => self.generic(caller, action, request).await,
            Operation::PsamDebit(request) => self.psam_debit(caller, action, request).await,
            Operation::Purse(request) => self.purse(caller, action, request).await,
            Operation::ShowScheme { id } => self.show_scheme(caller, action, &id).await.map(Outcome::Scheme),
            Operation::ListProposals { tenant } => {
                self.list_proposals(caller, action, tenant).await.map(Outcome::Proposals)
            }
            Operation::ShowProposal { id } => self.show_proposal(caller, action, &id).await.map(Outcome::Proposal),
            Operation::Vote { id, vote, signed } => {
                self.vote(caller, action, &id, vote, signed).await.map(Outcome::Proposal)
            }
            // It would make every operation twice as large.
            Operation::Ceremony(request) => Box::pin(self.ceremony(caller, action, request)).await,
            Operation::BackUp => self.back_up(caller, action).await.map(|backup| Outcome::Backup(Box::new(backup))),
            Operation::SetTerminal { tenant, terminal, last } => {
                self.set_terminal(caller, action, tenant, &terminal, last).await.map(|()| Outcome::Done)
            }
            Operation::ListBackends => self.list_backends(caller, action).await.map(Outcome::Backends),
            Operation::ShowPolicies => self.show_policies(caller, action).await.map(Outcome::Policies),
            Operation::ChangePolicies { sha256 } => {
                self.change_policies(caller, action, &sha256).await.map(Outcome::Policies)
            }
            Operation::ListPrincipals => self.list_principals(caller, action).await.map(Outcome::Principals),
            Operation::WhoCan { what, id } => self.who_can(caller, action, &what, &id).await.map(Outcome::Grants),
            Operation::ProveVerdicts { job } => self.prove_verdicts(caller, action, job).await.map(Outcome::Blinding),
            Operation::Random { len } => self.random(caller, action, len).await.map(Outcome::Bytes),
        }
    }

    async fn show_scheme(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
    ) -> Result<Arc<CardScheme>, ServiceError> {
        let permit = self.decide(caller, action, &[Resource::Daemon], 1).await?;
        let found = self.scheme(id).cloned();
        self.settle(caller, &permit, Event::default(), found).await
    }

    async fn random(&self, caller: &Caller, action: &'static str, len: usize) -> Result<Vec<u8>, ServiceError> {
        if !(1..=1024).contains(&len) {
            return Err(ServiceError::field("len", "must be 1 to 1024"));
        }
        let router = self.router()?;
        let permit = self.decide(caller, action, &[Resource::Daemon], 1).await?;
        let permit = Arc::new(permit);
        let inside = Arc::clone(&permit);
        let drawn = blocking(move || Ok(router.random(&inside, len)?)).await;
        self.settle(caller, &permit, Event::default(), drawn).await
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn router(&self) -> Result<Arc<Router>, ServiceError> {
        self.router.get().cloned().ok_or(ServiceError::Sealed)
    }

    pub(crate) fn scheme(&self, id: &str) -> Result<&Arc<CardScheme>, ServiceError> {
        self.schemes.find(id).ok_or_else(|| ServiceError::UnknownScheme(id.chars().take(40).collect()))
    }

    /// The key of an id, for those who act for its tenant. To all others it does not exist; that somebody asked
    /// is written down either way.
    async fn known(&self, caller: &Caller, id: &str) -> Result<Arc<Entry>, ServiceError> {
        let Some(entry) = self.keyring.find(id) else {
            let event = Event {
                event: "decision".to_owned(),
                principal: caller.principal.to_string(),
                outcome: ServiceError::NoKey.code().to_owned(),
                ..Event::default()
            };
            self.audit.append(event).await?;
            return Err(ServiceError::NoKey);
        };
        match self.enter(caller, entry.record.key.name.tenant()).await {
            Err(ServiceError::Denied(_)) => Err(ServiceError::NoKey),
            other => other.map(|_| entry),
        }
    }

    /// Whether a key is as it was when `entry` was read.
    fn is_current(&self, entry: &Entry) -> bool {
        self.keyring.find(entry.id()).is_some_and(|now| now.record_version() == entry.record_version())
    }

    /// Asks whether the caller acts for a tenant at all: before it is known which keys the tenant has, so that
    /// nobody else learns it.
    async fn enter(&self, caller: &Caller, tenant: &str) -> Result<Permit, ServiceError> {
        // What is no name goes no further: not to policy, and not into the audit log.
        KeyName::new(tenant, "any", "ANY")?;
        self.decide(caller, "enter_tenant", &[Resource::Tenant(tenant.to_owned())], 0).await
    }
}

/// One daemon a directory: two would break each other's audit chain and miss each other's changes.
fn lock_directory(data: &Path) -> Result<File, ServiceError> {
    let lock = File::create(data.join("lock")).map_err(|error| ServiceError::Directory(error.to_string()))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => ServiceError::Directory("another daemon uses it".to_owned()),
        TryLockError::Error(error) => ServiceError::Directory(error.to_string()),
    })?;
    Ok(lock)
}

/// Whether a daemon uses a directory.
pub(crate) fn is_in_use(data: &Path) -> bool {
    let held = |lock: File| matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
    File::open(data.join("lock")).is_ok_and(held)
}

/// Runs what may wait (a backend, a kernel over thousands of rows) away from the threads that serve.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    // A panic is a fault of ours; that it happened is written down like any other outcome.
    begin_blocking(run).await.unwrap_or(Err(ServiceError::Internal))
}

/// Runs what waits for nobody, here and now: another thread would cost more than it. None if it panicked.
pub(crate) fn at_once<T>(run: impl FnOnce() -> T) -> Option<T> {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    claviger_locked_memory::wipe_stack();
    done.ok()
}

/// The same, begun at once.
fn begin_blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(move || {
        let result = run();
        claviger_locked_memory::wipe_stack();
        result
    })
}
