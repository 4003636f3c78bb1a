//! Opened keys, by handle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The keys that a driver has open now, in whatever form it has them.
pub struct OpenKeys<K> {
    next: AtomicU64,
    keys: RwLock<HashMap<u64, Arc<K>>>,
}

impl<K> Default for OpenKeys<K> {
    fn default() -> Self {
        Self { next: AtomicU64::new(0), keys: RwLock::default() }
    }
}

impl<K> OpenKeys<K> {
    /// Adds a key; its number.
    pub fn insert(&self, key: K) -> u64 {
        let object = self.next.fetch_add(1, Ordering::Relaxed);
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(object, Arc::new(key));
        object
    }

    /// Forgets a key. A batch that already holds it ends first, and nobody finds it any more; when this returns
    /// the key and all that was derived from it are gone.
    pub fn remove(&self, object: u64) {
        let removed = self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&object);
        let Some(mut key) = removed else { return };
        // Batches take milliseconds, and keys are closed seldom.
        while let Err(held) = Arc::try_unwrap(key) {
            key = held;
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The key of a number.
    pub fn get(&self, object: u64) -> Option<Arc<K>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&object).cloned()
    }
}
