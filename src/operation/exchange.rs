//! Keys from other parties and to them.

use claviger_hsm_api::{BlockVersion, EnvelopeForm, Exportability, KeyPadding, ModeOfUse, WrappedKey};
use claviger_key_blocks::KeyBlockError;
use claviger_key_blocks::sm2::Sm2PublicKey;
use claviger_key_blocks::tr31::{ExtendedLength, Form, KeyBlock};

use super::{KeyRef, KeyRequest};

/// A key as another party has wrapped it.
pub struct UnwrapRequest {
    /// What it is to be.
    pub request: KeyRequest,
    /// Under which key.
    pub under: KeyRef,
    /// As it came.
    pub wrapped: WrappedKey,
    /// The check value that the key must show.
    pub kcv: Option<String>,
    /// The ceremony of another daemon's that it was made in.
    pub held: Option<HeldElsewhere>,
}

/// A ceremony of another daemon's, as whoever brings a key of it says.
pub struct HeldElsewhere {
    /// Its id.
    pub ceremony: [u8; 16],
    /// SHA-256 of its transcript.
    pub transcript: [u8; 32],
}

impl UnwrapRequest {
    /// Whether what came says which key it is: where it does not, others must agree to what it is to be. What it says is
    /// believed once the backend has authenticated it.
    pub fn says_what_it_is(&self) -> bool {
        let WrappedKey::KeyBlock { text, sm4_local } = &self.wrapped else { return false };
        let length = ExtendedLength::Pairs;
        let form = if *sm4_local { Form::sm4_local(length) } else { Form::published(length) };
        KeyBlock::parse(text, form).is_ok_and(|block| block.unverified_header().says_what_it_is())
    }
}

/// How a key goes out.
pub enum ExportForm {
    /// In a key block.
    KeyBlock {
        /// The key that protects it.
        under: KeyRef,
        /// How.
        version: BlockVersion,
        /// What the other party may do with it, if less than what may be done here.
        mode: Option<ModeOfUse>,
        /// Whether it may leave the other party.
        exportability: Exportability,
    },
    /// In ECB.
    Ecb {
        /// The transport key.
        under: KeyRef,
        /// What fills it up.
        padding: KeyPadding,
    },
    /// In an SM2 envelope.
    Envelope {
        /// `X || Y`, 64 bytes, big endian.
        recipient: Vec<u8>,
        /// The layout.
        form: EnvelopeForm,
    },
}

impl ExportForm {
    /// An SM2 envelope for whoever has this public key, `X || Y` with or without the 04 before it.
    ///
    /// # Errors
    /// If it is no point of the curve: nobody could open the envelope.
    pub fn envelope(recipient: &[u8], form: EnvelopeForm) -> Result<Self, KeyBlockError> {
        let (x, y) = Sm2PublicKey::from_bytes(recipient)?.coordinates();
        Ok(Self::Envelope { recipient: [x, y].concat(), form })
    }

    /// The key that it goes out under, if it is one of ours.
    pub fn under(&self) -> Option<&KeyRef> {
        match self {
            Self::KeyBlock { under, .. } | Self::Ecb { under, .. } => Some(under),
            Self::Envelope { .. } => None,
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::KeyBlock { version, mode, exportability, .. } => {
                let mode = mode.map_or(String::new(), |mode| format!(", mode {mode}"));
                format!("key block of version {version}{mode}, exportability {exportability}")
            }
            Self::Ecb { padding, .. } => format!("ECB and a check value, padding {padding}"),
            Self::Envelope { form, .. } => format!("SM2 envelope in layout {}", form.layout),
        }
    }
}
