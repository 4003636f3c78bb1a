//! The outside voice of errors: RFC 9457.

use std::collections::BTreeMap;

use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use claviger_client::Problem;
use utoipa::openapi::{Content, Ref, RefOr, Response as Described, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::service::ServiceError;

/// The problems that every operation may answer with, for the API's description.
pub(super) struct Problems;

/// Status, and an example of what stands in the problem: code, detail, field.
const EXAMPLES: &[(u16, &str, &str, Option<&str>)] = &[
    (400, "bad_body", "the body at `tenant`, line 1 column 12: expected a string", Some("tenant")),
    (403, "denied", "no policy permits the caller to `generate_key` here", None),
    (404, "no_role_key", "tenant `demo` has no active key of role DTK in scheme `cjt166` that fits", None),
    (408, "too_slow", "the body did not arrive in time", None),
    (409, "key_exists", "a key of this name, algorithm, version and factors exists already", None),
    (413, "body_too_large", "a body has at most 4194304 bytes", None),
    (415, "unknown_format", "`text/html` is not application/json", None),
    (422, "bad_field", "field `version` must be two upper-case hexadecimal digits", Some("version")),
    (500, "internal", "the service answered something else", None),
    (502, "backend_failed", "software: run: the key is not open", None),
    (503, "sealed", "the daemon is sealed: an officer must unseal it first", None),
];

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let describe = |(status, code, detail, field): &(u16, &str, &str, Option<&str>)| {
            let mut example = Refusal::new(*status, code, *detail).0;
            example.field = field.map(str::to_owned);
            let mut content = Content::new(Some(Ref::from_schema_name(Problem::name())));
            content.example = serde_json::to_value(&*example).ok();
            let described = ResponseBuilder::new().description(example.title.clone());
            (status.to_string(), RefOr::T(described.content("application/problem+json", content).build()))
        };
        EXAMPLES.iter().map(describe).collect()
    }
}

/// An error on its way out.
#[derive(Debug)]
pub struct Refusal(Box<Problem>);

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
        Self(Box::new(Problem {
            kind: format!("urn:claviger:problem:{code}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code: code.to_owned(),
            field: None,
            policy: None,
        }))
    }

    /// A query string that is not what the address takes.
    pub(crate) fn query(error: QueryRejection) -> Self {
        let text = error.body_text();
        let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        Self::new(400, "bad_query", format!("the query of the address: {reason}"))
    }

    /// An outcome of another operation: a fault of ours.
    pub(crate) fn unexpected() -> Self {
        Self::new(500, "internal", "the service answered something else")
    }

    /// Names the field that is wrong.
    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// A field of the request that is wrong.
    pub(crate) fn field(field: &str, reason: impl ToString) -> Self {
        ServiceError::field(field, reason.to_string()).into()
    }
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        let mut refusal = Self::new(error.status(), error.code(), error.to_string());
        match error {
            ServiceError::Field { field, .. } => refusal.0.field = Some(field),
            ServiceError::KcvMismatch { .. } => refusal.0.field = Some("kcv".to_owned()),
            ServiceError::Denied(denial) => refusal.0.policy = Some(denial.policy),
            _ => {}
        }
        refusal
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, serde_json::to_vec(&*self.0).unwrap_or_default()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
