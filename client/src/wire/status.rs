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
    #[schema(example = "0F1E2D3C4B5A69788796A5B4C3D2E1F0")]
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
    #[schema(example = "urn:claviger:problem:bad_field")]
    pub kind: String,
    /// The HTTP status in words.
    #[schema(example = "Unprocessable Content")]
    pub title: String,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// What went wrong and, where it can be said, what to do.
    #[schema(example = "`version` is not two upper-case hexadecimal digits")]
    pub detail: String,
    /// Stable, for programs.
    #[schema(example = "bad_field")]
    pub code: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "version")]
    pub field: Option<String>,
    /// The policy that refused; of what others must approve first, the policy that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "officers.use-no-key")]
    pub policy: Option<String>,
    /// The proposal that others must approve first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "5f0c3a9d21e87b465f0c3a9d21e87b46")]
    pub approval: Option<String>,
}

/// A card scheme, as its profile describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scheme {
    /// As keys and callers name it.
    #[schema(example = "cjt166")]
    pub id: String,
    /// For people.
    #[schema(example = "城市一卡通互联互通 CJ/T 166 (MOHURD interconnect)")]
    pub title: String,
    /// Of the profile.
    #[schema(example = "1")]
    pub version: String,
    /// What the rules rest on, and how sure they are.
    #[schema(example = "CJ/T 166, AID A00000000386980701")]
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
    #[schema(example = json!(["pboc-dispersion.json#sm4-2"]))]
    pub known_answers: Vec<String>,
}

/// A key role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemeRole {
    /// Its name.
    #[schema(example = "DTK")]
    pub role: String,
    /// For people.
    #[schema(example = "TAC 密钥 transaction authentication code")]
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
    #[schema(example = "圈存")]
    pub title: String,
    /// Transaction types, two hexadecimal digits each.
    #[schema(example = json!(["01", "02"]))]
    pub types: Vec<String>,
}

/// Something that a scheme knows by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemeItem {
    /// Its name.
    #[schema(example = "unblock-pin")]
    pub name: String,
    /// For people.
    #[schema(example = "PIN 解锁")]
    pub title: String,
}

/// A layout of clearing files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemeLayout {
    /// Its name.
    #[schema(example = "packed-binary")]
    pub name: String,
    /// For people.
    #[schema(example = "定长二进制（示例） packed binary, an example")]
    pub title: String,
    /// Bytes of a record of packed binary; absent for text lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 64)]
    pub record_bytes: Option<usize>,
}

/// How a backend is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Backend {
    /// As configured.
    #[schema(example = "room-1")]
    pub name: String,
    /// As configured.
    #[schema(example = "pkcs11")]
    pub driver: String,
    /// `on-prem`, `hosted` or `cloud`.
    #[schema(example = "on-prem")]
    pub place: String,
    /// Whether it failed too often and is left alone for a while.
    #[schema(example = false)]
    pub resting: bool,
    /// Below which nineteen of twenty answers take, in milliseconds; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.8)]
    pub p95_ms: Option<f64>,
    /// Process ids of the workers that run its vendor's library.
    #[schema(example = json!([4711]))]
    pub workers: Vec<u32>,
    /// Ids of keys whose replica there is another key.
    #[schema(example = json!([]))]
    pub quarantined: Vec<String>,
}

/// Every backend, the preferred one first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackendList {
    /// In order of preference.
    pub backends: Vec<Backend>,
}

/// The last number that a terminal has used.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tenant": "demo", "terminal_id": "001122334455", "last": 4711}))]
pub struct SetTerminal {
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// 12 hexadecimal digits.
    #[schema(example = "001122334455")]
    pub terminal_id: String,
    /// What its own records, or the clearing's, say.
    #[schema(example = 4711)]
    pub last: u32,
}

/// A custodian's share, as it is written.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"share": "ACAEA CCCCY CCCCX CCCCN CCCCM CCCCR CCCCP CCCCH CCCCF CCCCK CCCCJ CCCCC CCCCA CCCCE CCCCD CCCCW CCCCT"}))]
pub struct BringShare {
    /// 17 groups of four letters and a check letter.
    #[schema(value_type = String, example = "ACAEA CCCCY CCCCX CCCCN CCCCM CCCCR CCCCP CCCCH CCCCF CCCCK CCCCJ CCCCC CCCCA CCCCE CCCCD CCCCW CCCCT")]
    pub share: Zeroizing<String>,
}

/// Shares that a sealed daemon has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharesBrought {
    /// So many.
    #[schema(example = 2)]
    pub found: usize,
    /// Of so many that it takes.
    #[schema(example = 3)]
    pub wanted: u8,
    /// Whether it is unsealed by them.
    #[schema(example = false)]
    pub unsealed: bool,
}
