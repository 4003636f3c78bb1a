//! Idea three: which secret would leave the HSM.

use crate::attributes::words;

use std::fmt;
use std::str::FromStr;

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
