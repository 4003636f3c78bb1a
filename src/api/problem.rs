//! The outside voice of errors: RFC 9457.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use claviger_client::Problem;

use crate::service::ServiceError;

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
