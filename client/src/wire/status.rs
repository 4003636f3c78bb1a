//! The daemon itself, and errors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// Opens the seal.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unseal {
    /// The words that the store was sealed with.
    #[schema(value_type = String, example = "six words that nobody else says")]
    pub passphrase: Zeroizing<String>,
}

/// How many random bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomRequest {
    /// 1 to 1024.
    #[schema(example = 16, minimum = 1, maximum = 1024)]
    pub len: usize,
}

/// Random bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RandomBytes {
    /// Hexadecimal.
    pub bytes: String,
}

/// Whether the daemon can serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `sealed`.
    #[schema(example = "ok")]
    pub status: String,
}

/// An error, as RFC 9457 has it. `code` is stable; the rest is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:claviger:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong and, where it can be said, what to do.
    pub detail: String,
    /// Stable, for programs.
    #[schema(example = "bad_field")]
    pub code: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The policy that refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// A card scheme, as its profile describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scheme {
    /// As keys and callers name it.
    #[schema(example = "cjt166")]
    pub id: String,
    /// For people.
    pub title: String,
    /// Of the profile.
    #[schema(example = "1")]
    pub version: String,
    /// What the rules rest on, and how sure they are.
    pub basis: String,
    /// Names of the dispersion levels, root first.
    #[schema(example = json!(["city", "card"]))]
    pub levels: Vec<String>,
    /// Role of the keys that make TACs.
    #[schema(example = "DTK")]
    pub tac_role: Option<String>,
    /// What keys are called, and what they are for.
    pub roles: Vec<SchemeRole>,
    /// Kinds of purse transactions.
    pub transactions: Vec<SchemeTransaction>,
    /// Card commands.
    pub commands: Vec<SchemeItem>,
    /// Layouts of key sets.
    pub key_sets: Vec<SchemeItem>,
    /// Layouts of clearing files.
    pub layouts: Vec<SchemeLayout>,
    /// The known answers that the profile reproduced when it was loaded.
    pub known_answers: Vec<String>,
}

/// A key role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemeRole {
    /// Its name.
    #[schema(example = "DTK")]
    pub role: String,
    /// For people.
    pub title: String,
    /// X9.143 key usage.
    #[schema(example = "12")]
    pub usage: String,
    /// X9.143 mode of use.
    #[schema(example = "V")]
    pub mode: String,
    /// The ceiling that its keys are made with.
    #[schema(example = "card-key")]
    pub ceiling: String,
}

/// A kind of transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemeTransaction {
    /// Its name.
    #[schema(example = "load")]
    pub name: String,
    /// For people.
    pub title: String,
    /// Transaction types, two hexadecimal digits each.
    #[schema(example = json!(["01", "02"]))]
    pub types: Vec<String>,
}

/// Something that a scheme knows by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemeItem {
    /// Its name.
    pub name: String,
    /// For people.
    pub title: String,
}

/// A layout of clearing files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemeLayout {
    /// Its name.
    #[schema(example = "packed-binary")]
    pub name: String,
    /// For people.
    pub title: String,
    /// Bytes of a record of packed binary; absent for text lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 64)]
    pub record_bytes: Option<usize>,
}
