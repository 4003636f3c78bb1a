//! `/v1/mac`, `/v1/encrypt`, `/v1/decrypt`, `/v1/sign`, `/v1/verify-signature`: keys of no card scheme.

use axum::Json;
use axum::extract::{Request, State as Shared};
use claviger_client::{
    CipherItem, CipherResult, Decrypt, Encrypt, KeyReference, MacGenerate, MacItem, MacResult, MacVerify, Sign,
    SignResult, SignatureItem, Valid, VerifySignature,
};
use claviger_hsm_api::Padding;

use super::keys::key_ref;
use super::problem::Problems;
use super::{MOST_ITEMS, Refusal, State, body, bytes, execute};
use crate::operation::{CipherText, GenericRequest, GenericTask, Mode, Operation};
use crate::service::{Caller, Outcome, Sealed};

/// Makes MACs: ISO 9797-1 algorithms 1, 3 and 5 (CMAC), HMAC. The key's role says which.
#[utoipa::path(post, path = "/v1/mac/generate", tag = "generic", request_body = MacGenerate,
    responses((status = 200, description = "The MACs", body = MacResult), Problems))]
pub(super) async fn generate_mac(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<MacResult>, Refusal> {
    let MacGenerate { key, padding, length, messages } = body(request, &state.limits).await?;
    let messages = all("messages", &messages, |at, digits| bytes(at, digits))?;
    let task = GenericTask::Mac { padding: padding_of(&padding)?, length, messages };
    Ok(Json(MacResult { macs: rows(run(&state, caller, key, task).await?)? }))
}

/// Verifies MACs.
#[utoipa::path(post, path = "/v1/mac/verify", tag = "generic", request_body = MacVerify,
    responses((status = 200, description = "What was found of each", body = Valid), Problems))]
pub(super) async fn verify_mac(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<Valid>, Refusal> {
    let MacVerify { key, padding, items } = body(request, &state.limits).await?;
    let pair = |at: &str, MacItem { message, mac }: &MacItem| {
        Ok((bytes(&format!("{at}.message"), message)?, bytes(&format!("{at}.mac"), mac)?))
    };
    let messages = all("items", &items, pair)?;
    let task = GenericTask::VerifyMac { padding: padding_of(&padding)?, messages };
    valid(run(&state, caller, key, task).await?)
}

/// Enciphers: ECB, CBC, GCM.
#[utoipa::path(post, path = "/v1/encrypt", tag = "generic", request_body = Encrypt,
    responses((status = 200, description = "The texts", body = CipherResult), Problems))]
pub(super) async fn encrypt(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<CipherResult>, Refusal> {
    let Encrypt { key, mode, padding, items } = body(request, &state.limits).await?;
    let mode = mode_of(&mode)?;
    let padding = if mode == Mode::Gcm { Padding::None } else { padding_of(&padding)? };
    let task = GenericTask::Encrypt { mode, padding, texts: all("items", &items, text)? };
    let Outcome::CipherTexts(texts) = run(&state, caller, key, task).await? else { return Err(Refusal::unexpected()) };
    let item = |sealed: Sealed| {
        let iv = sealed.iv.map(hex::encode_upper);
        sealed.text.map(|data| CipherItem { data: hex::encode_upper(data), iv, associated: String::new() })
    };
    Ok(Json(CipherResult { items: texts.into_iter().map(item).collect() }))
}

/// Deciphers: ECB, CBC, GCM. What is not authentic, or not padded as it should be, is null.
#[utoipa::path(post, path = "/v1/decrypt", tag = "generic", request_body = Decrypt,
    responses((status = 200, description = "The texts", body = CipherResult), Problems))]
pub(super) async fn decrypt(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<CipherResult>, Refusal> {
    let Decrypt { key, mode, padding, items } = body(request, &state.limits).await?;
    let mode = mode_of(&mode)?;
    let padding = if mode == Mode::Gcm { Padding::None } else { padding_of(&padding)? };
    let task = GenericTask::Decrypt { mode, padding, texts: all("items", &items, text)? };
    let Outcome::Rows(rows) = run(&state, caller, key, task).await? else { return Err(Refusal::unexpected()) };
    let item = |data: Vec<u8>| CipherItem { data: hex::encode_upper(data), ..CipherItem::default() };
    Ok(Json(CipherResult { items: rows.into_iter().map(|data| data.map(item)).collect() }))
}

/// Signs with SM2 (GB/T 32918.2) over `SM3(Z_A || M)`.
#[utoipa::path(post, path = "/v1/sign", tag = "generic", request_body = Sign,
    responses((status = 200, description = "The signatures", body = SignResult), Problems))]
pub(super) async fn sign(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<SignResult>, Refusal> {
    let Sign { key, signer_id, messages } = body(request, &state.limits).await?;
    let task = GenericTask::Sign { signer_id, messages: all("messages", &messages, |at, digits| bytes(at, digits))? };
    Ok(Json(SignResult { signatures: rows(run(&state, caller, key, task).await?)? }))
}

/// Verifies SM2 signatures by the public half of a stored key.
#[utoipa::path(post, path = "/v1/verify-signature", tag = "generic", request_body = VerifySignature,
    responses((status = 200, description = "What was found of each", body = Valid), Problems))]
pub(super) async fn verify_signature(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<Valid>, Refusal> {
    let VerifySignature { key, signer_id, items } = body(request, &state.limits).await?;
    let pair = |at: &str, SignatureItem { message, signature }: &SignatureItem| {
        Ok((bytes(&format!("{at}.message"), message)?, bytes(&format!("{at}.signature"), signature)?))
    };
    let task = GenericTask::VerifySignature { signer_id, messages: all("items", &items, pair)? };
    valid(run(&state, caller, key, task).await?)
}

async fn run(state: &State, caller: Caller, key: KeyReference, task: GenericTask) -> Result<Outcome, Refusal> {
    let request = GenericRequest { key: key_ref(key)?, task };
    execute(&state.service, caller, Operation::Generic(request)).await
}

/// Every item of a list within the limit, each told by its place.
fn all<T, U>(list: &str, items: &[T], read: impl Fn(&str, &T) -> Result<U, Refusal>) -> Result<Vec<U>, Refusal> {
    if items.is_empty() || items.len() > MOST_ITEMS {
        return Err(Refusal::field(list, format!("has 1 to {MOST_ITEMS} items")));
    }
    items.iter().enumerate().map(|(at, item)| read(&format!("{list}[{at}]"), item)).collect()
}

fn text(at: &str, item: &CipherItem) -> Result<CipherText, Refusal> {
    let iv = item.iv.as_ref().map(|iv| bytes(&format!("{at}.iv"), iv)).transpose()?;
    let associated = bytes(&format!("{at}.associated"), &item.associated)?;
    Ok(CipherText { data: bytes(&format!("{at}.data"), &item.data)?, iv, associated })
}

fn rows(outcome: Outcome) -> Result<Vec<String>, Refusal> {
    let Outcome::Rows(rows) = outcome else { return Err(Refusal::unexpected()) };
    rows.into_iter().map(|row| row.map(hex::encode_upper).ok_or_else(Refusal::unexpected)).collect()
}

fn valid(outcome: Outcome) -> Result<Json<Valid>, Refusal> {
    match outcome {
        Outcome::Verdicts { valid, job } => Ok(Json(Valid { valid, job })),
        _ => Err(Refusal::unexpected()),
    }
}

fn mode_of(word: &str) -> Result<Mode, Refusal> {
    match word {
        "ecb" => Ok(Mode::Ecb),
        "cbc" => Ok(Mode::Cbc),
        "gcm" => Ok(Mode::Gcm),
        _ => Err(Refusal::field("mode", "is not `ecb`, `cbc` or `gcm`")),
    }
}

fn padding_of(word: &str) -> Result<Padding, Refusal> {
    match word {
        "none" => Ok(Padding::None),
        "zeros" => Ok(Padding::Zeros),
        "one" => Ok(Padding::One),
        "length" => Ok(Padding::Length),
        "pkcs7" => Ok(Padding::Pkcs7),
        _ => Err(Refusal::field("padding", "is not `none`, `zeros`, `one`, `length` or `pkcs7`")),
    }
}
