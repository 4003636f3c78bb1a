//! Steps about all keys of a tenant. Each key is copied and moved by the operation that everybody asks for; what is done of
//! a step that was broken off is not done again.

use std::sync::Arc;

use claviger_hsm_api::{Arrival, Exportability, KeyState};
use claviger_key_ceremonies::Step;

use super::Live;
use super::planned::{key_ref, move_step};
use super::steps::line;
use crate::keyring::{Entry, MoveStep};
use crate::service::{Caller, Service, ServiceError};

/// What a step did, for the transcript.
type Lines = Vec<(String, String)>;

impl Service {
    /// Keys of the tenant that are not ended.
    fn keys_that_live(&self, tenant: &str) -> Vec<Arc<Entry>> {
        let mut keys = self.keyring.of_tenant(tenant);
        keys.retain(|entry| entry.record.key.state != KeyState::Destroyed);
        keys
    }

    /// Whether all keys of a tenant could come to be in a backend, as far as that is known before it is tried.
    ///
    /// # Errors
    /// [`ServiceError::Field`] for the first that could not.
    pub(super) fn can_replicate_tenant(&self, tenant: &str, to: &str) -> Result<(), ServiceError> {
        let (router, there) = (self.router()?, [to.to_owned()]);
        for entry in self.keys_that_live(tenant).iter().filter(|entry| entry.replica_on(to).is_none()) {
            let (record, attributes) = (&entry.record, &entry.record.key.attributes);
            if attributes.exportability == Exportability::None {
                return Err(of(entry, "may not move: that was not said when it was made"));
            }
            let can = || {
                router.destinations(record, &there)?;
                router.can_take(Arrival::Imported, attributes, &there, true)
            };
            // A device may have to be asked.
            tokio::task::block_in_place(can).map_err(|error| of(entry, error))?;
        }
        Ok(())
    }

    /// Does a step about all keys of the ceremony's tenant.
    pub(super) async fn tenant_step(
        self: &Arc<Self>,
        caller: &Caller,
        ceremony: &Live,
        step: &Step,
    ) -> Result<Lines, ServiceError> {
        let (plan, binding) = (ceremony.transcript.plan(), ceremony.transcript.binding());
        let keys = self.keys_that_live(&binding.tenant);
        let mut done = Vec::new();
        match step {
            Step::ReplicateTenant { to, under, .. } => {
                let to = binding.backends.get(to).ok_or(ServiceError::Internal)?;
                self.can_replicate_tenant(&binding.tenant, to)?;
                for entry in keys.into_iter().filter(|entry| entry.replica_on(to).is_none()) {
                    let under = key_ref(plan, binding, under)?;
                    let copied = self.replicate_key(caller, "replicate_key", entry.id(), to.clone(), under).await;
                    copied.map_err(|error| of(&entry, error))?;
                    done.push(entry);
                }
            }
            Step::MoveTenant { step, to, .. } => {
                let step = move_step(binding, step, to.as_deref())?;
                let destination = destination(ceremony)?;
                // A key that was made since has no part in what the others went through.
                if !matches!(step, MoveStep::Begin { .. })
                    && let Some(behind) = keys.iter().find(|entry| !self.is_on_its_way(entry, &destination))
                {
                    return Err(of(behind, format!("is not on its way to `{destination}`: move it, or end it")));
                }
                for entry in keys.into_iter().filter(|entry| self.is_next(entry, &step)) {
                    let moved = self.move_key(caller, "move_key", entry.id(), step.clone()).await;
                    moved.map_err(|error| of(&entry, error))?;
                    done.push(entry);
                }
            }
            _ => return Err(ServiceError::Internal),
        }
        let mut lines = vec![line("keys", &done.len().to_string())];
        // What a step that was broken off had done stands in no other line of the transcript.
        lines.extend(self.keys_that_live(&binding.tenant).iter().map(|entry| {
            let before = if done.iter().any(|known| known.id() == entry.id()) { "" } else { ", done before" };
            let (label, kcv) = (entry.record.label(), &entry.record.kcv.value);
            line("key", &format!("{label}, kcv {kcv}, key id {}{before}", entry.id()))
        }));
        Ok(lines)
    }

    /// Whether a key moves to a backend, or has.
    fn is_on_its_way(&self, entry: &Arc<Entry>, to: &str) -> bool {
        match entry.course.moving() {
            Some(moving) => moving.to == to,
            None => self.router().and_then(|router| Ok(router.first(entry)?)).is_ok_and(|first| first == to),
        }
    }

    /// Whether a key has not taken that step of its move yet.
    fn is_next(&self, entry: &Arc<Entry>, step: &MoveStep) -> bool {
        match (step, entry.course.moving()) {
            (MoveStep::Begin { to }, Some(moving)) => moving.to != *to,
            (MoveStep::Begin { to }, None) => {
                self.router().and_then(|router| Ok(router.first(entry)?)).ok().as_ref() != Some(to)
            }
            (MoveStep::CutOver, Some(moving)) => !moving.over,
            (_, moving) => moving.is_some(),
        }
    }
}

/// Where the plan has the keys go.
fn destination(ceremony: &Live) -> Result<String, ServiceError> {
    let begins = |step: &Step| match step {
        Step::MoveTenant { to, .. } => to.clone(),
        _ => None,
    };
    let to = ceremony.transcript.plan().steps.iter().find_map(begins);
    let to = to.and_then(|to| ceremony.transcript.binding().backends.get(&to).cloned());
    to.ok_or_else(|| ServiceError::field("to", "is named in no step: nothing says where the keys go"))
}

/// What is wrong with one of many.
fn of(entry: &Entry, reason: impl std::fmt::Display) -> ServiceError {
    ServiceError::field("key", format!("{} ({}): {reason}", entry.record.label(), entry.id()))
}
