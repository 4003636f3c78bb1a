//! One recipe, from permit to outcome: the backends in turn, and a second one beside the first when that is slow.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use claviger_hsm_api::{Algorithm, Batch, DriverError, Exposure, Fault, KeyColumn, Recipe};
use jiff::Timestamp;

use super::backends::Backend;
use super::health::{Admission, Result as Health};
use super::lanes::Lane;
use super::{Ran, RouteError, Router, may_repeat, permitted, replicas_on};
use crate::keyring::{Entry, Purpose};
use crate::policy::Permit;

/// Hedges that may be made at once out of nothing, in hundredths: twenty.
pub(super) const HEDGES: u32 = 2000;
/// What each call adds, in hundredths: one hedge in twenty calls.
const HEDGE_SHARE: u32 = 5;
/// Rows, and bytes in all their columns, that the daemon itself is done with before another thread would have begun.
const FEW_ROWS: usize = 16;
const FEW_BYTES: usize = 16 << 10;
/// A batch of more rows is not worth a second backend's time.
const HEDGED_ROWS: usize = 64;
/// The least and the most that the first backend is waited for before the second is asked.
const HEDGE_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

impl Router {
    /// Runs a recipe; blocks. `keys` are numbered as the batch's key columns number them.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn run(
        self: &Arc<Self>,
        permit: &Permit,
        keys: &[Arc<Entry>],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Ran, RouteError> {
        if let Some(leg) = recipe.legs.iter().find(|leg| !permit.admits(leg.finish.verb())) {
            return Err(RouteError::NotPermitted(format!("`{}`", leg.finish.verb())));
        }
        let now = Timestamp::now();
        let protects = recipe.legs.iter().any(|leg| leg.finish.protects());
        let purpose = if protects { Purpose::Protect } else { Purpose::Process };
        for key in keys {
            permitted(permit, key.id())?;
            key.record.admits(purpose, now)?;
        }
        let lane = Lane::of(permit.action());
        // A backend that does not hold all the keys of a role may hold those that the rows need.
        let spread = self.backends().iter().any(|backend| {
            let holds = |key: &&Arc<Entry>| replicas_on(std::slice::from_ref(key), backend).is_some();
            (1..keys.len()).contains(&keys.iter().filter(holds).count())
        });
        match spread.then(|| only_used(keys, batch)).flatten() {
            Some((keys, mut batch)) => {
                let ran = self.run_somewhere(lane, &keys, recipe, &batch);
                batch.wipe();
                ran.map_err(|error| error.of(&keys))
            }
            None => self.run_somewhere(lane, keys, recipe, batch).map_err(|error| error.of(keys)),
        }
    }

    /// Whether a backend that holds all the keys could run a recipe, of which each slot is one of them; as far as that is known
    /// before it is tried.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn can_run(&self, keys: &[Arc<Entry>], recipe: &Recipe) -> Result<(), RouteError> {
        let ceilings: Vec<Exposure> = keys.iter().map(|key| key.record.ceiling()).collect();
        for (slot, key) in keys.iter().enumerate() {
            recipe.check_slot(slot, &key.record.key.attributes).map_err(DriverError::from)?;
        }
        let mut refusal = RouteError::no_replica();
        for backend in self.candidates(keys) {
            match backend.driver.exposure(recipe, &ceilings) {
                Ok(_) => return Ok(()),
                Err(error) => refusal = refusal.or(RouteError::from(error).on(&backend.name)),
            }
        }
        Err(refusal.of(keys))
    }

    /// Asks the backends that hold all the keys, one after another.
    fn run_somewhere(
        self: &Arc<Self>,
        lane: Lane,
        keys: &[Arc<Entry>],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Ran, RouteError> {
        let candidates = self.candidates(keys);
        let mut refusal = RouteError::no_replica();
        let mut resting: Vec<Arc<Backend>> = Vec::new();
        for (number, backend) in candidates.iter().enumerate() {
            let next = candidates.get(number + 1).filter(|_| batch.rows <= HEDGED_ROWS && recipe.is_repeatable());
            let result = match next {
                Some(next) if backend.is_remote() => self.hedged(backend, next, lane, keys, recipe, batch),
                _ => self.run_on(backend, lane, keys, recipe, batch, false),
            };
            match result {
                Ok(ran) => {
                    self.shadow(keys, recipe, batch, &ran);
                    return Ok(ran);
                }
                // The caller's fault is the same everywhere; other failures let the next backend try, if the
                // recipe did not run or may run twice.
                Err(error) if error.is_final() || !may_repeat(recipe, &error) => return Err(error),
                Err(error) => {
                    if number + 1 < candidates.len() {
                        metrics::counter!("claviger_failovers_total", "backend" => backend.name.clone()).increment(1);
                    }
                    if matches!(error, RouteError::Resting { .. }) {
                        resting.push(Arc::clone(backend));
                    }
                    refusal = refusal.or(error);
                }
            }
        }
        // Nobody else could: better one that failed a while ago than none.
        for backend in resting {
            match self.run_on(&backend, lane, keys, recipe, batch, true) {
                Ok(ran) => return Ok(ran),
                Err(error) if error.is_final() || !may_repeat(recipe, &error) => return Err(error),
                Err(error) => refusal = refusal.or(error),
            }
        }
        Err(refusal)
    }

    /// The backends that hold every key, in the order in which they are asked: first the one that a key was moved to
    /// or that its tenant is pinned to, then by place; beside each other those with a weight take turns.
    fn candidates(&self, keys: &[Arc<Entry>]) -> Vec<Arc<Backend>> {
        let ways = self.ways();
        let holds = |backend: &&Arc<Backend>| replicas_on(keys, backend).is_some();
        let mut found: Vec<_> = ways.backends.iter().filter(holds).cloned().collect();
        self.take_turns(&mut found);
        let moved = keys.iter().find_map(|key| key.course.first());
        let pinned = |key: &Arc<Entry>| ways.pins.iter().find(|pin| pin.tenant == key.record.key.name.tenant());
        let pinned = keys.first().and_then(pinned).map(|pin| pin.backend.as_str());
        if let Some(first) = moved.or(pinned) {
            found.sort_by_key(|backend| backend.name != first);
        }
        found
    }

    /// Of the backends in the first place, puts the one in front whose turn it is.
    fn take_turns(&self, backends: &mut [Arc<Backend>]) {
        let Some(place) = backends.first().map(|backend| backend.place) else { return };
        let weight = |backend: &Arc<Backend>| {
            backend.config.weight.filter(|_| backend.place == place).map_or(0, NonZeroU32::get)
        };
        let total: u32 = backends.iter().map(weight).sum();
        if total == 0 {
            return;
        }
        // Knuth's multiplier scatters the turns, so that no rhythm of calls meets always the same backend.
        let mut turn = (self.turns.fetch_add(1, Ordering::Relaxed).wrapping_mul(2_654_435_769) >> 8) % total;
        let mine = backends.iter().position(|backend| {
            let here = turn < weight(backend);
            turn = turn.saturating_sub(weight(backend));
            here
        });
        backends[..=mine.unwrap_or(0)].rotate_right(1);
    }

    /// The backend that is asked first for a key.
    ///
    /// # Errors
    /// [`RouteError::NoReplica`].
    pub fn first(&self, key: &Arc<Entry>) -> Result<String, RouteError> {
        let key = std::slice::from_ref(key);
        let first = self.candidates(key).first().map(|backend| backend.name.clone());
        first.ok_or_else(|| RouteError::no_replica().of(key))
    }

    /// Whether a batch under these keys is done before another thread would have begun it: it is small, and no backend that
    /// holds one of them keeps anybody waiting.
    pub fn is_at_hand(&self, keys: &[Arc<Entry>], batch: &Batch) -> bool {
        let bytes: usize = batch.columns.iter().map(|column| column.width() * column.rows()).sum();
        bytes <= FEW_BYTES && self.are_few_at_hand(batch.rows, keys)
    }

    /// The same for so many rows, none of which is long.
    pub fn are_few_at_hand(&self, rows: usize, keys: &[Arc<Entry>]) -> bool {
        rows <= FEW_ROWS && self.are_at_hand(keys)
    }

    /// Whether no backend that holds one of the keys keeps anybody waiting, nor do the keys.
    pub fn are_at_hand(&self, keys: &[Arc<Entry>]) -> bool {
        let ways = self.ways();
        let at_hand = |name: &str| ways.backends.iter().any(|backend| backend.name == name && backend.is_at_hand());
        // A point of a curve is multiplied for as long as a thousand blocks are enciphered.
        let is_quick = |key: &Arc<Entry>| key.record.key.attributes.algorithm != Algorithm::Sm2;
        keys.iter().all(|key| is_quick(key) && key.backends().all(at_hand))
    }

    /// Whether some backend could ever run a recipe on a key: what a job asks before it begins. A backend that does not
    /// answer now may.
    ///
    /// # Errors
    /// [`RouteError`] if none could, however often it was asked.
    pub fn may_run(&self, key: &Arc<Entry>, recipe: &Recipe) -> Result<(), RouteError> {
        let keys = std::slice::from_ref(key);
        let ceiling = key.record.ceiling();
        let mut refusal = RouteError::no_replica();
        for backend in self.backends().iter().filter(|backend| replicas_on(keys, backend).is_some()) {
            match backend.driver.exposure(recipe, &vec![ceiling; recipe.slots()]) {
                Ok(exposures) => match exposures.into_iter().find(|exposure| *exposure > ceiling) {
                    None => return Ok(()),
                    Some(exposure) => {
                        let (backend, key) = (backend.name.clone(), key.record.label());
                        refusal = refusal.or(RouteError::Ceiling { backend, exposure, key, ceiling });
                    }
                },
                Err(error) if error.fault == Fault::Unsupported => refusal = refusal.or(error.into()),
                Err(_) => return Ok(()),
            }
        }
        Err(refusal.of(keys))
    }

    /// Asks the first backend, and after a while the second as well; the first good answer counts. In the long run one
    /// call in twenty takes this much.
    fn hedged(
        self: &Arc<Self>,
        first: &Arc<Backend>,
        second: &Arc<Backend>,
        lane: Lane,
        keys: &[Arc<Entry>],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Ran, RouteError> {
        if !first.health.would_admit(Instant::now()) {
            return self.run_on(first, lane, keys, recipe, batch, false);
        }
        let _ = self
            .hedges
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some((left + HEDGE_SHARE).min(HEDGES)));
        let (tell, answer) = channel();
        let (router, backend) = (Arc::clone(self), Arc::clone(first));
        let (keys_there, recipe_there, mut batch_there) = (keys.to_vec(), recipe.clone(), batch.clone());
        let begun = std::thread::Builder::new().name("call".to_owned()).spawn(move || {
            let result = router.run_on(&backend, lane, &keys_there, &recipe_there, &batch_there, false);
            batch_there.wipe();
            claviger_locked_memory::wipe_stack();
            // Whoever asked may have another answer by now.
            let _ = tell.send(result);
        });
        if begun.is_err() {
            return self.run_on(first, lane, keys, recipe, batch, false);
        }
        let (least, most) = HEDGE_AFTER;
        let patience = first.health.p95().map_or(most, |p95| (2 * p95).clamp(least, most));
        let lost = || RouteError::Failed(DriverError::unknown("router", "run", "the call was lost"));
        match answer.recv_timeout(patience) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => return Err(lost()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let spent = self.hedges.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(100));
        if spent.is_ok() {
            metrics::counter!("claviger_hedges_total", "backend" => first.name.clone()).increment(1);
            if let Ok(ran) = self.run_on(second, lane, keys, recipe, batch, false) {
                // Somebody else had to answer in its place: that counts as a failure, unless it has come meanwhile.
                if answer.try_recv().is_err() {
                    first.health.record(Instant::now(), Health::Failed);
                }
                return Ok(ran);
            }
        }
        answer.recv().unwrap_or_else(|_| Err(lost()))
    }

    /// Runs on one backend, if it admits (or `rested` says that it must), has room, and lets out no more than the keys
    /// allow.
    pub(super) fn run_on(
        &self,
        backend: &Arc<Backend>,
        lane: Lane,
        keys: &[Arc<Entry>],
        recipe: &Recipe,
        batch: &Batch,
        rested: bool,
    ) -> Result<Ran, RouteError> {
        let Some(replicas) = replicas_on(keys, backend) else { return Err(RouteError::no_replica()) };
        if keys.iter().any(|key| self.opened.is_quarantined(key.id(), backend)) {
            return Err(RouteError::no_replica());
        }
        if let Admission::Resting(left) = backend.health.admit(Instant::now())
            && !rested
        {
            return Err(RouteError::Resting { backend: backend.name.clone(), seconds: left.as_secs() + 1 });
        }
        let result = backend.enter(lane).and_then(|_place| {
            let begun = Instant::now();
            let result = self.run_there(backend, keys, &replicas, recipe, batch);
            let health = match &result {
                Ok(_) => Some(Health::Answered(begun.elapsed())),
                Err(RouteError::Failed(error)) if error.fault != Fault::WrongKey => Some(Health::Failed),
                // What was refused here says nothing about the backend.
                Err(_) => None,
            };
            if let Some(health) = health {
                backend.health.record(Instant::now(), health);
            }
            result
        });
        // Whoever did not get as far as an answer has tried nothing.
        if result.is_err() {
            backend.health.give_back_trial();
        }
        result
    }

    fn run_there(
        &self,
        backend: &Arc<Backend>,
        keys: &[Arc<Entry>],
        replicas: &[&crate::keyring::Replica],
        recipe: &Recipe,
        batch: &Batch,
    ) -> Result<Ran, RouteError> {
        let ceiling = |number: u16| Some(keys.get(usize::from(number))?.record.ceiling());
        let ceilings = recipe.ceilings(batch, ceiling);
        let exposures = backend.driver.exposure(recipe, &ceilings)?;
        for (slot, exposure) in exposures.iter().enumerate() {
            let used = batch.keys.get(slot).map(KeyColumn::used).unwrap_or_default();
            let over = used
                .iter()
                .filter_map(|number| keys.get(usize::from(*number)))
                .find(|key| *exposure > key.record.ceiling());
            if let Some(key) = over {
                let (backend, key_name) = (backend.name.clone(), key.record.label());
                let ceiling = key.record.ceiling();
                return Err(RouteError::Ceiling { backend, exposure: *exposure, key: key_name, ceiling });
            }
        }
        let handles = keys
            .iter()
            .zip(replicas)
            .map(|(key, replica)| self.opened.handle(backend, key, replica))
            .collect::<Result<Vec<_>, _>>()?;
        let outcome = backend.driver.run(&handles, recipe, batch).map_err(|error| match self.opened.purged(keys) {
            // A key was closed while the request was on its way to it: no fault of the backend's.
            Some(key) if error.fault == Fault::Backend => RouteError::Stale(key),
            _ if error.fault == Fault::WrongKey => {
                self.distrust(backend, keys, &error.reason);
                error.into()
            }
            _ => error.into(),
        })?;
        let most = exposures.into_iter().max().unwrap_or(Exposure::Nothing);
        Ok(Ran { outcome, backend: backend.name.clone(), on: format!("{} exposing {most}", backend.name) })
    }

    /// One of these keys is another key in the backend: finds out which.
    fn distrust(&self, backend: &Arc<Backend>, keys: &[Arc<Entry>], reason: &str) {
        for key in keys.iter().filter(|key| keys.len() == 1 || reason.contains(key.id())) {
            self.opened.quarantine(backend, key.id(), &key.record.label(), reason);
        }
    }
}

/// The same batch over no more keys than its rows use; none if they use them all.
fn only_used(keys: &[Arc<Entry>], batch: &Batch) -> Option<(Vec<Arc<Entry>>, Batch)> {
    let mut is_used = vec![false; keys.len()];
    for key in batch.keys.iter().flat_map(KeyColumn::used) {
        *is_used.get_mut(usize::from(*key))? = true;
    }
    let used: Vec<u16> = (0..).zip(&is_used).filter(|(_, used)| **used).map(|(key, _)| key).collect();
    if used.len() == keys.len() {
        return None;
    }
    let number = |old: &u16| used.iter().position(|known| known == old).unwrap_or_default() as u16;
    let renumbered = batch.keys.iter().map(|column| match column {
        KeyColumn::Same(key) => KeyColumn::Same(number(key)),
        KeyColumn::PerRow(keys) => KeyColumn::PerRow(keys.iter().map(number).collect()),
    });
    let kept = used.iter().map(|old| keys.get(usize::from(*old)).cloned()).collect::<Option<Vec<_>>>()?;
    let keys = renumbered.collect();
    Some((kept, Batch { rows: batch.rows, columns: batch.columns.clone(), keys }))
}
