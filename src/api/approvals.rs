//! Operations that others must approve.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State as Shared};
use claviger_client::{Proposal as View, ProposalFilter, ProposalLine, ProposalList, ProposalVote, Vote as Said};
use claviger_key_ceremonies::{Signed, Vote};

use super::problem::Problems;
use super::{InPath, Refusal, State, body, execute};
use crate::operation::Operation;
use crate::service::{Caller, Outcome, Proposal};

/// The proposals of a tenant, or of the daemon itself; those made last first.
///
/// What policy permits only with approvals is proposed by being asked for: the refusal `approval_needed` names the proposal.
/// Once enough have approved it, the same request with the header `claviger-approval` is done, once.
#[utoipa::path(get, path = "/v1/approvals", tag = "approvals", params(ProposalFilter),
    responses((status = 200, description = "The proposals", body = ProposalList), Problems))]
pub(super) async fn list_proposals(
    Shared(state): Shared<State>,
    caller: Caller,
    filter: Result<Query<ProposalFilter>, QueryRejection>,
) -> Result<Json<ProposalList>, Refusal> {
    let Query(ProposalFilter { tenant }) = filter.map_err(Refusal::query)?;
    let tenant = match tenant {
        Some(tenant) if tenant.is_empty() => return Err(Refusal::field("tenant", "is empty")),
        tenant => tenant.unwrap_or_default(),
    };
    match execute(&state.service, caller, Operation::ListProposals { tenant }).await? {
        Outcome::Proposals(all) => Ok(Json(ProposalList { proposals: all.into_iter().map(view).collect() })),
        _ => Err(Refusal::unexpected()),
    }
}

/// One proposal, and what was said to it.
#[utoipa::path(get, path = "/v1/approvals/{id}", tag = "approvals",
    params(("id" = String, Path, description = "The proposal's id", example = "5f0c3a9d21e87b465f0c3a9d21e87b46")),
    responses((status = 200, description = "The proposal", body = View), Problems))]
pub(super) async fn show_proposal(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
) -> Result<Json<View>, Refusal> {
    one(execute(&state.service, caller, Operation::ShowProposal { id }).await?)
}

/// Brings an officer's signed word about a proposal. It may be another who brings it: the signature says whose it is.
#[utoipa::path(post, path = "/v1/approvals/{id}/votes", tag = "approvals", request_body = Said,
    params(("id" = String, Path, description = "The proposal's id", example = "5f0c3a9d21e87b465f0c3a9d21e87b46")),
    responses((status = 200, description = "The proposal as it is now", body = View), Problems))]
pub(super) async fn vote(
    Shared(state): Shared<State>,
    caller: Caller,
    InPath(id): InPath,
    request: Request,
) -> Result<Json<View>, Refusal> {
    let Said { vote, certificate, signature } = body(request, &state.limits).await?;
    let vote = [Vote::Approve, Vote::Refuse].into_iter().find(|known| known.as_str() == vote);
    let vote = vote.ok_or_else(|| Refusal::field("vote", "must be `approve` or `refuse`"))?;
    let signed = Signed { certificate, signature };
    one(execute(&state.service, caller, Operation::Vote { id, vote, signed }).await?)
}

fn one(outcome: Outcome) -> Result<Json<View>, Refusal> {
    match outcome {
        Outcome::Proposal(proposal) => Ok(Json(view(proposal))),
        _ => Err(Refusal::unexpected()),
    }
}

fn view(Proposal { statement, state, votes }: Proposal) -> View {
    View {
        id: statement.id,
        daemon: statement.daemon,
        proposer: statement.proposer,
        tenant: statement.tenant,
        action: statement.action,
        lines: statement.lines.into_iter().map(|(name, value)| ProposalLine { name, value }).collect(),
        approvals: statement.approvals,
        expires: statement.expires.to_string(),
        state: state.to_owned(),
        votes: votes
            .into_iter()
            .map(|(officer, vote)| ProposalVote { officer, vote: vote.as_str().to_owned() })
            .collect(),
    }
}
