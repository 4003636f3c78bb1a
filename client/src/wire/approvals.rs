//! Operations that others must approve.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The header of a request that names the proposal under which it was approved.
pub const APPROVAL: &str = "claviger-approval";

/// An operation that somebody asked for and others must approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proposal {
    /// 16 bytes in hexadecimal.
    #[schema(example = "5f0c3a9d21e87b465f0c3a9d21e87b46")]
    pub id: String,
    /// The daemon that would do it.
    #[schema(example = "e032f0e228e9077e2d7baac0902af7d9")]
    pub daemon: String,
    /// Who asked for it.
    #[schema(example = "claviger://officer/li")]
    pub proposer: String,
    /// Whose keys it is about.
    #[schema(example = "demo")]
    pub tenant: String,
    /// What would be done, as the policy schema names it.
    #[schema(example = "destroy_key")]
    pub action: String,
    /// To what and how.
    pub lines: Vec<ProposalLine>,
    /// Others who must approve it.
    #[schema(example = 2)]
    pub approvals: u64,
    /// After which nobody may do it (RFC 3339).
    #[schema(example = "2026-11-28T10:00:00Z")]
    pub expires: String,
    /// `open`, `used`, `refused`, `expired`, or `changed` if the key was since, so that it cannot be done any more.
    #[schema(example = "open")]
    pub state: String,
    /// What officers have said, in order.
    pub votes: Vec<ProposalVote>,
}

/// One line of a proposal's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProposalLine {
    /// What it is.
    #[schema(example = "key")]
    pub name: String,
    /// As it is signed.
    #[schema(example = "demo/cjt166/DTK 3des 01")]
    pub value: String,
}

/// What an officer said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProposalVote {
    /// Who.
    #[schema(example = "claviger://officer/zhou")]
    pub officer: String,
    /// `approve` or `refuse`.
    #[schema(example = "approve")]
    pub vote: String,
}

/// Proposals, those made last first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProposalList {
    /// Of the tenant.
    pub proposals: Vec<Proposal>,
}

/// Whose proposals.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProposalFilter {
    /// City or operator; the daemon's own if none is named.
    #[param(example = "demo")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// An officer's signed word about a proposal.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"vote": "approve", "certificate": "-----BEGIN CERTIFICATE-----\n...", "signature": "3045..."}))]
pub struct Vote {
    /// `approve` or `refuse`.
    #[schema(example = "approve")]
    pub vote: String,
    /// The officer's certificate and those between it and its authority, PEM.
    #[schema(example = "-----BEGIN CERTIFICATE-----\n...")]
    pub certificate: String,
    /// Over the word, a line feed and the proposal's words; hexadecimal.
    #[schema(example = "3045...")]
    pub signature: String,
}
