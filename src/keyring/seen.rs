//! Keys as policies see them.

use std::sync::{Arc, OnceLock};

use claviger_hsm_api::Exposure;

use super::Entry;
use crate::policy::KeyResource;

/// What policies have seen of a stored key, for a call asks them each time; of a copy, which may become another key, nothing.
#[derive(Debug, Default)]
pub(super) struct Seen(OnceLock<(Exposure, Arc<KeyResource>)>);

impl Clone for Seen {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Entry {
    /// The key's public attributes as they are now.
    pub fn resource(&self) -> Arc<KeyResource> {
        let ceiling = self.record.ceiling();
        // One that no store has may still be changed in place.
        if self.version == 0 {
            return Arc::new(self.attributes(ceiling));
        }
        let (of, seen) = self.seen.0.get_or_init(|| (ceiling, Arc::new(self.attributes(ceiling))));
        // A raised ceiling is over some day, by the clock alone.
        if *of == ceiling { Arc::clone(seen) } else { Arc::new(self.attributes(ceiling)) }
    }

    fn attributes(&self, ceiling: Exposure) -> KeyResource {
        let key = &self.record.key;
        KeyResource {
            id: key.id.clone(),
            tenant: key.name.tenant().to_owned(),
            scheme: key.name.scheme().to_owned(),
            role: key.name.role().to_owned(),
            algorithm: key.attributes.algorithm.to_string(),
            version: key.version.to_string(),
            state: key.state.to_string(),
            ceiling: ceiling.to_string(),
            origin: self.record.origin.as_str().to_owned(),
            rank: key.attributes.rank.as_str().to_owned(),
            backends: self.backends().map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use claviger_hsm_api::{KeyState, Raised};

    use super::*;
    use crate::keyring::shelf::tests::entry;

    #[test]
    fn what_was_seen_is_the_key_as_it_is_now() {
        let stored = Entry { version: 1, ..entry("a", "DTK", 1) };
        assert!(Arc::ptr_eq(&stored.resource(), &stored.resource()));
        let suspended = stored.in_state(KeyState::Suspended);
        assert_eq!((stored.resource().state.as_str(), suspended.resource().state.as_str()), ("active", "suspended"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let mut raised = stored.clone();
        raised.record.raised = Some(Raised { ceiling: Exposure::CardKey, until: now + 2 });
        assert_ne!(raised.resource().ceiling, stored.resource().ceiling);
        while raised.record.raised.is_some_and(Raised::holds) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(raised.resource(), stored.resource(), "the time is over");
    }
}
