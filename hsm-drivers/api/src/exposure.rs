//! Idea three: which secret would leave the HSM.

use crate::attributes::words;

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::UnknownWord;

words! {
    /// The greatest secret that leaves a backend when it runs a recipe; also a key's *ceiling*, the most
    /// that may ever leave. Ordered: a request runs only where `exposure <= ceiling` for every key.
    Exposure {
        /// Results only.
        Nothing = "nothing",
        /// A session key: worth one transaction.
        SessionKey = "session-key",
        /// A card's key, folded or not: worth one card.
        CardKey = "card-key",
        /// The stored key, or one of issuer or city level: worth every card below it.
        MasterKey = "master-key",
    }
}

/// A ceiling that is higher for a time. It is over by the clock, whether anybody takes it back or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The most that may leave until then.
    pub ceiling: Exposure,
    /// The second in which it is over, since 1970-01-01T00:00:00Z.
    pub until: u64,
}

impl Raised {
    /// Whether it is not over yet. A clock that shows no time is past every time.
    pub fn holds(self) -> bool {
        SystemTime::now().duration_since(UNIX_EPOCH).is_ok_and(|now| now.as_secs() < self.until)
    }

    /// What may leave now of a key with that ceiling.
    pub fn above(raised: Option<Self>, ceiling: Exposure) -> Exposure {
        raised.filter(|raised| raised.holds()).map_or(ceiling, |raised| raised.ceiling.max(ceiling))
    }
}
