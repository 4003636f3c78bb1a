//! Keys and their life.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

/// What every key is named and made by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tenant": "demo", "scheme": "cjt166", "role": "DTK", "version": "01", "algorithm": "3des",
    "verify_until": "2036-01-01T00:00:00Z"}))]
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
    #[schema(example = "2027-01-01T00:00:00Z")]
    pub protect_from: Option<String>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2029-01-01T00:00:00Z")]
    pub protect_until: Option<String>,
    /// Until when it may check what was made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2030-01-01T00:00:00Z")]
    pub verify_until: Option<String>,
    /// Backends to make it in: several for a key from components; the preferred one that can hold it if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["embedded"]))]
    pub backends: Vec<String>,
    /// Where it may ever live, `on-prem`, `hosted` or `cloud`; where it is made if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["on-prem"]))]
    pub places: Vec<String>,
    /// Whether it may ever move to another backend, or leave in a key block.
    #[serde(default)]
    #[schema(example = false)]
    pub movable: bool,
    /// Whether it may also leave in forms that do not carry what it is: ECB under a transport key, SM2 envelopes.
    #[serde(default)]
    #[schema(example = false)]
    pub sensitive: bool,
}

/// Registers a key that a backend's device holds already.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "key": {"tenant": "demo", "scheme": "cjt166", "role": "DTK", "version": "03", "algorithm": "3des", "backends": ["embedded"]},
    "object": "DTK-03", "kcv": "B8743B"}))]
pub struct AdoptKey {
    /// What it is; names the one backend.
    pub key: NewKey,
    /// The device's label of it, or its id in hexadecimal.
    #[schema(example = "DTK-03")]
    pub object: String,
    /// The check value that the key must show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "B8743B")]
    pub kcv: Option<String>,
    /// Records of the past, as `POST /v1/transactions/verify` takes them: for a key of TACs, which must all be right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!([]))]
    pub records: Vec<BTreeMap<String, String>>,
}

/// Makes another backend a copy of a key.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "to": "embedded",
    "under": {"tenant": "demo", "scheme": "generic", "role": "KEK", "version": "01", "algorithm": "aes256"}}))]
pub struct ReplicateKey {
    /// The backend's configured name.
    #[schema(example = "embedded")]
    pub to: String,
    /// An AES wrapping key that both backends hold.
    pub under: KeyReference,
}

/// A step of a key's move between two backends that hold it.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"step": "begin", "to": "embedded"}))]
pub struct MoveKey {
    /// `begin`: another backend answers beside the one that callers hear; `cut-over`: it is the one that they hear;
    /// `roll-back`: one step back; `finish`: the former one answers no more.
    #[schema(example = "begin")]
    pub step: String,
    /// Of `begin` only: the backend that the key moves to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "embedded")]
    pub to: Option<String>,
}

/// Lets more leave a backend on account of a key, for a time.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"ceiling": "card-key", "lasting": "8h"}))]
pub struct RaiseCeiling {
    /// `session-key` or `card-key`; above what the key was made with.
    #[schema(example = "card-key")]
    pub ceiling: String,
    /// From when it is done: `30m`, `8h`, `2h 30m`; up to 168 hours.
    #[schema(example = "8h")]
    pub lasting: String,
}

/// A ceiling that is higher for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RaisedCeiling {
    /// The most that may leave meanwhile.
    #[schema(example = "card-key")]
    pub ceiling: String,
    /// When it is over (RFC 3339).
    #[schema(example = "2026-11-20T16:00:00Z")]
    pub until: String,
}

/// Which backend answers for a key, and how its move stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyMove {
    /// The backend that is asked first.
    #[schema(example = "embedded")]
    pub answers: String,
    /// Of a move: the backend that answered when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "room-1")]
    pub from: Option<String>,
    /// Of a move: the backend that shall answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "embedded")]
    pub to: Option<String>,
    /// Items that both backends answered since the move began, or since the daemon started.
    #[schema(example = 120_000)]
    pub compared: u64,
    /// Those of them where the answers differ.
    #[schema(example = 0)]
    pub diverged: u64,
    /// Calls that the second backend failed to answer.
    #[schema(example = 0)]
    pub failed: u64,
    /// Calls that were not compared because too many waited for their second answer.
    #[schema(example = 0)]
    pub skipped: u64,
}

/// Joins a key from components.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "key": {"tenant": "demo", "scheme": "cjt166", "role": "DTK", "version": "02", "algorithm": "3des"},
    "components": ["BFEFDF8AADEF759E1C378001FB1CCEF8", "5055F94862F36D2248A323BE9B863A8C"], "kcv": "B8743B"}))]
pub struct ImportKey {
    /// What it will be.
    pub key: NewKey,
    /// At least two, hexadecimal; they are XORed.
    #[schema(value_type = Vec<String>, min_items = 2, example = json!(["BFEFDF8AADEF759E1C378001FB1CCEF8", "5055F94862F36D2248A323BE9B863A8C"]))]
    pub components: Vec<Zeroizing<String>>,
    /// The check value that the key must show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "B8743B")]
    pub kcv: Option<String>,
    /// Refuse components with a byte of even parity.
    #[serde(default)]
    #[schema(example = false)]
    pub odd_parity: bool,
}

/// A key's record. Never holds the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Unique for ever.
    #[schema(example = "e032f0e228e9077e2d7baac0902af7d9")]
    pub id: String,
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// Card scheme.
    #[schema(example = "cjt166")]
    pub scheme: String,
    /// What the scheme calls it.
    #[schema(example = "DTK")]
    pub role: String,
    /// Its cipher.
    #[schema(example = "3des")]
    pub algorithm: String,
    /// As records write it.
    #[schema(example = "01")]
    pub version: String,
    /// How many dispersion steps are already in it.
    #[schema(example = 1)]
    pub level: usize,
    /// Their factors, root first.
    #[schema(example = json!(["1150FF0000000000"]))]
    pub factors: Vec<String>,
    /// NIST SP 800-57 state.
    #[schema(example = "active")]
    pub state: String,
    /// Key check value.
    #[schema(example = "B8743B")]
    pub kcv: String,
    /// How it was made, as `ecb of zero, 3 bytes`.
    #[schema(example = "ecb of zero, 3 bytes")]
    pub kcv_rule: String,
    /// `dispersion` above cards, `card`, or `plain` for a key of no scheme.
    #[schema(example = "dispersion")]
    pub rank: String,
    /// X9.143 key usage.
    #[schema(example = "12")]
    pub usage: String,
    /// X9.143 mode of use.
    #[schema(example = "V")]
    pub mode: String,
    /// X9.143 exportability.
    #[schema(example = "N")]
    pub exportability: String,
    /// The most that may leave a backend on its account.
    #[schema(example = "card-key")]
    pub ceiling: String,
    /// What it is instead for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised: Option<RaisedCeiling>,
    /// `generated`, `components`, `dispersed`, `adopted`.
    #[schema(example = "components")]
    pub origin: String,
    /// Backends that hold a replica.
    #[schema(example = json!(["embedded"]))]
    pub backends: Vec<String>,
    /// Those that have not followed the key to its state or ceiling, because they did not answer: they do later, and until then do
    /// not serve it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!([]))]
    pub behind: Vec<String>,
    /// Where it may live.
    #[schema(example = json!(["on-prem"]))]
    pub places: Vec<String>,
    /// When it was made (RFC 3339).
    #[schema(example = "2026-11-20T08:00:00Z")]
    pub created: String,
    /// From when it may protect (RFC 3339); open if absent, as the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-01-01T00:00:00Z")]
    pub protect_from: Option<String>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2035-01-01T00:00:00Z")]
    pub protect_until: Option<String>,
    /// Until when it may verify what was protected before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2036-01-01T00:00:00Z")]
    pub verify_until: Option<String>,
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
    #[param(example = "cjt166")]
    pub scheme: Option<String>,
    /// Of one role only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(example = "DTK")]
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

/// A stored key, by all that tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyReference {
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// Card scheme, or `generic`.
    #[schema(example = "generic")]
    pub scheme: String,
    /// What the scheme calls the key.
    #[schema(example = "CMAC")]
    pub role: String,
    /// Two upper-case hexadecimal digits.
    #[schema(example = "01")]
    pub version: String,
    /// Its cipher.
    #[schema(example = "sm4")]
    pub algorithm: String,
    /// Dispersion factors already in the key, root first, hexadecimal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!([]))]
    pub factors: Vec<String>,
}

/// Keeps a child of a stored key inside, as a key of its own with the same name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "parent": {"tenant": "demo", "scheme": "cjt166", "role": "DTK", "version": "01", "algorithm": "3des"},
    "factors": ["1150FF0000000000"]}))]
pub struct DisperseKey {
    /// The key above.
    pub parent: KeyReference,
    /// The factors of the next levels, root first, hexadecimal.
    #[schema(example = json!(["1150FF0000000000"]), min_items = 1)]
    pub factors: Vec<String>,
}

/// A check value by a rule of the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ComputeKcv {
    /// `ecb`, `cmac`, `hmac` or `fingerprint`.
    #[schema(example = "ecb")]
    pub function: String,
    /// `zero` or `ones`: what is enciphered.
    #[schema(example = "zero")]
    pub input: String,
    /// Leftmost bytes that are kept; at most 3 for a key above card level.
    #[schema(example = 3, minimum = 1, maximum = 32)]
    pub take: u8,
}

/// A key check value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KcvResult {
    /// Upper-case hexadecimal digits.
    #[schema(example = "B8743B")]
    pub kcv: String,
}
