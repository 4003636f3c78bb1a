//! The outside voice of errors: RFC 9457.

use std::collections::BTreeMap;

use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use claviger_client::Problem;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::{Content, Ref, RefOr, Response as Described, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::service::{ApprovalError, ServiceError};

/// The problems that every operation may answer with, for the API's description.
pub(super) struct Problems;

/// Every problem there is: its status, its code, and an example of its detail and field.
const EXAMPLES: &[(u16, &str, &str, Option<&str>)] = &[
    (400, "bad_body", "the body at `tenant`, line 1 column 12: expected a string", Some("tenant")),
    (400, "bad_query", "the query of the address: missing field `tenant`", None),
    (400, "bad_path", "the address is not UTF-8", None),
    (400, "bad_host", "the request does not name its host once", None),
    (400, "upload_failed", "the body broke off", None),
    (403, "denied", "no policy permits the caller to `generate_key` here", None),
    (
        403,
        "unknown_principal",
        "this client certificate has the URI of no principal of the configuration, or has been revoked or ended since it was shown",
        None,
    ),
    (
        403,
        "approval_needed",
        "2 others must approve this first; it is proposed as 5f0c3a9d21e87b465f0c3a9d21e87b46",
        None,
    ),
    (403, "no_approver", "whoever proposed it cannot approve it or refuse it", None),
    (403, "wrong_passphrase", "the passphrase does not open the seal", None),
    (403, "wrong_share", "share 3 is not one of these: it is mistyped, or of another time", None),
    (404, "no_role_key", "tenant `demo` has no active key of role DTK in scheme `cjt166` that fits", None),
    (404, "no_proposal", "there is no such proposal", None),
    (404, "no_ceremony", "there is no such ceremony", None),
    (404, "no_key", "there is no key of this id", None),
    (404, "unknown_scheme", "there is no card scheme `cjt167`", None),
    (404, "no_route", "there is nothing at this address", None),
    (405, "no_method", "this address does not take this method", None),
    (408, "too_slow", "the body did not arrive in time", None),
    (409, "key_exists", "a key of this name, algorithm, version and factors exists already", None),
    (409, "conflict", "the key was changed by somebody else", None),
    (409, "key_state", "a destroyed key stays destroyed", None),
    (409, "not_the_next_step", "a key moves step by step: begin, cut-over, finish; roll-back takes one back", None),
    (409, "diverged", "two backends answered differently for a key that moves: roll back and find out why", None),
    (409, "proposal_over", "the proposal was used", None),
    (409, "approval_differs", "what was approved is not what is asked for: kcv was `B8743B` and is `070A16`", None),
    (409, "ceremony_order", "the next turn is 2.1", None),
    (409, "ceremony_over", "the ceremony is cancelled", None),
    (
        409,
        "terminal_held",
        "the store was restored from a backup: an officer must first say the last number that the terminal used",
        None,
    ),
    (409, "key_unusable", "the key is suspended", None),
    (409, "keys_changed", "the keys have changed since", None),
    (409, "exposure_above_ceiling", "the recipe would give card-key, above the key's ceiling of nothing", None),
    (409, "seal_unusable", "the seal does not open with a passphrase", None),
    (413, "body_too_large", "a body has at most 4194304 bytes", None),
    (415, "unknown_format", "`text/html` is not application/json", None),
    (422, "no_backend", "the configuration has no backend `room-2`", None),
    (422, "place", "backend `room-2` stands where key demo/cjt166/DTK 3des 01 may not live", None),
    (422, "bad_field", "field `version` must be two upper-case hexadecimal digits", Some("version")),
    (422, "bad_plan", "binding, `backends`: `home` is missing", None),
    (422, "step_refused", "field `kcv` is another than this shows; tries left: 2", None),
    (422, "bad_signature", "field `signature` does not hold for this text and this certificate", Some("signature")),
    (422, "bad_header", "column `asn` is missing from the header", None),
    (422, "replay_failed", "a record of the past is not right under the key that is to be adopted", None),
    (422, "kcv_mismatch", "field `kcv` does not match: the key shows B8743B", Some("kcv")),
    (422, "refused", "the keys do not admit the recipe", None),
    (422, "unsupported", "no backend that holds the key can do this", None),
    (500, "internal", "the service failed inside; the operator's log says more", None),
    (429, "too_many", "the caller makes too many calls in a second", None),
    (429, "quota", "tenant `demo` may have 50000000 items a day, and would have more", None),
    (502, "backend_failed", "software: run: the key is not open", None),
    (503, "backend_resting", "backend `room-1` failed too often and is tried again in 2 s", None),
    (503, "sealed", "the daemon is sealed: it must be unsealed first", None),
    (503, "busy", "the daemon is busy: no more files are worked through at once", None),
    (503, "no_replica", "no backend that may serve the key is up", None),
    (503, "store_failed", "the store failed", None),
    (503, "audit_failed", "the audit log does not take the record", None),
    (503, "directory", "the data directory cannot be used", None),
    (
        503,
        "policies_unusable",
        "the policies cannot be used: the store's were changed by somebody else than the daemon",
        None,
    ),
    (503, "stopping", "the daemon is stopping", None),
];

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let described = |group: &[(u16, &str, &str, Option<&str>)]| {
            let mut content = Content::new(Some(Ref::from_schema_name(Problem::name())));
            let mut title = String::new();
            for (status, code, detail, field) in group {
                let mut example = Refusal::new(*status, code, *detail).0;
                example.field = field.map(str::to_owned);
                title.clone_from(&example.title);
                let example = ExampleBuilder::new().value(serde_json::to_value(&*example).ok()).build();
                content.examples.insert((*code).to_owned(), RefOr::T(example));
            }
            let response = ResponseBuilder::new().description(title).content("application/problem+json", content);
            (group[0].0.to_string(), RefOr::T(response.build()))
        };
        EXAMPLES.chunk_by(|one, next| one.0 == next.0).map(described).collect()
    }
}

/// An error on its way out, and the seconds after which asking again may go well.
#[derive(Debug)]
pub struct Refusal(Box<Problem>, Option<u64>);

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
        let problem = Problem {
            kind: format!("urn:claviger:problem:{code}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code: code.to_owned(),
            field: None,
            policy: None,
            approval: None,
        };
        Self(Box::new(problem), None)
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
        refusal.1 = error.retry_after();
        match error {
            ServiceError::Field { field, .. } => refusal.0.field = Some(field),
            ServiceError::KcvMismatch { .. } => refusal.0.field = Some("kcv".to_owned()),
            ServiceError::Denied(denial) => refusal.0.policy = Some(denial.policy),
            ServiceError::Approval(ApprovalError::Needed { id, policy, .. }) => {
                refusal.0.approval = Some(id);
                refusal.0.policy = policy;
            }
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
        let usual = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(5);
        if let Some(seconds) = self.1.or(usual) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_ask_again_hears_when() {
        let after = |error: ServiceError| {
            let response = Refusal::from(error).into_response();
            let header = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
            (response.status().as_u16(), header)
        };
        assert_eq!(after(ServiceError::TooMany { what: "calls", seconds: 3 }), (429, Some("3".to_owned())));
        let quota = ServiceError::Quota { tenant: "demo".to_owned(), most: 1, seconds: 7200 };
        assert_eq!(after(quota), (429, Some("7200".to_owned())));
        assert_eq!(after(ServiceError::Sealed), (503, Some("5".to_owned())));
        assert_eq!(after(ServiceError::NoKey), (404, None));
    }
}
