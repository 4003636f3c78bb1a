//! Who may do what.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Somebody whom the configuration knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caller {
    /// In the certificate.
    #[schema(example = "claviger://service/clearing")]
    pub uri: String,
    /// Duties.
    #[schema(example = json!(["clearing"]))]
    pub roles: Vec<String>,
    /// The tenants it acts for.
    #[schema(example = json!(["demo"]))]
    pub tenants: Vec<String>,
}

/// Everybody whom the configuration knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallerList {
    /// By name.
    pub principals: Vec<Caller>,
}

/// What proofs of a job's verdicts are made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobBlinding {
    /// The job.
    #[schema(example = "5f0c3a9d21e87b46")]
    pub job: String,
    /// What the salts of its leaves follow from, 32 bytes in hexadecimal. Whoever has it and a proof can try the MACs of the
    /// proof's neighbours: it is the auditor's alone.
    #[schema(example = "7e9b1c5d3f2a60488e1d7c3b5a9f0e2d4c6b8a7f1e3d5c7b9a8f6e4d2c1b0a99")]
    pub blinding: String,
}

/// A question to the policies in force.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhoCan {
    /// As the policy schema names it.
    #[param(example = "verify_transactions")]
    pub action: String,
}

/// What policy says of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// Of whom.
    pub principal: Caller,
    /// Whether it is permitted without others.
    #[schema(example = true)]
    pub allowed: bool,
    /// How many others must approve it first, if it is permitted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub approvals: Option<u64>,
    /// The policies that say so, or would with those approvals; `default` if none permits it.
    #[schema(example = json!(["clearing.verify"]))]
    pub policies: Vec<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "no policy permits it")]
    pub reason: Option<String>,
}

/// A policy set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicySet {
    /// `production`, `dev`, or its directory.
    #[schema(example = "production")]
    pub name: String,
    /// In its directory `LC_ALL=C; sha256sum *.cedar | sha256sum`.
    #[schema(example = "8d3c1f0a55f1b5f3f0f7f2f4f1b0e7d6a9c8b7a6958473625140f1e2d3c4b5a6")]
    pub sha256: String,
}

/// What would be another policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyChange {
    /// Its `@id`.
    #[schema(example = "officers.approved")]
    pub policy: String,
    /// `added`, `changed` or `removed`.
    #[schema(example = "changed")]
    pub change: String,
    /// Its text today, on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "@id(\"officers.approved\") permit(principal, action, resource) when { context.approvals >= 2 };"
    )]
    pub was: Option<String>,
    /// Its text then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "@id(\"officers.approved\") permit(principal, action, resource) when { context.approvals >= 3 };"
    )]
    pub now: Option<String>,
}

/// The policies that a daemon goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policies {
    /// Those that decide.
    pub in_force: PolicySet,
    /// Those that the configuration names, if they wait for others to agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<PolicySet>,
    /// What these would change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PolicyChange>,
}

/// Has the policies that wait take the place of those in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"sha256": "8d3c1f0a55f1b5f3f0f7f2f4f1b0e7d6a9c8b7a6958473625140f1e2d3c4b5a6"}))]
pub struct ChangePolicies {
    /// Of the set that waits, so that no other is meant.
    #[schema(example = "8d3c1f0a55f1b5f3f0f7f2f4f1b0e7d6a9c8b7a6958473625140f1e2d3c4b5a6")]
    pub sha256: String,
}

/// What policy says of everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantList {
    /// By name.
    pub grants: Vec<Grant>,
}
