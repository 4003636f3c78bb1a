//! Keys of a plan, as the daemon is asked for them.

use claviger_client::{KeyReference, NewKey};
use claviger_key_ceremonies::PlannedKey;

/// One that is not there yet; where, and whether it may leave, is the caller's to say.
pub(super) fn new_key(tenant: &str, key: &PlannedKey) -> NewKey {
    NewKey {
        tenant: tenant.to_owned(),
        scheme: key.scheme.clone(),
        role: key.role.clone(),
        version: key.version.clone(),
        algorithm: key.algorithm.clone(),
        factors: key.factors.clone(),
        ceiling: key.ceiling.clone(),
        protect_from: key.protect_from.clone(),
        protect_until: key.protect_until.clone(),
        verify_until: key.verify_until.clone(),
        backends: Vec::new(),
        places: Vec::new(),
        movable: false,
        sensitive: false,
    }
}

/// One that is there.
pub(super) fn reference(tenant: &str, key: &PlannedKey) -> KeyReference {
    KeyReference {
        tenant: tenant.to_owned(),
        scheme: key.scheme.clone(),
        role: key.role.clone(),
        version: key.version.clone(),
        algorithm: key.algorithm.clone(),
        factors: key.factors.clone(),
    }
}
