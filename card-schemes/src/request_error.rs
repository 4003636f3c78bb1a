//! Why a recipe could not be built.

use crate::fields::Field;
use crate::role::SchemeError;

/// A request that does not fit the scheme. Names the field, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The scheme does not know it.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// A field that a factor, the session key or a MAC needs.
    #[error("field `{0}` is missing")]
    Missing(Field),
    /// Something else of the request.
    #[error("`{what}` {reason}")]
    Wrong {
        /// A member of the request, or the name of a MAC.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RequestError {
    pub(crate) fn wrong(what: &str, reason: impl Into<String>) -> Self {
        Self::Wrong { what: what.to_owned(), reason: reason.into() }
    }
}
