//! What goes over the wire: JSON objects, bytes as hexadecimal strings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

/// What every key is named and made by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// Card scheme, or `generic`.
    #[schema(example = "cjt166")]
    pub scheme: String,
    /// What the scheme calls the key.
    #[schema(example = "DTK")]
    pub role: String,
    /// Two upper-case hexadecimal digits, as records write it.
    #[schema(example = "01")]
    pub version: String,
    /// `3des`, `sm4`, `aes128` ...
    #[schema(example = "3des")]
    pub algorithm: String,
    /// Dispersion factors already in the key, root first, hexadecimal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["1150FF0000000000"]))]
    pub factors: Vec<String>,
    /// The most that may leave a backend on its account; the role's default if absent, never more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "card-key")]
    pub ceiling: Option<String>,
    /// From when it may make something new (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protect_from: Option<String>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protect_until: Option<String>,
    /// Until when it may check what was made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_until: Option<String>,
}

/// Makes a key inside a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GenerateKey {
    /// What it will be.
    #[serde(flatten)]
    pub key: NewKey,
}

/// Joins a key from components.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportKey {
    /// What it will be.
    pub key: NewKey,
    /// At least two, hexadecimal; they are XORed.
    #[schema(value_type = Vec<String>, min_items = 2)]
    pub components: Vec<Zeroizing<String>>,
    /// The check value that the key must show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "B8743B")]
    pub kcv: Option<String>,
    /// Refuse components with a byte of even parity.
    #[serde(default)]
    pub odd_parity: bool,
}

/// A key's record. Never holds the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Unique for ever.
    pub id: String,
    /// City or operator.
    pub tenant: String,
    /// Card scheme.
    pub scheme: String,
    /// What the scheme calls it.
    pub role: String,
    /// Its cipher.
    pub algorithm: String,
    /// As records write it.
    pub version: String,
    /// How many dispersion steps are already in it.
    pub level: usize,
    /// Their factors, root first.
    pub factors: Vec<String>,
    /// NIST SP 800-57 state.
    #[schema(example = "active")]
    pub state: String,
    /// Key check value.
    #[schema(example = "B8743B")]
    pub kcv: String,
    /// How it was made, as `ecb of zero, 3 bytes`.
    pub kcv_rule: String,
    /// X9.143 key usage.
    pub usage: String,
    /// X9.143 mode of use.
    pub mode: String,
    /// X9.143 exportability.
    pub exportability: String,
    /// The most that may leave a backend on its account.
    pub ceiling: String,
    /// `generated`, `components`, `dispersed`.
    pub origin: String,
    /// Backends that hold a replica.
    pub backends: Vec<String>,
    /// When it was made (RFC 3339).
    pub created: String,
}

/// Keys of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// Sorted by name, algorithm and version.
    pub keys: Vec<Key>,
}

/// Which keys to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KeyFilter {
    /// Whose.
    #[param(example = "demo")]
    pub tenant: String,
    /// Of one scheme only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Of one role only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// Gives a key another state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetKeyState {
    /// `active`, `suspended`, `deactivated`, `compromised` or `destroyed`.
    #[schema(example = "suspended")]
    pub state: String,
}

/// Which keys verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VerifyParameters {
    /// Whose.
    #[param(example = "demo")]
    pub tenant: String,
    /// Of which scheme.
    #[param(example = "cjt166")]
    pub scheme: String,
}

/// A few records, for callers that have no file. Members are named as the columns of the CSV are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRecords {
    /// At most 10,000.
    #[schema(example = json!([{"record_id": "R1", "city_code": "1150", "asn": "1150491934206620", "txn_type": "06", "amount": "544",
        "terminal_id": "115366392864", "ttc": "00000001", "date": "20261121", "time": "071014", "key_version": "01", "alg_id": "00", "tac": "BA231E81"}]))]
    pub records: Vec<BTreeMap<String, String>>,
}

/// What verification says of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// As given.
    pub record_id: String,
    /// `valid`, `invalid`, `unknown_key`, `unverifiable` or `malformed`.
    #[schema(example = "valid")]
    pub verdict: String,
    /// Empty for valid records.
    #[schema(example = "")]
    pub reason: String,
}

/// How many records have each verdict.
pub type VerdictCounts = BTreeMap<String, u64>;

/// Verdicts in the order of the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyResult {
    /// One for each record.
    pub verdicts: Vec<Verdict>,
    /// By verdict.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub counts: VerdictCounts,
}

/// Opens the seal.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unseal {
    /// The words that the store was sealed with.
    #[schema(value_type = String)]
    pub passphrase: Zeroizing<String>,
}

/// A host's part in a purse transaction: verify what the card sent and, only then, make the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Purse {
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// Card scheme.
    #[schema(example = "cjt166")]
    pub scheme: String,
    /// `load`, `unload`, `overdraft`, as the scheme names it.
    #[schema(example = "load")]
    pub transaction: String,
    /// What the card and the terminal sent, by the scheme's field names, written as in CSV columns.
    #[schema(example = json!({"city_code": "1150", "asn": "1150491934206620", "key_version": "01", "alg_id": "00", "rand": "11223344", "online_sn": "0000",
        "balance": "0", "amount": "4096", "txn_type": "01", "terminal_id": "001122334455", "date": "20111221", "time": "214822"}))]
    pub fields: BTreeMap<String, String>,
    /// Which MAC the card sent.
    #[schema(example = "mac1")]
    pub verify: String,
    /// Its value, 8 hexadecimal digits.
    #[schema(example = "2988AE5A")]
    pub mac: String,
    /// The MAC to make if that one is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "mac2")]
    pub make: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurseResult {
    /// Whether the card's MAC was right.
    pub valid: bool,
    /// The MAC that was asked for; only if the card's was right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "3A845BF0")]
    pub mac: Option<String>,
}

/// A purchase whose MAC1 the service makes in place of a PSAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PsamDebit {
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// Card scheme.
    #[schema(example = "cjt166")]
    pub scheme: String,
    /// `purchase`, `composite` or `cash`.
    #[schema(example = "purchase")]
    pub transaction: String,
    /// What the card and the terminal say, without `ttc`.
    #[schema(example = json!({"city_code": "1150", "asn": "1150491934206620", "key_version": "01", "alg_id": "00", "rand": "11223344", "offline_sn": "0000",
        "amount": "4096", "txn_type": "06", "terminal_id": "001122334455", "date": "20120229", "time": "135100"}))]
    pub fields: BTreeMap<String, String>,
}

/// What the terminal sends to the card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PsamResult {
    /// The terminal's transaction number, 8 hexadecimal digits; never given twice.
    #[schema(example = "00000001")]
    pub ttc: String,
    /// MAC1.
    #[schema(example = "F15CAB75")]
    pub mac1: String,
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
