//! A proof that one record had one verdict in one job: it can be checked against a log, offline and without any key.

use std::io::BufRead;

use serde::{Deserialize, Serialize};

use super::leaf::Leaf;
use super::tree::{Hash, LEAF, lead};
use super::{ChainError, Record, Verified};

/// What is handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Layout of the leaf and shape of the tree.
    pub version: u8,
    /// The job.
    pub job: String,
    /// The record's id, for people: the leaf holds it too.
    pub record_id: String,
    /// Its verdict, for people.
    pub verdict: String,
    /// The record's place among the job's, counted from zero.
    pub index: u64,
    /// How many there were.
    pub items: u64,
    /// The leaf, hexadecimal: salt, verdict, fields and id.
    pub leaf: String,
    /// From the leaf's neighbour up to the root, hexadecimal.
    pub path: Vec<String>,
    /// The root, hexadecimal.
    pub root: String,
}

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Something in it is not what it should be.
    #[error("the proof's `{0}` is not what belongs there")]
    Field(&'static str),
    /// The path does not lead to the root.
    #[error("the path does not lead from the leaf to the root")]
    Path,
    /// The log is not what was written.
    #[error(transparent)]
    Log(#[from] ChainError),
    /// The log holds the root, and nobody has signed that.
    #[error(
        "record {seq} of the log holds the root, and no checkpoint after it is signed: whoever can write the file can write that"
    )]
    Unsigned {
        /// The record's number.
        seq: u64,
    },
    /// The log says another root, or nothing of the job.
    #[error("the log holds no record of job {job} with {items} verdicts and this root")]
    NotThere {
        /// Its job.
        job: String,
        /// Its number of verdicts.
        items: u64,
    },
}

const VERSION: u8 = 1;

impl Proof {
    /// Puts a proof together.
    pub fn new(job: &str, record_id: &str, index: u64, items: u64, leaf: &Leaf, path: &[Hash], root: &Hash) -> Self {
        Self {
            version: VERSION,
            job: job.to_owned(),
            record_id: record_id.to_owned(),
            verdict: leaf.verdict().map(|verdict| verdict.to_string()).unwrap_or_default(),
            index,
            items,
            leaf: hex::encode(leaf.0),
            path: path.iter().map(hex::encode).collect(),
            root: hex::encode(root),
        }
    }

    /// The leaf, once everything in the proof fits together.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(&self) -> Result<Leaf, ProofError> {
        if self.version != VERSION {
            return Err(ProofError::Field("version"));
        }
        let leaf = Leaf(bytes::<LEAF>(&self.leaf).ok_or(ProofError::Field("leaf"))?);
        let path: Option<Vec<Hash>> = self.path.iter().map(|hash| bytes(hash)).collect();
        let path = path.ok_or(ProofError::Field("path"))?;
        let root: Hash = bytes(&self.root).ok_or(ProofError::Field("root"))?;
        if leaf.verdict().is_none_or(|verdict| verdict.as_str() != self.verdict) {
            return Err(ProofError::Field("verdict"));
        }
        let of_id = |id: &[u8]| id == self.record_id.as_bytes();
        if leaf.id().map_or_else(|| !leaf.holds_digest_of(self.record_id.as_bytes()), |id| !of_id(id)) {
            return Err(ProofError::Field("record_id"));
        }
        if lead(&leaf.0, self.index, self.items, &path) != Some(root) {
            return Err(ProofError::Path);
        }
        Ok(leaf)
    }

    /// Checks the proof, and that a log which was `verified` holds the root under a signature; gives the record that does.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check_in(&self, log: impl BufRead, verified: &Verified) -> Result<Record, ProofError> {
        self.check()?;
        let mut found = None;
        for line in log.lines() {
            let Ok(record) = serde_json::from_str::<Record>(&line.map_err(ChainError::Read)?) else { continue };
            let tree = record.event.verdicts.as_ref();
            let holds = tree.is_some_and(|tree| tree.items == self.items && tree.root == self.root);
            if holds && record.event.job == self.job {
                found = Some(record);
            }
        }
        match found {
            Some(record) if record.seq > verified.signed => Err(ProofError::Unsigned { seq: record.seq }),
            Some(record) => Ok(record),
            None => Err(ProofError::NotThere { job: self.job.clone(), items: self.items }),
        }
    }
}

fn bytes<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}
