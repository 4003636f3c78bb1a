//! The HTTP API: one noun a file. Handlers parse into an [`Operation`](crate::operation::Operation) and
//! give its outcome a shape; they decide nothing.
//!
//! Routes are registered through the documenting router only, so none can be missing from
//! `/openapi.json`.

mod approvals;
mod backups;
mod cards;
mod ceremonies;
mod document;
mod exchange;
mod generic;
mod inquiries;
mod keys;
mod moves;
mod policies;
mod problem;
mod purse;
mod rows;
pub mod schemes;
mod status;
mod stream;
mod to_the_end;
mod transactions;
mod verdicts;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, Request};
use axum::http::header;
use axum::http::request::Parts;
use claviger_card_schemes::{Field, FieldSet};
use claviger_client::APPROVAL;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::Limits;
use crate::operation::Operation;
use crate::service::{Caller, Outcome, Service, ServiceError};
use document::ClientCertificate;
pub use problem::Refusal;
use to_the_end::ToTheEnd;

/// Rows of one JSON body; more come as a stream.
const MOST_ITEMS: usize = 10_000;

/// What handlers share.
#[derive(Clone)]
pub struct State {
    /// The service.
    pub service: Arc<Service>,
    /// Bounds on bodies and lines.
    pub limits: Limits,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
}

#[derive(OpenApi)]
#[openapi(
    components(schemas(claviger_client::Problem)),
    modifiers(&ClientCertificate),
    security(("clientCertificate" = [])),
    servers((url = "/", description = "The daemon that serves this document")),
    info(
        title = "Claviger",
        description = "Key management and HSM abstraction for transit-card operators. Every call needs a client certificate (mutual TLS 1.3). \
            Errors are problem documents (RFC 9457) with a stable code; what is no HTTP, or has too long an address or header, is answered by 400, 414 or 431 without a body."
    )
)]
struct Description;

/// Every route, and the document that describes them.
pub fn router(state: State) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(status::healthz))
        .routes(routes!(status::readyz))
        .routes(routes!(status::metrics))
        .routes(routes!(status::openapi))
        .routes(routes!(status::unseal))
        .routes(routes!(status::bring_share))
        .routes(routes!(status::random))
        .routes(routes!(backups::back_up))
        .routes(routes!(backups::set_terminal))
        .routes(routes!(status::backends))
        .routes(routes!(policies::show_policies, policies::change_policies))
        .routes(routes!(inquiries::principals))
        .routes(routes!(inquiries::who_can))
        .routes(routes!(inquiries::blinding))
        .routes(routes!(approvals::list_proposals))
        .routes(routes!(approvals::show_proposal))
        .routes(routes!(approvals::vote))
        .routes(routes!(ceremonies::check_ceremony))
        .routes(routes!(ceremonies::open_ceremony, ceremonies::list_ceremonies))
        .routes(routes!(ceremonies::show_ceremony))
        .routes(routes!(ceremonies::join_ceremony))
        .routes(routes!(ceremonies::take_step))
        .routes(routes!(ceremonies::sign_ceremony))
        .routes(routes!(ceremonies::cancel_ceremony))
        .routes(routes!(keys::generate))
        .routes(routes!(keys::import))
        .routes(routes!(keys::adopt))
        .routes(routes!(keys::replicate))
        .routes(routes!(exchange::unwrap))
        .routes(routes!(exchange::export))
        .routes(routes!(exchange::show_public_key))
        .routes(routes!(moves::move_key, moves::show_move))
        .routes(routes!(keys::list))
        .routes(routes!(keys::show))
        .routes(routes!(keys::set_state))
        .routes(routes!(keys::raise_ceiling, keys::lower_ceiling))
        .routes(routes!(keys::disperse))
        .routes(routes!(keys::compute_kcv))
        .routes(routes!(cards::command))
        .routes(routes!(cards::write_key))
        .routes(routes!(cards::authenticate))
        .routes(routes!(cards::personalise))
        .routes(routes!(generic::generate_mac))
        .routes(routes!(generic::verify_mac))
        .routes(routes!(generic::encrypt))
        .routes(routes!(generic::decrypt))
        .routes(routes!(generic::sign))
        .routes(routes!(generic::verify_signature))
        .routes(routes!(purse::purse))
        .routes(routes!(purse::psam_debit))
        .routes(routes!(transactions::verify))
        .routes(routes!(schemes::show))
        .split_for_parts();
    let document: Arc<str> = document::render(&document).into();
    router
        .fallback(|| async { Refusal::new(404, "no_route", "there is nothing at this address") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(405, "no_method", "this address does not take this method")
        })
        .layer(axum::Extension(status::Document(document)))
        .layer(axum::middleware::from_fn(status::of_one_host))
        .layer(axum::middleware::from_fn_with_state(state.clone(), status::let_in))
        .layer(axum::middleware::from_fn_with_state(state.clone(), status::written_down))
        .layer(axum::middleware::from_fn(status::count))
        .with_state(state)
}

/// The caller that the server found in the certificate, if the configuration knows it.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let known = parts.extensions.get::<Option<Self>>().cloned().flatten();
        let approval = parts.headers.get(APPROVAL).and_then(|id| id.to_str().ok()).map(str::to_owned);
        known.map(|known| known.under(approval)).ok_or_else(|| {
            Refusal::new(
                403,
                "unknown_principal",
                "this client certificate has the URI of no principal of the configuration, or has been revoked or ended since it was shown",
            )
        })
    }
}

/// What stands in the place of `{id}` in an address.
struct InPath(String);

impl<S: Sync + Send> FromRequestParts<S> for InPath {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let read = Path::<String>::from_request_parts(parts, state).await;
        read.map(|Path(text)| Self(text)).map_err(|_| Refusal::new(400, "bad_path", "the address is not UTF-8"))
    }
}

/// Asks the service. Once begun, an operation ends and is written down even if the caller hangs up.
async fn execute(service: &Arc<Service>, mut caller: Caller, operation: Operation) -> Result<Outcome, Refusal> {
    let service = Arc::clone(service);
    let turn = caller.take_turn();
    let executed = ToTheEnd::new(async move {
        let outcome = service.execute(&caller, operation).await;
        drop(turn);
        outcome
    });
    let executed = executed.await;
    // A panic is a fault of ours.
    executed.unwrap_or(Err(ServiceError::Internal)).map_err(Refusal::from)
}

fn content_type(request: &Request) -> String {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Fields by name, written as in CSV columns.
fn field_set(fields: &BTreeMap<String, String>) -> Result<FieldSet, Refusal> {
    let mut set = FieldSet::default();
    for (name, text) in fields {
        let at = format!("fields.{}", name.chars().take(40).collect::<String>());
        let field = Field::named(name).ok_or_else(|| Refusal::field(&at, "is not a field"))?;
        set.parse(field, text.as_bytes()).map_err(|error| Refusal::field(&at, format!("is not {}", error.expected)))?;
    }
    Ok(set)
}

/// Bytes from hexadecimal digits; an error never says which.
fn bytes(field: &str, digits: &str) -> Result<Vec<u8>, Refusal> {
    hex::decode(digits).map_err(|_| Refusal::field(field, "is not hexadecimal digits in pairs"))
}

/// A JSON body within the limit.
async fn body<T: DeserializeOwned>(request: Request, limits: &Limits) -> Result<T, Refusal> {
    let bytes = whole(request, limits).await?;
    read_wiping(bytes, |bytes| parse(bytes))
}

/// The bytes of a body within the limit.
async fn whole(request: Request, limits: &Limits) -> Result<Bytes, Refusal> {
    let deadline = std::time::Duration::from_secs(limits.request_seconds);
    let read = Limited::new(request.into_body(), limits.body_bytes).collect();
    match tokio::time::timeout(deadline, read).await {
        Err(_) => Err(Refusal::new(408, "too_slow", "the body did not arrive in time")),
        Ok(Err(error)) => {
            let limit = format!("a body has at most {} bytes", limits.body_bytes);
            Err(match error.is::<LengthLimitError>() {
                true => Refusal::new(413, "body_too_large", limit),
                false => Refusal::new(400, "upload_failed", "the body broke off"),
            })
        }
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

/// What is in a body, which is wiped afterwards: a component or a PIN may have been in it. What nobody else holds is overwritten.
fn read_wiping<T>(bytes: Bytes, read: impl FnOnce(&[u8]) -> Result<T, Refusal>) -> Result<T, Refusal> {
    let read = read(&bytes);
    if let Ok(mut bytes) = bytes.try_into_mut() {
        zeroize::Zeroize::zeroize(bytes.as_mut());
    }
    read
}

/// A JSON text. What is wrong is named by its path, never by its value: it may be secret.
fn parse<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, Refusal> {
    // Where it was is looked for only in one that is wrong.
    if let Ok(read) = serde_json::from_slice(bytes) {
        return Ok(read);
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let (path, wrong) = match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) => (error.path().to_string(), error.into_inner()),
        Ok(read) => match json.end() {
            Ok(()) => return Ok(read),
            Err(error) => (".".to_owned(), error),
        },
    };
    let (line, column) = (wrong.line(), wrong.column());
    let what = match wrong.classify() {
        serde_json::error::Category::Data => without_value(&wrong.to_string()),
        _ => "is not JSON".to_owned(),
    };
    let path = match what.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(missing) if path == "." => missing.to_owned(),
        Some(missing) => format!("{path}.{missing}"),
        None => path,
    };
    Err(Refusal::new(400, "bad_body", format!("the body at `{path}`, line {line} column {column}: {what}")).at(path))
}

/// What serde says is wrong, but for the value that it found.
fn without_value(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    match message.rsplit_once(", expected ") {
        Some((found, expected)) if !found.starts_with("unknown field ") => format!("expected {expected}"),
        _ if message.starts_with("missing field ") || message.starts_with("unknown field ") => {
            message.chars().take(300).collect()
        }
        _ => "is of the wrong kind".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_text_and_nothing_after_it() {
        assert!(parse::<BTreeMap<String, u8>>(br#" {"a": 1} "#).is_ok());
        for wrong in [&br#"{"a": 1} {"a": 2}"#[..], br#"{"a": 1}x"#, br#"{"a": 1"#, b""] {
            assert!(parse::<BTreeMap<String, u8>>(wrong).is_err());
        }
    }
}
