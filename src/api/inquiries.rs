//! What auditors ask.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use claviger_client::{Caller as Known, CallerList, Grant, GrantList, JobBlinding, WhoCan};

use super::problem::Problems;
use super::{InPath, Refusal, State, execute};
use crate::operation::Operation;
use crate::policy::Principal;
use crate::service::{Caller, Outcome, Standing};

/// Who may call at all.
#[utoipa::path(get, path = "/v1/principals", tag = "policy",
    responses((status = 200, description = "Everybody whom the configuration knows", body = CallerList), Problems))]
pub(super) async fn principals(Shared(state): Shared<State>, caller: Caller) -> Result<Json<CallerList>, Refusal> {
    match execute(&state.service, caller, Operation::ListPrincipals).await? {
        Outcome::Principals(all) => {
            Ok(Json(CallerList { principals: all.iter().map(|principal| view(principal)).collect() }))
        }
        _ => Err(Refusal::unexpected()),
    }
}

/// What proofs of a job's verdicts are made with (`claviger audit prove`).
#[utoipa::path(get, path = "/v1/audit/jobs/{job}/blinding", tag = "policy", params(("job" = String, Path, description = "The job, as the audit log names it", example = "5f0c3a9d21e87b46")),
    responses((status = 200, description = "The job's blinding", body = JobBlinding), Problems))]
pub(super) async fn blinding(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(job): InPath,
) -> Result<Json<JobBlinding>, Refusal> {
    match execute(&state.service, caller, Operation::ProveVerdicts { job: job.clone() }).await? {
        Outcome::Blinding(blinding) => Ok(Json(JobBlinding { job, blinding: blinding.to_hex().to_string() })),
        _ => Err(Refusal::unexpected()),
    }
}

/// Who may do something with a key, by the policies in force.
///
/// Each is asked as if they came now, from where the caller is, with one row; and if that is refused, with one to nine approvals.
#[utoipa::path(get, path = "/v1/keys/{id}/who-can", tag = "policy", params(WhoCan, ("id" = String, Path, description = "The key's id", example = "e032f0e228e9077e2d7baac0902af7d9")),
    responses((status = 200, description = "What policy says of each who may call", body = GrantList), Problems))]
pub(super) async fn who_can(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    asked: Result<Query<WhoCan>, QueryRejection>,
) -> Result<Json<GrantList>, Refusal> {
    let Query(WhoCan { action }) = asked.map_err(Refusal::query)?;
    let Outcome::Grants(grants) = execute(&state.service, caller, Operation::WhoCan { what: action, id }).await? else {
        return Err(Refusal::unexpected());
    };
    let grant = |Standing { principal, said, approvals }: Standing| Grant {
        principal: view(&principal),
        allowed: said.allowed,
        approvals,
        policies: said.policies,
        reason: (!said.allowed).then_some(said.reason),
    };
    Ok(Json(GrantList { grants: grants.into_iter().map(grant).collect() }))
}

fn view(principal: &Principal) -> Known {
    Known {
        uri: principal.to_string(),
        roles: principal.roles().map(str::to_owned).collect(),
        tenants: principal.tenants().map(str::to_owned).collect(),
    }
}
