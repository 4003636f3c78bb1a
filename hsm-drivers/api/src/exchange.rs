//! Keys as they go to other parties and come from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::attributes::words;
use crate::{Exportability, KcvRule, KeyAttributes, KeyUsage, ModeOfUse, UnknownWord};

words! {
    /// How a key block is protected.
    BlockVersion {
        /// ANSI X9.143, keys derived from a triple DES key by CMAC.
        B = "B",
        /// ANSI X9.143, keys derived from an AES key by CMAC.
        D = "D",
        /// ISO 20038, as D with CTR in place of CBC.
        E = "E",
        /// Claviger's own, of no standard: as D under an SM4 key. Both sides must have agreed on it.
        Sm4Local = "D-SM4",
    }
}

/// What a key block says of a key of a purse, beside X9.143's fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PurseLabel {
    /// The card scheme.
    pub scheme: String,
    /// What the scheme calls the key.
    pub role: String,
    /// How many dispersion steps are already in it.
    pub level: u8,
}

/// The block that a key is to leave in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockHeader {
    /// How it is protected.
    pub version: BlockVersion,
    /// The key's.
    pub usage: KeyUsage,
    /// The key's, or one that allows less.
    pub mode: ModeOfUse,
    /// The key's, or one that allows less.
    pub exportability: Exportability,
    /// Two letters or digits; `00` if versions are not used.
    pub key_version: String,
    /// Of keys of a scheme.
    pub purse: Option<PurseLabel>,
}

words! {
    /// How an SM2 envelope is laid out.
    EnvelopeLayout {
        /// The structures of GM/T 0018 (SDF): ECCCipher for a symmetric key, EnvelopedKeyBlob for a key pair.
        Sdf = "sdf",
        /// Those of GM/T 0016 (SKF): ECCCIPHERBLOB, ENVELOPEDKEYBLOB.
        Skf = "skf",
        /// DER of GM/T 0009: SM2Cipher, SM2EnvelopedKey.
        Der = "der",
    }
}

/// An envelope's layout, and what devices of one layout differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnvelopeForm {
    /// Which.
    pub layout: EnvelopeLayout,
    /// Whether the integers of structures are big endian; nearly everywhere they are not.
    pub big_endian: bool,
    /// What stands first in an EnvelopedKeyBlob of SDF: a version (1), or the pair's algorithm (0x00020800).
    pub first: u32,
}

words! {
    /// What fills up a key that is no whole number of the transport key's blocks.
    KeyPadding {
        /// Nothing: such keys are refused.
        None = "none",
        /// 80, then zeros, but nothing on whole blocks.
        OneIfPartial = "one-if-partial",
        /// Zeros, but nothing on whole blocks.
        ZerosIfPartial = "zeros-if-partial",
    }
}

/// A key as it came, under another that a backend holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrappedKey {
    /// RFC 3394, between backends.
    KeyWrap(Vec<u8>),
    /// An X9.143 or ISO 20038 key block.
    KeyBlock {
        /// The whole block.
        text: String,
        /// Whether it is of [`BlockVersion::Sm4Local`].
        sm4_local: bool,
    },
    /// ECB with a check value, as card bureaus exchange keys. Nothing of it is authenticated.
    Ecb {
        /// Whole blocks of the transport key's cipher.
        ciphertext: Vec<u8>,
        /// How it was filled up.
        padding: KeyPadding,
        /// The check value that came with it.
        kcv: Vec<u8>,
        /// How that is made.
        kcv_rule: KcvRule,
    },
    /// An SM2 envelope.
    Envelope {
        /// Its layout.
        form: EnvelopeForm,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

impl WrappedKey {
    /// The usage of the keys that open it.
    fn opened_by(&self) -> &'static str {
        match self {
            Self::KeyWrap(_) | Self::Ecb { .. } => "K0",
            Self::KeyBlock { .. } => "K1",
            Self::Envelope { .. } => "K3",
        }
    }

    /// Whether a key with these attributes is for opening it: one for blocks opens blocks and nothing else.
    ///
    /// # Errors
    /// [`RecipeRefused::Usage`](crate::RecipeRefused::Usage).
    pub fn check_opener(&self, key: &KeyAttributes) -> Result<(), crate::RecipeRefused> {
        let by_usage = key.usage.as_str() == self.opened_by() && key.rank == crate::KeyRank::Plain;
        let by_mode = matches!(key.mode, ModeOfUse::DecryptOnly | ModeOfUse::Both | ModeOfUse::Any);
        if by_usage && by_mode {
            return Ok(());
        }
        Err(crate::RecipeRefused::Usage { usage: key.usage, mode: key.mode, finish: "unwrap under" })
    }
}

impl ModeOfUse {
    /// Whether a key of this mode may do all that one of `other` may.
    pub fn allows(self, other: Self) -> bool {
        use ModeOfUse as M;
        self == other
            || match self {
                M::Any => true,
                M::Both => matches!(other, M::DecryptOnly | M::EncryptOnly),
                M::GenerateAndVerify => matches!(other, M::GenerateOnly | M::VerifyOnly),
                _ => false,
            }
    }
}

impl Exportability {
    /// Whether a key of this may leave wherever one of `other` may.
    pub fn allows(self, other: Self) -> bool {
        let freedom = |of| match of {
            Self::None => 0,
            Self::Trusted => 1,
            Self::Sensitive => 2,
        };
        freedom(self) >= freedom(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_never_more() {
        for of in ModeOfUse::ALL {
            assert!(of.allows(*of) && ModeOfUse::Any.allows(*of));
            assert!(*of == ModeOfUse::Any || !of.allows(ModeOfUse::Any), "{of}");
        }
        assert!(!ModeOfUse::VerifyOnly.allows(ModeOfUse::GenerateAndVerify));
        assert!(!ModeOfUse::Both.allows(ModeOfUse::GenerateOnly));
        for of in Exportability::ALL {
            assert!(of.allows(Exportability::None) && Exportability::Sensitive.allows(*of));
        }
        assert!(!Exportability::None.allows(Exportability::Trusted));
        assert!(!Exportability::Trusted.allows(Exportability::Sensitive));
    }
}
