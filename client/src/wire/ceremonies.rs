//! Ceremonies.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

/// A plan and a binding, as their files say them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "plan": "id = \"look\"\nversion = 1\ntitle = \"Look\"\npurpose = \"Two people look.\"\nhours = 8\n[[role]]\nname = \"witness\"\ncount = 1\n[[step]]\ndo = \"confirm\"\nby = \"witness\"\nsay = \"It is there.\"\n",
    "binding": "plan = \"aa388498adcc45c44fa2259a93aab862c6d4e5d09a5dfc4a2e8979cebab1ef74\"\ntenant = \"demo\"\n[[person]]\nrole = \"witness\"\nname = \"claviger://officer/officer-2\"\ncertificate = \"5f0c3a9d21e87b465f0c3a9d21e87b465f0c3a9d21e87b465f0c3a9d21e87b46\"\n"}))]
pub struct OpenCeremony {
    /// TOML.
    #[schema(example = "id = \"look\"\nversion = 1 ...")]
    pub plan: String,
    /// TOML.
    #[schema(example = "plan = \"aa388498...\"\ntenant = \"demo\" ...")]
    pub binding: String,
}

/// How a ceremony stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ceremony {
    /// 16 bytes in hexadecimal.
    #[schema(example = "5f0c3a9d21e87b465f0c3a9d21e87b46")]
    pub id: String,
    /// The plan's id.
    #[schema(example = "receive-components")]
    pub plan: String,
    /// In a line.
    #[schema(example = "Receive a key as components")]
    pub title: String,
    /// City or operator.
    #[schema(example = "demo")]
    pub tenant: String,
    /// Whether its keys are thrown away.
    #[schema(example = true)]
    pub rehearsal: bool,
    /// `open`, `finished`, `failed`, `cancelled` or `expired`.
    #[schema(example = "open")]
    pub state: String,
    /// After which nothing more is done (RFC 3339).
    #[schema(example = "2026-11-28T10:00:00Z")]
    pub expires: String,
    /// Whose turn it is, while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<CeremonyTurn>,
    /// Who is there.
    #[schema(example = json!(["claviger://officer/custodian-1"]))]
    pub present: Vec<String>,
    /// Who was there and has not signed.
    #[schema(example = json!(["claviger://officer/custodian-1"]))]
    pub unsigned: Vec<String>,
    /// SHA-256 of the transcript's last line.
    #[schema(example = "5f0c3a9d21e87b465f0c3a9d21e87b465f0c3a9d21e87b465f0c3a9d21e87b46")]
    pub head: String,
    /// Everything that has happened, a line of JSON each.
    #[schema(example = "{\"n\":1}\n")]
    pub transcript: String,
}

/// What is to be done next, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CeremonyTurn {
    /// Step of the plan, and part of it.
    #[schema(example = "2.1")]
    pub turn: String,
    /// `confirm`, `make`, `see`, `prove`, `enter`, `compare`, `receive`, `receive-ecb` (with a check value) or `send`.
    #[schema(example = "enter")]
    pub act: String,
    /// In words.
    #[schema(example = "each custodian enters a component of key received and its check value")]
    pub words: String,
    /// Who may do it.
    #[schema(example = json!(["claviger://officer/custodian-1"]))]
    pub people: Vec<String>,
    /// Tries that are left.
    #[schema(example = 3)]
    pub tries: u8,
    /// Bytes of the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 16)]
    pub bytes: Option<usize>,
    /// How the component is written: `letters` or `hex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "hex")]
    pub written: Option<String>,
    /// Whether each of its bytes has odd parity.
    #[serde(default)]
    #[schema(example = false)]
    pub odd_parity: bool,
}

/// Ceremonies, those opened last first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CeremonyList {
    /// Of the tenant.
    pub ceremonies: Vec<Ceremony>,
}

/// Whose ceremonies.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CeremonyFilter {
    /// City or operator.
    #[param(example = "demo")]
    pub tenant: String,
}

/// What of a ceremony the caller knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CeremonyAfter {
    /// The `head` that it was shown: it is answered once there is another, or after some seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(required = false, example = "00")]
    pub after: Option<String>,
}

/// What somebody brings to their turn; what the turn does not ask for is left out.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({"turn": "1", "confirm": true}))]
pub struct TakeStep {
    /// The turn that it is for.
    #[schema(example = "1")]
    pub turn: String,
    /// Whether what is to be confirmed is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = true)]
    pub confirm: Option<bool>,
    /// A component.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub component: Option<Zeroizing<String>>,
    /// A key as another party has wrapped it: a key block as it is, anything else in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapped: Option<String>,
    /// A check value, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kcv: Option<String>,
    /// That a component which was shown never reached its custodian: another is drawn. Of the turn that was done last, that the
    /// key which went out in it never reached whoever had it done: it is given out again.
    #[schema(example = false)]
    pub lost: bool,
}

/// What came of a turn.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct StepTaken {
    /// The ceremony with it.
    pub ceremony: Ceremony,
    /// A component that is shown now and never again, or a key as it goes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub component: Option<Zeroizing<String>>,
    /// Its check value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component_kcv: Option<String>,
}

/// The signature of somebody who was there over how a ceremony ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"time": "2026-11-27T10:00:00Z", "certificate": "-----BEGIN CERTIFICATE-----\n...", "signature": "3045..."}))]
pub struct SignCeremony {
    /// When it was signed (RFC 3339): it is in what is signed.
    #[schema(example = "2026-11-27T10:00:00Z")]
    pub time: String,
    /// The signer's certificate and those between it and its authority, PEM.
    #[schema(example = "-----BEGIN CERTIFICATE-----\n...")]
    pub certificate: String,
    /// Hexadecimal, upper case.
    #[schema(example = "3045...")]
    pub signature: String,
}

/// Why a ceremony is ended before its end.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelCeremony {
    /// In words, for the transcript.
    #[schema(example = "custodian 2 is ill")]
    pub reason: String,
}
