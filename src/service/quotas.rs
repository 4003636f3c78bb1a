//! What callers may ask at once and in a second, and how much a tenant may have done in a day.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::ServiceError;
use crate::audit::usage;

/// Of one caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallerLimits {
    /// Calls in a second, with as many at once when it was silent before.
    pub calls_per_second: Option<NonZeroU32>,
    /// Calls that are under way at once; streamed jobs have bounds of their own.
    pub calls_at_once: Option<usize>,
}

/// All limits of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaConfig {
    /// By principal.
    pub callers: HashMap<String, CallerLimits>,
    /// By tenant: items (records, MACs, cards) in a day of UTC.
    pub items_per_day: HashMap<String, u64>,
}

/// The limits, and what was used of them.
pub(super) struct Quotas(Mutex<State>);

struct State {
    config: QuotaConfig,
    callers: HashMap<String, CallerState>,
    /// Since 1970.
    day: i64,
    items: HashMap<String, u64>,
}

#[derive(Default)]
struct CallerState {
    rate: Option<DefaultDirectRateLimiter>,
    under_way: usize,
    /// When it was last written down that it asks too much.
    told: Option<Instant>,
}

/// A call that is under way, for as long as this lives.
pub struct Turn {
    quotas: Arc<Quotas>,
    principal: String,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Turn").field(&self.principal).finish()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(caller) = self.quotas.lock().callers.get_mut(&self.principal) {
            caller.under_way = caller.under_way.saturating_sub(1);
        }
    }
}

/// A call that has to wait, and whether that is news for the audit log.
pub(super) struct TooMany {
    pub(super) error: ServiceError,
    pub(super) is_news: bool,
}

impl Quotas {
    /// Of a daemon that starts: what was used today stands in the log.
    pub(super) fn new(config: QuotaConfig, log: &Path) -> std::io::Result<Self> {
        let now = Timestamp::now();
        let mut items: HashMap<String, u64> = HashMap::new();
        let log = std::io::BufReader::new(std::fs::File::open(log)?);
        let today = now.to_zoned(TimeZone::UTC).date().to_string();
        // Also where there is no quota: one may come while the daemon runs.
        for (of, used) in usage(log, &today, &today)? {
            *items.entry(of.tenant).or_default() += used.items;
        }
        Ok(Self(Mutex::new(State { config, callers: HashMap::new(), day: day_of(now), items })))
    }

    pub(super) fn reload(&self, config: QuotaConfig) {
        let mut state = self.lock();
        for caller in state.callers.values_mut() {
            caller.rate = None;
        }
        state.config = config;
    }

    /// Lets a caller's call in, if its limits do.
    pub(super) fn enter(self: &Arc<Self>, principal: String) -> Result<Turn, TooMany> {
        let mut state = self.lock();
        let limits = state.config.callers.get(&principal).copied().unwrap_or_default();
        let caller = state.callers.entry(principal.clone()).or_default();
        let mut too_many = |what: &'static str, wait: Duration| {
            let is_news = caller.told.is_none_or(|told| told.elapsed() > Duration::from_secs(1));
            if is_news {
                caller.told = Some(Instant::now());
            }
            TooMany { error: ServiceError::TooMany { what, seconds: wait.as_secs() + 1 }, is_news }
        };
        if limits.calls_at_once.is_some_and(|most| caller.under_way >= most) {
            return Err(too_many("calls at once", Duration::ZERO));
        }
        if let Some(rate) = limits.calls_per_second {
            let limiter = caller.rate.get_or_insert_with(|| RateLimiter::direct(Quota::per_second(rate)));
            if let Err(not_until) = limiter.check() {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                return Err(too_many("calls in a second", wait));
            }
        }
        caller.under_way += 1;
        drop(state);
        Ok(Turn { quotas: Arc::clone(self), principal })
    }

    /// Whether a tenant may have so many items more done today.
    pub(super) fn admits(&self, tenant: &str, items: u64) -> Result<(), ServiceError> {
        let mut state = self.lock();
        state.turn_the_day();
        let Some(most) = state.config.items_per_day.get(tenant) else { return Ok(()) };
        let used = state.items.get(tenant).copied().unwrap_or(0);
        // What a call of no rows would do is not known before: it needs at least one left.
        if used + items.max(1) > *most {
            return Err(ServiceError::Quota { tenant: tenant.to_owned(), most: *most, seconds: until_tomorrow() });
        }
        Ok(())
    }

    /// Notes what was done.
    pub(super) fn used(&self, tenant: &str, items: u64) {
        let mut state = self.lock();
        state.turn_the_day();
        match state.items.get_mut(tenant) {
            Some(used) => *used += items,
            None => drop(state.items.insert(tenant.to_owned(), items)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn turn_the_day(&mut self) {
        let today = day_of(Timestamp::now());
        if self.day != today {
            self.day = today;
            self.items.clear();
        }
    }
}

/// Seconds of a day of UTC.
const DAY: i64 = 86_400;

fn day_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(DAY)
}

fn until_tomorrow() -> u64 {
    (DAY - Timestamp::now().as_second().rem_euclid(DAY)) as u64
}
