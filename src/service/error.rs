//! What can go wrong, each with a stable code.

use claviger_card_schemes::{Reason, RequestError, SchemeError};
use claviger_hsm_api::{ComponentError, NameError, Verdict};

use super::{ApprovalError, CeremonyError};
use crate::audit::{AuditError, ChainError};
use crate::backup::BackupError;
use crate::keyring::{KeyUnusable, KeyringError};
use crate::policy::Denial;
use crate::routing::{BackendError, RouteError};
use crate::seal::SealError;
use crate::store::StoreError;

/// A failure of the service. Its text goes to the caller and holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No storage master key yet.
    #[error("the daemon is sealed: it must be unsealed first")]
    Sealed,
    /// Policy said no.
    #[error("{0}")]
    Denied(Denial),
    /// Others must approve it, or have approved something else.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// A ceremony does not go that way.
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    /// A backup cannot be made.
    #[error("the backup cannot be made: {0}")]
    Backup(#[from] BackupError),
    /// No such scheme.
    #[error("there is no card scheme `{0}`")]
    UnknownScheme(String),
    /// No such key, or not for this caller.
    #[error("there is no such key")]
    NoKey,
    /// A key that the operation needs does not exist.
    #[error("tenant `{tenant}` has no active key of role {role} in scheme `{scheme}` that fits")]
    NoRoleKey {
        /// The tenant.
        tenant: String,
        /// The scheme.
        scheme: String,
        /// The role.
        role: String,
    },
    /// A field of the request is wrong.
    #[error("field `{field}` {reason}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong with it; never its value if it may be secret.
        reason: String,
    },
    /// The key shows another KCV than was given.
    #[error("field `kcv` does not match: the key shows {shown}")]
    KcvMismatch {
        /// What the key shows.
        shown: String,
    },
    /// A record of the past says that a key is another.
    #[error("field `records` number {number} is {verdict} under this key ({reason})")]
    Replay {
        /// From one.
        number: usize,
        /// What came of it.
        verdict: Verdict,
        /// Why.
        reason: Reason,
    },
    /// The state or period of a key forbids it.
    #[error(transparent)]
    KeyUnusable(#[from] KeyUnusable),
    /// The keyring refused or failed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// No backend ran it.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A backend cannot be opened.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The seal does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The audit log does not take records.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The audit log is not what was written.
    #[error(transparent)]
    AuditLog(ChainError),
    /// The backend that is to sign the audit log does not.
    #[error("the audit log cannot be signed: {0}")]
    AuditKey(String),
    /// A policy set is not taken.
    #[error("the policies cannot be used: {0}")]
    Policies(String),
    /// The data directory cannot be had.
    #[error("the data directory cannot be used: {0}")]
    Directory(String),
    /// A key changed while a job that needs all its keys was running.
    #[error("key {0} was changed while the job was running")]
    Changed(String),
    /// Two backends answered differently: moving on would change answers.
    #[error("the two backends answered differently {0} times: roll back, find out why, and begin again")]
    Diverged(u64),
    /// The keys are not those that the caller counted on.
    #[error("the keys have changed since: {0}")]
    OtherKeys(String),
    /// Something failed that should not have; the log says what.
    #[error("the service failed inside; the operator's log says more")]
    Internal,
    /// A caller asks more than it may.
    #[error("the caller makes too many {what}")]
    TooMany {
        /// Of which kind.
        what: &'static str,
        /// Until it may ask again.
        seconds: u64,
    },
    /// A tenant has had all that it may have today.
    #[error("tenant `{tenant}` may have {most} items a day, and would have more")]
    Quota {
        /// The tenant.
        tenant: String,
        /// Of items.
        most: u64,
        /// Until midnight, UTC.
        seconds: u64,
    },
    /// Too much is running.
    #[error("the daemon is busy: {0}")]
    Busy(&'static str),
    /// The daemon is going down.
    #[error("the daemon is stopping")]
    Stopped,
}

impl ServiceError {
    pub(crate) fn field(field: impl Into<String>, reason: impl ToString) -> Self {
        Self::Field { field: field.into(), reason: reason.to_string() }
    }

    /// Whether a key changed between the reading of its record and its use: asking again may go well.
    pub(crate) fn is_of_a_changed_key(&self) -> bool {
        matches!(self, Self::Route(RouteError::Stale(_) | RouteError::Unusable(_)))
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Denied(_) => "denied",
            Self::Approval(error) => error.code(),
            Self::Ceremony(error) => error.code(),
            Self::UnknownScheme(_) => "unknown_scheme",
            Self::NoKey => "no_key",
            Self::NoRoleKey { .. } => "no_role_key",
            Self::Field { .. } => "bad_field",
            Self::KcvMismatch { .. } => "kcv_mismatch",
            Self::Replay { .. } => "replay_failed",
            Self::KeyUnusable(_) => "key_unusable",
            Self::Keyring(KeyringError::Store(StoreError::Exists)) => "key_exists",
            Self::Keyring(KeyringError::Store(StoreError::Conflict)) => "conflict",
            Self::Keyring(KeyringError::Store(StoreError::Held)) => "terminal_held",
            Self::Backup(_) => "directory",
            Self::Keyring(KeyringError::State { .. }) => "key_state",
            Self::Keyring(KeyringError::Course(_)) => "not_the_next_step",
            Self::Diverged(_) => "diverged",
            Self::Keyring(_) => "store_failed",
            Self::Route(RouteError::Ceiling { .. }) => "exposure_above_ceiling",
            Self::Route(RouteError::NoReplica(_)) => "no_replica",
            Self::Route(RouteError::NoBackend(_)) => "no_backend",
            Self::Route(RouteError::Place { .. }) => "place",
            Self::Route(RouteError::Busy { .. }) => "busy",
            Self::Route(RouteError::Resting { .. }) => "backend_resting",
            Self::Route(RouteError::Refused(_)) => "refused",
            Self::Route(RouteError::NotPermitted(_)) => "denied",
            Self::Route(RouteError::Unusable(_)) => "key_unusable",
            Self::Route(RouteError::Stale(_)) => "conflict",
            Self::Route(RouteError::Unsupported(_)) => "unsupported",
            Self::Changed(_) | Self::OtherKeys(_) => "keys_changed",
            Self::Internal => "internal",
            Self::Busy(_) => "busy",
            Self::TooMany { .. } => "too_many",
            Self::Quota { .. } => "quota",
            Self::Directory(_) => "directory",
            Self::Policies(_) => "policies_unusable",
            Self::Route(RouteError::Failed(_)) | Self::Backend(_) => "backend_failed",
            Self::Seal(SealError::Wrong) => "wrong_passphrase",
            Self::Seal(SealError::Shares(_)) => "wrong_share",
            Self::Seal(SealError::Store(_)) => "store_failed",
            Self::Seal(_) => "seal_unusable",
            Self::Audit(_) | Self::AuditLog(_) | Self::AuditKey(_) => "audit_failed",
            Self::Stopped => "stopping",
        }
    }

    /// Seconds after which asking again may go well.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Route(RouteError::Resting { seconds, .. })
            | Self::TooMany { seconds, .. }
            | Self::Quota { seconds, .. } => Some(*seconds),
            Self::Busy(_) | Self::Route(RouteError::Busy { .. }) => Some(1),
            _ => None,
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self.code() {
            "denied" | "wrong_passphrase" | "wrong_share" | "approval_needed" | "no_approver" => 403,
            "no_proposal" | "no_ceremony" | "no_key" | "unknown_scheme" | "no_role_key" => 404,
            "key_exists"
            | "conflict"
            | "key_state"
            | "not_the_next_step"
            | "diverged"
            | "key_unusable"
            | "keys_changed"
            | "exposure_above_ceiling"
            | "seal_unusable"
            | "proposal_over"
            | "ceremony_order"
            | "terminal_held"
            | "ceremony_over"
            | "approval_differs" => 409,
            "bad_signature" | "bad_field" | "bad_plan" | "step_refused" | "kcv_mismatch" | "replay_failed"
            | "no_backend" | "place" | "refused" | "unsupported" => 422,
            "too_many" | "quota" => 429,
            "internal" => 500,
            "backend_failed" => 502,
            _ => 503,
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Self::Keyring(KeyringError::Store(error))
    }
}

impl From<SchemeError> for ServiceError {
    fn from(error: SchemeError) -> Self {
        let field = match error {
            SchemeError::NoAlgorithm { .. } => "algorithm",
            SchemeError::Levels { .. } => "factors",
            SchemeError::Unknown { what, .. } => what,
            SchemeError::NoRole { .. } | SchemeError::RoleRefuses { .. } => "role",
        };
        Self::field(field, error)
    }
}

impl From<RequestError> for ServiceError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Scheme(error) => error.into(),
            RequestError::Missing(field) => Self::field(field.as_str(), "is missing"),
            RequestError::Wrong { what, reason } => Self::field(what, reason),
        }
    }
}

impl From<NameError> for ServiceError {
    fn from(error: NameError) -> Self {
        let field = match &error {
            NameError::Lower { part, .. } => part,
            NameError::Role { .. } => "role",
            NameError::Version { .. } => "version",
        };
        Self::field(field, error)
    }
}

impl From<ComponentError> for ServiceError {
    fn from(error: ComponentError) -> Self {
        Self::field("components", error)
    }
}
