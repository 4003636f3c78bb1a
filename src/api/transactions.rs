//! `/v1/transactions`.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State as Shared};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use claviger_card_schemes::{ArrowReader, Columns, CsvReader, Field, FieldSet, LineFault, Reader};
use claviger_client::{Verdict, VerifyParameters, VerifyRecords, VerifyResult};
use serde::Deserialize;

use super::document::Binary;
use super::problem::Problems;
use super::rows::{Row, read_row};
use super::stream::{self, Upload};
use super::verdicts::Verification;
use super::{MOST_ITEMS, Refusal, State, content_type, execute, parse, read_wiping, whole};
use crate::audit::Place;
use crate::operation::Operation;
use crate::service::{Caller, Outcome, ServiceError, VerifyJob, at_once};

/// Arrow's IPC streaming format.
const ARROW: &str = "application/vnd.apache.arrow.stream";
/// Records of a layout that the scheme describes.
const LAYOUT: &str = "application/octet-stream";
/// Names the keys that verify, so that a later job can ask for the same.
const KEYS: &str = "claviger-keys";

/// Names the job in the audit log.
const JOB: &str = "claviger-job";

/// Verifies the TACs of transaction records.
///
/// A few records come and go as JSON. A file comes as `text/csv` with a header line, as
/// `application/vnd.apache.arrow.stream`, or as `application/octet-stream` in a layout that the scheme
/// describes, and is answered in the order of the records while it is still going up: in Arrow if it came in
/// Arrow, else as `record_id,verdict,reason` lines. The header `claviger-keys` names the keys that verify,
/// `claviger-job` the job in the audit log, where the root of the tree of its verdicts stands.
#[utoipa::path(post, path = "/v1/transactions/verify", tag = "transactions", params(VerifyParameters),
    request_body(content((VerifyRecords = "application/json"), (String = "text/csv",
            example = "record_id,city_code,asn,txn_type,amount,terminal_id,ttc,date,time,key_version,alg_id,tac\nR1,1150,1150491934206620,06,544,115366392864,00000001,20261121,071014,01,00,BA231E81\n"),
        (Binary = "application/vnd.apache.arrow.stream"), (Binary = "application/octet-stream"))),
    responses(
        (status = 200, description = "Verdicts in the order of the records", content((VerifyResult = "application/json"),
            (String = "text/csv", example = "record_id,verdict,reason\nR1,valid,\n"), (Binary = "application/vnd.apache.arrow.stream"))),
        Problems))]
pub(super) async fn verify(
    Shared(state): Shared<State>,
    caller: Caller,
    parameters: Result<Query<VerifyParameters>, QueryRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let Query(parameters) = parameters.map_err(Refusal::query)?;
    let VerifyParameters { tenant, scheme, layout, before, keys } = parameters;
    let before = before.unwrap_or(0);
    let streamed = content_type(&request) != "application/json";
    let open = async |scheme: String| {
        let operation = Operation::VerifyTransactions { tenant, scheme, before, streamed };
        match execute(&state.service, caller, operation).await? {
            Outcome::Job(job) if keys.as_ref().is_some_and(|keys| *keys != job.key_versions()) => {
                let refused = ServiceError::OtherKeys(job.key_versions());
                // Writing it down may wait for the disk.
                let closed = tokio::task::spawn_blocking(move || job.close(Err(&refused)).err().unwrap_or(refused));
                Err(closed.await.unwrap_or(ServiceError::Stopped).into())
            }
            Outcome::Job(job) => Ok(*job),
            _ => Err(Refusal::unexpected()),
        }
    };
    let limits = &state.limits;
    let reader = match content_type(&request).as_str() {
        "application/json" => {
            let records = read_wiping(whole(request, limits).await?, read_records)?;
            let mut job = open(scheme).await?;
            let (place, written) = job.place();
            let (done, written) = if job.is_at_hand(records.len()) {
                (at_once(move || verify_records(job, records, place)), written.wait().await)
            } else {
                let working = tokio::task::spawn_blocking(move || verify_records(job, records, place));
                let written = written.wait().await;
                (working.await.ok(), written)
            };
            let result = done.unwrap_or(Err(ServiceError::Stopped))?;
            written.map_err(ServiceError::from)?;
            return Ok(Json(result).into_response());
        }
        "text/csv" => Reader::Csv(CsvReader::new(Columns::of_records(), limits.line_bytes, before)),
        ARROW => Reader::Arrow(ArrowReader::new(Columns::of_records(), limits.body_bytes, before)),
        LAYOUT => {
            let layout = layout.ok_or_else(|| Refusal::field("layout", "is missing: which of the scheme's?"))?;
            let known = state.service.scheme(&scheme)?;
            known.layout_reader(&layout, before).map_err(ServiceError::from)?
        }
        other => {
            let known = format!("`{other}` is not application/json, text/csv, {ARROW} or {LAYOUT}");
            return Err(Refusal::new(415, "unknown_format", known));
        }
    };
    let arrow = matches!(reader, Reader::Arrow(_));
    let upload = Upload::new(request.into_body(), limits);
    let (upload, reader, job) = upload.begin(reader, open(scheme)).await?;
    let (keys, id) = (job.key_versions(), job.id().to_owned());
    let (job, first) = if arrow { Verification::as_arrow(job)? } else { Verification::as_csv(job) };
    let verdicts = Body::from_stream(stream::work_through(upload, reader, job, first));
    let content_type = if arrow { ARROW } else { "text/csv; charset=utf-8" };
    let said = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (HeaderName::from_static(KEYS), keys),
        (HeaderName::from_static(JOB), id),
    ];
    Ok((said, verdicts).into_response())
}

/// A record, or what is wrong with it, and its id.
type Record = (String, Result<FieldSet, LineFault>);

/// [`VerifyRecords`] as it stands in a body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InBody<'b> {
    #[serde(borrow)]
    records: Vec<Row<'b>>,
}

fn read_records(body: &[u8]) -> Result<Vec<Record>, Refusal> {
    let InBody { records } = parse(body)?;
    if records.len() > MOST_ITEMS {
        return Err(Refusal::field("records", format!("has more than {MOST_ITEMS}: send a file")));
    }
    let read = |row: &Row<'_>| {
        let (id, record) = read_record(row.members())?;
        Ok((id.to_owned(), record))
    };
    records.iter().map(read).collect()
}

/// One record. The outer error is the request's (no such column); the inner one is the record's verdict.
pub(super) fn read_record<'r>(
    members: impl Iterator<Item = (&'r str, &'r str)>,
) -> Result<(&'r str, Result<FieldSet, LineFault>), ServiceError> {
    read_row(members, "record_id", Field::OF_RECORDS, "records")
}

/// The result may leave once the other end of the place says so.
fn verify_records(mut job: VerifyJob, records: Vec<Record>, place: Place) -> Result<VerifyResult, ServiceError> {
    let mut said = Vec::with_capacity(records.len());
    for (number, (_, record)) in (1..).zip(&records) {
        job.push(record.as_ref().map_err(|fault| *fault), number);
        if job.is_full() || number as usize == records.len() {
            let ids = records[said.len()..number as usize].iter().map(|(id, _)| id.as_bytes());
            job.run(ids, |_, verified| said.push((verified.verdict.to_string(), verified.reason.to_string())))?;
        }
    }
    let id = job.id().to_owned();
    let counts = job.close_at(place)?;
    let verdict = |((record_id, _), (verdict, reason))| Verdict { record_id, verdict, reason };
    Ok(VerifyResult { job: id, verdicts: records.into_iter().zip(said).map(verdict).collect(), counts })
}
