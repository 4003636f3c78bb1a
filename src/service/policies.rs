//! The policy set in force, and another that waits for others to agree to it.

use std::sync::{Arc, PoisonError};

use super::{Caller, Rules, Service, ServiceError};
use crate::audit::{Event, InForce, SETS};
use crate::policy::{Accepted, Authorizer, PolicyChange, Resource};
use crate::store::Store;

/// Where the store keeps the set in force.
const KEPT: &str = "policies";

/// Which set is in force, and which is to be.
#[derive(Debug, Clone)]
pub struct PolicyStatus {
    /// By name and digest.
    pub in_force: InForce,
    /// The set that the configuration names, if it waits.
    pub waiting: Option<(InForce, Vec<PolicyChange>)>,
}

/// The rules to begin with: those of the configuration, but the policies that were in force, if there were any; and the set
/// that waits then.
///
/// # Errors
/// [`ServiceError`].
pub(super) async fn begin(store: &Store, rules: Rules) -> Result<(Rules, Option<Arc<Authorizer>>), ServiceError> {
    changeable(&rules.policy, &rules)?;
    let Some(kept) = kept(store).await? else { return Ok((rules, None)) };
    let policy = kept.load().map_err(|error| ServiceError::Policies(error.to_string()))?;
    Ok(in_place_of(rules, Arc::new(policy)))
}

/// The rules with the policies that were in force in place of their own, which wait if they are others.
fn in_place_of(rules: Rules, in_force: Arc<Authorizer>) -> (Rules, Option<Arc<Authorizer>>) {
    if in_force.in_force() == rules.policy.in_force() {
        return (rules, None);
    }
    let waiting = Arc::clone(&rules.policy);
    (rules.with(in_force), Some(waiting))
}

async fn kept(store: &Store) -> Result<Option<Accepted>, ServiceError> {
    let unreadable = |error: serde_json::Error| ServiceError::Policies(format!("the store's cannot be read: {error}"));
    store.meta(KEPT).await?.map(|text| serde_json::from_str(&text).map_err(unreadable)).transpose()
}

/// What the log says of a set: that it is being taken, and that it was.
fn record(outcome: &str, number: u64, set: &InForce) -> Event {
    Event {
        event: SETS.to_owned(),
        outcome: outcome.to_owned(),
        counts: [(SETS.to_owned(), number)].into(),
        in_force: Some(set.clone()),
        ..Event::default()
    }
}

/// A set that keeps everybody out is not taken.
fn changeable(policy: &Authorizer, rules: &Rules) -> Result<(), ServiceError> {
    let name = &policy.in_force().name;
    match policy.locks_out(&rules.principals) {
        None => Ok(()),
        Some(why) => Err(ServiceError::Policies(format!("by `{name}` {why}"))),
    }
}

impl Service {
    /// Once the storage master key is there: whether the set in force is the one that was taken last, and whether the one
    /// of the configuration may take its place.
    pub(super) async fn settle_policies(&self, storage_key: &[u8]) -> Result<(), ServiceError> {
        let mut waiting = self.waiting.lock().await;
        // Once it is settled, the log goes on, and is not what it was when it was opened.
        if self.policies_settled.get().is_some() {
            return Ok(());
        }
        let sets = &self.audit.before().sets;
        let changed = |what: &str| {
            let what = format!("the store's {what}: restore store and log of one backup");
            Err(ServiceError::Policies(what))
        };
        match kept(&self.store).await? {
            Some(kept) if !kept.is_authentic(storage_key) => {
                return changed("were changed by somebody else than the daemon");
            }
            Some(kept) if !sets.may_end_with(kept.number()) => {
                return changed("are not those that were taken last, by the audit log");
            }
            Some(kept) => {
                let number = kept.number();
                let Some(set) = sets.set(number).filter(|set| kept.is(set)) else {
                    return changed("are others than the audit log has under their number");
                };
                // A crash came between: from now on the one before is an older one.
                if !sets.took(number) {
                    self.audit.append(record("taken", number, set)).await?;
                }
            }
            // With keys to guard, or with others before, there were policies: somebody has taken them away.
            None if !sets.may_end_with(0) || self.keyring.has_keys() => {
                return changed("are gone");
            }
            None => self.keep_policies(&self.rules().policy, storage_key).await?,
        }
        let _ = self.policies_settled.set(());
        let Some(next) = waiting.take() else { return Ok(()) };
        if self.rules().policy.lets_the_host_change_it() {
            self.take_policies(Arc::clone(&next), storage_key).await?;
        } else {
            tracing::warn!(policies = next.in_force().name, "other policies wait for officers to agree to them");
            *waiting = Some(next);
        }
        Ok(())
    }

    /// Of rules that were read again, those that may be in force now; the policies that wait, and whether others are taken.
    pub(super) fn reconcile(&self, rules: Rules) -> Result<(Rules, Option<Arc<Authorizer>>, bool), ServiceError> {
        let now = Arc::clone(&self.rules().policy);
        let is_other = now.in_force() != rules.policy.in_force();
        if is_other {
            changeable(&rules.policy, &rules)?;
        }
        // While the daemon is sealed nobody could vouch for what was taken.
        if is_other && !(self.is_unsealed() && now.lets_the_host_change_it()) {
            let (rules, waiting) = in_place_of(rules, now);
            return Ok((rules, waiting, false));
        }
        Ok((rules, None, is_other))
    }

    /// Which set is in force, and which waits.
    pub(super) async fn show_policies(
        &self,
        caller: &Caller,
        action: &'static str,
    ) -> Result<PolicyStatus, ServiceError> {
        let permit = self.decide(caller, action, &[Resource::Daemon], 1).await?;
        let status = self.policy_status(self.waiting.lock().await.as_ref());
        self.settle(caller, &permit, Event::default(), Ok(status)).await
    }

    /// Puts the set that waits in the place of the one in force, which has decided that it may.
    pub(super) async fn change_policies(
        &self,
        caller: &Caller,
        action: &'static str,
        sha256: &str,
    ) -> Result<PolicyStatus, ServiceError> {
        self.router()?;
        let none = || ServiceError::field("sha256", "is of no policy set that waits");
        let is_asked = |next: &Arc<Authorizer>| next.in_force().sha256 == sha256;
        // Whoever may see what waits hears that nothing does, before anybody is asked whether it may be changed.
        let seen = self.decide(caller, "show_policies", &[Resource::Daemon], 1).await?;
        if !self.waiting.lock().await.as_ref().is_some_and(is_asked) {
            return self.settle(caller, &seen, Event::default(), Err(none())).await;
        }
        // Not held meanwhile: a proposal is held to what waits.
        let permit = self.decide(caller, action, &[Resource::Daemon], 1).await?;
        let mut waiting = self.waiting.lock().await;
        let Some(next) = waiting.clone().filter(is_asked) else {
            return self.settle(caller, &permit, Event::default(), Err(none())).await;
        };
        let storage_key = self.storage_key.get().ok_or(ServiceError::Sealed)?;
        let changed = self.take_policies(next, storage_key.expose()).await.map(|()| *waiting = None);
        let event = Event { in_force: Some(self.rules().policy.in_force().clone()), ..Event::default() };
        let status = changed.map(|()| self.policy_status(None));
        self.settle(caller, &permit, event, status).await
    }

    /// The policy set that waits, by its digest, beside the one in force.
    pub(super) fn waiting_policies(&self, sha256: &str) -> Option<PolicyStatus> {
        let waiting = self.waiting.try_lock().ok()?;
        let next = waiting.as_ref().filter(|next| next.in_force().sha256 == sha256)?;
        Some(self.policy_status(Some(next)))
    }

    fn policy_status(&self, waiting: Option<&Arc<Authorizer>>) -> PolicyStatus {
        let now = Arc::clone(&self.rules().policy);
        let waiting = waiting.map(|next| (next.in_force().clone(), now.changes(next)));
        PolicyStatus { in_force: now.in_force().clone(), waiting }
    }

    async fn take_policies(&self, next: Arc<Authorizer>, storage_key: &[u8]) -> Result<(), ServiceError> {
        changeable(&next, &self.rules())?;
        self.keep_policies(&next, storage_key).await?;
        let rules = self.rules().with(next);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        // Streamed jobs ask again.
        self.keyring.touch();
        Ok(())
    }

    /// From now on the set is in force, whatever the configuration names. The log says so before and after: one that was in force
    /// earlier is not put back into the store unseen.
    pub(super) async fn keep_policies(&self, policy: &Authorizer, storage_key: &[u8]) -> Result<(), ServiceError> {
        let number = kept(&self.store).await?.map_or(0, |kept| kept.number()) + 1;
        let accepted = Accepted::of(policy, number, storage_key);
        let text = serde_json::to_string(&accepted).map_err(|_| ServiceError::Internal)?;
        self.audit.append(record("taking", number, policy.in_force())).await?;
        self.store.set_meta(KEPT, &text).await?;
        self.audit.append(record("taken", number, policy.in_force())).await?;
        Ok(())
    }
}
