//! `/v1/schemes`.

use axum::Json;
use axum::extract::State as Shared;
use claviger_card_schemes::CardScheme;
use claviger_client::{Scheme, SchemeItem, SchemeLayout, SchemeRole, SchemeTransaction};

use super::problem::Problems;
use super::{InPath, Refusal, State, execute};
use crate::operation::Operation;
use crate::service::{Caller, Outcome};

/// A card scheme, as the daemon uses it.
#[utoipa::path(get, path = "/v1/schemes/{id}", operation_id = "show_scheme", tag = "schemes", params(("id" = String, Path, description = "The scheme's id", example = "cjt166")),
    responses((status = 200, description = "The scheme", body = Scheme), Problems))]
pub(super) async fn show(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
) -> Result<Json<Scheme>, Refusal> {
    match execute(&state.service, caller, Operation::ShowScheme { id }).await? {
        Outcome::Scheme(scheme) => Ok(Json(describe(&scheme))),
        _ => Err(Refusal::unexpected()),
    }
}

/// A scheme in the words of the wire.
pub fn describe(scheme: &CardScheme) -> Scheme {
    let item = |(name, title): (&str, &str)| SchemeItem { name: name.to_owned(), title: title.to_owned() };
    let role = |role: claviger_card_schemes::Role<'_>| SchemeRole {
        role: role.name().to_owned(),
        title: role.title().to_owned(),
        usage: role.usage().to_string(),
        mode: role.mode().to_string(),
        ceiling: role.ceiling().to_string(),
    };
    let transaction = |kind: claviger_card_schemes::Transaction<'_>| SchemeTransaction {
        name: kind.name().to_owned(),
        title: kind.title().to_owned(),
        types: kind.types().to_vec(),
    };
    let layout = |(name, title): (&str, &str)| SchemeLayout {
        name: name.to_owned(),
        title: title.to_owned(),
        record_bytes: scheme.layout_length(name).ok().flatten(),
    };
    Scheme {
        id: scheme.id().to_owned(),
        title: scheme.title().to_owned(),
        version: scheme.version().to_owned(),
        basis: scheme.basis().trim().to_owned(),
        levels: scheme.levels().map(str::to_owned).collect(),
        tac_role: scheme.tac_role().map(|role| role.name().to_owned()),
        roles: scheme.roles().map(role).collect(),
        transactions: scheme.transactions().map(transaction).collect(),
        commands: scheme.commands().map(item).collect(),
        key_sets: scheme.key_sets().map(item).collect(),
        layouts: scheme.layouts().map(layout).collect(),
        known_answers: scheme.known_answers().iter().map(|answer| answer.vector.clone()).collect(),
    }
}
