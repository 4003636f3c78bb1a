//! Work with keys of no card scheme.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::KeyReference;

/// Makes MACs. The algorithm is that of the key's role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MacGenerate {
    /// Of a role that makes MACs.
    pub key: KeyReference,
    /// Of CBC-MACs: `none`, `zeros`, `one` (ISO 9797-1 method 2) or `length`.
    #[serde(default = "method_2")]
    #[schema(example = "one")]
    pub padding: String,
    /// Leftmost bytes that are kept, at least 4; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 8)]
    pub length: Option<usize>,
    /// At most 10,000, hexadecimal.
    #[schema(example = json!(["6BC1BEE22E409F96"]), max_items = 10000)]
    pub messages: Vec<String>,
}

/// MACs in the order of the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MacResult {
    /// Hexadecimal.
    #[schema(example = json!(["070A16B46B4D4144"]))]
    pub macs: Vec<String>,
}

/// Verifies MACs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MacVerify {
    /// Of a role that makes MACs.
    pub key: KeyReference,
    /// Of CBC-MACs: `none`, `zeros`, `one` (ISO 9797-1 method 2) or `length`.
    #[serde(default = "method_2")]
    #[schema(example = "one")]
    pub padding: String,
    /// At most 10,000; all MACs have the same length.
    #[schema(max_items = 10000)]
    pub items: Vec<MacItem>,
}

/// A message and its MAC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MacItem {
    /// Hexadecimal.
    #[schema(example = "6BC1BEE22E409F96")]
    pub message: String,
    /// Hexadecimal.
    #[schema(example = "070A16B46B4D4144")]
    pub mac: String,
}

/// What was found of each item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Valid {
    /// In the order of the items.
    #[schema(example = json!([true]))]
    pub valid: Vec<bool>,
    /// By which the audit log knows this call (`claviger audit prove-call`).
    #[schema(example = "5f0c3a9d21e87b46")]
    pub job: String,
}

/// Enciphers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"key": {"tenant": "demo", "scheme": "generic", "role": "DATA", "version": "01", "algorithm": "aes128"},
    "mode": "gcm", "items": [{"data": "6BC1BEE22E409F96", "associated": "5448495320495320"}]}))]
pub struct Encrypt {
    /// Of a role that enciphers.
    pub key: KeyReference,
    /// `ecb`, `cbc` or `gcm`.
    #[schema(example = "gcm")]
    pub mode: String,
    /// Of ECB and CBC: `none`, `zeros`, `one` or `pkcs7`.
    #[serde(default = "pkcs7")]
    #[schema(example = "pkcs7")]
    pub padding: String,
    /// At most 10,000.
    #[schema(max_items = 10000)]
    pub items: Vec<CipherItem>,
}

/// Deciphers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"key": {"tenant": "demo", "scheme": "generic", "role": "DATA", "version": "01", "algorithm": "aes128"},
    "mode": "gcm", "items": [{"data": "9F1C0E2B7D5A4F6E8C3B2A190817263544536271", "iv": "00112233445566778899AABB",
    "associated": "5448495320495320"}]}))]
pub struct Decrypt {
    /// Of a role that deciphers.
    pub key: KeyReference,
    /// `ecb`, `cbc` or `gcm`.
    #[schema(example = "gcm")]
    pub mode: String,
    /// Of ECB and CBC, what is taken off the plain text: `none`, `one` or `pkcs7`.
    #[serde(default = "pkcs7")]
    #[schema(example = "pkcs7")]
    pub padding: String,
    /// At most 10,000.
    #[schema(max_items = 10000)]
    pub items: Vec<CipherItem>,
}

/// A text with what its mode needs; all hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CipherItem {
    /// Plain or enciphered; in GCM the 16-byte tag follows the ciphertext.
    #[schema(example = "6BC1BEE22E409F96")]
    pub data: String,
    /// Initial value of CBC, or nonce of GCM. For encryption the service draws it: always in GCM, in CBC
    /// if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "00112233445566778899AABB")]
    pub iv: Option<String>,
    /// Authenticated by GCM, not enciphered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "5448495320495320")]
    pub associated: String,
}

/// Texts in the order of the items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CipherResult {
    /// A text, and with what it was enciphered; null where a ciphertext is not authentic or its padding is none.
    #[schema(example = json!([{"data": "6BC1BEE22E409F96", "iv": "00112233445566778899AABB"}, null]))]
    pub items: Vec<Option<CipherItem>>,
}

/// Signs with SM2 (GB/T 32918.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"key": {"tenant": "demo", "scheme": "generic", "role": "SIGN", "version": "01", "algorithm": "sm2"},
    "messages": ["6D65737361676520646967657374"]}))]
pub struct Sign {
    /// Of a role that signs.
    pub key: KeyReference,
    /// The signer's identity that goes into `Z_A`.
    #[serde(default = "standard_id")]
    #[schema(example = "1234567812345678")]
    pub signer_id: String,
    /// At most 10,000, hexadecimal.
    #[schema(example = json!(["6D65737361676520646967657374"]), max_items = 10000)]
    pub messages: Vec<String>,
}

/// Signatures in the order of the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignResult {
    /// `r || s`, 64 bytes, hexadecimal.
    #[schema(example = json!(["F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"]))]
    pub signatures: Vec<String>,
}

/// Verifies SM2 signatures by the public half of a stored key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"key": {"tenant": "demo", "scheme": "generic", "role": "SIGN", "version": "01", "algorithm": "sm2"},
    "items": [{"message": "6D65737361676520646967657374", "signature": "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"}]}))]
pub struct VerifySignature {
    /// Of a role that signs.
    pub key: KeyReference,
    /// The signer's identity that goes into `Z_A`.
    #[serde(default = "standard_id")]
    #[schema(example = "1234567812345678")]
    pub signer_id: String,
    /// At most 10,000.
    #[schema(max_items = 10000)]
    pub items: Vec<SignatureItem>,
}

/// A message and its signature; both hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureItem {
    /// M.
    #[schema(example = "6D65737361676520646967657374")]
    pub message: String,
    /// `r || s`.
    #[schema(
        example = "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
    )]
    pub signature: String,
}

fn method_2() -> String {
    "one".to_owned()
}

fn pkcs7() -> String {
    "pkcs7".to_owned()
}

fn standard_id() -> String {
    "1234567812345678".to_owned()
}
