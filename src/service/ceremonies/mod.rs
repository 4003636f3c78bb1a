//! Ceremonies: the daemon holds the plan, says whose turn it is, and writes the transcript.
//!
//! What a step makes is made by the operations that everybody else asks for, under the same policies; that the plan was
//! approved counts for each of them. Components wait in locked memory and nowhere else: a daemon that was started again has
//! lost them, says so in the transcript, and asks for them again.

mod components;
mod planned;
mod shares;
mod steps;
mod tenant;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use claviger_hsm_api::Secret;
use claviger_key_ceremonies::{
    Binding, CourseError, Ending, Event as Happened, Opening, Plan, PlanError, Signed, Transcript, TranscriptError,
};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use shares::Made;
pub use steps::Taken;

use super::asked::Asked;
use super::{Caller, Outcome, Service, ServiceError};
use crate::audit::Event;
use crate::operation::CeremonyRequest;
use crate::policy::Resource;

/// How long somebody who waits for a change is kept: less than a stopping daemon waits.
const PATIENCE: Duration = Duration::from_secs(15);
/// How far a signer's clock may be from the daemon's.
const CLOCKS: SignedDuration = SignedDuration::from_mins(10);

/// Why a ceremony does not go that way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CeremonyError {
    /// No such ceremony, or not for this caller.
    #[error("there is no such ceremony")]
    None,
    /// The plan or the binding.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Not now, or not by this caller.
    #[error("{0}")]
    Order(String),
    /// It is over.
    #[error("the ceremony is {0}")]
    Over(&'static str),
    /// What was brought is not good.
    #[error("{reason}; tries left: {left}")]
    Refused {
        /// In words; never what was brought.
        reason: String,
        /// How many.
        left: u8,
    },
    /// A signature that does not hold.
    #[error("field {0}")]
    Signature(String),
}

impl CeremonyError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::None => "no_ceremony",
            Self::Plan(_) => "bad_plan",
            Self::Order(_) => "ceremony_order",
            Self::Over(_) => "ceremony_over",
            Self::Refused { .. } => "step_refused",
            Self::Signature(_) => "bad_signature",
        }
    }
}

impl From<TranscriptError> for ServiceError {
    fn from(error: TranscriptError) -> Self {
        match error {
            TranscriptError::Plan(error) => CeremonyError::Plan(error).into(),
            TranscriptError::Course { error: CourseError::Over, .. } => CeremonyError::Over("over").into(),
            TranscriptError::Course { error, .. } => CeremonyError::Order(error.to_string()).into(),
            TranscriptError::Signature { error, .. } => CeremonyError::Signature(error.to_string()).into(),
            TranscriptError::Line { .. } => {
                tracing::error!(%error, "a transcript in the store cannot be read");
                Self::Internal
            }
        }
    }
}

/// The ceremonies that somebody has asked for since the daemon was started.
#[derive(Default)]
pub(super) struct Ceremonies {
    live: tokio::sync::Mutex<HashMap<String, Live>>,
    /// Tells those who wait that something has happened in one of them.
    changed: tokio::sync::Notify,
}

/// A ceremony that is to be, as policies see it. What is no plan has no name.
fn about(tenant: &str, plan: &str) -> Resource {
    let plan = Plan::parse(plan).map(|plan| plan.id).unwrap_or_default();
    Resource::Ceremony { tenant: tenant.to_owned(), plan }
}

/// A ceremony, and the components that wait to be joined.
struct Live {
    id: String,
    transcript: Transcript,
    /// By key, and by custodian of the plan.
    components: BTreeMap<(String, usize), Secret>,
    shares: Option<Made>,
}

impl Live {
    fn of(id: &str, transcript: Transcript) -> Self {
        Self { id: id.to_owned(), transcript, components: BTreeMap::new(), shares: None }
    }
}

/// Somebody's returns that are written down: who joins without end fills no transcript.
const MOST_RETURNS: usize = 50;

/// The approvals under which a caller takes a ceremony's step.
#[derive(Debug, Clone, Copy)]
pub(super) struct InCeremony {
    pub(super) approvals: u64,
}

impl Service {
    pub(super) async fn ceremony(
        self: &Arc<Self>,
        caller: &Caller,
        action: &'static str,
        request: CeremonyRequest,
    ) -> Result<Outcome, ServiceError> {
        let shown = match request {
            CeremonyRequest::List { tenant } => {
                return self.list_ceremonies(caller, action, tenant).await.map(Outcome::Ceremonies);
            }
            CeremonyRequest::Check { plan, binding } => {
                return self.check_ceremony(caller, action, &plan, &binding).await.map(|()| Outcome::Done);
            }
            CeremonyRequest::Step { id, input } => {
                let taken = self.take_step(caller, action, &id, input).await;
                return taken.map(|taken| Outcome::Taken(Box::new(taken)));
            }
            CeremonyRequest::Show { id, after } => self.show_ceremony(caller, action, &id, after.as_deref()).await,
            CeremonyRequest::Open { plan, binding } => self.open_ceremony(caller, action, plan, binding).await,
            CeremonyRequest::Join { id } => self.join_ceremony(caller, action, &id).await,
            CeremonyRequest::Sign { id, at, signed } => self.sign_ceremony(caller, action, &id, at, signed).await,
            CeremonyRequest::Cancel { id, reason } => self.cancel_ceremony(caller, action, &id, reason).await,
        };
        shown.map(|transcript| Outcome::Ceremony(Box::new(transcript)))
    }

    /// Looks whether a daemon could hold a ceremony, and begins none.
    async fn check_ceremony(
        &self,
        caller: &Caller,
        action: &'static str,
        plan: &str,
        binding: &str,
    ) -> Result<(), ServiceError> {
        let binding = Binding::parse(binding).map_err(CeremonyError::from)?;
        self.enter(caller, &binding.tenant).await?;
        let permit = self.decide(caller, action, &[about(&binding.tenant, plan)], 1).await?;
        let held = Plan::bound(plan, &binding).map_err(|error| CeremonyError::from(error).into());
        let result = held.and_then(|plan| self.can_hold(caller, &plan, &binding));
        self.settle(caller, &permit, Event { tenant: binding.tenant, ..Event::default() }, result).await
    }

    /// Opens a ceremony.
    async fn open_ceremony(
        &self,
        caller: &Caller,
        action: &'static str,
        plan: String,
        binding: String,
    ) -> Result<Transcript, ServiceError> {
        let bound = Binding::parse(&binding).map_err(CeremonyError::from)?;
        self.enter(caller, &bound.tenant).await?;
        let permit = self.decide(caller, action, &[about(&bound.tenant, &plan)], 1).await?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| ServiceError::Internal)?;
        let id = hex::encode(id);
        let opening = Opening {
            ceremony: id.clone(),
            daemon: self.installation.clone(),
            by: caller.principal.to_string(),
            approval: caller.approved(action).map(|(id, _)| id.clone()).unwrap_or_default(),
            plan,
            binding,
        };
        let rehearsal = self.rules().is_rehearsal();
        let result = async {
            let transcript = Transcript::begin(opening, Timestamp::now(), rehearsal)?;
            self.can_hold(caller, transcript.plan(), &bound)?;
            self.store.open_ceremony(&id, &bound.tenant, transcript.text().trim_end()).await?;
            let opened = Live::of(&id, transcript.clone());
            self.ceremonies.live.lock().await.insert(id.clone(), opened);
            Ok(transcript)
        };
        let result = result.await;
        let event = match &result {
            Ok(transcript) => anchored(&id, transcript),
            Err(_) => Event { ceremony: id, ..Event::default() },
        };
        self.settle(caller, &permit, Event { tenant: bound.tenant, ..event }, result).await
    }

    async fn list_ceremonies(
        &self,
        caller: &Caller,
        action: &'static str,
        tenant: String,
    ) -> Result<Vec<Transcript>, ServiceError> {
        self.enter(caller, &tenant).await?;
        let permit = self.decide(caller, action, &[Resource::Tenant(tenant.clone())], 1).await?;
        let listed = async {
            let mut found = Vec::new();
            for id in self.store.ceremonies(&tenant).await? {
                found.push(Transcript::parse(&self.store.transcript(&id).await?)?);
            }
            Ok(found)
        };
        let listed = listed.await;
        self.settle(caller, &permit, Event { tenant, ..Event::default() }, listed).await
    }

    async fn show_ceremony(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        after: Option<&str>,
    ) -> Result<Transcript, ServiceError> {
        let (tenant, ceremony) = self.known_ceremony(caller, action, id).await?;
        let permit = self.decide(caller, action, &[ceremony], 1).await?;
        let shown = self.once_changed(id, after).await;
        self.settle(caller, &permit, Event { tenant, ceremony: id.to_owned(), ..Event::default() }, shown).await
    }

    /// A ceremony's transcript once it has another head, or after a while: terminals that asked again and again would fill the
    /// audit log.
    async fn once_changed(&self, id: &str, after: Option<&str>) -> Result<Transcript, ServiceError> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            // From before it is looked at: no change goes unheard.
            let changed = self.ceremonies.changed.notified();
            let transcript = {
                let mut live = self.ceremonies.live.lock().await;
                self.live(&mut live, id).await?.transcript.clone()
            };
            if after.is_none_or(|after| after != transcript.head()) {
                return Ok(transcript);
            }
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return Ok(transcript);
            }
        }
    }

    /// Writes down that the caller is there, if the binding names them and it is not written yet.
    async fn join_ceremony(&self, caller: &Caller, action: &'static str, id: &str) -> Result<Transcript, ServiceError> {
        let (tenant, ceremony) = self.known_ceremony(caller, action, id).await?;
        let permit = self.decide(caller, action, &[ceremony], 1).await?;
        let joining = async {
            let mut live = self.ceremonies.live.lock().await;
            let ceremony = self.live(&mut live, id).await?;
            if !self.join(caller, ceremony).await? {
                self.come_back(caller, ceremony).await?;
            }
            Ok(ceremony.transcript.clone())
        };
        let joined = joining.await;
        self.settle(caller, &permit, self.in_ceremony(&tenant, id, &joined), joined).await
    }

    /// Whether it was new.
    async fn join(&self, caller: &Caller, ceremony: &mut Live) -> Result<bool, ServiceError> {
        let by = caller.principal.to_string();
        let is_there = ceremony.transcript.course().present().any(|name| name == by);
        let has_part = ceremony.transcript.binding().person(&by).is_some();
        if is_there || !has_part || ceremony.transcript.course().ending().is_some() {
            return Ok(false);
        }
        self.add(ceremony, Happened::Joined { by, certificate: certificate(caller) }).await?;
        Ok(true)
    }

    /// Writes down that somebody who was there has joined once more.
    async fn come_back(&self, caller: &Caller, ceremony: &mut Live) -> Result<(), ServiceError> {
        let by = caller.principal.to_string();
        let was_there = ceremony.transcript.course().present().any(|name| name == by);
        let again = |event: &Happened| matches!(event, Happened::Returned { by: who } if *who == by);
        let times = ceremony.transcript.entries().iter().filter(|entry| again(&entry.event)).count();
        if !was_there || times >= MOST_RETURNS || ceremony.transcript.course().ending().is_some() {
            return Ok(());
        }
        self.add(ceremony, Happened::Returned { by }).await
    }

    /// Takes the signature of somebody who was there. Another may bring it: it says whose it is.
    async fn sign_ceremony(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        at: Timestamp,
        signed: Signed,
    ) -> Result<Transcript, ServiceError> {
        let (tenant, ceremony) = self.known_ceremony(caller, action, id).await?;
        let permit = self.decide(caller, action, &[ceremony], 1).await?;
        let signing = async {
            let mut live = self.ceremonies.live.lock().await;
            let ceremony = self.live(&mut live, id).await?;
            if at.duration_since(Timestamp::now()).abs() > CLOCKS {
                return Err(ServiceError::field("time", "is more than ten minutes from the daemon's"));
            }
            let certificate = signed.fingerprint().unwrap_or_default();
            let people = &ceremony.transcript.binding().people;
            let by = people.iter().find(|person| person.certificate.eq_ignore_ascii_case(&certificate));
            let by =
                by.ok_or_else(|| CeremonyError::Signature("`certificate` is of nobody in the binding".to_owned()))?;
            let signed = Happened::Signed { by: by.name.clone(), signed };
            self.add_at(ceremony, at, signed).await?;
            Ok(ceremony.transcript.clone())
        };
        let signed = signing.await;
        self.settle(caller, &permit, self.in_ceremony(&tenant, id, &signed), signed).await
    }

    /// Ends a ceremony before its end. What it has made stays, and is in the transcript.
    async fn cancel_ceremony(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        reason: String,
    ) -> Result<Transcript, ServiceError> {
        let (tenant, ceremony) = self.known_ceremony(caller, action, id).await?;
        let permit = self.decide(caller, action, &[ceremony], 1).await?;
        let cancelling = async {
            let mut live = self.ceremonies.live.lock().await;
            let ceremony = self.live(&mut live, id).await?;
            let by = caller.principal.to_string();
            self.add(ceremony, Happened::Ended { how: Ending::Cancelled, by, reason }).await?;
            Ok(ceremony.transcript.clone())
        };
        let cancelled = cancelling.await;
        self.settle(caller, &permit, self.in_ceremony(&tenant, id, &cancelled), cancelled).await
    }

    /// Refuses a ceremony that is over, by what the store has of it: whoever holds one waits for nobody who asks this.
    pub(super) async fn is_open_ceremony(&self, id: &str) -> Result<(), ServiceError> {
        match Transcript::parse(&self.store.transcript(id).await?)?.course().ending() {
            Some(ending) => Err(CeremonyError::Over(ending.as_str()).into()),
            None => Ok(()),
        }
    }

    /// What ending a ceremony early is, for those who must approve it.
    pub(super) async fn cancelling_in_words(&self, id: &str, reason: &str) -> Result<Option<Asked>, ServiceError> {
        let Some(tenant) = self.store.tenant_of_ceremony(id).await? else { return Ok(None) };
        let mut live = self.ceremonies.live.lock().await;
        let transcript = &self.live(&mut live, id).await?.transcript;
        let at = transcript.course().next().map_or("its end", |turn| turn.label.as_str());
        let lines = [
            ("ceremony", id.to_owned()),
            ("plan", format!("{} version {}", transcript.plan().id, transcript.plan().version)),
            ("turn that is next", at.to_owned()),
            ("reason", reason.to_owned()),
        ];
        let lines = lines.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Ok(Some(Asked { action: "cancel_ceremony", tenant, lines, key: None, approved: None }))
    }

    /// The tenant of a ceremony, for those who act for it, and the ceremony as policies see it.
    async fn known_ceremony(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
    ) -> Result<(String, Resource), ServiceError> {
        let Some(tenant) = self.store.tenant_of_ceremony(id).await? else {
            let error = ServiceError::from(CeremonyError::None);
            self.audit.append(super::decide::refused(caller, action, &[], error.code())).await?;
            return Err(error);
        };
        match self.enter(caller, &tenant).await {
            Err(ServiceError::Denied(_)) => return Err(CeremonyError::None.into()),
            other => other?,
        };
        let open = self.ceremonies.live.lock().await.get(id).map(|live| live.transcript.plan().id.clone());
        let plan = match open {
            Some(plan) => plan,
            None => Transcript::parse(&self.store.transcript(id).await?)?.plan().id.clone(),
        };
        let ceremony = Resource::Ceremony { tenant: tenant.clone(), plan };
        Ok((tenant, ceremony))
    }

    /// The ceremony of an id; from the store if nobody has asked for it yet, and then without what was in memory only.
    async fn live<'l>(&self, live: &'l mut HashMap<String, Live>, id: &str) -> Result<&'l mut Live, ServiceError> {
        if !live.contains_key(id) {
            let transcript = Transcript::parse(&self.store.transcript(id).await?)?;
            let mut found = Live::of(id, transcript);
            if found.transcript.course().ending().is_none() {
                self.take_up_again(&mut found).await?;
            }
            live.insert(id.to_owned(), found);
        }
        let ceremony = live.get_mut(id).ok_or(ServiceError::Internal)?;
        if ceremony.transcript.course().ending().is_none() && ceremony.transcript.expires() <= Timestamp::now() {
            let reason = format!("its {} hours are over", ceremony.transcript.plan().hours);
            self.add(ceremony, Happened::Ended { how: Ending::Expired, by: String::new(), reason }).await?;
        }
        Ok(ceremony)
    }

    /// Writes down what happened, and only then takes it to be so.
    async fn add(&self, ceremony: &mut Live, event: Happened) -> Result<(), ServiceError> {
        self.add_at(ceremony, Timestamp::now(), event).await
    }

    async fn add_at(&self, ceremony: &mut Live, at: Timestamp, event: Happened) -> Result<(), ServiceError> {
        let event = match event {
            Happened::Ended { how, by, reason } if how != Ending::Finished => {
                let suspended = self.suspend_unproved(ceremony).await?;
                Happened::Ended { how, by, reason: reason + &suspended }
            }
            other => other,
        };
        let mut next = ceremony.transcript.clone();
        let line = next.add(at, event)?.to_owned();
        self.store.add_ceremony_line(&ceremony.id, next.entries().len() as u64, &line).await?;
        ceremony.transcript = next;
        self.ceremonies.changed.notify_waiters();
        if ceremony.transcript.course().ending().is_some() {
            ceremony.components.clear();
            ceremony.shares = None;
        }
        Ok(())
    }

    fn in_ceremony(&self, tenant: &str, id: &str, result: &Result<Transcript, ServiceError>) -> Event {
        let event = result.as_ref().map(|transcript| anchored(id, transcript)).unwrap_or_default();
        Event { tenant: tenant.to_owned(), ceremony: id.to_owned(), ..event }
    }
}

/// A record that holds a transcript to what it was then.
fn anchored(id: &str, transcript: &Transcript) -> Event {
    Event {
        ceremony: id.to_owned(),
        statement: format!("line {} {}", transcript.entries().len(), transcript.head()),
        ..Event::default()
    }
}

/// SHA-256 of the certificate that a caller showed.
fn certificate(caller: &Caller) -> String {
    caller.chain.first().map(|der| hex::encode(Sha256::digest(der))).unwrap_or_default()
}

impl Caller {
    /// The same, taking a step of a ceremony that so many have approved.
    fn in_ceremony(&self, approvals: u64) -> Self {
        Self { approval: None, asked: None, ceremony: Some(InCeremony { approvals }), ..self.clone() }
    }
}
