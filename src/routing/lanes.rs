//! Lanes: a clearing run never keeps a card holder at a gate waiting.
//!
//! A backend that takes so many calls at once gives each kind of work at most its share of them, and the rest waits in a
//! queue that is short and has an end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Kinds of work, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A card holder waits.
    Purse,
    /// Officers wait.
    Ceremony,
    /// Cards are made.
    Personalisation,
    /// A day's file.
    Clearing,
}

impl Lane {
    /// The lane of an operation, by the name that policies know it by.
    pub(super) fn of(action: &str) -> Self {
        match action {
            "verify_transactions" => Self::Clearing,
            "personalise_cards" => Self::Personalisation,
            "generate_key" | "import_key" | "disperse_key" | "destroy_key" | "replicate_key" | "adopt_key"
            | "unwrap_key" | "assign_role" | "export_key" => Self::Ceremony,
            _ => Self::Purse,
        }
    }

    /// How many of `places` it may hold: all but what is kept for those before it.
    fn share(self, places: usize) -> usize {
        match self {
            Self::Purse => places,
            Self::Ceremony => (places * 3).div_ceil(4),
            Self::Personalisation | Self::Clearing => (places / 2).max(1),
        }
    }
}

/// No place came free, or too many wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// A backend's places.
pub(super) struct Lanes {
    /// None where it takes as many as come.
    places: Option<usize>,
    /// In each lane: running, waiting.
    state: Mutex<[(usize, usize); 4]>,
    freed: Condvar,
}

/// A place, given back when dropped.
pub(super) struct Place<'a> {
    lanes: &'a Lanes,
    lane: Lane,
}

impl Lanes {
    pub(super) fn new(places: Option<usize>) -> Self {
        Self { places, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Whether nobody ever waits for a place.
    pub(super) fn are_endless(&self) -> bool {
        self.places.is_none()
    }

    /// A place in a lane, as soon as there is one.
    pub(super) fn enter(&self, lane: Lane, patience: Duration) -> Result<Place<'_>, Full> {
        let place = || Place { lanes: self, lane };
        let Some(places) = self.places else {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)[lane as usize].0 += 1;
            return Ok(place());
        };
        let until = Instant::now() + patience;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let free = |state: &[(usize, usize); 4]| {
            let running: usize = state.iter().map(|(running, _)| running).sum();
            // Whoever is more urgent and waits goes first.
            let before = state[..lane as usize].iter().any(|(_, waiting)| *waiting > 0);
            running < places && state[lane as usize].0 < lane.share(places) && !before
        };
        if state[lane as usize].1 >= 8 * places && !free(&state) {
            return Err(Full);
        }
        state[lane as usize].1 += 1;
        loop {
            if free(&state) {
                state[lane as usize].1 -= 1;
                state[lane as usize].0 += 1;
                return Ok(place());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state[lane as usize].1 -= 1;
                drop(state);
                self.freed.notify_all();
                return Err(Full);
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lanes.state.lock().unwrap_or_else(PoisonError::into_inner)[self.lane as usize].0 -= 1;
        self.lanes.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const SOON: Duration = Duration::from_millis(200);

    #[test]
    fn clearing_leaves_room_for_card_holders() {
        let lanes = Lanes::new(Some(4));
        let clearing: Vec<_> = (0..2).map(|_| lanes.enter(Lane::Clearing, NOW).ok().unwrap()).collect();
        assert!(lanes.enter(Lane::Clearing, NOW).is_err());
        let purses: Vec<_> = (0..2).map(|_| lanes.enter(Lane::Purse, NOW).ok().unwrap()).collect();
        assert!(lanes.enter(Lane::Purse, NOW).is_err(), "four places are four");
        drop(clearing);
        assert!(lanes.enter(Lane::Purse, NOW).is_ok());
        drop(purses);
        assert!(lanes.enter(Lane::Clearing, NOW).is_ok());
    }

    #[test]
    fn who_waits_gets_the_place_that_comes_free() {
        let lanes = Lanes::new(Some(1));
        let held = lanes.enter(Lane::Clearing, NOW).ok().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lanes.enter(Lane::Purse, SOON).is_ok());
            std::thread::sleep(SOON / 10);
            drop(held);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn the_queue_is_short_and_has_an_end() {
        let lanes = Lanes::new(Some(1));
        let _held = lanes.enter(Lane::Purse, NOW).ok().unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| lanes.enter(Lane::Purse, SOON).is_err())).collect();
            std::thread::sleep(SOON / 4);
            let begun = Instant::now();
            assert!(lanes.enter(Lane::Purse, SOON).is_err());
            assert!(begun.elapsed() < SOON / 4, "the ninth is told at once");
            assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap()), "the others when their time is over");
        });
    }
}
