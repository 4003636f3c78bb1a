//! Who may: the one place where the service asks policy and quotas, and writes down what came of it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::audit::{BEGUN, Event};
use crate::keyring::Entry;
use crate::policy::{Backing, CHANGES, DEFAULT, Denial, Permit, Resource, USES};

use super::approvals::{MOST_APPROVALS, Missing};
use super::{Caller, Service, ServiceError};

impl Service {
    /// Asks policy. A refusal is written down before it is answered.
    pub(super) async fn decide(
        &self,
        caller: &Caller,
        action: &'static str,
        resources: &[Resource],
        rows: u64,
    ) -> Result<Permit, ServiceError> {
        let approvals = caller.approved(action).map_or(0, |(_, approvals)| *approvals);
        let approvals = caller.ceremony.map_or(approvals, |ceremony| ceremony.approvals);
        let permit = match self.ask(caller, action, resources, rows, approvals) {
            Ok(permit) => permit,
            Err(refusal) => {
                let (denial, event) = *refusal;
                self.audit.append(event).await?;
                let asked = caller.asked.as_ref().filter(|asked| asked.action == action);
                let with = |more| Some((more, self.ask(caller, action, resources, rows, more).ok()?));
                let would = asked.and_then(|asked| Some((asked, (1..=MOST_APPROVALS).find_map(with)?)));
                return Err(match would {
                    Some((asked, (approvals, permit))) => {
                        let permits = || permit.policies().first().cloned();
                        let policy = Some(denial.policy).filter(|policy| policy != DEFAULT).or_else(permits);
                        self.propose(caller, asked, Missing { approvals, policy }).await
                    }
                    None => ServiceError::Denied(denial),
                });
            }
        };
        // Whatever a tenant has used, its keys can be suspended and looked at.
        let counted = USES.contains(&action);
        let quota = resources
            .first()
            .filter(|_| counted)
            .and_then(Resource::tenant)
            .map_or(Ok(()), |tenant| self.quotas.admits(tenant, rows));
        if let Err(error) = quota {
            self.audit.append(refused(caller, action, resources, error.code())).await?;
            return Err(error);
        }
        self.begin(caller, &permit, resources).await?;
        self.use_approval(caller, &permit).await?;
        Ok(permit)
    }

    /// Writes down that something is about to be changed, by whom and with whose approval: whatever ends the daemon in between, nothing
    /// was done of which the log does not know.
    async fn begin(&self, caller: &Caller, permit: &Permit, resources: &[Resource]) -> Result<(), ServiceError> {
        if !CHANGES.contains(&permit.action()) && caller.approved(permit.action()).is_none() {
            return Ok(());
        }
        let event = Event {
            tenant: resources.first().and_then(Resource::tenant).unwrap_or_default().to_owned(),
            keys: resources.iter().filter_map(Resource::label).collect(),
            outcome: BEGUN.to_owned(),
            ..permitted(caller, permit, Event::default())
        };
        self.audit.append(event).await?;
        Ok(())
    }

    /// The same on a thread that may wait.
    pub(super) fn decide_blocking(
        &self,
        caller: &Caller,
        action: &'static str,
        resources: &[Resource],
    ) -> Result<Permit, ServiceError> {
        match self.ask(caller, action, resources, 0, 0) {
            Ok(permit) => Ok(permit),
            Err(refusal) => {
                let (denial, event) = *refusal;
                self.audit.append_blocking(event)?;
                Err(ServiceError::Denied(denial))
            }
        }
    }

    /// What [`decide`](Self::decide) would permit, with nothing used and nothing written down; none of what it would not.
    pub(super) fn would_permit(&self, caller: &Caller, action: &'static str, resource: &Resource) -> Option<Permit> {
        let approvals = caller.approved(action).map_or(0, |(_, approvals)| *approvals);
        self.ask(caller, action, std::slice::from_ref(resource), 1, approvals).ok()
    }

    fn ask(
        &self,
        caller: &Caller,
        action: &'static str,
        resources: &[Resource],
        rows: u64,
        approvals: u64,
    ) -> Result<Permit, Box<(Denial, Event)>> {
        let rules = self.rules();
        let backing = Backing { approvals, ceremony: caller.ceremony.is_some() };
        let moment = rules.surroundings.moment(caller.source, rows, backing, Timestamp::now());
        rules.policy.authorize(&caller.principal, action, resources, &moment).map_err(|denial| {
            let event = refused(caller, action, resources, "denied");
            let event = Event { policies: vec![denial.policy.clone()], ..event };
            Box::new((denial, event))
        })
    }

    /// Writes down what was permitted and how it went, and only then lets the result out.
    pub(super) async fn settle<T>(
        &self,
        caller: &Caller,
        permit: &Permit,
        event: Event,
        result: Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let outcome = result.as_ref().map_or_else(ServiceError::code, |_| "done").to_owned();
        let event = Event { outcome, ..permitted(caller, permit, event) };
        if result.is_ok() {
            self.quotas.used(&event.tenant, event.items());
        }
        self.audit.append(event).await?;
        result
    }
}

/// A request that was let through; how it went is still to be said.
pub(super) fn permitted(caller: &Caller, permit: &Permit, event: Event) -> Event {
    let mut event = Event {
        event: "decision".to_owned(),
        principal: caller.principal.to_string(),
        action: permit.action().to_owned(),
        decision: "allow".to_owned(),
        policies: permit.policies().to_vec(),
        ..event
    };
    if let Some((id, _)) = caller.approved(permit.action()) {
        event.approval.clone_from(id);
    }
    event
}

/// A request that was not let through.
pub(super) fn refused(caller: &Caller, action: &str, resources: &[Resource], outcome: &str) -> Event {
    Event {
        event: "decision".to_owned(),
        principal: caller.principal.to_string(),
        action: action.to_owned(),
        decision: "deny".to_owned(),
        keys: resources.iter().filter_map(Resource::label).collect(),
        outcome: outcome.to_owned(),
        ..Event::default()
    }
}

impl Resource {
    pub(super) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(&key.tenant),
            Self::Tenant(tenant) | Self::Ceremony { tenant, .. } => Some(tenant),
            Self::Backend { .. } | Self::AuditLog | Self::Daemon => None,
        }
    }

    pub(super) fn of(entry: &Entry) -> Self {
        Self::Key(entry.resource())
    }

    /// The same resource, when these backends hold it as well.
    pub(super) fn and_in(mut self, backends: &[String]) -> Self {
        if let Self::Key(key) = &mut self {
            Arc::make_mut(key).backends.extend(backends.iter().cloned());
        }
        self
    }

    pub(super) fn label(&self) -> Option<String> {
        match self {
            Self::Key(key) => {
                Some(format!("{}/{}/{} {} {}", key.tenant, key.scheme, key.role, key.algorithm, key.version))
            }
            Self::Tenant(tenant) => Some(tenant.clone()),
            Self::Ceremony { tenant, plan } => Some(format!("{tenant}, {plan}")),
            Self::Backend { name, .. } => Some(name.clone()),
            Self::AuditLog | Self::Daemon => None,
        }
    }
}
