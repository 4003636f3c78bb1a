//! What every key carries, in every backend: the words of ANSI X9.143 (TR-31) and NIST SP 800-57.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Exposure, MacAlgorithm};

/// A word that is not in the list it should be from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of: {allowed}")]
pub struct UnknownWord {
    word: String,
    allowed: &'static str,
}

impl UnknownWord {
    pub(crate) fn new(word: &str, allowed: &'static str) -> Self {
        Self { word: word.chars().take(40).collect(), allowed: allowed.trim_ascii_end() }
    }
}

/// A closed list of words, each with one spelling, shared by the API, the store and the profiles.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$item])* #[serde(rename = $word)] $variant),* }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The one spelling.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord::new(word, concat!($($word, " "),*))),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What a key is a key of.
    Algorithm {
        /// Single DES, 8 bytes; only ever a session key or a folded key, or a legacy card key.
        Des = "des",
        /// Triple DES with two keys, 16 bytes: what a card scheme means by 3DES.
        TripleDes = "3des",
        /// Triple DES with three keys, 24 bytes.
        TripleDes3 = "3des3",
        /// AES (FIPS 197) with 16 bytes.
        Aes128 = "aes128",
        /// AES with 24 bytes.
        Aes192 = "aes192",
        /// AES with 32 bytes.
        Aes256 = "aes256",
        /// SM4 (GB/T 32907), 16 bytes.
        Sm4 = "sm4",
        /// A key of HMAC-SM3 (GM/T 0042), 32 bytes.
        HmacSm3 = "hmac-sm3",
        /// A key of HMAC-SHA-256 (FIPS 198-1), 32 bytes.
        HmacSha256 = "hmac-sha256",
        /// An SM2 private key (GB/T 32918), 32 bytes big-endian.
        Sm2 = "sm2",
    }
}

impl Algorithm {
    /// Bytes of a key.
    pub fn key_len(self) -> usize {
        match self {
            Self::Des => 8,
            Self::TripleDes | Self::Aes128 | Self::Sm4 => 16,
            Self::TripleDes3 | Self::Aes192 => 24,
            Self::Aes256 | Self::HmacSm3 | Self::HmacSha256 | Self::Sm2 => 32,
        }
    }

    /// Bytes of a block, for those that are block ciphers.
    pub fn block_len(self) -> Option<usize> {
        match self {
            Self::Des | Self::TripleDes | Self::TripleDes3 => Some(8),
            Self::Aes128 | Self::Aes192 | Self::Aes256 | Self::Sm4 => Some(16),
            Self::HmacSm3 | Self::HmacSha256 | Self::Sm2 => None,
        }
    }

    /// Bits of security (NIST SP 800-57 part 1, table 2; SM4 and SM2 as AES-128 and P-256). Both kinds of triple DES count as
    /// much, as they do in the field. None for HMAC keys, which have those of their length.
    pub fn strength(self) -> Option<u16> {
        match self {
            Self::Des => Some(56),
            Self::TripleDes | Self::TripleDes3 => Some(112),
            Self::Aes128 | Self::Sm4 | Self::Sm2 => Some(128),
            Self::Aes192 => Some(192),
            Self::Aes256 => Some(256),
            Self::HmacSm3 | Self::HmacSha256 => None,
        }
    }

    /// Whether a key of `other` is worth more: it does not leave under this one (PCI PIN, requirement 13; ISO 11568).
    pub fn is_weaker_than(self, other: Self) -> bool {
        self.strength() < other.strength()
    }

    /// Whether the key's bytes carry parity bits that the cipher ignores.
    pub fn is_des(self) -> bool {
        matches!(self, Self::Des | Self::TripleDes | Self::TripleDes3)
    }
}

words! {
    /// The life of a key, NIST SP 800-57 part 1, section 7.
    KeyState {
        /// Exists and does nothing yet.
        PreActive = "pre-active",
        /// Does all that its role admits.
        Active = "active",
        /// Does nothing, until resumed.
        Suspended = "suspended",
        /// Processes what was protected before: verify, decrypt and unwrap only.
        Deactivated = "deactivated",
        /// As deactivated, under a policy that names why.
        Compromised = "compromised",
        /// Does nothing, for ever.
        Destroyed = "destroyed",
    }
}

impl KeyState {
    /// Whether the key may make something new (a MAC, a ciphertext, a child key).
    pub fn may_protect(self) -> bool {
        self == Self::Active
    }

    /// Whether the key may check or open what was made before.
    pub fn may_process(self) -> bool {
        matches!(self, Self::Active | Self::Deactivated | Self::Compromised)
    }

    /// Whether SP 800-57 allows the step from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActive, Suspended};
        matches!(
            (self, next),
            (PreActive, Active | Compromised | Destroyed)
                | (Active, Suspended | Deactivated | Compromised | Destroyed)
                | (Suspended, Active | Deactivated | Compromised | Destroyed)
                | (Deactivated, Compromised | Destroyed)
                | (Compromised, Destroyed)
        )
    }
}

words! {
    /// X9.143 mode of use: which direction of an operation the key may run.
    ModeOfUse {
        /// Both directions: encrypt and decrypt, wrap and unwrap.
        Both = "B",
        /// Generate and verify.
        GenerateAndVerify = "C",
        /// Decrypt or unwrap only.
        DecryptOnly = "D",
        /// Encrypt or wrap only.
        EncryptOnly = "E",
        /// Generate only.
        GenerateOnly = "G",
        /// No special restrictions.
        Any = "N",
        /// Signature only.
        SignOnly = "S",
        /// Verify only.
        VerifyOnly = "V",
        /// Derive other keys.
        Derive = "X",
    }
}

words! {
    /// X9.143 exportability.
    Exportability {
        /// Under a key of an X9.143 key block only.
        Trusted = "E",
        /// Never.
        None = "N",
        /// Under any wrapping key that policy allows.
        Sensitive = "S",
    }
}

/// The two characters of an X9.143 key usage, as `M3` (retail MAC), `K0` (key encryption) or, from the
/// range that the standard leaves to its users, `12`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyUsage([u8; 2]);

impl KeyUsage {
    /// The two characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The MAC algorithm that X9.143 gives to keys of this usage; `None` for those of no MAC, and for the
    /// range that card schemes use.
    pub fn mac_algorithm(&self) -> Option<MacAlgorithm> {
        match &self.0 {
            b"M1" => Some(MacAlgorithm::CbcMac),
            b"M2" => Some(MacAlgorithm::Emac),
            b"M3" => Some(MacAlgorithm::Retail),
            b"M4" => Some(MacAlgorithm::MacDes),
            b"M6" => Some(MacAlgorithm::Cmac),
            b"M7" => Some(MacAlgorithm::Hmac),
            _ => None,
        }
    }
}

impl FromStr for KeyUsage {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word.as_bytes() {
            &[a, b] if [a, b].iter().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()) => Ok(Self([a, b])),
            _ => Err(UnknownWord::new(word, "two of A-Z and 0-9")),
        }
    }
}

impl TryFrom<String> for KeyUsage {
    type Error = UnknownWord;
    fn try_from(word: String) -> Result<Self, UnknownWord> {
        word.parse()
    }
}

impl From<KeyUsage> for String {
    fn from(usage: KeyUsage) -> Self {
        usage.as_str().to_owned()
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a key stands in its scheme's dispersion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyRank {
    /// Above card level: `steps_left` dispersions stand between it and a card's key. Until they have
    /// been taken it is never an oracle for messages.
    Dispersion {
        /// At least one.
        steps_left: u8,
    },
    /// A card's own key.
    Card,
    /// Not of a card scheme: a key of generic usage, or a transport key.
    Plain,
}

impl KeyRank {
    /// The one spelling: `dispersion`, `card` or `plain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dispersion { .. } => "dispersion",
            Self::Card => "card",
            Self::Plain => "plain",
        }
    }
}

/// What a backend must know, and authenticate, about a key it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyAttributes {
    /// Cipher and length.
    pub algorithm: Algorithm,
    /// X9.143 key usage.
    pub usage: KeyUsage,
    /// X9.143 mode of use.
    pub mode: ModeOfUse,
    /// X9.143 exportability.
    pub exportability: Exportability,
    /// Above card level, of a card, or plain.
    pub rank: KeyRank,
    /// The most that may ever leave the backend on account of this key.
    pub ceiling: Exposure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        assert!(Algorithm::ALL.iter().all(|a| a.as_str().parse() == Ok(*a)));
        assert!(KeyState::ALL.iter().all(|s| s.as_str().parse() == Ok(*s)));
        assert_eq!("3DES".parse::<Algorithm>().unwrap_err().to_string().split(" is").next(), Some("`3DES`"));
    }

    #[test]
    fn destroyed_is_for_ever_and_nothing_returns_from_compromise() {
        for next in KeyState::ALL {
            assert!(!KeyState::Destroyed.may_become(*next));
            assert_eq!(KeyState::Compromised.may_become(*next), *next == KeyState::Destroyed);
        }
    }

    #[test]
    fn what_may_protect_may_process() {
        for state in KeyState::ALL {
            assert!(!state.may_protect() || state.may_process(), "{state}");
        }
    }
}
