//! Transaction records and their verdicts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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
    /// For `application/octet-stream`: the layout of the records, as the scheme names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(example = "fixed-text")]
    pub layout: Option<String>,
    /// To go on with a file: how many of its lines (with the header) or records were sent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The keys that must verify, as an earlier answer's header `claviger-keys` named them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
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
    #[schema(example = "R1")]
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
    /// The job in the audit log.
    #[schema(example = "5f0c3a9d21e87b46")]
    pub job: String,
    /// One for each record.
    pub verdicts: Vec<Verdict>,
    /// By verdict.
    #[schema(example = json!({"valid": 1}), value_type = BTreeMap<String, u64>)]
    pub counts: VerdictCounts,
}
