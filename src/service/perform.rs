//! What every use of keys has in common: who enters, which key, run, write down, answer.

use std::sync::Arc;

use claviger_card_schemes::{CardScheme, Field, FieldSet, Role};
use claviger_hsm_api::{Algorithm, Batch, KeyName, KeyVersion, LegValue, Recipe};
use zeroize::Zeroizing;

use super::decide::permitted;
use super::{Caller, Service, ServiceError, at_once, begin_blocking};
use crate::audit::{Audit, Event, Leaf, VerdictTree};
use crate::keyring::Entry;
use crate::operation::KeyRef;
use crate::policy::Permit;

/// A key that a card's fields selected.
pub(super) struct CardKey {
    pub(super) entry: Arc<Entry>,
    pub(super) algorithm: Algorithm,
}

impl CardKey {
    /// Dispersion levels already in it.
    pub(super) fn held(&self) -> usize {
        self.entry.record.key.factors.len()
    }
}

impl Service {
    /// Lets a caller in to a tenant's keys of a scheme, or writes down that it was refused.
    pub(super) async fn enter_scheme(
        &self,
        caller: &Caller,
        tenant: &str,
        scheme: &str,
    ) -> Result<Arc<CardScheme>, ServiceError> {
        self.router()?;
        self.enter(caller, tenant).await?;
        Ok(Arc::clone(self.scheme(scheme)?))
    }

    /// The tenant's key of a role that a card's number, key version and algorithm id select.
    pub(super) fn key_of_card(
        &self,
        scheme: &CardScheme,
        tenant: &str,
        role: &Role<'_>,
        fields: &FieldSet,
    ) -> Result<CardKey, ServiceError> {
        let alg_id = fields.byte(Field::AlgId).ok_or_else(|| missing(Field::AlgId))?;
        let algorithm = algorithm_of(scheme, alg_id)?;
        let version = KeyVersion(fields.byte(Field::KeyVersion).ok_or_else(|| missing(Field::KeyVersion))?);
        let factors = scheme.factors(role, fields).map_err(missing)?;
        self.key_of_role(scheme, tenant, role, algorithm, version, &factors)
    }

    /// The tenant's key of a role, algorithm and version from which cards with these factors descend.
    pub(super) fn key_of_role(
        &self,
        scheme: &CardScheme,
        tenant: &str,
        role: &Role<'_>,
        algorithm: Algorithm,
        version: KeyVersion,
        factors: &[Vec<u8>],
    ) -> Result<CardKey, ServiceError> {
        let factors: Vec<String> = factors.iter().map(hex::encode_upper).collect();
        let name = KeyName::new(tenant, scheme.id(), role.name())?;
        let entry = self.keyring.select(&name, algorithm, version, &factors).ok_or_else(|| no_key(&name))?;
        Ok(CardKey { entry, algorithm })
    }

    /// The one key that a reference names.
    pub(super) fn referenced(&self, key: &KeyRef) -> Result<Arc<Entry>, ServiceError> {
        let exactly = |entry: &Entry| {
            let known = &entry.record.key;
            known.attributes.algorithm == key.algorithm && known.version == key.version && known.factors == key.factors
        };
        self.keyring.find_named(&key.name, exactly).ok_or_else(|| no_key(&key.name))
    }

    /// Runs a recipe, writes down how it went, and only then lets out what `read` makes of the outcome and of the id that
    /// the call has in the log, which is one of verifying only.
    pub(super) async fn perform<T>(
        &self,
        caller: &Caller,
        permit: Permit,
        keys: Vec<Arc<Entry>>,
        prepared: Result<(Recipe, Batch), ServiceError>,
        read: impl FnOnce(&claviger_hsm_api::Outcome, &str) -> T,
    ) -> Result<T, ServiceError> {
        let router = self.router()?;
        let (permit, keys) = (Arc::new(permit), Arc::new(keys));
        let mut event = permitted(caller, &permit, event_of(&keys));
        let (audit, quotas) = (self.audit.clone(), Arc::clone(&self.quotas));
        let (place, written) = self.audit.place();
        let (inside, with, job) = (Arc::clone(&permit), Arc::clone(&keys), self.job_ids.draw());
        let at_hand = prepared.as_ref().is_ok_and(|(_, batch)| router.is_at_hand(&keys, batch));
        let work = move || {
            let result = prepared.and_then(|(recipe, mut batch)| {
                let ran = router.run(&inside, &with, &recipe, &batch);
                let leaves = ran.as_ref().map(|ran| leaves(&batch, &ran.outcome)).unwrap_or_default();
                batch.wipe();
                let ran = ran?;
                event.counts = counts(&ran.outcome);
                event.backends = vec![ran.on];
                plant(&audit, &mut event, job, leaves)?;
                quotas.used(&event.tenant, event.items());
                Ok((ran.outcome, event.job.clone()))
            });
            result.as_ref().map_or_else(ServiceError::code, |_| "done").clone_into(&mut event.outcome);
            audit.append_at(place, event);
            result
        };
        let (ran, written) = if at_hand {
            (at_once(work), written.wait().await)
        } else {
            // The thread that runs it also brings it to the log: so this task is woken once, when both are done.
            let running = begin_blocking(work);
            let written = written.wait().await;
            (running.await.ok(), written)
        };
        let Some(result) = ran else {
            // It panicked, and what came of it is not in the log.
            return self.settle(caller, &permit, event_of(&keys), Err(ServiceError::Internal)).await;
        };
        written?;
        result.map(|(outcome, job)| read(&outcome, &job))
    }
}

/// Puts the tree of a call's verdicts into its record, if it has any.
fn plant(audit: &Audit, event: &mut Event, job: String, mut leaves: Vec<Leaf>) -> Result<(), ServiceError> {
    if leaves.is_empty() {
        return Ok(());
    }
    event.job = job;
    let blinding = audit.blinding(&event.job).ok_or(ServiceError::Sealed)?;
    event.verdicts = Some(VerdictTree::of(&mut leaves, &blinding));
    Ok(())
}

/// What was found of each row of a call that verifies: the row is what its columns hold, upper-case hexadecimal with colons
/// between.
fn leaves(batch: &Batch, outcome: &claviger_hsm_api::Outcome) -> Vec<Leaf> {
    let Some(verdicts) = outcome.verdicts(0) else { return Vec::new() };
    let leaf = |(row, valid): (usize, &bool)| {
        let cells = batch.columns.iter().map(|column| hex::encode_upper(column.cell(row)));
        let row = Zeroizing::new(cells.collect::<Vec<_>>().join(":"));
        Leaf::of_call(row.as_bytes(), *valid)
    };
    verdicts.iter().enumerate().map(leaf).collect()
}

/// The algorithm of an algorithm id.
pub(super) fn algorithm_of(scheme: &CardScheme, alg_id: u8) -> Result<Algorithm, ServiceError> {
    scheme.algorithm(alg_id).ok_or_else(|| ServiceError::field("alg_id", "is not an algorithm of this scheme"))
}

pub(super) fn missing(field: Field) -> ServiceError {
    ServiceError::field(field.as_str(), "is missing")
}

pub(super) fn no_key(name: &KeyName) -> ServiceError {
    ServiceError::NoRoleKey {
        tenant: name.tenant().to_owned(),
        scheme: name.scheme().to_owned(),
        role: name.role().to_owned(),
    }
}

/// An event about keys of one tenant.
pub(super) fn event_of(keys: &[Arc<Entry>]) -> Event {
    Event {
        tenant: keys.first().map(|key| key.record.key.name.tenant().to_owned()).unwrap_or_default(),
        keys: keys.iter().map(|key| key.record.label()).collect(),
        ..Event::default()
    }
}

/// Rows of the first leg by what became of them.
fn counts(outcome: &claviger_hsm_api::Outcome) -> std::collections::BTreeMap<String, u64> {
    let Some(leg) = outcome.legs.first() else { return [].into() };
    let ran = leg.ran.iter().filter(|ran| **ran).count() as u64;
    let counted = match &leg.value {
        LegValue::Verdicts(verdicts) => {
            let valid = verdicts.iter().filter(|valid| **valid).count() as u64;
            vec![("valid", valid), ("invalid", ran - valid)]
        }
        _ => vec![("made", ran), ("refused", leg.ran.len() as u64 - ran)],
    };
    counted.into_iter().filter(|(_, count)| *count > 0).map(|(word, count)| (word.to_owned(), count)).collect()
}
