//! Keys from other parties and to them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keys::{KeyReference, NewKey};

/// Takes a key in that another party has wrapped under a key which a backend holds.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "key": {"tenant": "demo", "scheme": "generic", "role": "CMAC", "version": "02", "algorithm": "aes128"},
    "under": {"tenant": "demo", "scheme": "generic", "role": "KBPK", "version": "01", "algorithm": "aes256"},
    "wrapped": {"form": "key-block",
        "block": "D0144M6AC02N00003E0FAA5962F825612C65C3AF1F293A5D1D2DE8517C542612C43C848C2466591F9B64AA83C52443E0C6BB94DBCEB8C13BCC9C1EA85E6502987EBCFCA8A9AD6BAD"}}))]
pub struct UnwrapKey {
    /// What it is to be: what a key block says of it must be this, or allow more.
    pub key: NewKey,
    /// The key that it is wrapped under: of role KBPK for key blocks, KEK for ECB, EXCHANGE for SM2 envelopes.
    pub under: KeyReference,
    /// As it came.
    pub wrapped: WrappedKey,
    /// The check value that the key must show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "B8743B")]
    pub kcv: Option<String>,
    /// The ceremony that it was made in, if that was another daemon's: whoever approves agrees to that too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldElsewhere>,
}

/// A ceremony of another daemon's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldElsewhere {
    /// Its id, 32 hexadecimal digits.
    #[schema(example = "3f5a0c9d21e87b463f5a0c9d21e87b46")]
    pub ceremony: String,
    /// SHA-256 of its transcript, as `claviger ceremony verify` says it: 64 hexadecimal digits.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub transcript: String,
}

/// A key as it came.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "form", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WrappedKey {
    /// ANSI X9.143 (TR-31) of version A, B, C or D, or ISO 20038 (version E).
    KeyBlock {
        /// The whole block.
        #[schema(
            example = "D0144M6AC02N00003E0FAA5962F825612C65C3AF1F293A5D1D2DE8517C542612C43C848C2466591F9B64AA83C52443E0C6BB94DBCEB8C13BCC9C1EA85E6502987EBCFCA8A9AD6BAD"
        )]
        block: String,
        /// Whether it is of Claviger's own form of version D under SM4, which is of no standard.
        #[serde(default)]
        #[schema(example = false)]
        sm4_local: bool,
    },
    /// ECB with a check value. Nothing of it is authenticated.
    Ecb {
        /// Hexadecimal.
        #[schema(example = "00112233445566778899AABBCCDDEEFF")]
        ciphertext: String,
        /// The check value that came with it, hexadecimal.
        #[schema(example = "B8743B")]
        kcv: String,
        /// What fills up a key that is no whole blocks: `none`, `one-if-partial`, `zeros-if-partial`.
        #[serde(default = "no_padding")]
        #[schema(example = "none")]
        padding: String,
        /// How the check value is made: `ecb` or `cmac`.
        #[serde(default = "by_ecb")]
        #[schema(example = "ecb")]
        function: String,
        /// Over a block of `zero` or of `ones` (bytes 01).
        #[serde(default = "of_zero")]
        #[schema(example = "zero")]
        input: String,
    },
    /// An SM2 envelope: a symmetric key under an SM2 public key, or an SM2 key pair under a fresh key under it.
    Sm2Envelope {
        /// Hexadecimal.
        #[schema(example = "00112233")]
        envelope: String,
        /// How it is laid out.
        layout: EnvelopeForm,
    },
}

/// How an SM2 envelope is laid out.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeForm {
    /// `sdf` (GM/T 0018), `skf` (GM/T 0016), `der` (GM/T 0009).
    #[schema(example = "sdf")]
    pub name: String,
    /// Whether the integers of structures are big endian.
    #[serde(default)]
    #[schema(example = false)]
    pub big_endian: bool,
    /// What stands first in the envelope of a key pair in `sdf`: 1, or 133120 (SGD_SM2_3).
    #[serde(default = "one")]
    #[schema(example = 1)]
    pub first: u32,
}

/// Gives a key out to another party.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "form", rename_all = "kebab-case", deny_unknown_fields)]
#[schema(example = json!({
    "form": "key-block", "version": "D",
    "under": {"tenant": "demo", "scheme": "generic", "role": "KBPK", "version": "01", "algorithm": "aes256"}}))]
pub enum ExportKey {
    /// ANSI X9.143 (TR-31) of version B or D, or ISO 20038 (version E): for keys that may move.
    KeyBlock {
        /// The key that protects it, of role KBPK.
        under: KeyReference,
        /// `B` under triple DES, `D` or `E` under AES, `D-SM4` (Claviger's own) under SM4.
        #[schema(example = "D")]
        version: String,
        /// What the other party may do with it: the key's own mode of use if absent, never more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "V")]
        mode: Option<String>,
        /// Whether it may leave the other party again: `N`, `E` or `S`, never more than it may here.
        #[serde(default = "never")]
        #[schema(example = "N")]
        exportability: String,
    },
    /// ECB under a key of role KEK, with the key's check value: for keys that may move as they are, `sensitive`.
    Ecb {
        /// The transport key.
        under: KeyReference,
        /// What fills up a key that is no whole blocks: `none`, `one-if-partial`, `zeros-if-partial`.
        #[serde(default = "no_padding")]
        #[schema(example = "none")]
        padding: String,
    },
    /// An SM2 envelope: for keys that may move as they are, `sensitive`.
    Sm2Envelope {
        /// The other party's public key, `X || Y` in hexadecimal; `04` may stand before it.
        #[schema(example = "00112233")]
        recipient: String,
        /// How it is laid out.
        layout: EnvelopeForm,
    },
}

/// A key as it goes out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportedKey {
    /// A key block as text; anything else in hexadecimal.
    #[schema(
        example = "D0144M6AC02N00003E0FAA5962F825612C65C3AF1F293A5D1D2DE8517C542612C43C848C2466591F9B64AA83C52443E0C6BB94DBCEB8C13BCC9C1EA85E6502987EBCFCA8A9AD6BAD"
    )]
    pub wrapped: String,
    /// The key's check value, as its record has it.
    #[schema(example = "B8743B")]
    pub kcv: String,
}

/// The public half of an SM2 key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PublicKey {
    /// `04 || X || Y`, hexadecimal.
    #[schema(example = "0400112233")]
    pub public_key: String,
}

fn no_padding() -> String {
    "none".to_owned()
}

fn by_ecb() -> String {
    "ecb".to_owned()
}

fn of_zero() -> String {
    "zero".to_owned()
}

fn never() -> String {
    "N".to_owned()
}

fn one() -> u32 {
    1
}
