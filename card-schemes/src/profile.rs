//! The TOML of a profile, as written. [`crate::CardScheme`] is what becomes of it.

use std::collections::BTreeMap;

use claviger_hsm_api::{
    Algorithm, DispersionRule, Exposure, FoldRule, KcvRule, KeyUsage, ModeOfUse, Parity, Truncation,
};
use serde::Deserialize;

use crate::known_answers::{KnownAnswer, KnownAnswerFailed};
use crate::piece::Piece;

/// A profile that is not used, and why.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not TOML, or a key or value that a profile does not have.
    #[error("{0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// Well-formed, but it contradicts itself.
    #[error("`{at}`: {reason}")]
    Inconsistent {
        /// The key of the TOML.
        at: String,
        /// Why.
        reason: String,
    },
    /// A known answer is not reproduced.
    #[error(transparent)]
    KnownAnswer(#[from] KnownAnswerFailed),
}

/// What a role admits at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleFinish {
    /// Make a MAC that the scheme builds the message of.
    Mac,
    /// Verify one.
    VerifyMac,
    /// Encipher what the scheme builds.
    Encrypt,
    /// Decipher.
    Decrypt,
    /// Sign.
    Sign,
    /// Verify a signature.
    VerifySignature,
    /// Leave under a transport key, once it is one card's.
    Wrap,
    /// Be the key that others leave under.
    WrapOthers,
    /// Keep a child inside as a key of its own.
    Store,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub id: String,
    pub title: String,
    pub version: String,
    pub basis: String,
    /// Algorithm id of records and cards, two hex digits, to algorithm.
    #[serde(default)]
    pub alg_ids: BTreeMap<String, Algorithm>,
    #[serde(default)]
    pub ciphers: BTreeMap<Algorithm, CipherRules>,
    /// Dispersion levels, root first.
    #[serde(default, rename = "level")]
    pub levels: Vec<Level>,
    #[serde(default, rename = "role")]
    pub roles: BTreeMap<String, RoleRules>,
    pub tac: Option<TacRules>,
    #[serde(default, rename = "transaction")]
    pub transactions: Vec<TransactionRules>,
    #[serde(default)]
    pub parameters: Parameters,
    #[serde(default, rename = "known_answer")]
    pub known_answers: Vec<KnownAnswer>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CipherRules {
    #[serde(default)]
    pub dispersion: Dispersion,
    #[serde(default)]
    pub parity: ParityRule,
    #[serde(default)]
    pub tac_key: TacKey,
    #[serde(default)]
    pub tac_truncation: Truncate,
    #[serde(default)]
    pub mac_truncation: Truncate,
    pub kcv: KcvRule,
}

/// How a dispersion factor is enciphered.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dispersion {
    #[default]
    FNotf,
    Raw16,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ParityRule {
    #[default]
    None,
    Odd,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TacKey {
    #[default]
    Full,
    XorHalves,
    FoldComplement,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Truncate {
    #[default]
    Left4,
    Right4,
    #[serde(rename = "fold8_left4")]
    Fold8Left4,
    Fold4,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Level {
    pub name: String,
    pub factor: Vec<Piece>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleRules {
    pub title: String,
    pub usage: KeyUsage,
    pub mode: ModeOfUse,
    pub finishes: Vec<RoleFinish>,
    /// Whether it is dispersed at all; a transport key need not be.
    #[serde(default = "yes")]
    pub dispersed: bool,
    /// The ceiling that a key of this role is created with unless the officer lowers it.
    #[serde(default = "card_key")]
    pub ceiling: Exposure,
    /// The algorithms that the role may have; all of `ciphers` if not said.
    #[serde(default)]
    pub algorithms: Vec<Algorithm>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TacRules {
    pub role: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransactionRules {
    pub name: String,
    pub title: String,
    /// Transaction types, two hex digits each.
    pub types: Vec<String>,
    /// Role of the key that the session key comes from.
    pub role: String,
    pub session: Vec<Piece>,
    /// For a second step down from the session key (grey lock).
    #[serde(default)]
    pub second_session: Vec<Piece>,
    /// What the card side or the terminal sends and we verify, in order.
    #[serde(default)]
    pub verify: BTreeMap<String, Vec<Piece>>,
    /// What we make.
    #[serde(default)]
    pub make: BTreeMap<String, Vec<Piece>>,
    /// What the TAC covers, if the transaction has one.
    #[serde(default)]
    pub tac: Vec<Piece>,
}

/// Rules that the standards leave open or that cities vary.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Parameters {
    /// For which types the security authentication id is appended to MAC1 (MOHURD).
    pub mac1_append_auth_id: AppendAuthId,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AppendAuthId {
    #[default]
    None,
    Composite,
    All,
}

fn yes() -> bool {
    true
}

fn card_key() -> Exposure {
    Exposure::CardKey
}

impl Dispersion {
    pub(crate) fn rule(self) -> DispersionRule {
        match self {
            Self::FNotf => DispersionRule::FactorAndComplement,
            Self::Raw16 => DispersionRule::Raw,
        }
    }
}

impl ParityRule {
    pub(crate) fn rule(self) -> Parity {
        match self {
            Self::None => Parity::AsComputed,
            Self::Odd => Parity::Odd,
        }
    }
}

impl TacKey {
    pub(crate) fn fold(self) -> Option<FoldRule> {
        match self {
            Self::Full => None,
            Self::XorHalves => Some(FoldRule::SingleDes),
            Self::FoldComplement => Some(FoldRule::WithComplement),
        }
    }
}

impl Truncate {
    pub(crate) fn rule(self) -> Truncation {
        match self {
            Self::Left4 => Truncation::Left(4),
            Self::Right4 => Truncation::Right(4),
            Self::Fold8Left4 => Truncation::FoldLeft(4),
            Self::Fold4 => Truncation::FoldTwice,
        }
    }
}
