//! Handshakes under way. Whoever comes when there are as many as there may be takes the place of the oldest: one that is served at
//! once has ended long before, and one that says nothing is in nobody's way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Those that are under way, the oldest first.
pub(super) struct Greetings {
    most: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    come: u64,
    places: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// One of them, for as long as this lives.
pub(super) struct Greeting {
    all: Arc<Greetings>,
    number: u64,
}

impl Greetings {
    /// At most so many.
    pub(super) fn new(most: usize) -> Self {
        Self { most, under_way: Mutex::default() }
    }

    /// A place, and where it is heard that another has taken it.
    pub(super) fn begin(self: &Arc<Self>) -> (Greeting, oneshot::Receiver<()>) {
        let (taken, hears) = oneshot::channel();
        let mut under_way = self.lock();
        under_way.come += 1;
        let number = under_way.come;
        under_way.places.push_back((number, taken));
        let oldest = (under_way.places.len() > self.most).then(|| under_way.places.pop_front()).flatten();
        drop(under_way);
        if let Some((_, taken)) = oldest {
            // One that ends just now has its place no more either.
            let _ = taken.send(());
        }
        (Greeting { all: Arc::clone(self), number }, hears)
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.all.lock().places.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let greetings = Arc::new(Greetings::new(2));
        let (first, mut first_hears) = greetings.begin();
        let (second, mut second_hears) = greetings.begin();
        assert!(first_hears.try_recv().is_err(), "there is room for two");
        drop(first);
        let (_third, mut third_hears) = greetings.begin();
        assert!(second_hears.try_recv().is_err(), "the first has ended");
        let (_fourth, mut fourth_hears) = greetings.begin();
        assert!(second_hears.try_recv().is_ok() && third_hears.try_recv().is_err());
        drop(second);
        assert!(third_hears.try_recv().is_err() && fourth_hears.try_recv().is_err());
        assert_eq!(greetings.lock().places.len(), 2);
    }
}
