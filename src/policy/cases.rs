//! Requests in words: what a test case and `policy explain` ask of a policy set.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use claviger_hsm_api::{Algorithm, Exposure, KeyState};
use serde::{Deserialize, Deserializer};

use super::{
    ACTIONS, Authorizer, BatchSize, Circumstances, ELSEWHERE, EMBEDDED, KeyResource, Principal, PrincipalError,
    Resource,
};

/// A request as a file describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The URI of who asks.
    pub who: String,
    /// Its duties.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The tenants it acts for.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// What it wants to do.
    pub action: String,
    /// To which key.
    #[serde(default)]
    pub key: Option<KeyInWords>,
    /// Or to all of which tenant; a backend, the audit log or the daemon itself, whichever the action is done to, if neither is
    /// named.
    #[serde(default)]
    pub tenant: Option<String>,
    /// In a ceremony of which plan.
    #[serde(default = "some_plan")]
    pub plan: String,
    /// To which backend.
    #[serde(default)]
    pub backend: BackendInWords,
    /// From which of the configured networks.
    #[serde(default = "elsewhere")]
    pub network: String,
    /// With how many rows; zero is a stream.
    #[serde(default = "one_row")]
    pub rows: u64,
    /// While which of the configured windows are open.
    #[serde(default)]
    pub windows: BTreeSet<String>,
    /// The backends that hold the key, or are to.
    #[serde(default)]
    pub backends: BTreeSet<String>,
    /// Their drivers.
    #[serde(default)]
    pub drivers: BTreeSet<String>,
    /// Where they stand.
    #[serde(default)]
    pub places: BTreeSet<String>,
    /// The most that may leave a backend for it.
    #[serde(default = "nothing", deserialize_with = "exposure")]
    pub exposure: String,
    /// Officers who have approved it.
    #[serde(default)]
    pub approvals: u64,
    /// Whether it is a step of a ceremony.
    #[serde(default)]
    pub ceremony: bool,
}

/// A key as a file describes it; what is left out is of no matter to the case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the attribute of that name in the schema")]
pub struct KeyInWords {
    pub tenant: String,
    pub scheme: String,
    pub role: String,
    #[serde(default = "triple_des", deserialize_with = "word::<_, Algorithm>")]
    pub algorithm: String,
    #[serde(default = "first_version")]
    pub version: String,
    #[serde(default = "active", deserialize_with = "word::<_, KeyState>")]
    pub state: String,
    #[serde(default = "card_key", deserialize_with = "word::<_, Exposure>")]
    pub ceiling: String,
    #[serde(default = "components")]
    pub origin: String,
    #[serde(default = "dispersion")]
    pub rank: String,
}

/// A word of a kind: by one that there is not nothing could be decided.
fn word<'de, D, Kind>(from: D) -> Result<String, D::Error>
where
    D: Deserializer<'de>,
    Kind: FromStr<Err: std::fmt::Display>,
{
    let word = String::deserialize(from)?;
    word.parse::<Kind>().map_err(serde::de::Error::custom)?;
    Ok(word)
}

fn exposure<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let word = String::deserialize(from)?;
    if word != nothing() {
        word.parse::<Exposure>().map_err(|error| serde::de::Error::custom(format!("{error}, or `{}`", nothing())))?;
    }
    Ok(word)
}

/// A backend as a file describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackendInWords {
    /// As configured.
    pub name: String,
    /// What it is.
    pub driver: String,
    /// Where it stands.
    pub place: String,
}

impl Default for BackendInWords {
    fn default() -> Self {
        let [name, driver, place] = ["embedded", EMBEDDED, "on-prem"].map(str::to_owned);
        Self { name, driver, place }
    }
}

impl BackendInWords {
    fn resource(&self) -> Resource {
        let Self { name, driver, place } = self.clone();
        Resource::Backend { name, driver, place }
    }
}

/// A request and the decision that it must get.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// What else must be decided so: the same request with each of these in the place of its own.
    #[serde(default)]
    pub also: Also,
    /// Of which set: `production` or `dev`; none if there is only one.
    #[serde(default)]
    pub set: Option<String>,
    /// The request.
    pub request: Request,
    /// `allow` or `deny`.
    pub expect: Expected,
    /// The policy that decides; `default` if none permits it.
    pub by: String,
}

/// What a case is about beside its own request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Also {
    /// Other actions.
    pub actions: Vec<String>,
    /// Other roles of the key.
    pub roles: Vec<String>,
}

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// It is permitted.
    Allow,
    /// It is not.
    Deny,
}

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// In order.
    #[serde(rename = "case", default)]
    pub cases: Vec<Case>,
}

/// A request that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not a principal.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// Not an action of the schema.
    #[error("`{0}` is not an action of the schema")]
    Action(String),
    /// Roles of no key.
    #[error("`also.roles` are roles of a key, and the request names none")]
    NoKey,
}

/// What a policy set says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whether it is permitted.
    pub allowed: bool,
    /// The policies that say so.
    pub policies: Vec<String>,
    /// In words, where it is refused.
    pub reason: String,
}

fn elsewhere() -> String {
    ELSEWHERE.to_owned()
}

fn some_plan() -> String {
    "generate-root".to_owned()
}

fn nothing() -> String {
    "nothing".to_owned()
}

fn dispersion() -> String {
    "dispersion".to_owned()
}

fn one_row() -> u64 {
    1
}

fn triple_des() -> String {
    "3des".to_owned()
}

fn first_version() -> String {
    "01".to_owned()
}

fn active() -> String {
    "active".to_owned()
}

fn card_key() -> String {
    "card-key".to_owned()
}

fn components() -> String {
    "components".to_owned()
}

impl Request {
    /// Asks a policy set.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn ask(&self, authorizer: &Authorizer) -> Result<Said, RequestError> {
        let principal = Arc::new(Principal::from_uri(&self.who, self.roles.clone(), self.tenants.clone())?);
        let action = action(&self.action).ok_or_else(|| RequestError::Action(self.action.clone()))?;
        let resource = match (&self.key, &self.tenant) {
            (Some(key), _) => Resource::Key(Arc::new(key.resource())),
            (None, Some(tenant)) if authorizer.is_done_to(action, "Ceremony") => {
                Resource::Ceremony { tenant: tenant.clone(), plan: self.plan.clone() }
            }
            (None, Some(tenant)) => Resource::Tenant(tenant.clone()),
            (None, None) if authorizer.is_done_to(action, "Backend") => self.backend.resource(),
            (None, None) if authorizer.is_done_to(action, "AuditLog") => Resource::AuditLog,
            (None, None) => Resource::Daemon,
        };
        Ok(authorizer.say(&principal, action, &resource, &self.circumstances()))
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances {
            network: self.network.clone(),
            batch: BatchSize::of(self.rows),
            windows: self.windows.clone(),
            backends: self.backends.clone(),
            drivers: self.drivers.clone(),
            places: self.places.clone(),
            exposure: self.exposure.clone(),
            approvals: self.approvals,
            ceremony: self.ceremony,
        }
    }
}

impl KeyInWords {
    fn resource(&self) -> KeyResource {
        KeyResource {
            id: "00000000000000000000000000000000".to_owned(),
            tenant: self.tenant.clone(),
            scheme: self.scheme.clone(),
            role: self.role.clone(),
            algorithm: self.algorithm.clone(),
            version: self.version.clone(),
            state: self.state.clone(),
            ceiling: self.ceiling.clone(),
            origin: self.origin.clone(),
            rank: self.rank.clone(),
            backends: BTreeSet::new(),
        }
    }
}

impl Case {
    /// What is wrong with the first decision that is another.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn fails(&self, authorizer: &Authorizer) -> Result<Option<String>, RequestError> {
        for (named, request) in self.requests()? {
            let said = request.ask(authorizer)?;
            if said.allowed != (self.expect == Expected::Allow) || !said.policies.contains(&self.by) {
                let word = if said.allowed { "allow" } else { "deny" };
                return Ok(Some(format!("{named}it is {word} by {}, not by {}", said.policies.join(", "), self.by)));
            }
        }
        Ok(None)
    }

    /// Its own request, and the others with what tells them apart.
    fn requests(&self) -> Result<Vec<(String, Request)>, RequestError> {
        let mut requests = vec![(String::new(), self.request.clone())];
        for action in &self.also.actions {
            requests.push((format!("`{action}`: "), Request { action: action.clone(), ..self.request.clone() }));
        }
        for role in &self.also.roles {
            let mut request = self.request.clone();
            request.key.as_mut().ok_or(RequestError::NoKey)?.role.clone_from(role);
            requests.push((format!("role {role}: "), request));
        }
        Ok(requests)
    }
}

/// The action of that name.
pub fn action(name: &str) -> Option<&'static str> {
    ACTIONS.iter().find(|action| **action == name).copied()
}
