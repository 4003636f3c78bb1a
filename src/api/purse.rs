//! `/v1/purse`.

use axum::Json;
use axum::extract::{Request, State as Shared};
use claviger_card_schemes::Field;
use claviger_client::{PsamDebit, PsamResult, Purse, PurseResult};

use super::problem::Problems;
use super::{Refusal, State, body, execute, field_set};
use crate::operation::{Operation, PsamRequest, PurseRequest};
use crate::service::{Caller, Outcome};

/// Verifies a card's MAC and, only if it is right, makes the answer's.
#[utoipa::path(post, path = "/v1/purse", tag = "purse", request_body = Purse,
    responses((status = 200, description = "What came of it", body = PurseResult), Problems))]
pub(super) async fn purse(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<PurseResult>, Refusal> {
    let Purse { tenant, scheme, transaction, fields, verify, mac, make } = body(request, &state.limits).await?;
    let set = field_set(&fields)?;
    let mac = hex::decode(&mac).map_err(|_| Refusal::field("mac", "is not hexadecimal"))?;
    let request = PurseRequest { tenant, scheme, transaction, fields: set, verify, mac, make };
    match execute(&state.service, caller, Operation::Purse(request)).await? {
        Outcome::Purse { valid, made } => Ok(Json(PurseResult { valid, mac: made.map(hex::encode_upper) })),
        _ => Err(Refusal::unexpected()),
    }
}

/// Makes a purchase's MAC1 in place of a PSAM. The terminal's transaction number is on disk before.
#[utoipa::path(post, path = "/v1/psam/debit", tag = "purse", request_body = PsamDebit,
    responses((status = 200, description = "What the terminal sends", body = PsamResult), Problems))]
pub(super) async fn psam_debit(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<PsamResult>, Refusal> {
    let PsamDebit { tenant, scheme, transaction, fields } = body(request, &state.limits).await?;
    let fields = field_set(&fields)?;
    if fields.get(Field::Ttc).is_some() {
        return Err(Refusal::field("fields.ttc", "is the service's to give"));
    }
    let request = PsamRequest { tenant, scheme, transaction, fields };
    match execute(&state.service, caller, Operation::PsamDebit(request)).await? {
        Outcome::Psam { ttc, mac } => {
            Ok(Json(PsamResult { ttc: hex::encode_upper(ttc), mac1: hex::encode_upper(mac) }))
        }
        _ => Err(Refusal::unexpected()),
    }
}
