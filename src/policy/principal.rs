//! Who asks: a URI in a client certificate, and what the configuration says about it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What sort of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A system.
    Service,
    /// A person who holds ceremonies.
    Officer,
    /// A person who reads.
    Auditor,
    /// Another daemon.
    Node,
}

/// An authenticated caller, with the duties and tenants that the configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    kind: Kind,
    name: String,
    roles: BTreeSet<String>,
    tenants: BTreeSet<String>,
}

/// A URI that names no principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not `claviger://` followed by service, officer, auditor or node, a slash, and a name of lower-case letters, digits and hyphens"
)]
pub struct PrincipalError(String);

impl Kind {
    /// Its Cedar entity type.
    pub fn entity_type(self) -> &'static str {
        match self {
            Self::Service => "Claviger::Service",
            Self::Officer => "Claviger::Officer",
            Self::Auditor => "Claviger::Auditor",
            Self::Node => "Claviger::Node",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Officer => "officer",
            Self::Auditor => "auditor",
            Self::Node => "node",
        }
    }
}

impl Principal {
    /// Whoever runs the host that the daemon is on, and its configuration.
    pub fn host() -> Option<Arc<Self>> {
        Self::from_uri("claviger://node/host", [], []).ok().map(Arc::new)
    }

    /// Reads the URI of a certificate's subject alternative name.
    ///
    /// # Errors
    /// [`PrincipalError`]; what is not canonical is refused.
    pub fn from_uri(
        uri: &str,
        roles: impl IntoIterator<Item = String>,
        tenants: impl IntoIterator<Item = String>,
    ) -> Result<Self, PrincipalError> {
        let wrong = || PrincipalError(uri.chars().take(80).collect());
        let (kind, name) = uri.strip_prefix("claviger://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let kind = [Kind::Service, Kind::Officer, Kind::Auditor, Kind::Node]
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or_else(wrong)?;
        let good = (1..=63).contains(&name.len())
            && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if !good {
            return Err(wrong());
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
            roles: roles.into_iter().collect(),
            tenants: tenants.into_iter().collect(),
        })
    }

    /// What sort.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name among its sort.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its duties.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(String::as_str)
    }

    /// The tenants it acts for.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.iter().map(String::as_str)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claviger://{}/{}", self.kind.as_str(), self.name)
    }
}
