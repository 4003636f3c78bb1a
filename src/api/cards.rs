//! `/v1/cards`.

use std::collections::BTreeMap;
use std::io::Write;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State as Shared};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use claviger_card_schemes::{Columns, CsvReader, Field, FieldSet, LineFault, Reader, Reason, append_record_id};
use claviger_client::{
    AuthenticateCard, CardApdu, CardCommand, CardKeySet, Personalise, PersonaliseParameters, PersonaliseResult, Valid,
    WriteKey,
};
use claviger_hsm_api::{Algorithm, KeyVersion, Secret};

use super::keys::word;
use super::problem::Problems;
use super::rows::{members, read_row};
use super::stream::{self, Ids, Job, Upload};
use super::{MOST_ITEMS, Refusal, State, body, bytes, content_type, execute, field_set};
use crate::audit::Written;
use crate::operation::{CardAnswer, Operation, Personalisation};
use crate::service::{Caller, CardFault, Outcome, PersonaliseJob, ServiceError};

/// Makes a card command under secure messaging: block, unblock, update, PIN, external authentication.
#[utoipa::path(post, path = "/v1/cards/command", tag = "cards", request_body = CardCommand,
    responses((status = 200, description = "The command for the card", body = CardApdu), Problems))]
pub(super) async fn command(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<CardApdu>, Refusal> {
    let CardCommand { tenant, scheme, command, fields, p1p2, challenge, data } = body(request, &state.limits).await?;
    let two = |digits: String| {
        let two = bytes("p1p2", &digits)?.try_into();
        two.map_err(|_| Refusal::field("p1p2", "must have 4 hexadecimal digits"))
    };
    let data = Secret::from_hex(&data).ok_or_else(|| Refusal::field("data", "is not hexadecimal digits in pairs"))?;
    let request = crate::operation::CardCommand {
        tenant,
        scheme,
        command,
        fields: field_set(&fields)?,
        parameters: p1p2.map(two).transpose()?,
        challenge: bytes("challenge", &challenge)?,
        data,
    };
    apdu(execute(&state.service, caller, Operation::CardCommand(request)).await?)
}

/// Makes WRITE KEY: a card's new key leaves under one that the card holds, and no other way.
#[utoipa::path(post, path = "/v1/cards/write-key", tag = "cards", request_body = WriteKey,
    responses((status = 200, description = "The command for the card", body = CardApdu), Problems))]
pub(super) async fn write_key(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<CardApdu>, Refusal> {
    let WriteKey { tenant, scheme, fields, protector, role, version, alg_id, challenge } =
        body(request, &state.limits).await?;
    let alg_id: [u8; 1] =
        bytes("alg_id", &alg_id)?.try_into().map_err(|_| Refusal::field("alg_id", "must have 2 hexadecimal digits"))?;
    let request = crate::operation::WriteKey {
        tenant,
        scheme,
        fields: field_set(&fields)?,
        protector,
        role,
        version: word("version", &version)?,
        alg_id: alg_id[0],
        challenge: bytes("challenge", &challenge)?,
    };
    apdu(execute(&state.service, caller, Operation::WriteKey(request)).await?)
}

/// Verifies a card's answer to INTERNAL AUTHENTICATE.
#[utoipa::path(post, path = "/v1/cards/authenticate", tag = "cards", request_body = AuthenticateCard,
    responses((status = 200, description = "What was found of each", body = Valid), Problems))]
pub(super) async fn authenticate(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<Valid>, Refusal> {
    let AuthenticateCard { tenant, scheme, fields, challenge, answer } = body(request, &state.limits).await?;
    let request = CardAnswer {
        tenant,
        scheme,
        fields: field_set(&fields)?,
        challenge: bytes("challenge", &challenge)?,
        answer: bytes("answer", &answer)?,
    };
    match execute(&state.service, caller, Operation::AuthenticateCard(request)).await? {
        Outcome::Verdicts { valid, job } => Ok(Json(Valid { valid, job })),
        _ => Err(Refusal::unexpected()),
    }
}

/// Makes the key sets of cards: each key dispersed to the card, under the transport key, with its check value.
///
/// A few cards come and go as JSON. A file comes as `text/csv` with a header line and is answered by
/// `card_id,result,reason,key_set` lines in the order of the cards, while it is still going up.
#[utoipa::path(post, path = "/v1/cards/personalise", tag = "cards", params(PersonaliseParameters),
    request_body(content((Personalise = "application/json"),
        (String = "text/csv", example = "card_id,city_code,asn\nC1,1150,1150491934206620\n"))),
    responses((status = 200, description = "Key sets in the order of the cards",
        content((PersonaliseResult = "application/json"), (String = "text/csv",
            example = "card_id,result,reason,key_set\nC1,made,,41CC1E04A4BF2B6C2B3F3C8A5A9F6C5B8A4F19\n"))), Problems))]
pub(super) async fn personalise(
    Shared(state): Shared<State>,
    caller: Caller,
    parameters: Result<Query<PersonaliseParameters>, QueryRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let Query(parameters) = parameters.map_err(Refusal::query)?;
    let columns = Columns::of_cards(state.service.scheme(&parameters.scheme)?);
    let personalisation = personalisation(parameters)?;
    let open = async || match execute(&state.service, caller, Operation::PersonaliseCards(personalisation)).await? {
        Outcome::Personalise(job) => Ok(*job),
        _ => Err(Refusal::unexpected()),
    };
    match content_type(&request).as_str() {
        "application/json" => {
            let cards: Personalise = body(request, &state.limits).await?;
            let job = open().await?;
            let result = tokio::task::spawn_blocking(move || personalise_cards(job, &cards)).await;
            Ok(Json(result.unwrap_or(Err(ServiceError::Stopped))?).into_response())
        }
        "text/csv" => {
            let reader = Reader::Csv(CsvReader::new(columns, state.limits.line_bytes, 0));
            let upload = Upload::new(request.into_body(), &state.limits);
            let (upload, reader, job) = upload.begin(reader, open()).await?;
            let first = b"card_id,result,reason,key_set\n".to_vec();
            let made = stream::work_through(upload, reader, CardLines(job), first);
            Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(made)).into_response())
        }
        other => Err(Refusal::new(415, "unknown_format", format!("`{other}` is not application/json or text/csv"))),
    }
}

fn apdu(outcome: Outcome) -> Result<Json<CardApdu>, Refusal> {
    match outcome {
        Outcome::Bytes(apdu) => Ok(Json(CardApdu { apdu: hex::encode_upper(apdu) })),
        _ => Err(Refusal::unexpected()),
    }
}

fn personalisation(parameters: PersonaliseParameters) -> Result<Personalisation, Refusal> {
    let PersonaliseParameters { tenant, scheme, key_set, algorithms, version, transport_key } = parameters;
    let (transport_role, transport_version) = transport_key
        .split_once('/')
        .ok_or_else(|| Refusal::field("transport_key", "must be a role and a version, as `TK/01`"))?;
    let algorithms = algorithms.split(',').map(|name| word("algorithms", name));
    Ok(Personalisation {
        tenant,
        scheme,
        key_set,
        algorithms: algorithms.collect::<Result<Vec<Algorithm>, _>>()?,
        version: word("version", &version)?,
        transport_role: transport_role.to_owned(),
        transport_version: word::<KeyVersion>("transport_key", transport_version)?,
    })
}

fn personalise_cards(
    mut job: PersonaliseJob,
    Personalise { cards }: &Personalise,
) -> Result<PersonaliseResult, ServiceError> {
    if cards.len() > MOST_ITEMS {
        return Err(ServiceError::field("cards", format!("has more than {MOST_ITEMS}: send a file")));
    }
    let columns = [Field::CityCode, Field::IssuerId, Field::Asn];
    let mut made = Vec::with_capacity(cards.len());
    for (number, card) in (1..).zip(cards) {
        match read_row(members(card), "card_id", &columns, "cards")?.1 {
            Ok(fields) => job.push(Ok(&fields), number),
            Err(fault) => job.push(Err(fault), number),
        }
        if job.is_full() || number as usize == cards.len() {
            job.run(|card| {
                let card_id = cards.get(made.len()).and_then(|card| card.get("card_id")).cloned().unwrap_or_default();
                let (result, reason, key_set) = match card {
                    Ok(key_set) => ("made", String::new(), hex::encode_upper(key_set)),
                    Err(fault) => ("malformed", reason(fault).to_string(), String::new()),
                };
                made.push(CardKeySet { card_id, result: result.to_owned(), reason, key_set });
            })?;
        }
    }
    let counts = job.close(Ok(()))?;
    Ok(PersonaliseResult { cards: made, counts })
}

fn reason(fault: CardFault) -> Reason {
    match fault {
        CardFault::Line(LineFault::NoId, number) => Reason::Line(number),
        CardFault::Line(LineFault::Field(field), _) => Reason::BadField(field),
        CardFault::Missing(field) => Reason::Missing(field),
        CardFault::Foreign => Reason::ForeignIssuer,
    }
}

/// Personalisation whose key sets leave as lines of CSV.
struct CardLines(PersonaliseJob);

impl Job for CardLines {
    fn push(&mut self, card: Result<&FieldSet, LineFault>, number: u64) {
        self.0.push(card, number);
    }

    fn is_full(&self) -> bool {
        self.0.is_full()
    }

    fn run(&mut self, ids: &Ids, out: &mut Vec<u8>) -> Result<(), ServiceError> {
        let mut ids = ids.iter();
        self.0.run(|card| {
            append_record_id(ids.next().unwrap_or_default(), out);
            // Writing to memory cannot fail.
            let _ = match card {
                Ok(key_set) => {
                    out.extend_from_slice(b",made,,");
                    append_hex(out, key_set);
                    writeln!(out)
                }
                Err(fault) => writeln!(out, ",malformed,{},", reason(fault)),
            };
        })
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> Result<(), ServiceError> {
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Written, ServiceError> {
        Ok(self.0.checkpoint())
    }

    fn close(self, outcome: Result<(), &ServiceError>) -> Result<BTreeMap<String, u64>, ServiceError> {
        self.0.close(outcome)
    }
}

fn append_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    // As long as it has to be. By vectors: of all that is done for a card, this is the most bytes.
    let _ = const_hex::encode_to_slice_upper(bytes, &mut out[start..]);
}
