//! The schemes that come with Claviger, and those that a directory adds.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::profile::ProfileError;
use crate::scheme::CardScheme;

/// The schemes that a daemon knows, by id.
#[derive(Clone, Default)]
pub struct Schemes(BTreeMap<String, Arc<CardScheme>>);

impl Schemes {
    /// Those that come with Claviger.
    ///
    /// # Errors
    /// If one does not reproduce its known answers on this machine.
    pub fn shipped() -> Result<Self, ProfileError> {
        let mut schemes = Self::default();
        for text in [
            include_str!("../profiles/pboc.toml"),
            include_str!("../profiles/cjt166.toml"),
            include_str!("../profiles/jtt978.toml"),
            include_str!("../profiles/generic.toml"),
        ] {
            schemes.add(CardScheme::load(text)?);
        }
        Ok(schemes)
    }

    /// Adds a scheme, or replaces the one of the same id.
    pub fn add(&mut self, scheme: CardScheme) {
        self.0.insert(scheme.id().to_owned(), Arc::new(scheme));
    }

    /// The scheme of that id.
    pub fn find(&self, id: &str) -> Option<&Arc<CardScheme>> {
        self.0.get(id)
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CardScheme>> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_profile_reproduces_its_known_answers() {
        let schemes = match Schemes::shipped() {
            Ok(schemes) => schemes,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(schemes.iter().count(), 4);
    }

    #[test]
    fn a_profile_with_a_wrong_answer_is_refused_by_name() {
        let text = include_str!("../profiles/cjt166.toml").replace("A5F32698", "A5F32699");
        let error = CardScheme::load(&text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("clearing-tac.json#purchase-mohurd-ep") && error.contains("`tac`"), "{error}");
    }

    #[test]
    fn a_profile_with_an_unknown_key_or_field_is_refused() {
        let text = include_str!("../profiles/pboc.toml");
        assert!(CardScheme::load(&text.replace("parity =", "partiy =")).is_err());
        assert!(CardScheme::load(&text.replace("\"ttc[2..4]\"", "\"ttc[2..6]\"")).is_err());
        assert!(CardScheme::load(&text.replace("types = [\"04\"]", "types = [\"06\"]")).is_err());
    }
}
