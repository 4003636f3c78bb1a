//! A key on its way to another backend: what one backend answered, the other is asked as well, beside the calls, and the
//! two answers are compared. The caller hears one and waits for one.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use claviger_hsm_api::{Batch, Fault, Outcome, Recipe};

use super::lanes::Lane;
use super::{Ran, RouteError, Router};
use crate::keyring::Entry;

/// Calls that wait for their second answer; further ones go without, so that nobody waits.
const WAITING: usize = 32;

/// What came of the comparisons for one key since its move began, or since the daemon started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Rows of which both answers are there.
    pub compared: u64,
    /// Those of them where the answers differ.
    pub diverged: u64,
    /// Calls that the second backend failed to answer.
    pub failed: u64,
    /// Calls that were not compared because too many waited.
    pub skipped: u64,
}

/// An answered call that is to be answered once more.
struct Answered {
    keys: Vec<Arc<Entry>>,
    recipe: Recipe,
    batch: Batch,
    outcome: Outcome,
    /// The backend that is asked now.
    beside: String,
}

pub(super) struct Shadows {
    queue: SyncSender<Answered>,
    comparisons: Mutex<HashMap<String, Comparison>>,
}

impl Shadows {
    /// With the other end of its queue, for [`attend`].
    pub(super) fn new() -> (Self, impl FnOnce(Weak<Router>) + Send) {
        let (queue, waiting) = sync_channel(WAITING);
        (Self { queue, comparisons: Mutex::default() }, move |router| attend(&waiting, &router))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Comparison>> {
        self.comparisons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts for every key of a call that is on its way.
    fn count(&self, keys: &[Arc<Entry>], count: impl Fn(&mut Comparison)) {
        let mut comparisons = self.lock();
        for key in keys.iter().filter(|key| key.course.moving().is_some()) {
            count(comparisons.entry(key.id().to_owned()).or_default());
        }
    }
}

/// Answers what waits, until the router is gone.
fn attend(waiting: &Receiver<Answered>, router: &Weak<Router>) {
    while let Ok(mut answered) = waiting.recv() {
        let Some(router) = router.upgrade() else { return };
        router.compare(&answered);
        answered.batch.wipe();
        answered.outcome.wipe();
    }
}

impl Router {
    /// Has a call answered by a second backend as well, if one of its keys is on its way.
    pub(super) fn shadow(&self, keys: &[Arc<Entry>], recipe: &Recipe, batch: &Batch, ran: &Ran) {
        let Some(beside) = keys.iter().find_map(|key| key.course.beside(&ran.backend)) else { return };
        if !recipe.is_repeatable() {
            return;
        }
        let answered = Answered {
            keys: keys.to_vec(),
            recipe: recipe.clone(),
            batch: batch.clone(),
            outcome: ran.outcome.clone(),
            beside: beside.to_owned(),
        };
        if self.shadows.queue.try_send(answered).is_err() {
            self.shadows.count(keys, |comparison| comparison.skipped += 1);
        }
    }

    fn compare(&self, answered: &Answered) {
        let Answered { keys, recipe, batch, outcome, beside } = answered;
        let Ok(backend) = self.backend(beside) else { return };
        let rows = batch.rows as u64;
        let differ = match self.run_on(&backend, Lane::Clearing, keys, recipe, batch, true) {
            Ok(second) => (0..batch.rows).filter(|row| !agree(outcome, &second.outcome, *row)).count() as u64,
            // The replica is another key: no answer of it would be right.
            Err(RouteError::Failed(error)) if error.fault == Fault::WrongKey => rows,
            Err(RouteError::NoReplica(_)) => rows,
            Err(error) => {
                tracing::warn!(backend = beside, %error, "a call was not compared");
                return self.shadows.count(keys, |comparison| comparison.failed += 1);
            }
        };
        self.shadows.count(keys, |comparison| {
            comparison.compared += rows;
            comparison.diverged += differ;
        });
        if differ > 0 {
            metrics::counter!("claviger_divergences_total", "backend" => beside.clone()).increment(differ);
            let keys: Vec<String> = keys.iter().map(|key| key.record.label()).collect();
            tracing::error!(backend = beside, keys = keys.join(", "), rows = differ, "two backends answer differently");
        }
    }

    /// What came of a key's comparisons.
    pub fn comparison(&self, key_id: &str) -> Comparison {
        self.shadows.lock().get(key_id).copied().unwrap_or_default()
    }

    /// Forgets a key's comparisons: another move begins.
    pub fn forget_comparison(&self, key_id: &str) {
        self.shadows.lock().remove(key_id);
    }
}

/// Whether two outcomes of one recipe say the same of a row.
fn agree(one: &Outcome, other: &Outcome, row: usize) -> bool {
    let verdict = |outcome: &Outcome, leg| outcome.verdicts(leg).and_then(|verdicts| verdicts.get(row).copied());
    one.legs.len() == other.legs.len()
        && (0..one.legs.len()).all(|leg| {
            let ran = |outcome: &Outcome| outcome.legs.get(leg).and_then(|leg| leg.ran.get(row).copied());
            ran(one) == ran(other)
                && one.bytes(leg, row) == other.bytes(leg, row)
                && (ran(one) == Some(false) || verdict(one, leg) == verdict(other, leg))
        })
}
