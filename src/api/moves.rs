//! `/v1/keys/{id}/move`.

use axum::Json;
use axum::extract::{Request, State as Shared};
use claviger_client::{KeyMove, MoveKey};

use super::problem::Problems;
use super::{InPath, Refusal, State, body, execute};
use crate::keyring::MoveStep;
use crate::operation::Operation;
use crate::service::{Caller, Moving, Outcome};

/// Takes a step of a key's move between two backends that hold it: `begin`, `cut-over`, `roll-back` or `finish`.
#[utoipa::path(post, path = "/v1/keys/{id}/move", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")), request_body = MoveKey,
    responses((status = 200, description = "How the move stands", body = KeyMove), Problems))]
pub(super) async fn move_key(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<Json<KeyMove>, Refusal> {
    let MoveKey { step, to } = body(request, &state.limits).await?;
    let step = match (step.as_str(), to) {
        ("begin", Some(to)) => MoveStep::Begin { to },
        ("begin", None) => return Err(Refusal::field("to", "is missing")),
        (_, Some(_)) => return Err(Refusal::field("to", "is for `begin` only")),
        ("cut-over", None) => MoveStep::CutOver,
        ("roll-back", None) => MoveStep::RollBack,
        ("finish", None) => MoveStep::Finish,
        _ => return Err(Refusal::field("step", "is not one of: begin cut-over roll-back finish")),
    };
    view(execute(&state.service, caller, Operation::MoveKey { id, step }).await?)
}

/// Which backend answers for a key, and what came of asking two if it is on its way.
#[utoipa::path(get, path = "/v1/keys/{id}/move", tag = "keys", params(("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")),
    responses((status = 200, description = "How the move stands", body = KeyMove), Problems))]
pub(super) async fn show_move(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
) -> Result<Json<KeyMove>, Refusal> {
    view(execute(&state.service, caller, Operation::ShowMove { id }).await?)
}

fn view(outcome: Outcome) -> Result<Json<KeyMove>, Refusal> {
    let Outcome::Moving(Moving { answers, moving, comparison }) = outcome else { return Err(Refusal::unexpected()) };
    let (from, to) = moving.map(|moving| (moving.from, moving.to)).unzip();
    Ok(Json(KeyMove {
        answers,
        from,
        to,
        compared: comparison.compared,
        diverged: comparison.diverged,
        failed: comparison.failed,
        skipped: comparison.skipped,
    }))
}
