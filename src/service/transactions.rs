//! Clearing's day: a stream of records, verified batch by batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_card_schemes::{FieldSet, LineFault, SelectableKey, TacVerifier, Verified};
use claviger_hsm_api::{Batch, KeyName, Recipe};
use jiff::Timestamp;

use super::{Caller, Service, ServiceError};
use crate::audit::Event;
use crate::keyring::{Entry, Purpose};
use crate::policy::{Permit, Resource};

/// An open job. Its rows run on whatever thread drives it; it keeps one batch at a time.
pub struct VerifyJob {
    service: Arc<Service>,
    caller: Caller,
    action: &'static str,
    name: KeyName,
    scheme: Arc<claviger_card_schemes::CardScheme>,
    keys: Arc<Keys>,
    verifier: TacVerifier,
    /// Ties the opening and the closing audit record together.
    job: String,
    counts: BTreeMap<String, u64>,
    backends: Vec<String>,
    closed: bool,
}

/// The keys that the job may use, as the keyring had them at `generation`.
struct Keys {
    permit: Permit,
    entries: Vec<Arc<Entry>>,
    generation: u64,
}

/// Records in a batch: a multiple of what the engine takes at once, small enough for the caches.
pub const BATCH: usize = 4096;

impl VerifyJob {
    pub(super) async fn open(
        service: &Arc<Service>,
        caller: &Caller,
        action: &'static str,
        tenant: &str,
        scheme: &str,
    ) -> Result<Self, ServiceError> {
        service.router()?;
        service.enter(caller, tenant).await?;
        let scheme = Arc::clone(service.scheme(scheme)?);
        let role = scheme.tac_role().ok_or_else(|| ServiceError::field("scheme", "has no TAC"))?.name();
        let name = KeyName::new(tenant, scheme.id(), role)?;
        let (entries, generation) = usable(service, &name)?;
        let permit = service.decide(caller, action, &resources(&entries), 0).await?;
        let verifier = TacVerifier::new(Arc::clone(&scheme), selectable(&entries));
        let mut job = [0; 8];
        getrandom::fill(&mut job).map_err(|_| ServiceError::Stopped)?;
        let job = Self {
            service: Arc::clone(service),
            caller: caller.clone(),
            action,
            name,
            scheme,
            keys: Arc::new(Keys { permit, entries, generation }),
            verifier,
            job: hex::encode(job),
            counts: BTreeMap::new(),
            backends: Vec::new(),
            closed: false,
        };
        service.audit.append(job.event("job-opened", "open")).await?;
        Ok(job)
    }

    /// Takes a record that could be read, or the fault of one that could not.
    pub fn push(&mut self, record: Result<&FieldSet, LineFault>, line: u64) {
        match record {
            Ok(fields) => self.verifier.push(fields),
            Err(fault) => self.verifier.push_fault(fault, line),
        }
    }

    /// Whether a batch is full and [`run`](Self::run) is due.
    pub fn is_full(&self) -> bool {
        self.verifier.len() >= BATCH
    }

    /// Verifies the records taken since the last time and hands their verdicts over in order; blocks.
    ///
    /// # Errors
    /// [`ServiceError`]; the job is then over.
    pub fn run(&mut self, mut each: impl FnMut(Verified)) -> Result<(), ServiceError> {
        let router = self.service.router()?;
        let renewed = self.renew()?;
        let keys = Arc::clone(&self.keys);
        let backends = &mut self.backends;
        let mut run = |recipe: &Recipe, batch: &Batch| -> Result<Vec<bool>, ServiceError> {
            let ran = router.run(&keys.permit, &keys.entries, recipe, batch)?;
            if !backends.contains(&ran.on) {
                backends.push(ran.on);
            }
            Ok(ran.outcome.verdicts(0).unwrap_or_default().to_vec())
        };
        let counts = &mut self.counts;
        self.verifier.finish(&mut run, |verified| {
            match counts.get_mut(verified.verdict.as_str()) {
                Some(count) => *count += 1,
                None => drop(counts.insert(verified.verdict.to_string(), 1)),
            }
            each(verified);
        })?;
        match renewed {
            Some(next) => self.take_over(next),
            None => Ok(()),
        }
    }

    /// If any key changed, takes the waiting records away from those that may no longer be used: what was
    /// suspended a moment ago verifies nothing more. Gives the keys that later records may use.
    fn renew(&mut self) -> Result<Option<Keys>, ServiceError> {
        if self.service.keyring.generation() == self.keys.generation {
            return Ok(None);
        }
        let next = Keys::ask(&self.service, &self.caller, self.action, &self.name)?;
        let now_of = |old: &Arc<Entry>| next.entries.iter().find(|entry| entry.id() == old.id());
        let usable: Vec<bool> = self.keys.entries.iter().map(|old| now_of(old).is_some()).collect();
        self.verifier.forget(&usable);
        // The records that wait know the keys by their old numbers; one that is gone is numbered by no row.
        let stand_in = next.entries.first();
        let entries = self.keys.entries.iter().filter_map(|old| now_of(old).or(stand_in).cloned()).collect();
        let permit = self.service.decide_blocking(&self.caller, self.action, &next.resources())?;
        self.keys = Arc::new(Keys { permit, entries, generation: next.generation });
        Ok(Some(next))
    }

    fn take_over(&mut self, next: Keys) -> Result<(), ServiceError> {
        self.verifier = TacVerifier::new(Arc::clone(&self.scheme), selectable(&next.entries));
        self.keys = Arc::new(next);
        Ok(())
    }

    /// Puts the counts so far on disk: what was verified until now may leave when this returns.
    ///
    /// # Errors
    /// If the audit log does not take the record.
    pub fn checkpoint(&self) -> Result<(), ServiceError> {
        self.service.audit.append_blocking(self.event("job-checkpoint", "running"))?;
        Ok(())
    }

    /// Ends the job: its closing record is on disk when this returns.
    ///
    /// # Errors
    /// If the audit log does not take the record; then the last verdicts must not leave.
    pub fn close(mut self, outcome: Result<(), &ServiceError>) -> Result<BTreeMap<String, u64>, ServiceError> {
        self.closed = true;
        let event = match outcome {
            Ok(()) => self.event("job-closed", "done"),
            Err(error) => self.event("job-aborted", error.code()),
        };
        self.service.audit.append_blocking(event)?;
        Ok(std::mem::take(&mut self.counts))
    }

    fn event(&self, event: &str, outcome: &str) -> Event {
        Event {
            event: event.to_owned(),
            principal: self.caller.principal.to_string(),
            action: self.action.to_owned(),
            tenant: self.name.tenant().to_owned(),
            decision: "allow".to_owned(),
            policies: self.keys.permit.policies().to_vec(),
            keys: self.keys.entries.iter().map(|entry| entry.record.label()).collect(),
            backends: self.backends.clone(),
            counts: self.counts.clone(),
            outcome: outcome.to_owned(),
            job: self.job.clone(),
        }
    }
}

impl Keys {
    /// The keys that may verify now, with a permit for them.
    fn ask(service: &Service, caller: &Caller, action: &'static str, name: &KeyName) -> Result<Self, ServiceError> {
        let (entries, generation) = usable(service, name)?;
        let permit = service.decide_blocking(caller, action, &resources(&entries))?;
        Ok(Self { permit, entries, generation })
    }

    fn resources(&self) -> Vec<Resource> {
        resources(&self.entries)
    }
}

impl Drop for VerifyJob {
    /// A job that nobody closed (its caller went, or a thread panicked) is written down as aborted.
    fn drop(&mut self) {
        if !self.closed {
            self.service.audit.append_detached(self.event("job-aborted", "dropped"));
        }
    }
}

fn resources(entries: &[Arc<Entry>]) -> Vec<Resource> {
    entries.iter().map(|entry| Resource::of(entry)).collect()
}

/// Keys of the role that may verify now. Suspended and destroyed ones are as if they were not there: their
/// records are `unknown_key`.
fn usable(service: &Service, name: &KeyName) -> Result<(Vec<Arc<Entry>>, u64), ServiceError> {
    let generation = service.keyring.generation();
    let now = Timestamp::now();
    let mut entries = service.keyring.named(name);
    entries.retain(|entry| entry.record.admits(Purpose::Process, now).is_ok());
    if entries.is_empty() {
        let (tenant, scheme, role) = (name.tenant().to_owned(), name.scheme().to_owned(), name.role().to_owned());
        return Err(ServiceError::NoRoleKey { tenant, scheme, role });
    }
    Ok((entries, generation))
}

fn selectable(entries: &[Arc<Entry>]) -> Vec<SelectableKey> {
    let select = |entry: &Arc<Entry>| {
        let key = &entry.record.key;
        // Factors were checked when the key was made.
        let factors = key.factors.iter().map(|factor| hex::decode(factor).unwrap_or_default()).collect();
        SelectableKey { algorithm: key.attributes.algorithm, version: key.version, factors }
    };
    entries.iter().map(select).collect()
}
