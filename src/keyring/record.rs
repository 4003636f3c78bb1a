//! One key's record.

use claviger_hsm_api::{Exposure, Kcv, KeyState, NewKey, Raised};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a key came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Made inside.
    Generated,
    /// Joined from components.
    Components,
    /// Dispersed from a key inside.
    Dispersed,
    /// Found in a device that held it before.
    Adopted,
    /// Came from another party, wrapped.
    Unwrapped,
}

impl Origin {
    /// The word that policies and the API use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Components => "components",
            Self::Dispersed => "dispersed",
            Self::Adopted => "adopted",
            Self::Unwrapped => "unwrapped",
        }
    }
}

/// Where a key may live; fixed when it is made. In the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the operator's own room.
    OnPrem,
    /// In a provider's colocation room.
    Hosted,
    /// A cloud provider's service.
    Cloud,
}

/// The times between which a version is used; open where absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// From when it may protect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protect_from: Option<Timestamp>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protect_until: Option<Timestamp>,
    /// Until when it may verify what was protected before: TACs arrive weeks late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_until: Option<Timestamp>,
}

impl Validity {
    /// The times that there are, each with its name.
    pub fn times(&self) -> impl Iterator<Item = (&'static str, Timestamp)> {
        let times = [
            ("protects from", self.protect_from),
            ("protects until", self.protect_until),
            ("verifies until", self.verify_until),
        ];
        times.into_iter().filter_map(|(name, time)| Some((name, time?)))
    }
}

/// A key's copy in one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The backend's configured name.
    pub backend: String,
    /// The backend's own; empty once the key is destroyed there.
    pub opaque: Vec<u8>,
    /// The key's state as the backend has it. The record's counts: a replica that has not followed yet serves nobody.
    pub state: KeyState,
    /// Its ceiling as it is raised there. One that may less than the record says serves all the same, one that may more
    /// nobody.
    pub raised: Option<Raised>,
}

/// Metadata of a key. Never its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Name, version, level, attributes and state, as backends authenticate them.
    pub key: NewKey,
    /// Check value and the rule that made it.
    pub kcv: Kcv,
    /// How it came to be.
    pub origin: Origin,
    /// Where it may live.
    pub places: Vec<Place>,
    /// When it may be used.
    pub validity: Validity,
    /// When it was made.
    pub created: Timestamp,
    /// The KCV of a child by a fixed factor: a second known answer that every replica must show. Keys that
    /// do not disperse have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// What its ceiling is for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised: Option<Raised>,
}

/// What a key is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To make something new.
    Protect,
    /// To check or open what was made before.
    Process,
}

/// Why a key may not be used now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyUnusable {
    /// Its state forbids it.
    #[error("key {name} version {version} is {state}")]
    State {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// Its state.
        state: KeyState,
    },
    /// Its time has not come, or is over.
    #[error("key {name} version {version} is outside its period of use")]
    Period {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
}

impl Place {
    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnPrem => "on-prem",
            Self::Hosted => "hosted",
            Self::Cloud => "cloud",
        }
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::OnPrem, Self::Hosted, Self::Cloud];
        let found = all.into_iter().find(|place| place.as_str() == word);
        found.ok_or_else(|| {
            format!("`{}` is not one of: on-prem hosted cloud", word.chars().take(40).collect::<String>())
        })
    }
}

impl KeyRecord {
    /// What no two keys share: name, algorithm, version and held factors.
    pub fn identity(&self) -> String {
        let key = &self.key;
        format!("{}/{}/{}/{}", key.name, key.attributes.algorithm, key.version, key.factors.join("+"))
    }

    /// How audit records and errors name the key.
    pub fn label(&self) -> String {
        let key = &self.key;
        let held = if key.factors.is_empty() { String::new() } else { format!(" [{}]", key.factors.join(" ")) };
        format!("{} {} {}{held}", key.name, key.attributes.algorithm, key.version)
    }

    /// The most that may leave a backend now on account of this key.
    pub fn ceiling(&self) -> Exposure {
        Raised::above(self.raised, self.key.attributes.ceiling)
    }

    /// Its ceiling, and until when it is another.
    pub fn ceiling_in_words(&self) -> String {
        let ceiling = self.key.attributes.ceiling;
        match self.raised {
            Some(raised) if raised.holds() => format!("{} until {}, then {ceiling}", raised.ceiling, over_at(raised)),
            _ => ceiling.to_string(),
        }
    }

    /// Whether it may be used for `purpose` at `now`.
    ///
    /// # Errors
    /// [`KeyUnusable`].
    pub fn admits(&self, purpose: Purpose, now: Timestamp) -> Result<(), KeyUnusable> {
        let named = || (self.key.name.to_string(), self.key.version.to_string());
        let state = self.key.state;
        let by_state = match purpose {
            Purpose::Protect => state.may_protect(),
            Purpose::Process => state.may_process(),
        };
        if !by_state {
            let (name, version) = named();
            return Err(KeyUnusable::State { name, version, state });
        }
        let before = |limit: Option<Timestamp>| limit.is_none_or(|limit| now < limit);
        let by_time = match purpose {
            Purpose::Protect => {
                self.validity.protect_from.is_none_or(|from| now >= from) && before(self.validity.protect_until)
            }
            Purpose::Process => before(self.validity.verify_until),
        };
        if by_time {
            return Ok(());
        }
        let (name, version) = named();
        Err(KeyUnusable::Period { name, version })
    }
}

/// When a raised ceiling is over (RFC 3339).
pub fn over_at(raised: Raised) -> Timestamp {
    i64::try_from(raised.until).ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{ORIGINS, PLACES};

    /// Policies are checked by these words before they are used.
    #[test]
    fn policies_know_every_origin_and_place() {
        use Origin::{Adopted, Components, Dispersed, Generated, Unwrapped};
        assert_eq!(ORIGINS, [Generated, Components, Dispersed, Adopted, Unwrapped].map(Origin::as_str));
        assert_eq!(PLACES, [Place::OnPrem, Place::Hosted, Place::Cloud].map(Place::as_str));
    }
}
