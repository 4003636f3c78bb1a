//! Clearing's day: a stream of records, verified batch by batch.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_card_schemes::{CardScheme, FieldSet, LineFault, SelectableKey, TacVerifier, Verified};
use claviger_hsm_api::{Batch, KeyName, Outcome, Recipe};
use jiff::Timestamp;

use super::job::{BATCH, Record};
use super::perform::{event_of, no_key};
use super::{Caller, Service, ServiceError, blocking};
use crate::audit::{Event, Growth, Leaf, Place, Written};
use crate::keyring::{Entry, Purpose};
use crate::policy::{Permit, Resource};
use crate::routing::RouteError;

/// An open job. Its rows run on whatever thread drives it; it keeps one batch at a time.
pub struct VerifyJob {
    record: Record,
    caller: Caller,
    action: &'static str,
    name: KeyName,
    scheme: Arc<CardScheme>,
    keys: Arc<Keys>,
    verifier: TacVerifier,
    verdicts: Verdicts,
    /// The closing record's, of a job that is closed soon.
    place: Option<(Place, Written)>,
}

/// The tree of the verdicts, and the leaves of the records that wait for theirs.
struct Verdicts {
    tree: Growth,
    leaves: Vec<Leaf>,
}

/// The keys that the job may use, as the keyring had them at `generation`.
struct Keys {
    permit: Permit,
    entries: Vec<Arc<Entry>>,
    generation: u64,
}

/// How often a batch is tried under keys that change while it runs.
const ATTEMPTS: u32 = 5;
/// How long a batch waits for backends that are busy.
const PATIENCE: Duration = Duration::from_secs(20);

impl VerifyJob {
    pub(super) async fn open(
        service: &Arc<Service>,
        caller: &Caller,
        action: &'static str,
        (tenant, scheme): (&str, &str),
        before: u64,
        streamed: bool,
    ) -> Result<Self, ServiceError> {
        let place = (!streamed).then(|| service.audit.place());
        let scheme = service.enter_scheme(caller, tenant, scheme).await?;
        let role = scheme.tac_role().ok_or_else(|| ServiceError::field("scheme", "has no TAC"))?.name();
        let name = KeyName::new(tenant, scheme.id(), role)?;
        let (entries, generation) = usable(service, &name)?;
        let permit = service.decide(caller, action, &resources(&entries), 0).await?;
        let possible = possible(service, &scheme, &entries).await;
        if possible.is_err() {
            let event = Event { tenant: tenant.to_owned(), ..event_of(&entries) };
            service.settle(caller, &permit, event, possible).await?;
        }
        let verifier = TacVerifier::new(Arc::clone(&scheme), selectable(&entries));
        let record = Record::new(service, caller, action, tenant, &entries, &permit)?;
        if streamed {
            record.open().await?;
        }
        let keys = Arc::new(Keys { permit, entries, generation });
        let blinding = service.audit.blinding(record.job()).ok_or(ServiceError::Sealed)?;
        let verdicts = Verdicts { tree: Growth::new(&blinding, before), leaves: Vec::new() };
        Ok(Self { record, caller: caller.clone(), action, name, scheme, keys, verifier, verdicts, place })
    }

    /// Its id in the audit log.
    pub fn id(&self) -> &str {
        self.record.job()
    }

    /// The keys in use: each one's id and how often its record has changed. What they verify, the same keys
    /// verify again.
    pub fn key_versions(&self) -> String {
        let version = |entry: &Arc<Entry>| format!("{}:{}", entry.id(), entry.record_version());
        self.keys.entries.iter().map(version).collect::<Vec<_>>().join(" ")
    }

    /// Takes a record that could be read, or the fault of one that could not.
    pub fn push(&mut self, record: Result<&FieldSet, LineFault>, line: u64) {
        self.verdicts.leaves.push(Leaf::of(record.ok()));
        match record {
            Ok(fields) => self.verifier.push(fields),
            Err(fault) => self.verifier.push_fault(fault, line),
        }
    }

    /// Whether so many records are done before another thread would have begun with them.
    pub fn is_at_hand(&self, records: usize) -> bool {
        let router = self.record.service().router();
        router.is_ok_and(|router| router.are_few_at_hand(records, &self.keys.entries))
    }

    /// Whether a batch is full and [`run`](Self::run) is due.
    pub fn is_full(&self) -> bool {
        self.verifier.len() >= BATCH
    }

    /// Verifies the records taken since the last time, whose ids are these, and hands their verdicts over in order;
    /// blocks.
    ///
    /// # Errors
    /// [`ServiceError`]; the job is then over.
    pub fn run<'i>(
        &mut self,
        ids: impl Iterator<Item = &'i [u8]>,
        mut each: impl FnMut(&'i [u8], Verified),
    ) -> Result<(), ServiceError> {
        self.record.admits(self.verifier.len())?;
        let router = self.record.service().router()?;
        let mut renewed = if self.is_current() { None } else { Some(self.renew()?) };
        let mut verdicts = Vec::with_capacity(self.verifier.len());
        for attempt in 1.. {
            let keys = Arc::clone(&self.keys);
            let record = &mut self.record;
            let mut run = |recipe: &Recipe, batch: &Batch| -> Result<Outcome, ServiceError> {
                let ran = patiently(|| router.run(&keys.permit, &keys.entries, recipe, batch))?;
                record.ran_on(ran.on);
                Ok(ran.outcome)
            };
            match self.verifier.finish(&mut run, |verified| verdicts.push(verified)) {
                Ok(()) => break,
                // A key was suspended, or its time ended, while the batch was on its way: its records are as if
                // the key were not there, and the others are verified again.
                Err(error) if error.is_of_a_changed_key() && attempt < ATTEMPTS => renewed = Some(self.renew()?),
                Err(error) => return Err(error),
            }
        }
        claviger_locked_memory::wipe_stack();
        let verdicts_of = verdicts.chunk_by(|one, next| one.verdict == next.verdict);
        verdicts_of.for_each(|run| self.record.count(run[0].verdict.as_str(), run.len() as u64));
        for ((id, verified), leaf) in ids.zip(verdicts).zip(&mut self.verdicts.leaves) {
            leaf.decide(id, verified.verdict);
            each(id, verified);
        }
        self.verdicts.tree.take(&mut self.verdicts.leaves).map_err(lost)?;
        match renewed {
            Some(next) => self.take_over(next),
            None => Ok(()),
        }
    }

    fn is_current(&self) -> bool {
        self.record.service().keyring.generation() == self.keys.generation
    }

    /// Takes the waiting records away from those that may no longer be used: what was
    /// suspended a moment ago verifies nothing more. Gives the keys that later records may use.
    fn renew(&mut self) -> Result<Keys, ServiceError> {
        let service = Arc::clone(self.record.service());
        let next = Keys::ask(&service, &self.caller, self.action, &self.name)?;
        let now_of = |old: &Arc<Entry>| next.entries.iter().find(|entry| entry.id() == old.id());
        let usable: Vec<bool> = self.keys.entries.iter().map(|old| now_of(old).is_some()).collect();
        self.verifier.forget(&usable);
        // The records that wait know the keys by their old numbers; one that is gone is numbered by no row.
        let stand_in = next.entries.first();
        let entries = self.keys.entries.iter().filter_map(|old| now_of(old).or(stand_in).cloned()).collect();
        let permit = service.decide_blocking(&self.caller, self.action, &next.resources())?;
        self.keys = Arc::new(Keys { permit, entries, generation: next.generation });
        Ok(next)
    }

    fn take_over(&mut self, next: Keys) -> Result<(), ServiceError> {
        self.verifier = TacVerifier::new(Arc::clone(&self.scheme), selectable(&next.entries));
        self.record.uses(&next.entries, &next.permit);
        self.keys = Arc::new(next);
        Ok(())
    }

    /// Writes the counts so far down: what was verified until now may leave when that is on disk.
    ///
    /// # Errors
    /// If the tree of verdicts is lost.
    pub fn checkpoint(&mut self) -> Result<Written, ServiceError> {
        self.record.verdicts(self.verdicts.tree.head().map_err(lost)?);
        Ok(self.record.checkpoint())
    }

    /// Ends the job: its closing record is on disk when this returns.
    ///
    /// # Errors
    /// If the audit log does not take the record; then the last verdicts must not leave.
    pub fn close(mut self, outcome: Result<(), &ServiceError>) -> Result<BTreeMap<String, u64>, ServiceError> {
        self.record.verdicts(self.verdicts.tree.head().map_err(lost)?);
        self.record.close(outcome)
    }

    /// A place in the log for the closing record, and where it is said that it is on disk.
    pub fn place(&mut self) -> (Place, Written) {
        self.place.take().unwrap_or_else(|| self.record.service().audit.place())
    }

    /// The same as [`close`](Self::close) for a job that ended well, without waiting: once the other end of the place says that the closing record is
    /// on disk, the verdicts may leave.
    ///
    /// # Errors
    /// If the tree of verdicts is lost.
    pub fn close_at(mut self, place: Place) -> Result<BTreeMap<String, u64>, ServiceError> {
        self.record.verdicts(self.verdicts.tree.head().map_err(lost)?);
        Ok(self.record.close_at(place))
    }
}

fn lost(error: io::Error) -> ServiceError {
    tracing::error!(%error, "the tree of verdicts is lost");
    ServiceError::Internal
}

/// Waits for backends that have too much to do just now: a day is not given up because card holders go first.
fn patiently<T>(mut run: impl FnMut() -> Result<T, RouteError>) -> Result<T, RouteError> {
    let begun = Instant::now();
    loop {
        match run() {
            Err(RouteError::Busy { .. }) if begun.elapsed() < PATIENCE => std::thread::sleep(PATIENCE / 200),
            other => return other,
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
        return Err(no_key(name));
    }
    Ok((entries, generation))
}

/// Whether every key's TACs could be verified by some backend: a job that never can be done is not begun.
async fn possible(service: &Service, scheme: &Arc<CardScheme>, entries: &[Arc<Entry>]) -> Result<(), ServiceError> {
    let (router, scheme, entries) = (service.router()?, Arc::clone(scheme), entries.to_vec());
    let at_hand = router.are_at_hand(&entries);
    let ask = move || {
        for entry in &entries {
            let key = &entry.record.key;
            if let Some(recipe) = scheme.tac_recipe(key.attributes.algorithm, key.factors.len()) {
                router.may_run(entry, &recipe)?;
            }
        }
        Ok(())
    };
    // A device may have to be asked.
    if at_hand { ask() } else { blocking(ask).await }
}

pub(super) fn selectable(entries: &[Arc<Entry>]) -> Vec<SelectableKey> {
    let select = |entry: &Arc<Entry>| {
        let key = &entry.record.key;
        // Factors were checked when the key was made.
        let factors = key.factors.iter().map(|factor| hex::decode(factor).unwrap_or_default()).collect();
        SelectableKey { algorithm: key.attributes.algorithm, version: key.version, factors }
    };
    entries.iter().map(select).collect()
}
