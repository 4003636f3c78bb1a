//! All that can be asked of the service. HTTP, the CLI and the bridge parse into it.

mod ceremony;
mod exchange;
mod generic;

use claviger_card_schemes::FieldSet;
use claviger_hsm_api::{Algorithm, Exposure, KcvRule, KeyName, KeyState, KeyVersion, Secret};
use claviger_key_ceremonies::{Signed, Vote};
use jiff::SignedDuration;

use crate::keyring::{MoveStep, Place, Validity};
pub use ceremony::{CeremonyRequest, StepInput};
pub use exchange::{ExportForm, HeldElsewhere, UnwrapRequest};
pub use generic::{CipherText, GenericRequest, GenericTask, Mode};

/// What is asked.
pub enum Operation {
    /// Opens the seal with a passphrase.
    Unseal {
        /// The words.
        passphrase: Secret,
    },
    /// Brings a custodian's share to a sealed daemon.
    BringShare {
        /// Its bytes.
        share: Secret,
    },
    /// Makes a key inside a backend.
    GenerateKey(KeyRequest),
    /// Joins a key from components, each of which the caller brings.
    ImportKey {
        /// What the key will be.
        request: KeyRequest,
        /// At least two; XORed.
        components: Vec<Secret>,
        /// The KCV that the key must show.
        kcv: Option<String>,
        /// Whether every byte must have odd parity.
        odd_parity: bool,
    },
    /// Registers a key that a device holds already.
    AdoptKey {
        /// What the key is.
        request: KeyRequest,
        /// The device's name of it: a label, or an id in hexadecimal.
        object: String,
        /// The KCV that the key must show.
        kcv: Option<String>,
        /// Records of the past whose TACs the key must find right.
        records: Vec<FieldSet>,
    },
    /// Makes another backend a copy of a key.
    ReplicateKey {
        /// Its id.
        id: String,
        /// The backend's name.
        to: String,
        /// The wrapping key that both backends hold.
        under: KeyRef,
    },
    /// Takes a key in that another party has wrapped.
    UnwrapKey(UnwrapRequest),
    /// Gives a key out to another party.
    ExportKey {
        /// Its id.
        id: String,
        /// In which form, under what.
        form: ExportForm,
    },
    /// The public half of an SM2 key.
    ShowPublicKey {
        /// The key's id.
        id: String,
    },
    /// Takes a step of a key's move between two backends that hold it.
    MoveKey {
        /// Its id.
        id: String,
        /// Which.
        step: MoveStep,
    },
    /// How a key's move stands.
    ShowMove {
        /// Its id.
        id: String,
    },
    /// Every key of a tenant.
    ListKeys {
        /// The tenant.
        tenant: String,
    },
    /// One key.
    ShowKey {
        /// Its id.
        id: String,
    },
    /// Suspends, resumes, deactivates, compromises or destroys a key.
    SetKeyState {
        /// Its id.
        id: String,
        /// The state it shall have.
        state: KeyState,
    },
    /// Lets more leave on account of a key, for a time.
    RaiseCeiling {
        /// Its id.
        id: String,
        /// How far, and how long.
        raise: Raise,
    },
    /// Takes that back before its time.
    LowerCeiling {
        /// The key's id.
        id: String,
    },
    /// Disperses a stored key to a child that stays inside, as a key of its own.
    DisperseKey {
        /// The key above.
        parent: KeyRef,
        /// The factors of the next levels, root first, upper-case hexadecimal.
        factors: Vec<String>,
    },
    /// A key's check value by a rule of the caller's.
    ComputeKcv {
        /// Its id.
        id: String,
        /// How.
        rule: KcvRule,
    },
    /// Opens a job that verifies a stream of records.
    VerifyTransactions {
        /// Whose keys.
        tenant: String,
        /// Of which scheme.
        scheme: String,
        /// Lines or records of the file before the first that comes, as an editor counts them.
        before: u64,
        /// Whether verdicts leave while records still come: that it begins is then written down first.
        streamed: bool,
    },
    /// A host's part in a purse transaction: verify the card's MAC, and only then make the answer.
    Purse(PurseRequest),
    /// A terminal's part in a purchase, in place of its PSAM.
    PsamDebit(PsamRequest),
    /// A card command under secure messaging.
    CardCommand(CardCommand),
    /// A card's new key, under one that it holds.
    WriteKey(WriteKey),
    /// Verifies a card's answer to a challenge.
    AuthenticateCard(CardAnswer),
    /// Opens a job that makes the key sets of a stream of cards.
    PersonaliseCards(Personalisation),
    /// Uses a key of no card scheme.
    Generic(GenericRequest),
    /// A card scheme, as the daemon uses it.
    ShowScheme {
        /// Its id.
        id: String,
    },
    /// A tenant's proposals.
    ListProposals {
        /// The tenant.
        tenant: String,
    },
    /// A proposal and what was said to it.
    ShowProposal {
        /// Its id.
        id: String,
    },
    /// An officer's word about a proposal.
    Vote {
        /// Its id.
        id: String,
        /// Yes or no.
        vote: Vote,
        /// The officer's certificate and signature.
        signed: Signed,
    },
    /// Holds a ceremony.
    Ceremony(CeremonyRequest),
    /// Makes a backup of store and log.
    BackUp,
    /// Says the last number that a terminal has used.
    SetTerminal {
        /// The tenant.
        tenant: String,
        /// Upper-case hexadecimal.
        terminal: String,
        /// The number.
        last: u32,
    },
    /// How each backend is.
    ListBackends,
    /// Which policies are in force, and which wait.
    ShowPolicies,
    /// Puts the policies that wait in the place of those in force.
    ChangePolicies {
        /// Of the set that waits, lower-case hexadecimal.
        sha256: String,
    },
    /// Who may call at all.
    ListPrincipals,
    /// Which of them may do something with a key.
    WhoCan {
        /// The action, as the policy schema names it.
        what: String,
        /// The key's id.
        id: String,
    },
    /// What is needed to prove one verdict of a job.
    ProveVerdicts {
        /// Its id.
        job: String,
    },
    /// Random bytes from a backend.
    Random {
        /// How many, 1 to 1024.
        len: usize,
    },
}

/// How far a ceiling is raised.
pub struct Raise {
    /// The most that may leave meanwhile; above the key's own.
    pub ceiling: Exposure,
    /// From when it is done.
    pub lasting: SignedDuration,
}

/// A span of time as people write it: `30m`, `8h`, `2h 30m`.
///
/// # Errors
/// In words.
pub fn span(text: &str) -> Result<SignedDuration, &'static str> {
    text.parse().map_err(|_| "is no span of time, as 30m or 8h")
}

/// What a new key will be.
pub struct KeyRequest {
    /// Tenant, scheme and role.
    pub name: KeyName,
    /// As records write it.
    pub version: KeyVersion,
    /// Its cipher.
    pub algorithm: Algorithm,
    /// Dispersion factors already in it, root first, upper-case hexadecimal.
    pub factors: Vec<String>,
    /// Lower than the role's, if given.
    pub ceiling: Option<Exposure>,
    /// When it may be used.
    pub validity: Validity,
    /// The backends to make it in; the preferred one that can hold it if none is named.
    pub backends: Vec<String>,
    /// Where it may ever live; where it is made if none is named.
    pub places: Vec<Place>,
    /// Whether it may ever move to another backend, or leave in a key block.
    pub movable: bool,
    /// Whether it may also leave in forms that do not carry what it is.
    pub sensitive: bool,
}

/// A step of a purse transaction.
pub struct PurseRequest {
    /// Whose keys.
    pub tenant: String,
    /// Of which scheme.
    pub scheme: String,
    /// As the scheme names it: `load`, `unload`, `overdraft` ...
    pub transaction: String,
    /// What the card sent: it selects the key, and the MACs cover it.
    pub fields: FieldSet,
    /// The MAC that the card sent, as the scheme names it.
    pub verify: String,
    /// Its value.
    pub mac: Vec<u8>,
    /// The MAC to make if that one is right.
    pub make: Option<String>,
}

/// A purchase whose MAC1 the service makes.
pub struct PsamRequest {
    /// Whose keys.
    pub tenant: String,
    /// Of which scheme.
    pub scheme: String,
    /// As the scheme names it: `purchase`, `composite`, `cash`.
    pub transaction: String,
    /// What the card and the terminal say; the terminal's transaction number is the service's to give.
    pub fields: FieldSet,
}

/// A stored key, by all that tells it from others.
pub struct KeyRef {
    /// Tenant, scheme and role.
    pub name: KeyName,
    /// As records write it.
    pub version: KeyVersion,
    /// Its cipher.
    pub algorithm: Algorithm,
    /// Dispersion factors already in it, root first, upper-case hexadecimal.
    pub factors: Vec<String>,
}

/// A command for one card.
pub struct CardCommand {
    /// Whose keys.
    pub tenant: String,
    /// Of which scheme.
    pub scheme: String,
    /// As the scheme names it.
    pub command: String,
    /// The card's number, and key version and algorithm.
    pub fields: FieldSet,
    /// P1 P2, where the command leaves them open.
    pub parameters: Option<[u8; 2]>,
    /// What the card gave for GET CHALLENGE.
    pub challenge: Vec<u8>,
    /// What the command carries; a PIN is secret.
    pub data: Secret,
}

/// WRITE KEY for one card.
pub struct WriteKey {
    /// Whose keys.
    pub tenant: String,
    /// Of which scheme.
    pub scheme: String,
    /// The card's number; key version and algorithm of the protector.
    pub fields: FieldSet,
    /// Role of the key that the card holds already.
    pub protector: String,
    /// Role of the new key.
    pub role: String,
    /// Version of the new key.
    pub version: KeyVersion,
    /// Algorithm id of the new key.
    pub alg_id: u8,
    /// What the card gave for GET CHALLENGE.
    pub challenge: Vec<u8>,
}

/// A card's answer to INTERNAL AUTHENTICATE.
pub struct CardAnswer {
    /// Whose keys.
    pub tenant: String,
    /// Of which scheme.
    pub scheme: String,
    /// The card's number, and key version and algorithm.
    pub fields: FieldSet,
    /// What the card was sent.
    pub challenge: Vec<u8>,
    /// What it answered.
    pub answer: Vec<u8>,
}

/// Which key sets cards get.
pub struct Personalisation {
    /// Whose keys.
    pub tenant: String,
    /// Of which scheme.
    pub scheme: String,
    /// The layout, if not the scheme's first.
    pub key_set: Option<String>,
    /// One set for each, in order.
    pub algorithms: Vec<Algorithm>,
    /// Version of the cards' keys.
    pub version: KeyVersion,
    /// Role of the transport key.
    pub transport_role: String,
    /// Its version.
    pub transport_version: KeyVersion,
}

impl Operation {
    /// The action of the policy schema.
    pub fn action(&self) -> &'static str {
        match self {
            Self::BringShare { .. } | Self::Unseal { .. } => "unseal",
            Self::GenerateKey(_) => "generate_key",
            Self::ImportKey { .. } => "import_key",
            Self::AdoptKey { .. } => "adopt_key",
            Self::ReplicateKey { .. } => "replicate_key",
            Self::UnwrapKey(request) if request.says_what_it_is() => "unwrap_key",
            Self::UnwrapKey(_) => "assign_role",
            Self::ExportKey { .. } => "export_key",
            Self::ShowPublicKey { .. } => "show_public_key",
            Self::MoveKey { .. } => "move_key",
            Self::ShowMove { .. } => "show_move",
            Self::ListKeys { .. } => "list_keys",
            Self::ShowKey { .. } => "show_key",
            Self::SetKeyState { state, .. } => match state {
                KeyState::PreActive | KeyState::Active => "activate_key",
                KeyState::Suspended => "suspend_key",
                KeyState::Deactivated => "deactivate_key",
                KeyState::Compromised => "compromise_key",
                KeyState::Destroyed => "destroy_key",
            },
            Self::RaiseCeiling { .. } => "raise_ceiling",
            Self::LowerCeiling { .. } => "lower_ceiling",
            Self::VerifyTransactions { .. } => "verify_transactions",
            Self::Purse(PurseRequest { make: Some(_), .. }) => "authorise_purse",
            Self::Purse(_) => "verify_purse",
            Self::PsamDebit(_) => "psam_debit",
            Self::DisperseKey { .. } => "disperse_key",
            Self::ComputeKcv { .. } => "compute_kcv",
            Self::CardCommand(_) => "card_command",
            Self::WriteKey(_) => "write_key",
            Self::AuthenticateCard(_) => "authenticate_card",
            Self::PersonaliseCards(_) => "personalise_cards",
            Self::Generic(request) => match request.task {
                GenericTask::Mac { .. } => "generate_mac",
                GenericTask::VerifyMac { .. } => "verify_mac",
                GenericTask::Encrypt { .. } => "encrypt",
                GenericTask::Decrypt { .. } => "decrypt",
                GenericTask::Sign { .. } => "sign",
                GenericTask::VerifySignature { .. } => "verify_signature",
            },
            Self::ShowScheme { .. } => "show_scheme",
            Self::ListProposals { .. } => "list_proposals",
            Self::ShowProposal { .. } => "show_proposal",
            Self::Vote { .. } => "vote",
            Self::Ceremony(request) => request.action(),
            Self::BackUp => "back_up",
            Self::SetTerminal { .. } => "set_terminal",
            Self::ListBackends => "list_backends",
            Self::ShowPolicies => "show_policies",
            Self::ChangePolicies { .. } => "change_policies",
            Self::ListPrincipals => "list_principals",
            Self::WhoCan { .. } => "who_can",
            Self::ProveVerdicts { .. } => "prove_verdicts",
            Self::Random { .. } => "random",
        }
    }
}
