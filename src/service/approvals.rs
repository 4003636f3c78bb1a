//! Operations that policy lets somebody do only when others have approved exactly that: proposed by being asked for,
//! approved by signatures over their words, and done once.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use claviger_key_ceremonies::{Signed, Statement, Vote};
use jiff::Timestamp;

use super::asked::Asked;
use super::decide::refused;
use super::{Caller, Service, ServiceError};
use crate::audit::Event;
use crate::operation::{CeremonyRequest, Operation};
use crate::policy::{Kind, Permit, Principal, Resource};
use crate::store::{ProposalRow, StoreError, VoteRow};

/// How long a proposal may be approved and used.
const LASTS: Duration = Duration::from_hours(24);
/// Open proposals of a tenant.
const MOST_OPEN: usize = 100;
/// Of these, one caller's.
const MOST_OWN: usize = 40;
/// What is not even proposed if nobody's approval could have it done: of others it is seen when they are done.
const REFUSED_AT_ONCE: [&str; 5] = ["unwrap_key", "assign_role", "destroy_key", "set_terminal", "cancel_ceremony"];
/// More than so many others are never asked for.
pub(super) const MOST_APPROVALS: u64 = 9;

/// So many others.
pub(super) fn others(needed: u64) -> String {
    if needed == 1 { "another".to_owned() } else { format!("{needed} others") }
}

/// Why an approval is not taken, or not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// It is proposed now.
    #[error("{} must approve this first; it is proposed as {id}", others(*needed))]
    Needed {
        /// Of the proposal.
        id: String,
        /// How many.
        needed: u64,
        /// The policy that asks for them.
        policy: Option<String>,
    },
    /// No such proposal, or not for this caller.
    #[error("there is no such proposal")]
    None,
    /// It was done, or refused, or its time has passed.
    #[error("the proposal {0}")]
    Over(&'static str),
    /// Something else was approved.
    #[error("what was approved is not what is asked for: {0}")]
    Differs(String),
    /// Whoever asked for it does not approve it.
    #[error("whoever proposed it cannot approve it or refuse it")]
    Own,
    /// The same officer again.
    #[error("{0} has spoken to this proposal, or it is no longer open")]
    Spoken(String),
    /// A certificate that is nobody's, or no officer's.
    #[error("field `certificate` is of nobody who may approve: {0}")]
    NoOfficer(&'static str),
    /// The signature does not hold.
    #[error("field {0}")]
    Signature(String),
}

impl ApprovalError {
    /// The stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Needed { .. } => "approval_needed",
            Self::None => "no_proposal",
            Self::Over(_) | Self::Spoken(_) => "proposal_over",
            Self::Differs(_) => "approval_differs",
            Self::Own | Self::NoOfficer(_) => "no_approver",
            Self::Signature(_) => "bad_signature",
        }
    }
}

/// What policy asks for before it permits something.
pub(super) struct Missing {
    /// Others who must approve it.
    pub(super) approvals: u64,
    /// The policy that forbids it without them; if none does, the first that permits it with them.
    pub(super) policy: Option<String>,
}

impl Missing {
    fn of(self, id: String) -> ServiceError {
        ApprovalError::Needed { id, needed: self.approvals, policy: self.policy }.into()
    }
}

/// A proposal and what was said to it.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// In words.
    pub statement: Statement,
    /// `open`, `used`, `refused`, `expired`, or `changed` if what it is about is no longer as its words say.
    pub state: &'static str,
    /// Each officer's word, in order.
    pub votes: Vec<(String, Vote)>,
}

impl Service {
    /// The caller with what it asks for in words, and with the approvals that it comes with.
    pub(super) async fn with_approvals(&self, caller: &Caller, operation: &Operation) -> Result<Caller, ServiceError> {
        let mut asked = match operation {
            Operation::Ceremony(CeremonyRequest::Cancel { id, reason }) => self.cancelling_in_words(id, reason).await?,
            _ => self.in_words(operation),
        };
        // What is never approved, as looking a key up on the way, is asked without.
        if let (Some(id), Some(asked)) = (&caller.approval, &mut asked) {
            match self.approved(caller, asked, id).await {
                Ok(approvals) => asked.approved = Some((id.clone(), approvals)),
                Err(error) => {
                    let event =
                        Event { approval: in_log(id), ..refused(caller, operation.action(), &[], error.code()) };
                    self.audit.append(event).await?;
                    return Err(error);
                }
            }
        }
        Ok(Caller { asked: asked.map(Arc::new), ..caller.clone() })
    }

    /// How many have approved exactly this, and still may.
    async fn approved(&self, caller: &Caller, asked: &Asked, id: &str) -> Result<u64, ServiceError> {
        let row = self.store.proposal(id).await?.ok_or(ApprovalError::None)?;
        if row.proposer != caller.principal.to_string() {
            return Err(ApprovalError::None.into());
        }
        // The store may say otherwise: whoever writes in it takes nothing out of the log.
        if self.used.lock().unwrap_or_else(PoisonError::into_inner).contains(id) {
            return Err(ApprovalError::Over("was used").into());
        }
        let statement = open(&row)?;
        if statement.action != asked.action || statement.tenant != asked.tenant {
            return Err(ApprovalError::Differs(format!("`{}`", statement.action)).into());
        }
        let other = statement.lines.iter().zip(&asked.lines).find(|(before, now)| before != now);
        if let Some(((name, before), (_, now))) = other {
            return Err(ApprovalError::Differs(format!("{name} was `{before}` and is `{now}`")).into());
        }
        if statement.lines.len() != asked.lines.len() {
            return Err(ApprovalError::Differs("it has other lines".to_owned()).into());
        }
        self.count(id, &statement).await
    }

    /// How many of those who approved something that was begun under a proposal still may.
    pub(super) async fn still_approve(&self, id: &str) -> Result<u64, ServiceError> {
        let row = self.store.proposal(id).await?.ok_or(ApprovalError::None)?;
        self.count(id, &read(&row.statement)?).await
    }

    async fn count(&self, id: &str, statement: &Statement) -> Result<u64, ServiceError> {
        let mut approvals = 0;
        for row in self.store.votes(id).await? {
            // Who has been revoked since, or has changed duties, is no longer heard.
            let signed: Signed = read(&row.signed)?;
            let still = self.signer(&signed, statement, Vote::Approve).is_ok_and(|by| by.to_string() == row.officer);
            approvals += u64::from(still && row.vote == Vote::Approve.as_str());
        }
        Ok(approvals)
    }

    /// Takes the one use of the approvals that the caller came with.
    pub(super) async fn use_approval(&self, caller: &Caller, permit: &Permit) -> Result<(), ServiceError> {
        let Some((id, _)) = caller.approved(permit.action()) else { return Ok(()) };
        // Whoever changes a key waits its turn and then decides: it may have changed while this one waited.
        let key = caller.asked.as_ref().and_then(|asked| asked.key.as_ref());
        let as_it_was = |(id, version): &(String, i64)| {
            self.keyring.find(id).is_some_and(|entry| entry.record_version() == *version)
        };
        let error = if !key.is_none_or(as_it_was) {
            ApprovalError::Differs("the key was changed in this moment".to_owned())
        } else {
            match self.store.use_proposal(id).await {
                Ok(()) => {
                    self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
                    return Ok(());
                }
                Err(StoreError::Conflict) => ApprovalError::Over("was used, or refused, in this moment"),
                Err(error) => return Err(error.into()),
            }
        };
        let event = Event { approval: in_log(id), ..refused(caller, permit.action(), &[], error.code()) };
        self.audit.append(event).await?;
        Err(error.into())
    }

    /// Proposes what was asked for, or finds it proposed already.
    pub(super) async fn propose(&self, caller: &Caller, asked: &Asked, missing: Missing) -> ServiceError {
        match self.proposed(caller, asked, missing.approvals).await {
            Ok(id) => missing.of(id),
            Err(error) => error,
        }
    }

    /// The id of the proposal.
    async fn proposed(&self, caller: &Caller, asked: &Asked, needed: u64) -> Result<String, ServiceError> {
        let _alone = self.proposing.lock().await;
        let proposer = caller.principal.to_string();
        let (mut opened, mut own) = (0, 0);
        for row in self.store.open_proposals(&asked.tenant).await? {
            // One that cannot be done any more waits for nobody, and is in nobody's way.
            let Ok(known) = open(&row) else { continue };
            if self.still_stands(&known).await.is_err() {
                continue;
            }
            opened += 1;
            own += usize::from(row.proposer == proposer);
            let same = known.action == asked.action && known.lines == asked.lines && known.approvals == needed;
            if row.proposer == proposer && same {
                return Ok(row.id);
            }
        }
        if opened >= MOST_OPEN {
            return Err(ServiceError::Busy("too many proposals of the tenant are open"));
        }
        // Nobody keeps the others from asking.
        if own >= MOST_OWN {
            return Err(ServiceError::Busy("too many proposals of the caller are open: have some refused, or done"));
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| ServiceError::Internal)?;
        let statement = Statement {
            id: hex::encode(id),
            daemon: self.installation.clone(),
            proposer: proposer.clone(),
            tenant: asked.tenant.clone(),
            action: asked.action.to_owned(),
            lines: asked.lines.clone(),
            approvals: needed,
            expires: Timestamp::from_second((Timestamp::now() + LASTS).as_second()).unwrap_or(Timestamp::MAX),
        };
        let is_sealed = asked.action == "unseal" && !self.is_unsealed();
        if is_sealed || REFUSED_AT_ONCE.contains(&asked.action) {
            self.still_stands(&statement).await?;
        }
        let text = serde_json::to_string(&statement).map_err(|_| ServiceError::Internal)?;
        let (id, tenant) = (statement.id.clone(), asked.tenant.clone());
        let row = ProposalRow { id: id.clone(), tenant, proposer, statement: text, state: "open".to_owned() };
        self.store.propose(&row).await?;
        self.audit
            .append(Event {
                event: "proposal".to_owned(),
                principal: caller.principal.to_string(),
                action: asked.action.to_owned(),
                tenant: asked.tenant.clone(),
                approval: in_log(&id),
                statement: statement.text(),
                ..Event::default()
            })
            .await?;
        Ok(id)
    }

    pub(super) async fn list_proposals(
        &self,
        caller: &Caller,
        action: &'static str,
        tenant: String,
    ) -> Result<Vec<Proposal>, ServiceError> {
        self.enter_business(caller, &tenant).await?;
        let permit = self.decide(caller, action, &[business(&tenant)], 1).await?;
        let listed = async {
            let mut proposals = Vec::new();
            for row in self.store.proposals(&tenant).await? {
                proposals.push(self.with_votes(&row).await?);
            }
            Ok(proposals)
        };
        let listed = listed.await;
        self.settle(caller, &permit, Event { tenant, ..Event::default() }, listed).await
    }

    pub(super) async fn show_proposal(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
    ) -> Result<Proposal, ServiceError> {
        let row = self.proposal_of(caller, id).await?;
        let permit = self.decide(caller, action, &[business(&row.tenant)], 1).await?;
        let event = Event { tenant: row.tenant.clone(), approval: in_log(&row.id), ..Event::default() };
        let shown = self.with_votes(&row).await;
        self.settle(caller, &permit, event, shown).await
    }

    /// Takes an officer's word. Whoever brings it need not be that officer: the signature says whose it is.
    pub(super) async fn vote(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        vote: Vote,
        signed: Signed,
    ) -> Result<Proposal, ServiceError> {
        let row = self.proposal_of(caller, id).await?;
        let event = |by: &Caller, error: &ServiceError| Event {
            tenant: row.tenant.clone(),
            approval: in_log(&row.id),
            ..refused(by, action, &[], error.code())
        };
        let by = match self.heard(&row, vote, &signed).await {
            Ok(officer) => Caller { principal: officer, asked: None, ..caller.clone() },
            Err(error) => {
                self.audit.append(event(caller, &error)).await?;
                return Err(error);
            }
        };
        let permit = self.decide(&by, action, &[business(&row.tenant)], 1).await?;
        let officer = by.principal.to_string();
        let signed = serde_json::to_string(&signed).map_err(|_| ServiceError::Internal)?;
        let voted = VoteRow { proposal_id: row.id.clone(), officer, vote: vote.as_str().to_owned(), signed };
        let result = match self.store.vote(&voted, vote == Vote::Refuse).await {
            Ok(()) => match self.store.proposal(&row.id).await? {
                Some(row) => self.with_votes(&row).await,
                None => Err(ApprovalError::None.into()),
            },
            Err(StoreError::Conflict) => Err(ApprovalError::Spoken(voted.officer.clone()).into()),
            Err(error) => Err(error.into()),
        };
        let event = Event {
            tenant: row.tenant.clone(),
            approval: in_log(&row.id),
            statement: format!("{} {}", vote.as_str(), voted.signed),
            ..Event::default()
        };
        self.settle(&by, &permit, event, result).await
    }

    /// Whose word it is, if it counts.
    async fn heard(&self, row: &ProposalRow, vote: Vote, signed: &Signed) -> Result<Arc<Principal>, ServiceError> {
        let statement = open(row)?;
        let officer = self.signer(signed, &statement, vote)?;
        if officer.to_string() == row.proposer {
            return Err(ApprovalError::Own.into());
        }
        // Nobody approves what would be good for nothing; that it is not wanted may always be said.
        if vote == Vote::Approve && self.still_stands(&statement).await.is_err() {
            return Err(ApprovalError::Over("is about something that has changed since").into());
        }
        Ok(officer)
    }

    /// The officer who signed, by a certificate that lets them in.
    fn signer(&self, signed: &Signed, statement: &Statement, vote: Vote) -> Result<Arc<Principal>, ServiceError> {
        let chain = signed.chain().map_err(|error| ApprovalError::Signature(error.to_string()))?;
        let known = (self.rules().known)(&chain).ok_or(ApprovalError::NoOfficer("it lets nobody in"))?;
        if known.kind() != Kind::Officer {
            return Err(ApprovalError::NoOfficer("it is no officer's").into());
        }
        let text = statement.signed_text(vote);
        signed.verify(text.as_bytes()).map_err(|error| ApprovalError::Signature(error.to_string()))?;
        Ok(known)
    }

    /// The proposal of an id, for those who act for its tenant.
    async fn proposal_of(&self, caller: &Caller, id: &str) -> Result<ProposalRow, ServiceError> {
        let Some(row) = self.store.proposal(id).await? else {
            let error = ServiceError::from(ApprovalError::None);
            self.audit.append(refused(caller, "show_proposal", &[], error.code())).await?;
            return Err(error);
        };
        match self.enter_business(caller, &row.tenant).await {
            Err(ServiceError::Denied(_)) => Err(ApprovalError::None.into()),
            other => other.map(|()| row),
        }
    }

    /// Whether the caller has to do with a tenant; with the daemon itself everybody has.
    async fn enter_business(&self, caller: &Caller, tenant: &str) -> Result<(), ServiceError> {
        if tenant.is_empty() { Ok(()) } else { self.enter(caller, tenant).await.map(drop) }
    }

    async fn with_votes(&self, row: &ProposalRow) -> Result<Proposal, ServiceError> {
        let mut votes = Vec::new();
        for row in self.store.votes(&row.id).await? {
            votes.push((row.officer, if row.vote == Vote::Refuse.as_str() { Vote::Refuse } else { Vote::Approve }));
        }
        let statement: Statement = read(&row.statement)?;
        let state = match row.state.as_str() {
            "used" => "used",
            "refused" => "refused",
            _ if statement.expires <= Timestamp::now() => "expired",
            _ if self.still_stands(&statement).await.is_ok() => "open",
            _ => "changed",
        };
        Ok(Proposal { statement, state, votes })
    }
}

/// A tenant, or the daemon itself if it is none's.
fn business(tenant: &str) -> Resource {
    if tenant.is_empty() { Resource::Daemon } else { Resource::Tenant(tenant.to_owned()) }
}

/// The statement of a proposal that may still be approved and used.
fn open(row: &ProposalRow) -> Result<Statement, ServiceError> {
    let statement: Statement = read(&row.statement)?;
    match row.state.as_str() {
        "open" if statement.expires > Timestamp::now() => Ok(statement),
        "open" => Err(ApprovalError::Over("has expired").into()),
        "used" => Err(ApprovalError::Over("was used").into()),
        _ => Err(ApprovalError::Over("was refused").into()),
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ServiceError> {
    serde_json::from_str(text).map_err(|error| {
        tracing::error!(%error, "a proposal in the store cannot be read");
        ServiceError::Internal
    })
}

/// An id as the log takes it: what a caller made up is cut.
fn in_log(id: &str) -> String {
    id.chars().filter(char::is_ascii_hexdigit).take(32).collect()
}
