//! `/v1/keys`: from other parties and to them.

use axum::Json;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use claviger_client::{ExportKey, ExportedKey, HeldElsewhere as Named, Key, PublicKey, UnwrapKey, WrappedKey as Came};
use claviger_hsm_api::{EnvelopeForm, KcvRule, WrappedKey};

use super::keys::{key_ref, key_request, one, word};
use super::problem::Problems;
use super::{InPath, Refusal, State, body, bytes, execute};
use crate::operation::{ExportForm, HeldElsewhere, Operation, UnwrapRequest};
use crate::service::{Caller, Outcome};

/// Takes a key in that another party has wrapped: in a key block, in ECB with a check value, or in an SM2 envelope. What a key
/// block says of the key must be what it is to be, or allow more; what does not say which key it is becomes one only when
/// others have approved it.
#[utoipa::path(post, path = "/v1/keys/unwrap", tag = "keys", request_body = UnwrapKey,
    responses((status = 201, description = "The key's record", body = Key), Problems))]
pub(super) async fn unwrap(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<Key>), Refusal> {
    let UnwrapKey { key, under, wrapped, kcv, held } = body(request, &state.limits).await?;
    let kcv = kcv.map(|digits| bytes("kcv", &digits).map(hex::encode_upper)).transpose()?;
    let (request, under, wrapped) = (key_request(key)?, key_ref(under)?, came(wrapped)?);
    let request = UnwrapRequest { request, under, wrapped, kcv, held: held.map(elsewhere).transpose()? };
    Ok((StatusCode::CREATED, one(execute(&state.service, caller, Operation::UnwrapKey(request)).await?)?))
}

fn elsewhere(held: Named) -> Result<HeldElsewhere, Refusal> {
    let digits = |field: &str, digits: &str, bytes: &mut [u8]| {
        let wanted = format!("must be {} hexadecimal digits", 2 * bytes.len());
        hex::decode_to_slice(digits, bytes).map_err(|_| Refusal::field(field, wanted))
    };
    let (mut ceremony, mut transcript) = ([0; 16], [0; 32]);
    digits("held.ceremony", &held.ceremony, &mut ceremony)?;
    digits("held.transcript", &held.transcript, &mut transcript)?;
    Ok(HeldElsewhere { ceremony, transcript })
}

/// Gives a key out to another party: in a key block, in ECB, or in an SM2 envelope.
#[utoipa::path(post, path = "/v1/keys/{id}/export", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")), request_body = ExportKey,
    responses((status = 200, description = "The key, wrapped", body = ExportedKey), Problems))]
pub(super) async fn export(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<Json<ExportedKey>, Refusal> {
    let form = form(body(request, &state.limits).await?)?;
    match execute(&state.service, caller, Operation::ExportKey { id, form }).await? {
        Outcome::Exported(exported) => Ok(Json(ExportedKey { wrapped: exported.text(), kcv: exported.kcv })),
        _ => Err(Refusal::unexpected()),
    }
}

/// The public half of an SM2 key: what other parties make envelopes for, and verify signatures with.
#[utoipa::path(get, path = "/v1/keys/{id}/public-key", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")),
    responses((status = 200, description = "The public key", body = PublicKey), Problems))]
pub(super) async fn show_public_key(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
) -> Result<Json<PublicKey>, Refusal> {
    match execute(&state.service, caller, Operation::ShowPublicKey { id }).await? {
        Outcome::Bytes(point) => Ok(Json(PublicKey { public_key: format!("04{}", hex::encode_upper(point)) })),
        _ => Err(Refusal::unexpected()),
    }
}

fn came(wrapped: Came) -> Result<WrappedKey, Refusal> {
    Ok(match wrapped {
        Came::KeyBlock { block, sm4_local } => WrappedKey::KeyBlock { text: block.trim().to_owned(), sm4_local },
        Came::Ecb { ciphertext, kcv, padding, function, input } => {
            let kcv = bytes("kcv", &kcv)?;
            let take = u8::try_from(kcv.len()).map_err(|_| Refusal::field("kcv", "is too long"))?;
            let kcv_rule = KcvRule { function: word("function", &function)?, input: word("input", &input)?, take };
            let ciphertext = bytes("ciphertext", &ciphertext)?;
            WrappedKey::Ecb { ciphertext, padding: word("padding", &padding)?, kcv, kcv_rule }
        }
        Came::Sm2Envelope { envelope, layout } => {
            WrappedKey::Envelope { form: envelope_form(layout)?, bytes: bytes("envelope", &envelope)? }
        }
    })
}

fn form(wanted: ExportKey) -> Result<ExportForm, Refusal> {
    Ok(match wanted {
        ExportKey::KeyBlock { under, version, mode, exportability } => ExportForm::KeyBlock {
            under: key_ref(under)?,
            version: word("version", &version)?,
            mode: mode.map(|mode| word("mode", &mode)).transpose()?,
            exportability: word("exportability", &exportability)?,
        },
        ExportKey::Ecb { under, padding } => {
            ExportForm::Ecb { under: key_ref(under)?, padding: word("padding", &padding)? }
        }
        ExportKey::Sm2Envelope { recipient, layout } => {
            let point = bytes("recipient", &recipient)?;
            ExportForm::envelope(&point, envelope_form(layout)?).map_err(|error| Refusal::field("recipient", error))?
        }
    })
}

fn envelope_form(form: claviger_client::EnvelopeForm) -> Result<EnvelopeForm, Refusal> {
    let layout = word("layout", &form.name)?;
    Ok(EnvelopeForm { layout, big_endian: form.big_endian, first: form.first })
}
