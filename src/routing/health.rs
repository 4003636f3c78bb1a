//! How a backend is doing: a breaker that gives it rest when it fails, and how long its answers take.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row after which a backend is given rest.
const IN_A_ROW: u32 = 5;
/// The window in which half of at least [`SOME`] calls failing does the same.
const WINDOW: Duration = Duration::from_secs(10);
const SOME: usize = 20;
/// The first rest; each that follows without a success between is twice as long.
const REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(15);

/// What became of a call, as far as the backend is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Result {
    /// It answered, whatever the answer.
    Answered(Duration),
    /// It failed, or somebody else had to answer in its place.
    Failed,
}

/// Whether a call may go to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes.
    Open,
    /// Yes, this one, to see whether it works again.
    Trial,
    /// Not for so long.
    Resting(Duration),
}

/// A backend's breaker and latency.
#[derive(Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Default)]
struct State {
    in_a_row: u32,
    recent: VecDeque<(Instant, bool)>,
    resting: Option<Rest>,
    rests: u32,
    /// Below which nineteen of twenty answers take, in seconds; moves with each answer.
    p95: f64,
}

struct Rest {
    until: Instant,
    /// Whether somebody is trying.
    trial: bool,
}

impl Health {
    pub(super) fn admit(&self, now: Instant) -> Admission {
        let mut state = self.lock();
        match &mut state.resting {
            None => Admission::Open,
            Some(rest) if now < rest.until => Admission::Resting(rest.until - now),
            Some(rest) if rest.trial => Admission::Resting(REST),
            Some(rest) => {
                rest.trial = true;
                Admission::Trial
            }
        }
    }

    /// As [`admit`](Self::admit), without taking the trial: only to ask.
    pub(super) fn would_admit(&self, now: Instant) -> bool {
        self.lock().resting.as_ref().is_none_or(|rest| now >= rest.until && !rest.trial)
    }

    /// A trial that was not made after all.
    pub(super) fn give_back_trial(&self) {
        if let Some(rest) = &mut self.lock().resting {
            rest.trial = false;
        }
    }

    pub(super) fn record(&self, now: Instant, result: Result) {
        let mut state = self.lock();
        let answered = match result {
            Result::Answered(took) => {
                state.learn(took);
                true
            }
            Result::Failed => false,
        };
        state.recent.push_back((now, answered));
        while state.recent.len() > 4 * SOME || state.recent.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            state.recent.pop_front();
        }
        if answered {
            state.in_a_row = 0;
            if state.resting.take().is_some() {
                state.recent.clear();
            }
            state.rests = 0;
            return;
        }
        state.in_a_row += 1;
        let failed = state.recent.iter().filter(|(_, answered)| !answered).count();
        let half = state.recent.len() >= SOME && 2 * failed >= state.recent.len();
        let on_trial = state.resting.as_ref().is_some_and(|rest| rest.trial);
        if on_trial || (state.resting.is_none() && (state.in_a_row >= IN_A_ROW || half)) {
            let rest = (REST * 2u32.saturating_pow(state.rests.min(8))).min(LONGEST_REST);
            state.rests += 1;
            state.resting = Some(Rest { until: now + rest, trial: false });
        }
    }

    /// Below which nineteen of twenty answers take; nothing is known before the first.
    pub(super) fn p95(&self) -> Option<Duration> {
        let p95 = self.lock().p95;
        (p95 > 0.0).then(|| Duration::from_secs_f64(p95))
    }

    /// Whether it is being given rest.
    pub(super) fn is_resting(&self) -> bool {
        self.lock().resting.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Moves the estimate up by nineteen parts when an answer took longer, down by one when it did not: it settles where
    /// one of twenty takes longer.
    fn learn(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        let part = self.p95 * 0.02;
        self.p95 = match self.p95 {
            0.0 => took,
            p95 if took > p95 => (p95 + 19.0 * part).min(took.max(p95)),
            p95 => (p95 - part).max(1e-6),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Result = Result::Answered(Duration::from_millis(1));

    #[test]
    fn five_failures_in_a_row_are_followed_by_rest_and_one_trial() {
        let health = Health::default();
        let now = Instant::now();
        (0..4).for_each(|_| health.record(now, Result::Failed));
        health.record(now, QUICK);
        (0..4).for_each(|_| health.record(now, Result::Failed));
        assert_eq!(health.admit(now), Admission::Open);
        health.record(now, Result::Failed);
        assert_eq!(health.admit(now), Admission::Resting(REST));
        let later = now + REST;
        assert_eq!(health.admit(later), Admission::Trial);
        assert!(matches!(health.admit(later), Admission::Resting(_)), "one tries at a time");
        health.record(later, Result::Failed);
        assert_eq!(health.admit(later), Admission::Resting(2 * REST), "longer each time");
        assert_eq!(health.admit(later + 2 * REST), Admission::Trial);
        health.record(later + 2 * REST, QUICK);
        assert_eq!(health.admit(later + 2 * REST), Admission::Open);
    }

    #[test]
    fn half_of_twenty_failing_is_enough() {
        let health = Health::default();
        let now = Instant::now();
        for call in 0..20 {
            assert_eq!(health.admit(now), Admission::Open, "{call}");
            health.record(now, if call % 2 == 0 { QUICK } else { Result::Failed });
        }
        assert!(matches!(health.admit(now), Admission::Resting(_)));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let health = Health::default();
        let now = Instant::now();
        for call in 0..19u64 {
            health.record(now, if call % 2 == 0 { QUICK } else { Result::Failed });
        }
        let later = now + WINDOW + Duration::from_secs(1);
        health.record(later, Result::Failed);
        assert_eq!(health.admit(later), Admission::Open);
    }

    #[test]
    fn the_estimate_settles_near_the_nineteenth_of_twenty() {
        let health = Health::default();
        let now = Instant::now();
        // 1 to 100 ms, shuffled: seven is prime to a hundred.
        for call in 0..20_000u64 {
            health.record(now, Result::Answered(Duration::from_millis(1 + call * 7 % 100)));
        }
        let p95 = health.p95().unwrap().as_millis();
        assert!((80..=100).contains(&p95), "{p95}");
    }
}
