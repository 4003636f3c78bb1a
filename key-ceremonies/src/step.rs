//! The steps of a plan.

use serde::Deserialize;

use crate::Written;

/// How a key comes from another party or goes to one.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "as", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Form {
    /// An X9.143 or ISO 20038 key block.
    KeyBlock {
        /// Of one that goes out: `B`, `D`, `E` or `D-SM4`; of one that comes in, whether it is `D-SM4`.
        #[serde(default = "version_d")]
        version: String,
        /// Whether the key may leave the other party again: `N`, `E` or `S`.
        #[serde(default = "never")]
        exportability: String,
    },
    /// ECB with a check value.
    Ecb {
        /// What fills up partial blocks: `none`, `one-if-partial`, `zeros-if-partial`.
        #[serde(default = "nothing")]
        padding: String,
    },
    /// An SM2 envelope.
    Sm2Envelope {
        /// `sdf`, `skf` or `der`.
        layout: String,
        /// Of one that goes out: the other party's public key, hexadecimal.
        #[serde(default)]
        recipient: Option<String>,
    },
}

impl Form {
    /// Why a key cannot go out so, if it cannot.
    fn cannot_send(&self, under: bool) -> Option<&'static str> {
        match self {
            Self::KeyBlock { .. } | Self::Ecb { .. } if !under => {
                Some("needs `under`, the key that it is wrapped under")
            }
            Self::Sm2Envelope { .. } if under => Some("is under a public key, and has no `under`"),
            Self::Sm2Envelope { recipient: None, .. } => Some("needs `recipient`, the other party's public key"),
            _ => None,
        }
    }

    /// What comes says the rest itself, or nothing.
    fn words_of_what_comes(&self) -> String {
        match self {
            Self::KeyBlock { .. } => "in a key block, which may not say that it is this key".to_owned(),
            other => other.words(),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::KeyBlock { version, exportability } => {
                format!("in a key block of version {version} and exportability {exportability}")
            }
            Self::Ecb { padding } => format!("in ECB with a check value and padding {padding}"),
            Self::Sm2Envelope { layout, recipient } => {
                let to =
                    recipient.as_ref().map_or(String::new(), |recipient| format!(" for the public key {recipient}"));
                format!("in an SM2 envelope of layout {layout}{to}")
            }
        }
    }
}

fn version_d() -> String {
    "D".to_owned()
}

fn never() -> String {
    "N".to_owned()
}

fn nothing() -> String {
    "none".to_owned()
}

/// One step. Each is taken by one person of the role in `by`; those about components once by each of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the step's own words say what its fields are")]
pub enum Step {
    /// Somebody has seen that something is so.
    Confirm { by: String, say: String },
    /// The key is made inside a backend.
    GenerateKey { by: String, key: String },
    /// Each custodian is shown a component that the daemon has drawn, writes it down, and types it back.
    HandOutComponents { by: String, key: String },
    /// Each custodian types a component that came from elsewhere, with its check value.
    EnterComponents {
        by: String,
        key: String,
        written: Written,
        #[serde(default)]
        odd_parity: bool,
    },
    /// The components become the key.
    JoinComponents { by: String, key: String },
    /// Somebody types the key's check value from a letter or a sheet.
    CompareKcv { by: String, key: String },
    /// A child of `from`, by the factors that it has more.
    DisperseKey { by: String, key: String, from: String },
    /// A copy in the backend `to`, wrapped under a key that both hold.
    ReplicateKey { by: String, key: String, to: String, under: String },
    /// The key's state changes.
    SetState { by: String, key: String, state: String },
    /// A key that the device holds already is registered.
    AdoptKey { by: String, key: String, object: String },
    /// A key comes in as another party has wrapped it, under a key that is there.
    ReceiveKey { by: String, key: String, under: String, form: Form },
    /// The key goes out to another party: under a key that is there, or for their public key.
    SendKey {
        by: String,
        key: String,
        #[serde(default)]
        under: Option<String>,
        form: Form,
    },
    /// A step of the key's move to a backend that holds it already: `begin`, `cut-over`, `finish`.
    MoveKey {
        by: String,
        key: String,
        step: String,
        #[serde(default)]
        to: Option<String>,
    },
    /// Copies of all the tenant's keys in the backend `to`, wrapped under a key that both hold.
    ReplicateTenant { by: String, to: String, under: String },
    /// A step of all these keys' moves.
    MoveTenant {
        by: String,
        step: String,
        #[serde(default)]
        to: Option<String>,
    },
    /// More may leave on account of the key, for a time.
    RaiseCeiling { by: String, key: String, ceiling: String, lasting: String },
    /// What was raised is taken back before its time.
    LowerCeiling { by: String, key: String },
    /// Each custodian is shown a share of what opens the store, writes it down, and types it back.
    HandOutShares { by: String, threshold: u8 },
    /// The store is sealed anew: only the shares open it.
    SealWithShares { by: String },
}

impl Step {
    /// What is wrong with it by itself, if anything is.
    pub(crate) fn wrong(&self) -> Option<&'static str> {
        match self {
            // A second line could pass for one of the words that officers sign.
            Self::Confirm { say, .. } if say.contains('\n') => Some("must be one line"),
            Self::SendKey { under, form, .. } => form.cannot_send(under.is_some()),
            Self::ReceiveKey { form: Form::Sm2Envelope { recipient: Some(_), .. }, .. } => {
                Some("comes for a key of ours, and has no `recipient`")
            }
            Self::MoveKey { step, to, .. } | Self::MoveTenant { step, to, .. } => match (step.as_str(), to) {
                ("begin", None) => Some("needs `to`, the backend to move to"),
                ("begin", Some(_)) | ("cut-over" | "finish", None) => None,
                (_, Some(_)) => Some("has a `to` only where the move begins"),
                _ => Some("must be one of: begin cut-over finish"),
            },
            _ => None,
        }
    }

    /// Whose it is.
    pub fn role(&self) -> &str {
        match self {
            Self::Confirm { by, .. }
            | Self::GenerateKey { by, .. }
            | Self::HandOutComponents { by, .. }
            | Self::EnterComponents { by, .. }
            | Self::JoinComponents { by, .. }
            | Self::CompareKcv { by, .. }
            | Self::DisperseKey { by, .. }
            | Self::ReplicateKey { by, .. }
            | Self::SetState { by, .. }
            | Self::AdoptKey { by, .. }
            | Self::ReceiveKey { by, .. }
            | Self::SendKey { by, .. }
            | Self::MoveKey { by, .. }
            | Self::ReplicateTenant { by, .. }
            | Self::MoveTenant { by, .. }
            | Self::RaiseCeiling { by, .. }
            | Self::LowerCeiling { by, .. }
            | Self::HandOutShares { by, .. }
            | Self::SealWithShares { by } => by,
        }
    }

    /// The key that it is about, if it is about one.
    pub fn key(&self) -> Option<&str> {
        self.keys().first().copied()
    }

    /// The keys that it speaks of, its own first.
    pub(crate) fn keys(&self) -> Vec<&str> {
        match self {
            Self::Confirm { .. }
            | Self::HandOutShares { .. }
            | Self::SealWithShares { .. }
            | Self::MoveTenant { .. } => Vec::new(),
            Self::ReplicateTenant { under, .. } => vec![under],
            Self::GenerateKey { key, .. }
            | Self::HandOutComponents { key, .. }
            | Self::EnterComponents { key, .. }
            | Self::JoinComponents { key, .. }
            | Self::CompareKcv { key, .. }
            | Self::SetState { key, .. }
            | Self::MoveKey { key, .. }
            | Self::RaiseCeiling { key, .. }
            | Self::LowerCeiling { key, .. }
            | Self::AdoptKey { key, .. } => vec![key],
            Self::ReceiveKey { key, under, .. } => vec![key, under],
            Self::SendKey { key, under, .. } => std::iter::once(key.as_str()).chain(under.as_deref()).collect(),
            Self::DisperseKey { key, from, .. } => vec![key, from],
            Self::ReplicateKey { key, under, .. } => vec![key, under],
        }
    }

    pub(crate) fn makes_key(&self) -> bool {
        matches!(
            self,
            Self::GenerateKey { .. }
                | Self::JoinComponents { .. }
                | Self::DisperseKey { .. }
                | Self::AdoptKey { .. }
                | Self::ReceiveKey { .. }
        )
    }

    pub(crate) fn takes_components(&self) -> bool {
        matches!(self, Self::HandOutComponents { .. } | Self::EnterComponents { .. })
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::Confirm { by, say } => format!("{by} confirms: {say}"),
            Self::GenerateKey { by, key } => format!("{by} has key {key} made"),
            Self::HandOutComponents { by, key } => {
                format!("each {by} is shown a component of key {key}, and types it back")
            }
            Self::EnterComponents { by, key, .. } => {
                format!("each {by} enters a component of key {key} and its check value")
            }
            Self::JoinComponents { by, key } => format!("{by} has the components joined to key {key}"),
            Self::CompareKcv { by, key } => format!("{by} types the check value of key {key} as it was given"),
            Self::DisperseKey { by, key, from } => format!("{by} has key {key} dispersed from key {from}"),
            Self::ReplicateKey { by, key, to, under } => {
                format!("{by} has key {key} copied to backend {to}, wrapped under key {under}")
            }
            Self::SetState { by, key, state } => format!("{by} makes key {key} {state}"),
            Self::HandOutShares { by, threshold } => {
                format!(
                    "each {by} is shown a share of what opens the store, of which {threshold} suffice, and types it back"
                )
            }
            Self::SealWithShares { by } => format!("{by} has the store sealed: only the shares open it then"),
            Self::ReceiveKey { by, key, under, form } => {
                format!("{by} brings key {key} as it came, {}, wrapped under key {under}", form.words_of_what_comes())
            }
            Self::SendKey { by, key, under, form } => {
                let under = under.as_ref().map_or(String::new(), |under| format!(", wrapped under key {under}"));
                format!("{by} has key {key} given out, {}{under}", form.words())
            }
            Self::MoveKey { by, key, step, to } => {
                let to = to.as_ref().map_or(String::new(), |to| format!(", to backend {to}"));
                format!("{by} moves key {key}: {step}{to}")
            }
            Self::RaiseCeiling { by, key, ceiling, lasting } => {
                format!("{by} raises the ceiling of key {key} to {ceiling} for {lasting}")
            }
            Self::LowerCeiling { by, key } => format!("{by} takes the raised ceiling of key {key} back"),
            Self::ReplicateTenant { by, to, under } => {
                format!("{by} has every key of the tenant copied to backend {to}, wrapped under key {under}")
            }
            Self::MoveTenant { by, step, to } => {
                let to = to.as_ref().map_or(String::new(), |to| format!(", to backend {to}"));
                format!("{by} moves every key of the tenant: {step}{to}")
            }
            Self::AdoptKey { by, key, object } => format!("{by} registers key {key}, which its device calls {object}"),
        }
    }
}
