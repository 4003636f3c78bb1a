//! The TOML of a profile, as written. [`crate::CardScheme`] is what becomes of it.

use std::collections::BTreeMap;
use std::fmt;

use claviger_hsm_api::{
    Algorithm, DispersionRule, Exposure, FoldRule, KcvRule, KeyUsage, ModeOfUse, Padding, Parity, Truncation,
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

impl fmt::Display for RoleFinish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mac => "make MACs",
            Self::VerifyMac => "verify MACs",
            Self::Encrypt => "encipher",
            Self::Decrypt => "decipher",
            Self::Sign => "sign",
            Self::VerifySignature => "verify signatures",
            Self::Wrap => "leave under a transport key",
            Self::WrapOthers => "be a transport key",
            Self::Store => "have children that stay inside",
        })
    }
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
    #[serde(default, rename = "command")]
    pub commands: Vec<CommandRules>,
    pub internal_authentication: Option<InternalAuthentication>,
    pub write_key: Option<WriteKeyRules>,
    #[serde(default, rename = "key_set")]
    pub key_sets: Vec<KeySetRules>,
    #[serde(default, rename = "layout")]
    pub layouts: Vec<RecordLayout>,
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
    pub tac_key: KeyFold,
    #[serde(default)]
    pub tac_truncation: Truncate,
    #[serde(default)]
    pub mac_truncation: Truncate,
    /// Key of the MAC over a reloaded PIN.
    #[serde(default)]
    pub pin_reload_key: KeyFold,
    /// Of what a command enciphers.
    #[serde(default)]
    pub encryption_padding: EncryptionPadding,
    /// Bytes that a card's challenge may have; it stands at the left of a command's initial value.
    #[serde(default = "four_or_eight")]
    pub challenge: Vec<usize>,
    /// The same for external and internal authentication.
    #[serde(default = "four_or_eight")]
    pub authentication_challenge: Vec<usize>,
    #[serde(default)]
    pub cryptogram: Cryptogram,
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

/// What becomes of a card's key before it makes a MAC.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyFold {
    #[default]
    Full,
    XorHalves,
    FoldComplement,
}

/// How `LD || data` is made whole blocks before it is enciphered.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EncryptionPadding {
    /// 80 00.. only where it must be.
    #[default]
    IfNeeded,
    /// Always, as a MAC's message is.
    Always,
}

/// What is sent of an enciphered challenge.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cryptogram {
    #[default]
    Whole,
    Fold8,
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
    /// Names of the levels by which it is dispersed, root first; all if not said, none for a transport key.
    pub levels: Option<Vec<String>>,
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
    /// What selects the key of a record that carries no key version or no algorithm id; the first that fits.
    #[serde(default, rename = "default")]
    pub defaults: Vec<SelectorDefault>,
    /// Other factors that cards of the past were made with, tried in order when the TAC is wrong.
    #[serde(default, rename = "alternative")]
    pub alternatives: Vec<FactorAlternative>,
}

/// Key version and algorithm id of records that carry none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SelectorDefault {
    /// First and last city code; all cities if absent.
    pub cities: Option<[String; 2]>,
    /// First and last issuer identifier; all issuers if absent.
    pub issuers: Option<[String; 2]>,
    pub key_version: String,
    pub alg_id: String,
}

/// Another factor at one level.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FactorAlternative {
    /// Name of the level.
    pub level: String,
    pub factor: Vec<Piece>,
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
    /// The same for ciphers with 16-byte blocks, if it is not `x || ~x` of the 8 bytes: 16 bytes.
    #[serde(default)]
    pub session_wide: Vec<Piece>,
    /// For a second step down from the session key (grey lock).
    #[serde(default)]
    pub second_session: Vec<Piece>,
    /// What the card side or the terminal sends and we verify, in order.
    #[serde(default)]
    pub verify: BTreeMap<String, Vec<Piece>>,
    /// What we make.
    #[serde(default)]
    pub make: BTreeMap<String, Vec<Piece>>,
    /// Which of those is made only once which of the others was found right.
    #[serde(default)]
    pub after: BTreeMap<String, String>,
    /// What the TAC covers, if the transaction has one.
    #[serde(default)]
    pub tac: Vec<Piece>,
}

/// A card command under secure messaging.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandRules {
    pub name: String,
    pub title: String,
    /// Role of the key that protects it.
    pub role: String,
    /// CLA INS P1 P2, or CLA INS alone where the caller gives P1 and P2; hexadecimal.
    pub header: String,
    pub data: CommandData,
    pub protection: Protection,
}

/// What a command carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CommandData {
    /// Nothing.
    None,
    /// Bytes, as the card's file has them.
    Bytes,
    /// 2 to 6 bytes of decimal digits.
    Pin,
    /// The answer to the card's challenge.
    Cryptogram,
}

/// How a command is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protection {
    /// A MAC over header and data, chained from the challenge.
    Mac,
    /// `LD || data` enciphered, and a MAC over header and ciphertext.
    EncryptAndMac,
    /// A MAC over the data alone, chained from zeros, under the folded key.
    DataMac,
    /// The challenge enciphered.
    Cryptogram,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InternalAuthentication {
    pub role: String,
}

/// WRITE KEY: a card's new key, enciphered and MACed under one that it holds already.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteKeyRules {
    /// CLA INS, hexadecimal.
    pub instruction: String,
    /// Roles whose keys may protect: masters, or a role itself where its predecessor protects it.
    pub protectors: Vec<String>,
    /// By algorithm and role of the new key.
    pub headers: BTreeMap<Algorithm, BTreeMap<String, KeyHeader>>,
}

/// What stands before a key in WRITE KEY.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyHeader {
    /// P1 P2, hexadecimal.
    pub p1p2: String,
    /// Between the length and the key; `key_version` and `alg_id` are the new key's.
    pub header: Vec<Piece>,
}

/// The keys of one card as a personalisation bureau gets them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeySetRules {
    pub name: String,
    pub title: String,
    /// Bytes of the check value behind each key.
    pub kcv_bytes: u8,
    pub entries: Vec<KeySetEntry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeySetEntry {
    pub name: String,
    /// Role of the key; without one the place is filled.
    pub role: Option<String>,
    /// Two hexadecimal digits that fill a place without a key.
    pub fill: Option<String>,
}

/// How a city's clearing file lays out its records.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordLayout {
    pub name: String,
    pub title: String,
    pub kind: LayoutKind,
    /// Bytes of a record, without the line break of a text.
    pub length: usize,
    pub places: Vec<Place>,
    /// Fields that no record carries, written as in CSV columns.
    #[serde(default)]
    pub defaults: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LayoutKind {
    /// One record a line.
    Text,
    /// Record after record, nothing between.
    Binary,
}

/// Where a field stands in a record.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// A record's field, or `record_id`.
    pub field: String,
    pub offset: usize,
    pub length: usize,
    pub encoding: PlaceEncoding,
    /// Bytes that say that the field is not there, hexadecimal.
    pub absent: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PlaceEncoding {
    /// As in a CSV column, blanks around it.
    Text,
    /// As on the card, big-endian.
    Bytes,
    /// The same, least significant byte first.
    BytesReversed,
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

fn four_or_eight() -> Vec<usize> {
    vec![4, 8]
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

impl KeyFold {
    pub(crate) fn fold(self) -> Option<FoldRule> {
        match self {
            Self::Full => None,
            Self::XorHalves => Some(FoldRule::SingleDes),
            Self::FoldComplement => Some(FoldRule::WithComplement),
        }
    }
}

impl EncryptionPadding {
    pub(crate) fn rule(self) -> Padding {
        match self {
            Self::IfNeeded => Padding::OneIfNeeded,
            Self::Always => Padding::One,
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
