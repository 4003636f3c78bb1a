//! Commands for cards, and their personalisation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

/// A card command under secure messaging.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardCommand {
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// Card scheme.
    #[schema(example = "cjt166")]
    pub scheme: String,
    /// As the scheme names it; `claviger schemes show` lists them.
    #[schema(example = "unblock-pin")]
    pub command: String,
    /// The card's number, and key version and algorithm id, written as in CSV columns.
    #[schema(example = json!({"city_code": "1150", "asn": "1150491934206620", "key_version": "01", "alg_id": "00"}))]
    pub fields: BTreeMap<String, String>,
    /// P1 P2, where the command leaves them to the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p1p2: Option<String>,
    /// What the card gave for GET CHALLENGE.
    #[serde(default)]
    #[schema(example = "11223344")]
    pub challenge: String,
    /// What the command carries, in plain: bytes of a file, or the digits of a PIN.
    #[serde(default)]
    #[schema(value_type = String, example = "123456")]
    pub data: Zeroizing<String>,
}

/// A command to send to the card as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CardApdu {
    /// CLA INS P1 P2 Lc data, hexadecimal.
    #[schema(example = "842400010CC70FC7D5AE11FB648CB1A395")]
    pub apdu: String,
}

/// WRITE KEY: a card's new key, under one that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteKey {
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// Card scheme.
    #[schema(example = "cjt166")]
    pub scheme: String,
    /// The card's number, and key version and algorithm id of the protector.
    #[schema(example = json!({"city_code": "1150", "asn": "1150491934206620", "key_version": "01", "alg_id": "00"}))]
    pub fields: BTreeMap<String, String>,
    /// Role of the key that the card holds and that protects the new one.
    #[schema(example = "DACK")]
    pub protector: String,
    /// Role of the new key.
    #[schema(example = "DPK")]
    pub role: String,
    /// Version of the new key.
    #[schema(example = "02")]
    pub version: String,
    /// Algorithm id of the new key.
    #[schema(example = "00")]
    pub alg_id: String,
    /// What the card gave for GET CHALLENGE.
    #[schema(example = "11223344")]
    pub challenge: String,
}

/// A card's answer to INTERNAL AUTHENTICATE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthenticateCard {
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// Card scheme.
    #[schema(example = "cjt166")]
    pub scheme: String,
    /// The card's number, and key version and algorithm id.
    #[schema(example = json!({"city_code": "1150", "asn": "1150491934206620", "key_version": "01", "alg_id": "00"}))]
    pub fields: BTreeMap<String, String>,
    /// What the card was sent.
    #[schema(example = "1122334455667788")]
    pub challenge: String,
    /// What it answered.
    #[schema(example = "A84356DF5C390F81")]
    pub answer: String,
}

/// Which key sets cards get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PersonaliseParameters {
    /// Whose keys.
    #[param(example = "demo")]
    pub tenant: String,
    /// Of which scheme.
    #[param(example = "cjt166")]
    pub scheme: String,
    /// The layout, as the scheme names it; its first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(example = "card")]
    pub key_set: Option<String>,
    /// One set for each, in order, with commas between.
    #[param(example = "3des")]
    pub algorithms: String,
    /// Version of the cards' keys.
    #[param(example = "01")]
    pub version: String,
    /// Role and version of the transport key.
    #[param(example = "TK/01")]
    pub transport_key: String,
}

/// A few cards, for callers that have no file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Personalise {
    /// At most 10,000; `card_id` and the fields that the scheme's factors are made of.
    #[schema(example = json!([{"card_id": "C1", "city_code": "1150", "asn": "1150491934206620"}]))]
    pub cards: Vec<BTreeMap<String, String>>,
}

/// One card's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CardKeySet {
    /// As given.
    #[schema(example = "C1")]
    pub card_id: String,
    /// `made` or `malformed`.
    #[schema(example = "made")]
    pub result: String,
    /// Empty for sets that were made.
    #[schema(example = "")]
    pub reason: String,
    /// Wrapped keys with their check values, hexadecimal; empty if none was made.
    #[schema(example = "41CC1E04A4BF2B6C2B3F3C8A5A9F6C5B8A4F19")]
    pub key_set: String,
}

/// Key sets in the order of the cards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PersonaliseResult {
    /// One for each card.
    pub cards: Vec<CardKeySet>,
    /// By result.
    #[schema(example = json!({"made": 1}), value_type = BTreeMap<String, u64>)]
    pub counts: BTreeMap<String, u64>,
}
