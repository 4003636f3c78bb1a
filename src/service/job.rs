//! What streamed jobs have in common: their place in the audit log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::{Caller, Service, ServiceError};
use crate::audit::{Event, Place, VerdictTree, Written};
use crate::keyring::Entry;
use crate::policy::{DEFAULT, Denial, Permit};

/// Rows in a batch: a multiple of what the engine takes at once, small enough for the caches.
pub const BATCH: usize = 4096;

/// How often a job looks whether its caller is still let in.
const LOOKS: Duration = Duration::from_secs(1);

/// Bytes of a job's id.
pub(super) const JOB_ID: usize = 8;

/// Ids that no other job has, of this daemon or of its next start. They are no secret, but nobody tells the next by one.
pub(super) struct JobIds {
    seed: [u8; 32],
    next: AtomicU64,
}

impl JobIds {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self { seed, next: AtomicU64::new(0) })
    }

    /// A new id, without asking the kernel for each.
    pub(super) fn draw(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        hex::encode(&blake3::keyed_hash(&self.seed, &number.to_le_bytes()).as_bytes()[..JOB_ID])
    }
}

/// A job's records: an opening one if it is streamed, checkpoints, and a closing or aborted one, tied by an id.
pub(super) struct Record {
    service: Arc<Service>,
    caller: Caller,
    /// When the caller was looked up last.
    looked: Instant,
    /// What stays the same in each record.
    event: Event,
    counts: BTreeMap<&'static str, u64>,
    closed: bool,
    /// Given back with the record.
    _place: OwnedSemaphorePermit,
}

impl Record {
    pub(super) fn new(
        service: &Arc<Service>,
        caller: &Caller,
        action: &'static str,
        tenant: &str,
        keys: &[Arc<Entry>],
        permit: &Permit,
    ) -> Result<Self, ServiceError> {
        let place = Arc::clone(&service.jobs).try_acquire_owned();
        let place = place.map_err(|_| ServiceError::Busy("no more files are worked through at once"))?;
        let event = Event {
            principal: caller.principal.to_string(),
            action: action.to_owned(),
            tenant: tenant.to_owned(),
            decision: "allow".to_owned(),
            job: service.job_ids.draw(),
            ..Event::default()
        };
        let mut record = Self {
            service: Arc::clone(service),
            caller: caller.clone(),
            looked: Instant::now(),
            event,
            counts: BTreeMap::new(),
            closed: false,
            _place: place,
        };
        record.uses(keys, permit);
        Ok(record)
    }

    /// Writes down that the job begins: before anything of it leaves, if that is before its end.
    pub(super) async fn open(&self) -> Result<(), ServiceError> {
        self.service.audit.append(self.event("job-opened", "open")).await?;
        Ok(())
    }

    pub(super) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The keys in use from now on, and by which policies.
    pub(super) fn uses(&mut self, keys: &[Arc<Entry>], permit: &Permit) {
        self.event.keys = keys.iter().map(|key| key.record.label()).collect();
        self.event.policies = permit.policies().to_vec();
    }

    pub(super) fn ran_on(&mut self, backend: String) {
        if !self.event.backends.contains(&backend) {
            self.event.backends.push(backend);
        }
    }

    pub(super) fn count(&mut self, what: &'static str, records: u64) {
        *self.counts.entry(what).or_insert(0) += records;
        self.service.quotas.used(&self.event.tenant, records);
    }

    /// Whether the caller is still let in, and its tenant may have so many rows more today.
    pub(super) fn admits(&mut self, rows: usize) -> Result<(), ServiceError> {
        if self.looked.elapsed() >= LOOKS {
            self.looked = Instant::now();
            if !self.caller.is_still_known(&self.service.rules()) {
                let reason = "the caller was let in when the job began, and is no more".to_owned();
                return Err(ServiceError::Denied(Denial { policy: DEFAULT.to_owned(), reason }));
            }
        }
        self.service.quotas.admits(&self.event.tenant, rows as u64)
    }

    /// Its id.
    pub(super) fn job(&self) -> &str {
        &self.event.job
    }

    /// The tree of its verdicts so far.
    pub(super) fn verdicts(&mut self, tree: VerdictTree) {
        self.event.verdicts = Some(tree);
    }

    /// Writes the counts so far down, without waiting until they are on disk.
    pub(super) fn checkpoint(&self) -> Written {
        let (place, written) = self.service.audit.place();
        self.service.audit.append_at(place, self.event("job-checkpoint", "running"));
        written
    }

    pub(super) fn close(self, outcome: Result<(), &ServiceError>) -> Result<BTreeMap<String, u64>, ServiceError> {
        let service = Arc::clone(&self.service);
        let (event, counts) = self.closing(outcome);
        service.audit.append_blocking(event)?;
        Ok(counts)
    }

    /// The same, but that the record is on disk is said at the other end of its place.
    pub(super) fn close_at(self, place: Place) -> BTreeMap<String, u64> {
        let service = Arc::clone(&self.service);
        let (event, counts) = self.closing(Ok(()));
        service.audit.append_at(place, event);
        counts
    }

    fn closing(mut self, outcome: Result<(), &ServiceError>) -> (Event, BTreeMap<String, u64>) {
        self.closed = true;
        let event = match outcome {
            Ok(()) => self.event("job-closed", "done"),
            Err(error) => self.event("job-aborted", error.code()),
        };
        let counts = event.counts.clone();
        (event, counts)
    }

    fn event(&self, event: &str, outcome: &str) -> Event {
        let counts = self.counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
        Event { event: event.to_owned(), outcome: outcome.to_owned(), counts, ..self.event.clone() }
    }
}

impl Drop for Record {
    /// A job that nobody closed (its caller went, or a thread panicked) is written down as aborted.
    fn drop(&mut self) {
        if !self.closed {
            self.service.audit.append_detached(self.event("job-aborted", "dropped"));
        }
    }
}
