//! `/v1/keys`.

use std::str::FromStr;

use axum::Json;
use axum::extract::{Query, Request, State as Shared};
use axum::http::StatusCode;
use claviger_client::{
    AdoptKey, ComputeKcv, DisperseKey, ImportKey, KcvResult, Key, KeyFilter, KeyList, KeyReference, NewKey,
    RaiseCeiling, RaisedCeiling, ReplicateKey, SetKeyState,
};
use claviger_hsm_api::{KcvRule, KeyName, Secret};

use super::problem::Problems;
use super::rows::members;
use super::transactions::read_record;
use super::{InPath, Refusal, State, body, bytes, execute};
use crate::keyring::{Entry, Validity, over_at};
use crate::operation::{KeyRef, KeyRequest, Operation, Raise, span};
use crate::service::{Caller, Outcome, ServiceError, factor};

/// Makes a key inside a backend.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = NewKey,
    responses((status = 201, description = "The key's record", body = Key), Problems))]
pub(super) async fn generate(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<Key>), Refusal> {
    let key: NewKey = body(request, &state.limits).await?;
    let outcome = execute(&state.service, caller, Operation::GenerateKey(key_request(key)?)).await?;
    Ok((StatusCode::CREATED, one(outcome)?))
}

/// Joins a key from components that the caller brings. In production a ceremony does this.
#[utoipa::path(post, path = "/v1/keys/import", tag = "keys", request_body = ImportKey,
    responses((status = 201, description = "The key's record", body = Key), Problems))]
pub(super) async fn import(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<Key>), Refusal> {
    let ImportKey { key, components, kcv, odd_parity } = body(request, &state.limits).await?;
    let not_hex =
        |number| Refusal::field("components", format!("number {number} is not an even number of hexadecimal digits"));
    let components = (1..).zip(&components).map(|(number, text)| Secret::from_hex(text).ok_or_else(|| not_hex(number)));
    let components = components.collect::<Result<Vec<_>, _>>()?;
    let kcv = kcv.map(|digits| bytes("kcv", &digits).map(hex::encode_upper)).transpose()?;
    let operation = Operation::ImportKey { request: key_request(key)?, components, kcv, odd_parity };
    Ok((StatusCode::CREATED, one(execute(&state.service, caller, operation).await?)?))
}

/// Registers a key that a backend's device holds already; it is proved by its check value, and by records of the past.
#[utoipa::path(post, path = "/v1/keys/adopt", tag = "keys", request_body = AdoptKey,
    responses((status = 201, description = "The key's record", body = Key), Problems))]
pub(super) async fn adopt(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<Key>), Refusal> {
    let AdoptKey { key, object, kcv, records } = body(request, &state.limits).await?;
    let kcv = kcv.map(|digits| bytes("kcv", &digits).map(hex::encode_upper)).transpose()?;
    let unreadable = |number| Refusal::field("records", format!("number {number} cannot be read"));
    let read = |(number, record)| read_record(members(record))?.1.map_err(|_| unreadable(number));
    let records = (1..).zip(&records).map(read).collect::<Result<Vec<_>, _>>()?;
    let operation = Operation::AdoptKey { request: key_request(key)?, object, kcv, records };
    Ok((StatusCode::CREATED, one(execute(&state.service, caller, operation).await?)?))
}

/// Makes another backend a copy of a key that may move, wrapped on its way under a key that both hold.
#[utoipa::path(post, path = "/v1/keys/{id}/replicas", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")), request_body = ReplicateKey,
    responses((status = 201, description = "The key's record", body = Key), Problems))]
pub(super) async fn replicate(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<(StatusCode, Json<Key>), Refusal> {
    let ReplicateKey { to, under } = body(request, &state.limits).await?;
    let operation = Operation::ReplicateKey { id, to, under: key_ref(under)? };
    Ok((StatusCode::CREATED, one(execute(&state.service, caller, operation).await?)?))
}

/// The keys of a tenant.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", params(KeyFilter),
    responses((status = 200, description = "The keys", body = KeyList), Problems))]
pub(super) async fn list(
    Shared(state): Shared<State>,
    caller: Caller,
    filter: Result<Query<KeyFilter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<KeyList>, Refusal> {
    let Query(filter) = filter.map_err(Refusal::query)?;
    if let Some(scheme) = &filter.scheme {
        state.service.scheme(scheme)?;
    }
    let Outcome::Keys(mut entries) =
        execute(&state.service, caller, Operation::ListKeys { tenant: filter.tenant }).await?
    else {
        return Err(Refusal::unexpected());
    };
    entries.retain(|entry| {
        let name = &entry.record.key.name;
        filter.scheme.as_ref().is_none_or(|scheme| scheme == name.scheme())
            && filter.role.as_ref().is_none_or(|role| role == name.role())
    });
    Ok(Json(KeyList { keys: entries.iter().map(|entry| view(entry)).collect() }))
}

/// One key's record.
#[utoipa::path(get, path = "/v1/keys/{id}", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")),
    responses((status = 200, description = "The key's record", body = Key), Problems))]
pub(super) async fn show(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
) -> Result<Json<Key>, Refusal> {
    one(execute(&state.service, caller, Operation::ShowKey { id }).await?)
}

/// Suspends, resumes, deactivates, compromises or destroys a key. Destroyed is for ever.
#[utoipa::path(post, path = "/v1/keys/{id}/state", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")), request_body = SetKeyState,
    responses((status = 200, description = "The key's record", body = Key), Problems))]
pub(super) async fn set_state(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<Json<Key>, Refusal> {
    let SetKeyState { state: wanted } = body(request, &state.limits).await?;
    let operation = Operation::SetKeyState { id, state: word("state", &wanted)? };
    one(execute(&state.service, caller, operation).await?)
}

/// Lets more leave a backend on account of a key, for a time. It is over by the clock.
#[utoipa::path(post, path = "/v1/keys/{id}/ceiling", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")), request_body = RaiseCeiling,
    responses((status = 200, description = "The key's record", body = Key), Problems))]
pub(super) async fn raise_ceiling(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<Json<Key>, Refusal> {
    let RaiseCeiling { ceiling, lasting } = body(request, &state.limits).await?;
    let raise = Raise {
        ceiling: word("ceiling", &ceiling)?,
        lasting: span(&lasting).map_err(|wrong| Refusal::field("lasting", wrong))?,
    };
    one(execute(&state.service, caller, Operation::RaiseCeiling { id, raise }).await?)
}

/// Takes back that more may leave on account of a key, before its time.
#[utoipa::path(delete, path = "/v1/keys/{id}/ceiling", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")),
    responses((status = 200, description = "The key's record", body = Key), Problems))]
pub(super) async fn lower_ceiling(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
) -> Result<Json<Key>, Refusal> {
    one(execute(&state.service, caller, Operation::LowerCeiling { id }).await?)
}

/// Keeps a child of a stored key inside, as a key of its own: a city's key from the root's.
#[utoipa::path(post, path = "/v1/keys/disperse", tag = "keys", request_body = DisperseKey,
    responses((status = 201, description = "The key's record", body = Key), Problems))]
pub(super) async fn disperse(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<Key>), Refusal> {
    let DisperseKey { parent, factors } = body(request, &state.limits).await?;
    if factors.is_empty() {
        return Err(Refusal::field("factors", "is empty"));
    }
    let factors = factors.iter().map(|text| factor(text)).collect::<Result<_, _>>()?;
    let operation = Operation::DisperseKey { parent: key_ref(parent)?, factors };
    Ok((StatusCode::CREATED, one(execute(&state.service, caller, operation).await?)?))
}

/// A key's check value by a rule of the caller's: at most 3 bytes for a key above card level.
#[utoipa::path(post, path = "/v1/keys/{id}/kcv", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")), request_body = ComputeKcv,
    responses((status = 200, description = "The check value", body = KcvResult), Problems))]
pub(super) async fn compute_kcv(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<Json<KcvResult>, Refusal> {
    let ComputeKcv { function, input, take } = body(request, &state.limits).await?;
    let rule = KcvRule { function: word("function", &function)?, input: word("input", &input)?, take };
    match execute(&state.service, caller, Operation::ComputeKcv { id, rule }).await? {
        Outcome::Bytes(kcv) => Ok(Json(KcvResult { kcv: hex::encode_upper(kcv) })),
        _ => Err(Refusal::unexpected()),
    }
}

/// A stored key by its name.
pub(super) fn key_ref(key: KeyReference) -> Result<KeyRef, Refusal> {
    Ok(KeyRef {
        name: KeyName::new(&key.tenant, &key.scheme, &key.role).map_err(ServiceError::from)?,
        version: word("version", &key.version)?,
        algorithm: word("algorithm", &key.algorithm)?,
        factors: key.factors.iter().map(|text| factor(text)).collect::<Result<_, _>>()?,
    })
}

/// A word of a closed list.
pub(super) fn word<T: FromStr>(field: &str, text: &str) -> Result<T, Refusal>
where
    T::Err: ToString,
{
    text.parse().map_err(|error: T::Err| Refusal::field(field, error))
}

pub(super) fn key_request(key: NewKey) -> Result<KeyRequest, Refusal> {
    let time = |field: &str, text: Option<String>| text.map(|text| word(field, &text)).transpose();
    Ok(KeyRequest {
        name: KeyName::new(&key.tenant, &key.scheme, &key.role).map_err(ServiceError::from)?,
        version: word("version", &key.version)?,
        algorithm: word("algorithm", &key.algorithm)?,
        factors: key.factors.iter().map(|text| factor(text)).collect::<Result<_, _>>()?,
        ceiling: key.ceiling.map(|text| word("ceiling", &text)).transpose()?,
        validity: Validity {
            protect_from: time("protect_from", key.protect_from)?,
            protect_until: time("protect_until", key.protect_until)?,
            verify_until: time("verify_until", key.verify_until)?,
        },
        backends: key.backends,
        places: key.places.iter().map(|text| word("places", text)).collect::<Result<_, _>>()?,
        movable: key.movable,
        sensitive: key.sensitive,
    })
}

pub(super) fn one(outcome: Outcome) -> Result<Json<Key>, Refusal> {
    match outcome {
        Outcome::Key(entry) => Ok(Json(view(&entry))),
        _ => Err(Refusal::unexpected()),
    }
}

fn view(entry: &Entry) -> Key {
    let record = &entry.record;
    let (key, rule) = (&record.key, record.kcv.rule);
    Key {
        id: key.id.clone(),
        tenant: key.name.tenant().to_owned(),
        scheme: key.name.scheme().to_owned(),
        role: key.name.role().to_owned(),
        algorithm: key.attributes.algorithm.to_string(),
        version: key.version.to_string(),
        level: key.factors.len(),
        factors: key.factors.clone(),
        state: key.state.to_string(),
        kcv: record.kcv.value.clone(),
        kcv_rule: format!("{} of {}, {} bytes", rule.function, rule.input, rule.take),
        rank: key.attributes.rank.as_str().to_owned(),
        usage: key.attributes.usage.to_string(),
        mode: key.attributes.mode.to_string(),
        exportability: key.attributes.exportability.to_string(),
        ceiling: key.attributes.ceiling.to_string(),
        raised: record
            .raised
            .filter(|raised| raised.holds())
            .map(|raised| RaisedCeiling { ceiling: raised.ceiling.to_string(), until: over_at(raised).to_string() }),
        origin: record.origin.as_str().to_owned(),
        backends: entry.backends().map(str::to_owned).collect(),
        behind: entry.behind().into_iter().map(|replica| replica.backend.clone()).collect(),
        places: record.places.iter().map(|place| place.as_str().to_owned()).collect(),
        created: record.created.to_string(),
        protect_from: record.validity.protect_from.map(|time| time.to_string()),
        protect_until: record.validity.protect_until.map(|time| time.to_string()),
        verify_until: record.validity.verify_until.map(|time| time.to_string()),
    }
}
