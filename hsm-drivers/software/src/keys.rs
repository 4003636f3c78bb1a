//! Opened keys, by handle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use claviger_hsm_engine::PlainKey;

/// The keys that are open now.
#[derive(Default)]
pub(crate) struct OpenKeys {
    next: AtomicU64,
    keys: RwLock<HashMap<u64, Arc<PlainKey>>>,
}

impl OpenKeys {
    pub(crate) fn insert(&self, key: PlainKey) -> u64 {
        let object = self.next.fetch_add(1, Ordering::Relaxed);
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(object, Arc::new(key));
        object
    }

    /// A batch that already holds the key finishes with it; the next one does not find it.
    pub(crate) fn remove(&self, object: u64) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&object);
    }

    pub(crate) fn get(&self, object: u64) -> Option<Arc<PlainKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&object).cloned()
    }
}
