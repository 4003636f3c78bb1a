//! `/v1/transactions`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, Request, State as Shared};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use claviger_card_schemes::{Field, FieldSet, LineFault};
use claviger_client::{Problem, Verdict, VerifyParameters, VerifyRecords, VerifyResult};

use super::stream::{self, Upload};
use super::{Refusal, State, body, execute};
use crate::operation::Operation;
use crate::service::{Caller, Outcome, ServiceError, VerifyJob};

/// Records of one JSON body; more come as a stream.
const MOST_RECORDS: usize = 10_000;

/// Verifies the TACs of transaction records.
///
/// A few records come and go as JSON. A file comes as `text/csv` with a header line and is answered by
/// `record_id,verdict,reason` lines in the order of the records, while it is still going up.
#[utoipa::path(post, path = "/v1/transactions/verify", tag = "transactions", params(VerifyParameters),
    request_body(content((VerifyRecords = "application/json"), (String = "text/csv"))),
    responses(
        (status = 200, content((VerifyResult = "application/json"), (String = "text/csv"))),
        (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(super) async fn verify(
    Shared(state): Shared<State>,
    caller: Caller,
    parameters: Result<Query<VerifyParameters>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let Query(VerifyParameters { tenant, scheme }) =
        parameters.map_err(|error| Refusal::new(400, "bad_query", error.body_text()))?;
    let content_type =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let open = async || match execute(&state.service, caller, Operation::VerifyTransactions { tenant, scheme }).await? {
        Outcome::Job(job) => Ok(*job),
        _ => Err(Refusal::new(500, "internal", "the service answered something else")),
    };
    match content_type.as_str() {
        "application/json" => {
            let records: VerifyRecords = body(request, &state.limits).await?;
            let job = open().await?;
            let result = tokio::task::spawn_blocking(move || verify_records(job, records)).await;
            Ok(Json(result.unwrap_or(Err(ServiceError::Stopped))?).into_response())
        }
        "text/csv" => {
            let mut upload = Upload::new(request.into_body(), &state.limits);
            // The header is read before the job opens, so that a wrong column is a problem and not a broken stream.
            let header = stream::csv_header(&mut upload).await?;
            let job = open().await?;
            let verdicts = stream::verify_csv(upload, header, job);
            Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(verdicts)).into_response())
        }
        other => Err(Refusal::new(415, "unknown_format", format!("`{other}` is not application/json or text/csv"))),
    }
}

fn verify_records(mut job: VerifyJob, VerifyRecords { records }: VerifyRecords) -> Result<VerifyResult, ServiceError> {
    if records.len() > MOST_RECORDS {
        return Err(ServiceError::field("records", format!("has more than {MOST_RECORDS}: send a file as text/csv")));
    }
    let mut ids = Vec::with_capacity(records.len());
    let mut verdicts = Vec::with_capacity(records.len());
    for (number, record) in (1..).zip(&records) {
        match read_record(record)? {
            Ok(fields) => job.push(Ok(&fields), number),
            Err(fault) => job.push(Err(fault), number),
        }
        let id = record.get("record_id").cloned().unwrap_or_default();
        ids.push(if record.contains_key("record_id") { id } else { String::new() });
        if job.is_full() || number as usize == records.len() {
            let mut next = verdicts.len();
            job.run(|verified| {
                let record_id = std::mem::take(&mut ids[next]);
                verdicts.push(Verdict {
                    record_id,
                    verdict: verified.verdict.to_string(),
                    reason: verified.reason.to_string(),
                });
                next += 1;
            })?;
        }
    }
    let counts = job.close(Ok(()))?;
    Ok(VerifyResult { verdicts, counts })
}

/// The outer error is the request's (no such column); the inner one is the record's verdict.
fn read_record(
    record: &std::collections::BTreeMap<String, String>,
) -> Result<Result<FieldSet, LineFault>, ServiceError> {
    let mut fields = FieldSet::default();
    let mut first: Option<Field> = None;
    for (name, text) in record.iter().filter(|(name, _)| *name != "record_id") {
        let field = Field::named(name).filter(|field| Field::OF_RECORDS.contains(field));
        let field = field.ok_or_else(|| {
            ServiceError::field(
                format!("records[].{}", name.chars().take(40).collect::<String>()),
                "is not a column of records",
            )
        })?;
        if fields.parse(field, text.as_bytes()).is_err() {
            first = Some(first.map_or(field, |known| known.min(field)));
        }
    }
    Ok(match (record.get("record_id").is_none_or(String::is_empty), first) {
        (true, _) => Err(LineFault::NoId),
        (false, Some(field)) => Err(LineFault::Field(field)),
        (false, None) => Ok(fields),
    })
}
