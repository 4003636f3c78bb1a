//! All that the service answers.

use std::sync::Arc;

use claviger_card_schemes::CardScheme;
use claviger_key_ceremonies::Transcript;

use super::{Backup, Exported, PersonaliseJob, PolicyStatus, Proposal, Standing, Taken, VerifyJob};
use crate::audit::Blinding;
use crate::keyring::{Entry, Move};
use crate::policy::Principal;
use crate::routing::{BackendStatus, Comparison};

/// A ciphertext, and the initial value or nonce it was made with.
pub struct Sealed {
    /// None where the row did not run.
    pub text: Option<Vec<u8>>,
    /// None in ECB.
    pub iv: Option<Vec<u8>>,
}

/// Which backend answers for a key, and how its move stands.
pub struct Moving {
    /// The backend that is asked first.
    pub answers: String,
    /// None if the key is not on its way.
    pub moving: Option<Move>,
    /// What came of asking both.
    pub comparison: Comparison,
}

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
    /// A job that makes key sets.
    Personalise(Box<PersonaliseJob>),
    /// Bytes of each row; none where a ciphertext was not authentic.
    Rows(Vec<Option<Vec<u8>>>),
    /// Which policies are in force, and which wait.
    Policies(PolicyStatus),
    /// The ciphertext of each row.
    CipherTexts(Vec<Sealed>),
    /// What was found of each row's MAC, signature or answer.
    Verdicts {
        /// Whether it was right.
        valid: Vec<bool>,
        /// The call's id in the audit log.
        job: String,
    },
    /// A card scheme.
    Scheme(Arc<CardScheme>),
    /// A key as it goes out.
    Exported(Exported),
    /// How a key's move stands.
    Moving(Moving),
    /// Who may call.
    Principals(Vec<Arc<Principal>>),
    /// Of each who may call, what policy says.
    Grants(Vec<Standing>),
    /// What the salts of a job's verdicts follow from.
    Blinding(Blinding),
    /// What waits for approval, or was approved or refused.
    Proposals(Vec<Proposal>),
    /// One of them.
    Proposal(Proposal),
    /// A tenant's ceremonies.
    Ceremonies(Vec<Transcript>),
    /// One of them.
    Ceremony(Box<Transcript>),
    /// What came of a step.
    Taken(Box<Taken>),
    /// Shares that a sealed daemon has, and how many it takes.
    Shares {
        /// So many.
        found: usize,
        /// Of so many.
        wanted: u8,
    },
    /// A backup, ready to be written.
    Backup(Box<Backup>),
    /// How the backends are.
    Backends(Vec<BackendStatus>),
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
