//! All that can be asked of the service. HTTP, the CLI and the bridge parse into it.

use claviger_card_schemes::FieldSet;
use claviger_hsm_api::{Algorithm, Exposure, KeyName, KeyState, KeyVersion, Secret};

use crate::keyring::Validity;

/// What is asked.
pub enum Operation {
    /// Opens the seal with a passphrase.
    Unseal {
        /// The words.
        passphrase: Secret,
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
    /// Opens a job that verifies a stream of records.
    VerifyTransactions {
        /// Whose keys.
        tenant: String,
        /// Of which scheme.
        scheme: String,
    },
    /// A host's part in a purse transaction: verify the card's MAC, and only then make the answer.
    Purse(PurseRequest),
    /// A terminal's part in a purchase, in place of its PSAM.
    PsamDebit(PsamRequest),
    /// Random bytes from a backend.
    Random {
        /// How many, 1 to 1024.
        len: usize,
    },
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

impl Operation {
    /// The action of the policy schema.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Unseal { .. } => "unseal",
            Self::GenerateKey(_) => "generate_key",
            Self::ImportKey { .. } => "import_key",
            Self::ListKeys { .. } => "list_keys",
            Self::ShowKey { .. } => "show_key",
            Self::SetKeyState { state, .. } => match state {
                KeyState::PreActive | KeyState::Active => "activate_key",
                KeyState::Suspended => "suspend_key",
                KeyState::Deactivated => "deactivate_key",
                KeyState::Compromised => "compromise_key",
                KeyState::Destroyed => "destroy_key",
            },
            Self::VerifyTransactions { .. } => "verify_transactions",
            Self::Purse(PurseRequest { make: Some(_), .. }) => "authorise_purse",
            Self::Purse(_) => "verify_purse",
            Self::PsamDebit(_) => "psam_debit",
            Self::Random { .. } => "random",
        }
    }
}
