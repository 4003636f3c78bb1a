//! Keys that are being made or copied just now.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Ids of keys of which backends make copies just now: what is noted of them is no remnant of an interruption.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<HashSet<String>>);

/// For as long as this lives.
pub(super) struct Begun<'a> {
    under_way: &'a UnderWay,
    key_id: String,
}

impl UnderWay {
    pub(super) fn begin(&self, key_id: &str) -> Begun<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key_id.to_owned());
        Begun { under_way: self, key_id: key_id.to_owned() }
    }

    pub(super) fn is_under_way(&self, key_id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key_id)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key_id);
    }
}
