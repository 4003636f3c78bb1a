//! Keys where they are found at once: by id, and by name. A call looks its keys up, and there may be thousands.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use claviger_hsm_api::KeyName;

use super::Entry;

/// All keys.
#[derive(Default)]
pub(super) struct Shelf {
    by_id: HashMap<String, Arc<Entry>>,
    /// Of each name, by identity.
    by_name: HashMap<KeyName, BTreeMap<String, Arc<Entry>>>,
}

impl Shelf {
    /// Adds a key, or puts it in place of what it was. Its name and identity never change.
    pub(super) fn put(&mut self, entry: Arc<Entry>) {
        let of_name = self.by_name.entry(entry.record.key.name.clone()).or_default();
        of_name.insert(entry.record.identity(), Arc::clone(&entry));
        self.by_id.insert(entry.id().to_owned(), entry);
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<Entry>> {
        self.by_id.get(id)
    }

    /// Every key of a name, sorted by identity.
    pub(super) fn named(&self, name: &KeyName) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_name.get(name).into_iter().flat_map(BTreeMap::values)
    }

    /// Every key, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_id.values()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use claviger_hsm_api::{
        Algorithm, Exportability, Exposure, Kcv, KcvRule, KeyAttributes, KeyRank, KeyState, KeyVersion, ModeOfUse,
        NewKey,
    };
    use jiff::Timestamp;

    use super::*;
    use crate::keyring::{KeyRecord, Origin, Validity};

    pub(in crate::keyring) fn entry(id: &str, role: &str, version: u8) -> Entry {
        let attributes = KeyAttributes {
            algorithm: Algorithm::Aes128,
            usage: "M6".parse().unwrap(),
            mode: ModeOfUse::GenerateAndVerify,
            exportability: Exportability::None,
            rank: KeyRank::Plain,
            ceiling: Exposure::Nothing,
        };
        let key = NewKey {
            id: id.to_owned(),
            name: KeyName::new("demo", "generic", role).unwrap(),
            version: KeyVersion(version),
            factors: Vec::new(),
            attributes,
            state: KeyState::Active,
            kcv_rule: KcvRule::ZEROS,
        };
        Entry::draft(KeyRecord {
            key,
            kcv: Kcv { value: String::new(), rule: KcvRule::ZEROS },
            origin: Origin::Generated,
            places: Vec::new(),
            validity: Validity::default(),
            created: Timestamp::UNIX_EPOCH,
            proof: None,
            raised: None,
        })
    }

    #[test]
    fn a_key_is_found_by_id_and_by_name_as_it_is_now() {
        let mut shelf = Shelf::default();
        for (id, role, version) in [("a", "CMAC", 2), ("b", "CMAC", 1), ("c", "HMAC", 1)] {
            shelf.put(Arc::new(entry(id, role, version)));
        }
        let named = |shelf: &Shelf, role: &str| -> Vec<(String, KeyState)> {
            let name = KeyName::new("demo", "generic", role).unwrap();
            shelf.named(&name).map(|entry| (entry.id().to_owned(), entry.record.key.state)).collect()
        };
        let active = |id: &str| (id.to_owned(), KeyState::Active);
        assert_eq!(named(&shelf, "CMAC"), [active("b"), active("a")], "by identity");
        assert_eq!(named(&shelf, "DES"), []);
        let suspended = shelf.get("a").unwrap().in_state(KeyState::Suspended);
        shelf.put(Arc::new(suspended));
        assert_eq!(shelf.get("a").unwrap().record.key.state, KeyState::Suspended);
        assert_eq!(
            named(&shelf, "CMAC"),
            [active("b"), ("a".to_owned(), KeyState::Suspended)],
            "nothing is left of before"
        );
        assert_eq!((named(&shelf, "HMAC"), shelf.all().count()), (vec![active("c")], 3));
    }
}
