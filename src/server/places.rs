//! Places for connections, of which no caller has more than half: what one holds open, the others do not miss.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All places.
pub(super) struct Places {
    most: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// One of them, for as long as this lives.
pub(super) struct Place {
    places: Arc<Places>,
    caller: String,
}

impl Places {
    /// So many.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// A place for a caller, if there is one for it.
    pub(super) fn take(self: &Arc<Self>, caller: &str) -> Option<Place> {
        let mut taken = self.lock();
        let all: usize = taken.values().sum();
        let own = taken.get(caller).copied().unwrap_or(0);
        if all >= self.most || own >= self.most.div_ceil(2) {
            return None;
        }
        *taken.entry(caller.to_owned()).or_default() += 1;
        drop(taken);
        Some(Place { places: Arc::clone(self), caller: caller.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(own) = taken.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_has_more_than_half() {
        let places = Arc::new(Places::new(5));
        let taken: Vec<_> = (0..4).map(|_| places.take("one")).collect();
        assert_eq!(taken.iter().flatten().count(), 3);
        let others = [places.take("two"), places.take("three")];
        assert!(others.iter().all(Option::is_some), "the others have theirs");
        assert!(places.take("two").is_none(), "all are taken");
        drop(taken);
        assert!(places.take("one").is_some());
        drop(others);
        assert!(places.lock().is_empty());
    }
}
