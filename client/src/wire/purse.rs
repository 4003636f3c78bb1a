//! Purse transactions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    #[schema(example = true)]
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
