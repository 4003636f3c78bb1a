//! What can be asked about ceremonies.

use claviger_key_ceremonies::Signed;
use jiff::Timestamp;
use zeroize::Zeroizing;

/// What is asked.
pub enum CeremonyRequest {
    /// A tenant's ceremonies.
    List {
        /// The tenant.
        tenant: String,
    },
    /// How one stands.
    Show {
        /// Its id.
        id: String,
        /// The head of the transcript that the caller has: it is answered once there is more, or after a while.
        after: Option<String>,
    },
    /// Whether one could be held.
    Check {
        /// The plan's file.
        plan: String,
        /// The binding's.
        binding: String,
    },
    /// Begins one.
    Open {
        /// The plan's file.
        plan: String,
        /// The binding's.
        binding: String,
    },
    /// Says that the caller is there.
    Join {
        /// Its id.
        id: String,
    },
    /// Takes the next turn.
    Step {
        /// Its id.
        id: String,
        /// What is brought to it.
        input: StepInput,
    },
    /// Signs how it ended.
    Sign {
        /// Its id.
        id: String,
        /// When it was signed.
        at: Timestamp,
        /// The certificate and signature of somebody who was there.
        signed: Signed,
    },
    /// Ends it before its end.
    Cancel {
        /// Its id.
        id: String,
        /// In words.
        reason: String,
    },
}

impl CeremonyRequest {
    /// As the policy schema names it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::List { .. } => "list_ceremonies",
            Self::Show { .. } => "show_ceremony",
            Self::Check { .. } => "check_ceremony",
            Self::Open { .. } => "open_ceremony",
            Self::Join { .. } | Self::Step { .. } => "take_step",
            Self::Sign { .. } => "sign_ceremony",
            Self::Cancel { .. } => "cancel_ceremony",
        }
    }
}

/// What somebody brings to their turn.
#[derive(Default)]
pub struct StepInput {
    /// The turn that they think it is.
    pub turn: String,
    /// That what is to be confirmed is so; `false` says that it is not.
    pub confirm: Option<bool>,
    /// A component, as it is written.
    pub component: Option<Zeroizing<String>>,
    /// A key as another party has wrapped it.
    pub wrapped: Option<String>,
    /// A check value, hexadecimal.
    pub kcv: Option<String>,
    /// That a component never reached its custodian, or a key that went out in the turn before whoever had it done.
    pub lost: bool,
}
