//! `/v1/ceremonies`.

use axum::Json;
use axum::extract::{Query, Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use claviger_client::{
    CancelCeremony, Ceremony, CeremonyAfter, CeremonyFilter, CeremonyList, CeremonyTurn, Health, OpenCeremony,
    SignCeremony, StepTaken, TakeStep,
};
use claviger_hsm_api::Algorithm;
use claviger_key_ceremonies::{Act, Ending, Form, SHARE_LEN, Signed, Step, Transcript, Turn, Written};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::problem::Problems;
use super::{InPath, Refusal, State, body, execute};
use crate::operation::{CeremonyRequest, Operation, StepInput};
use crate::service::{Caller, Outcome};

/// The longest reason for which a ceremony is cancelled, in characters.
const REASON: usize = 500;

/// Says whether this daemon could hold a ceremony, and begins none.
#[utoipa::path(post, path = "/v1/ceremonies/check", tag = "ceremonies", request_body = OpenCeremony,
    responses((status = 200, description = "It could", body = Health), Problems))]
pub(super) async fn check_ceremony(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<Health>, Refusal> {
    let OpenCeremony { plan, binding } = body(request, &state.limits).await?;
    ask(&state, caller, CeremonyRequest::Check { plan, binding }).await?;
    Ok(Json(Health { status: "ok".to_owned() }))
}

/// Opens a ceremony.
#[utoipa::path(post, path = "/v1/ceremonies", tag = "ceremonies", request_body = OpenCeremony,
    responses((status = 201, description = "The ceremony", body = Ceremony), Problems))]
pub(super) async fn open_ceremony(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<Ceremony>), Refusal> {
    let OpenCeremony { plan, binding } = body(request, &state.limits).await?;
    let opened = ask(&state, caller, CeremonyRequest::Open { plan, binding }).await?;
    Ok((StatusCode::CREATED, one(opened)?))
}

/// The ceremonies of a tenant.
#[utoipa::path(get, path = "/v1/ceremonies", tag = "ceremonies", params(CeremonyFilter),
    responses((status = 200, description = "Ceremonies, those opened last first", body = CeremonyList), Problems))]
pub(super) async fn list_ceremonies(
    Shared(state): Shared<State>,
    caller: Caller,
    query: Result<Query<CeremonyFilter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<CeremonyList>, Refusal> {
    let Query(CeremonyFilter { tenant }) = query.map_err(Refusal::query)?;
    match ask(&state, caller, CeremonyRequest::List { tenant }).await? {
        Outcome::Ceremonies(all) => Ok(Json(CeremonyList { ceremonies: all.iter().map(view).collect() })),
        _ => Err(Refusal::unexpected()),
    }
}

/// One ceremony: whose turn it is, and everything that has happened. With `after`, once there is more than that, or after
/// some seconds.
#[utoipa::path(get, path = "/v1/ceremonies/{id}", tag = "ceremonies",
    params(("id" = String, Path, description = "The ceremony's id", example = "5f0c3a9d21e87b465f0c3a9d21e87b46"),
        CeremonyAfter),
    responses((status = 200, description = "The ceremony", body = Ceremony), Problems))]
pub(super) async fn show_ceremony(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    query: Result<Query<CeremonyAfter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Ceremony>, Refusal> {
    let Query(CeremonyAfter { after }) = query.map_err(Refusal::query)?;
    one(ask(&state, caller, CeremonyRequest::Show { id, after }).await?)
}

/// Says that the caller is there: the transcript has it, and they sign it at the end.
#[utoipa::path(post, path = "/v1/ceremonies/{id}/join", tag = "ceremonies",
    params(("id" = String, Path, description = "The ceremony's id", example = "5f0c3a9d21e87b465f0c3a9d21e87b46")),
    responses((status = 200, description = "The ceremony", body = Ceremony), Problems))]
pub(super) async fn join_ceremony(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
) -> Result<Json<Ceremony>, Refusal> {
    one(ask(&state, caller, CeremonyRequest::Join { id }).await?)
}

/// Takes the next turn, if it is the caller's.
#[utoipa::path(post, path = "/v1/ceremonies/{id}/turns", tag = "ceremonies", request_body = TakeStep,
    params(("id" = String, Path, description = "The ceremony's id", example = "5f0c3a9d21e87b465f0c3a9d21e87b46")),
    responses((status = 200, description = "The ceremony with the turn", body = StepTaken), Problems))]
pub(super) async fn take_step(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<Response, Refusal> {
    let TakeStep { turn, confirm, component, wrapped, kcv, lost } = body(request, &state.limits).await?;
    let input = StepInput { turn, confirm, component, wrapped, kcv, lost };
    match ask(&state, caller, CeremonyRequest::Step { id, input }).await? {
        Outcome::Taken(taken) => {
            let (component, component_kcv) = taken.component.unzip();
            let component_kcv = component_kcv.flatten();
            Ok(wiped(&StepTaken { ceremony: view(&taken.transcript), component, component_kcv }))
        }
        _ => Err(Refusal::unexpected()),
    }
}

/// Brings the signature of somebody who was there. It may be another who brings it: the certificate says whose it is.
#[utoipa::path(post, path = "/v1/ceremonies/{id}/signatures", tag = "ceremonies", request_body = SignCeremony,
    params(("id" = String, Path, description = "The ceremony's id", example = "5f0c3a9d21e87b465f0c3a9d21e87b46")),
    responses((status = 200, description = "The ceremony with the signature", body = Ceremony), Problems))]
pub(super) async fn sign_ceremony(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<Json<Ceremony>, Refusal> {
    let SignCeremony { time, certificate, signature } = body(request, &state.limits).await?;
    let at: Timestamp = time.parse().map_err(|_| Refusal::field("time", "is no time as RFC 3339 has it"))?;
    let signed = Signed { certificate, signature };
    one(ask(&state, caller, CeremonyRequest::Sign { id, at, signed }).await?)
}

/// Ends a ceremony before its end.
#[utoipa::path(post, path = "/v1/ceremonies/{id}/cancel", tag = "ceremonies", request_body = CancelCeremony,
    params(("id" = String, Path, description = "The ceremony's id", example = "5f0c3a9d21e87b465f0c3a9d21e87b46")),
    responses((status = 200, description = "The ceremony as it ended", body = Ceremony), Problems))]
pub(super) async fn cancel_ceremony(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<Json<Ceremony>, Refusal> {
    let CancelCeremony { reason } = body(request, &state.limits).await?;
    if reason.chars().count() > REASON {
        return Err(Refusal::field("reason", format!("has at most {REASON} characters")));
    }
    one(ask(&state, caller, CeremonyRequest::Cancel { id, reason }).await?)
}

/// An answer that may hold a component: overwritten once it is sent.
fn wiped(taken: &StepTaken) -> Response {
    // As long as it will be: what is moved while it grows stays behind.
    let room = 2 * taken.ceremony.transcript.len() + (16 << 10);
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    match serde_json::to_writer(&mut *body, taken) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/json")], Bytes::from_owner(body)).into_response(),
        Err(_) => Refusal::unexpected().into_response(),
    }
}

async fn ask(state: &State, caller: Caller, request: CeremonyRequest) -> Result<Outcome, Refusal> {
    execute(&state.service, caller, Operation::Ceremony(request)).await
}

fn one(outcome: Outcome) -> Result<Json<Ceremony>, Refusal> {
    match outcome {
        Outcome::Ceremony(transcript) => Ok(Json(view(&transcript))),
        _ => Err(Refusal::unexpected()),
    }
}

fn view(transcript: &Transcript) -> Ceremony {
    let (plan, course) = (transcript.plan(), transcript.course());
    let names = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
    Ceremony {
        id: transcript.opening().map(|opening| opening.ceremony.clone()).unwrap_or_default(),
        plan: plan.id.clone(),
        title: plan.title.clone(),
        tenant: transcript.binding().tenant.clone(),
        rehearsal: transcript.is_rehearsal(),
        state: course.ending().map_or("open", Ending::as_str).to_owned(),
        expires: transcript.expires().to_string(),
        next: course.next().filter(|_| course.ending().is_none()).map(|turn| turn_view(transcript, turn)),
        present: names(&mut course.present()),
        unsigned: names(&mut course.unsigned()),
        head: transcript.head(),
        transcript: transcript.text(),
    }
}

fn turn_view(transcript: &Transcript, turn: &Turn) -> CeremonyTurn {
    let step = &transcript.plan().steps[turn.step];
    let (act, form) = match (step, turn.act) {
        (Step::Confirm { .. }, _) => ("confirm", None),
        (Step::CompareKcv { .. }, _) => ("compare", None),
        (Step::HandOutShares { .. }, Act::Show) => ("see", None),
        (Step::HandOutShares { .. }, _) => ("prove", None),
        (Step::HandOutComponents { key, .. }, Act::Show) => ("see", Some((key, Written::Letters, false))),
        (Step::HandOutComponents { key, .. }, _) => ("prove", Some((key, Written::Letters, false))),
        (Step::EnterComponents { key, written, odd_parity, .. }, _) => ("enter", Some((key, *written, *odd_parity))),
        (Step::ReceiveKey { form: Form::Ecb { .. }, .. }, _) => ("receive-ecb", None),
        (Step::ReceiveKey { .. }, _) => ("receive", None),
        (Step::SendKey { .. }, _) => ("send", None),
        _ => ("make", None),
    };
    let is_share = matches!(step, Step::HandOutShares { .. });
    let bytes_of = |key: &str| {
        let algorithm: Option<Algorithm> = transcript.plan().key(key).and_then(|key| key.algorithm.parse().ok());
        algorithm.map(Algorithm::key_len)
    };
    let people = transcript.binding().people.iter().filter(|person| turn.is_of(&person.name, transcript.binding()));
    CeremonyTurn {
        turn: turn.label.clone(),
        act: act.to_owned(),
        words: match (step, turn.act) {
            (Step::HandOutShares { by, .. }, Act::Show) => format!("{by} sees a share of what opens the store"),
            (Step::HandOutShares { by, .. }, _) => format!("{by} types the share back"),
            (Step::HandOutComponents { by, key }, Act::Show) => format!("{by} sees a component of key {key}"),
            (Step::HandOutComponents { by, key }, _) => format!("{by} types the component of key {key} back"),
            (Step::EnterComponents { by, key, .. }, _) => {
                format!("{by} enters a component of key {key} and its check value")
            }
            _ => step.words(),
        },
        people: people.map(|person| person.name.clone()).collect(),
        tries: transcript.course().tries_left(),
        bytes: if is_share { Some(SHARE_LEN) } else { form.as_ref().and_then(|(key, ..)| bytes_of(key)) },
        written: form
            .as_ref()
            .map(|(_, written, _)| if *written == Written::Hex { "hex" } else { "letters" }.to_owned()),
        odd_parity: form.is_some_and(|(.., odd)| odd),
    }
}
