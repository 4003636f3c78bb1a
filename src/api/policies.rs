//! `/v1/policies`.

use axum::Json;
use axum::extract::{Request, State as Shared};
use claviger_client::{ChangePolicies, Policies, PolicyChange, PolicySet};

use super::problem::Problems;
use super::{Refusal, State, body, execute};
use crate::audit::InForce;
use crate::operation::Operation;
use crate::policy::PolicyChange as Change;
use crate::service::{Caller, Outcome, PolicyStatus};

/// Which policies are in force, and which wait for others to agree to them.
#[utoipa::path(get, path = "/v1/policies", tag = "policy",
    responses((status = 200, description = "By name and digest", body = Policies), Problems))]
pub(super) async fn show_policies(Shared(state): Shared<State>, caller: Caller) -> Result<Json<Policies>, Refusal> {
    view(execute(&state.service, caller, Operation::ShowPolicies).await?)
}

/// Has the policies that wait take the place of those in force, if these permit it.
#[utoipa::path(post, path = "/v1/policies", tag = "policy", request_body = ChangePolicies,
    responses((status = 200, description = "What is in force then", body = Policies), Problems))]
pub(super) async fn change_policies(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<Policies>, Refusal> {
    let ChangePolicies { sha256 } = body(request, &state.limits).await?;
    view(execute(&state.service, caller, Operation::ChangePolicies { sha256 }).await?)
}

fn view(outcome: Outcome) -> Result<Json<Policies>, Refusal> {
    let Outcome::Policies(PolicyStatus { in_force, waiting }) = outcome else { return Err(Refusal::unexpected()) };
    let set = |InForce { name, sha256 }| PolicySet { name, sha256 };
    let (waiting, changes) = waiting.unzip();
    let change = |change: Change| PolicyChange {
        change: change.what().to_owned(),
        policy: change.policy,
        was: change.was,
        now: change.now,
    };
    Ok(Json(Policies {
        in_force: set(in_force),
        waiting: waiting.map(set),
        changes: changes.into_iter().flatten().map(change).collect(),
    }))
}
