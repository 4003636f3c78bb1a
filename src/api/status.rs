//! Health, metrics, the API's own description, and random bytes.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::{StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_client::{Backend, BackendList, BringShare, Health, RandomBytes, RandomRequest, SharesBrought, Unseal};
use claviger_hsm_api::Secret;
use claviger_key_ceremonies::{SHARE_LEN, Written, read_component};

use super::problem::Problems;
use super::{Refusal, State, body, execute};
use crate::operation::Operation;
use crate::routing::BackendStatus;
use crate::service::{Caller, Outcome};

/// The rendered OpenAPI document.
#[derive(Clone)]
pub(super) struct Document(pub(super) Arc<str>);

/// Whether the process runs.
#[utoipa::path(get, path = "/healthz", tag = "status", responses((status = 200, description = "It runs", body = Health, example = json!({"status": "ok"}))))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// Whether it can serve: `sealed` until an officer has unsealed it, `audit_failed` once the audit log takes no more.
#[utoipa::path(get, path = "/readyz", tag = "status", responses(
    (status = 200, description = "It serves", body = Health, example = json!({"status": "ok"})),
    (status = 503, description = "It does not serve yet", body = Health, example = json!({"status": "sealed"}))))]
pub(super) async fn readyz(Shared(state): Shared<State>) -> (StatusCode, Json<Health>) {
    let (status, word) = match (state.service.is_written_down(), state.service.is_unsealed()) {
        (Err(error), _) => (StatusCode::SERVICE_UNAVAILABLE, error.code()),
        (Ok(()), false) => (StatusCode::SERVICE_UNAVAILABLE, "sealed"),
        (Ok(()), true) => (StatusCode::OK, "ok"),
    };
    (status, Json(Health { status: word.to_owned() }))
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "status", responses(
    (status = 200, description = "Prometheus, text format 0.0.4", body = String, content_type = "text/plain",
        example = "# TYPE claviger_requests_total counter\nclaviger_requests_total{route=\"/v1/keys\",status=\"200\"} 1\n"),
    Problems))]
pub(super) async fn metrics(Shared(state): Shared<State>, _: Caller) -> String {
    state.metrics.render()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "status", responses((status = 200, description = "OpenAPI 3.1", body = Object,
    example = json!({"openapi": "3.1.0", "info": {"title": "Claviger", "version": "0.1.0"}, "paths": {}}))))]
pub(super) async fn openapi(Extension(document): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.0.to_string()).into_response()
}

/// Opens the seal with the passphrase that it was made with.
#[utoipa::path(post, path = "/v1/unseal", tag = "status", request_body = Unseal,
    responses((status = 200, description = "It serves", body = Health), Problems))]
pub(super) async fn unseal(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<Health>, Refusal> {
    let Unseal { passphrase } = body(request, &state.limits).await?;
    let passphrase = Secret::copy_of(passphrase.as_bytes());
    execute(&state.service, caller, Operation::Unseal { passphrase }).await?;
    Ok(Json(Health { status: "ok".to_owned() }))
}

/// Brings a custodian's share to a sealed daemon; the one that suffices unseals it.
#[utoipa::path(post, path = "/v1/unseal/shares", tag = "status", request_body = BringShare,
    responses((status = 200, description = "How many there are", body = SharesBrought), Problems))]
pub(super) async fn bring_share(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<SharesBrought>, Refusal> {
    let BringShare { share } = body(request, &state.limits).await?;
    let share = read_component(&share, Written::Letters, SHARE_LEN, false);
    let share = share.map_err(|wrong| Refusal::field("share", wrong))?;
    match execute(&state.service, caller, Operation::BringShare { share }).await? {
        Outcome::Shares { found, wanted } => {
            Ok(Json(SharesBrought { found, wanted, unsealed: found >= usize::from(wanted) }))
        }
        _ => Err(Refusal::unexpected()),
    }
}

/// How each backend is, the preferred one first.
#[utoipa::path(get, path = "/v1/backends", tag = "status",
    responses((status = 200, description = "The backends", body = BackendList), Problems))]
pub(super) async fn backends(Shared(state): Shared<State>, caller: Caller) -> Result<Json<BackendList>, Refusal> {
    let Outcome::Backends(backends) = execute(&state.service, caller, Operation::ListBackends).await? else {
        return Err(Refusal::unexpected());
    };
    let view = |status: BackendStatus| Backend {
        name: status.name,
        driver: status.driver,
        place: status.place.as_str().to_owned(),
        resting: status.resting,
        p95_ms: status.p95.map(|p95| p95.as_secs_f64() * 1000.0),
        workers: status.workers,
        quarantined: status.quarantined,
    };
    Ok(Json(BackendList { backends: backends.into_iter().map(view).collect() }))
}

/// Random bytes from a backend's generator.
#[utoipa::path(post, path = "/v1/random", tag = "generic", request_body = RandomRequest,
    responses((status = 200, description = "The bytes", body = RandomBytes), Problems))]
pub(super) async fn random(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<RandomBytes>, Refusal> {
    let RandomRequest { len } = body(request, &state.limits).await?;
    match execute(&state.service, caller, Operation::Random { len }).await? {
        Outcome::Bytes(bytes) => Ok(Json(RandomBytes { bytes: hex::encode_upper(bytes) })),
        _ => Err(Refusal::unexpected()),
    }
}

/// Lets nothing of the API out once the audit log takes no more, refusals of callers that nobody knows among it.
pub(super) async fn written_down(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    match state.service.is_written_down() {
        Err(error) if request.uri().path().starts_with("/v1/") => Refusal::from(error).into_response(),
        _ => next.run(request).await,
    }
}

/// HTTP/1.1 requests name their host once (RFC 9112, section 3.2): of two, another on the way may have gone by the other.
pub(super) async fn of_one_host(request: Request, next: Next) -> Response {
    if request.version() == Version::HTTP_11 && request.headers().get_all(header::HOST).iter().count() != 1 {
        return Refusal::new(400, "bad_host", "the request does not name its host once").into_response();
    }
    next.run(request).await
}

/// Lets a caller's requests in as its limits say, whatever they ask, and before their bodies are read.
pub(super) async fn let_in(Shared(state): Shared<State>, mut request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Option<Caller>>().cloned().flatten();
    let Some(caller) = caller.filter(|_| request.uri().path().starts_with("/v1/")) else {
        return next.run(request).await;
    };
    match state.service.let_in(&caller).await {
        Ok(turn) => {
            request.extensions_mut().insert(Some(caller.let_in(Some(Arc::clone(&turn)))));
            let response = next.run(request).await;
            drop(turn);
            response
        }
        Err(error) => Refusal::from(error).into_response(),
    }
}

/// Counts requests by route and status, and how long they took until the answer began.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("claviger_requests_total", "route" => route.clone(), "status" => status).increment(1);
    metrics::histogram!("claviger_request_seconds", "route" => route).record(begun.elapsed().as_secs_f64());
    response
}
