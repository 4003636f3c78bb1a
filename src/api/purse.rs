//! `/v1/purse`.

use axum::Json;
use axum::extract::{Request, State as Shared};
use claviger_card_schemes::{Field, FieldSet};
use claviger_client::{Problem, Purse, PurseResult};

use super::{Refusal, State, body, execute};
use crate::operation::{Operation, PurseRequest};
use crate::service::{Caller, Outcome};

/// Verifies a card's MAC and, only if it is right, makes the answer's.
#[utoipa::path(post, path = "/v1/purse", tag = "purse", request_body = Purse,
    responses((status = 200, body = PurseResult), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(super) async fn purse(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<PurseResult>, Refusal> {
    let Purse { tenant, scheme, transaction, fields, verify, mac, make } = body(request, &state.limits).await?;
    let mut set = FieldSet::default();
    for (name, text) in &fields {
        let at = format!("fields.{}", name.chars().take(40).collect::<String>());
        let field = Field::named(name).ok_or_else(|| Refusal::field(&at, "is not a field"))?;
        set.parse(field, text.as_bytes()).map_err(|error| Refusal::field(&at, format!("is not {}", error.expected)))?;
    }
    let mac = hex::decode(&mac).map_err(|_| Refusal::field("mac", "is not hexadecimal"))?;
    let request = PurseRequest { tenant, scheme, transaction, fields: set, verify, mac, make };
    match execute(&state.service, caller, Operation::Purse(request)).await? {
        Outcome::Purse { valid, made } => Ok(Json(PurseResult { valid, mac: made.map(hex::encode_upper) })),
        _ => Err(Refusal::new(500, "internal", "the service answered something else")),
    }
}
