//! All that the service answers.

use std::sync::Arc;

use super::VerifyJob;
use crate::keyring::Entry;

/// What is answered.
pub enum Outcome {
    /// It is done.
    Done,
    /// A key.
    Key(Arc<Entry>),
    /// Keys.
    Keys(Vec<Arc<Entry>>),
    /// An open job.
    Job(Box<VerifyJob>),
    /// Bytes that are not secret.
    Bytes(Vec<u8>),
    /// Whether the card's MAC was right and, only then, the answer's MAC.
    Purse {
        /// Whether it was.
        valid: bool,
        /// If one was asked for.
        made: Option<Vec<u8>>,
    },
    /// A purchase's MAC1 and the terminal's transaction number that it is for.
    Psam {
        /// Big-endian.
        ttc: [u8; 4],
        /// MAC1.
        mac: Vec<u8>,
    },
}
