//! The audit log: one hash-chained record for each decision and each batch.
//!
//! A record is a line of JSON; its `hash` is SHA-256 over the line before it was added, which holds the
//! hash of the record before. A record is on disk before the answer that it speaks of leaves: waiting
//! records are written together and synchronised once, and while several callers are at work the writer lets their records
//! gather for a little. If the log cannot be written, nothing is answered. A record never holds a secret, nor a MAC.
//!
//! While the daemon is unsealed, a second at most after a record a checkpoint follows that signs it, and stands beside the
//! log as well: a log that was written anew, or cut, is found out by it. A backend that keeps the key may take longer; what
//! is written meanwhile stands before the checkpoint and waits for the next.

mod away;
mod chain;
mod checkpoint;
mod growth;
mod leaf;
mod proof;
mod queue;
mod tree;
mod usage;
mod writer;

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::time::Duration;

use claviger_hsm_api::KeyState;
use serde::{Deserialize, Serialize};

pub(crate) use chain::SETS;
pub use chain::{ChainError, Sets, Verified, verify, verify_lines};
pub use checkpoint::{Attest, SignedHead, Signer};
pub use growth::Growth;
pub use leaf::{Blinding, Leaf, Salts};
pub use proof::{Proof, ProofError};
pub use tree::Tree;
pub use usage::{Use, Used, usage};
pub use writer::{Audit, AuditError, End, Place, Written};

/// `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// The backend that makes and keeps the key by which the log is signed; it belongs to the storage master key if none is named.
    pub signed_by: Option<String>,
    /// The public key that signed before and signs no more, hexadecimal: with it the log goes on by another.
    pub after: Option<String>,
    /// Seconds that records may stand unsigned while that backend does not answer.
    pub unsigned_seconds: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { signed_by: None, after: None, unsigned_seconds: 60 }
    }
}

impl AuditConfig {
    /// How long records may stand unsigned.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.unsigned_seconds)
    }
}

/// What happened, as callers of [`Audit::append`] say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// `decision`, `job-opened`, `job-closed`, `start`, `unseal` ...
    pub event: String,
    /// Who asked; empty for what the daemon does by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub principal: String,
    /// What was asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// Whose keys.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// `allow` or `deny`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub decision: String,
    /// Ids of the policies that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Keys and versions, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Backend and the exposure that the recipe had there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<String>,
    /// Rows of a batch by verdict, or other counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// `begun` before something is changed; `done`, or the code of the error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    /// Ties the records of one job together.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// The proposal that it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub approval: String,
    /// The ceremony that it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ceremony: String,
    /// Of a key that was made the times of its use, of a `proposal` its words, of a vote the word and the signature, of a ceremony the number of its transcript's lines and
    /// the hash of the last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub statement: String,
    /// Of a job that verifies: the tree of its verdicts so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdicts: Option<VerdictTree>,
    /// Of a `checkpoint`: the record before it, signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedHead>,
    /// Of a `start` or a `reload`: the policies that are in force after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
    /// Of a `reload` that changed nothing: why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Event {
    /// Rows of its batches: records, MACs and cards, and not the keys that it lists or changes.
    pub fn items(&self) -> u64 {
        let is_of_keys = |what: &str| what == KEYS || KeyState::ALL.iter().any(|state| state.as_str() == what);
        self.counts.iter().filter(|(what, _)| !is_of_keys(what)).map(|(_, count)| count).sum()
    }
}

/// The outcome of what is about to be done. How it went says another record; if there is none, the daemon ended in between.
pub(crate) const BEGUN: &str = "begun";

/// What keys that were listed are counted by.
pub(crate) const KEYS: &str = "keys";

/// A policy set that a daemon goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// `production`, `dev`, or its directory.
    pub name: String,
    /// Over the names and texts of its files, hexadecimal.
    pub sha256: String,
}

/// What a log says of a job's verdicts without saying one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictTree {
    /// Lines or records of the file before the job's first, as an editor counts them.
    pub before: u64,
    /// Records since, in the file's order: the tree's leaves.
    pub items: u64,
    /// Its root, hexadecimal.
    pub root: String,
}

/// The lines of a log; not the last one if it is torn, as one that is being written just now.
pub fn whole_lines(mut log: impl BufRead) -> impl Iterator<Item = io::Result<String>> {
    std::iter::from_fn(move || {
        let mut line = String::new();
        match log.read_line(&mut line) {
            Ok(_) => line.strip_suffix('\n').map(|line| Ok(line.to_owned())),
            Err(error) => Some(Err(error)),
        }
    })
}

/// A record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counted from one.
    pub seq: u64,
    /// When it was written, UTC.
    pub time: String,
    /// Hash of the record before; zeros for the first.
    pub prev: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// SHA-256 of this record without this member, as written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}
