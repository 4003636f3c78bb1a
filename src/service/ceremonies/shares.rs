//! The steps of a ceremony that are about what opens the store.

use claviger_hsm_api::Secret;
use claviger_key_ceremonies::{
    Commitments, Event as Happened, SHARE_LEN, Share, Turn, Written, make_shares, write_component,
};
use subtle::ConstantTimeEq;

use super::Live;
use super::components::typed;
use super::steps::{Done, line};
use crate::audit::Event;
use crate::operation::StepInput;
use crate::policy::Resource;
use crate::seal;
use crate::service::{Caller, Service, ServiceError};

/// Shares that were made, and what they open.
pub(super) struct Made {
    key: Secret,
    shares: Vec<Share>,
    commitments: Commitments,
}

/// As the transcript calls what is public of shares: it tells later which seal was made of them.
const COMMITMENTS: &str = "commitments";

impl Service {
    /// Shows a custodian theirs; all are made when the first is shown.
    pub(super) fn show_share(&self, ceremony: &mut Live, turn: &Turn, threshold: u8) -> Result<Done, ServiceError> {
        let number = turn.person.unwrap_or_default();
        let mut lines = vec![line("share", &(number + 1).to_string())];
        if number == 0 {
            let count = ceremony.transcript.binding().people_of(&turn.role).count();
            let (key, shares, commitments) =
                make_shares(threshold, count as u8).map_err(|error| ServiceError::field("threshold", error))?;
            lines.push(line(COMMITMENTS, &commitments.points.join(" ")));
            ceremony.shares = Some(Made { key, shares, commitments });
        }
        let made = ceremony.shares.as_ref().and_then(|made| made.shares.get(number)).ok_or(ServiceError::Internal)?;
        Ok(Done { lines, component: Some((write_component(made.bytes()), None)) })
    }

    /// Whether a custodian has typed theirs back.
    pub(super) fn prove_share(&self, ceremony: &Live, turn: &Turn, input: &StepInput) -> Result<Done, ServiceError> {
        let number = turn.person.unwrap_or_default();
        let made = ceremony.shares.as_ref().and_then(|made| made.shares.get(number)).ok_or(ServiceError::Internal)?;
        let typed = typed(input, Written::Letters, SHARE_LEN, false)?;
        match bool::from(typed.expose().ct_eq(made.bytes().expose())) {
            true => Ok(Done::default()),
            false => Err(ServiceError::field("component", "is not the one that was shown")),
        }
    }

    /// Seals the store with the shares that everybody has typed back.
    pub(super) async fn seal_with_shares(
        &self,
        caller: &Caller,
        ceremony: &mut Live,
    ) -> Result<Vec<(String, String)>, ServiceError> {
        let permit = self.decide(caller, "seal_with_shares", &[Resource::Daemon], 1).await?;
        let made = ceremony.shares.as_ref().ok_or(ServiceError::Internal)?;
        let storage_key = self.storage_key.get().ok_or(ServiceError::Sealed)?;
        let sealed = seal::seal_with_shares(&self.store, storage_key, &made.key, &made.commitments).await;
        let said = said(&made.commitments);
        self.settle(
            caller,
            &permit,
            Event { statement: said.1.clone(), ..Event::default() },
            sealed.map_err(ServiceError::from),
        )
        .await?;
        ceremony.shares = None;
        Ok(vec![said])
    }

    /// Whether the store is sealed with the shares that the transcript speaks of.
    pub(super) async fn is_sealed_with(&self, ceremony: &Live) -> Option<Vec<(String, String)>> {
        let sealed = seal::shares_of(&seal::text_of(&self.store).await.ok()?)?;
        let shown = ceremony.transcript.entries().iter().rev().find_map(|entry| match &entry.event {
            Happened::Done { lines, .. } => lines.iter().find(|(name, _)| name == COMMITMENTS),
            _ => None,
        });
        (shown?.1 == sealed.points.join(" ")).then(|| vec![said(&sealed)])
    }
}

fn said(commitments: &Commitments) -> (String, String) {
    line("sealed with", &format!("{} of {} shares", commitments.threshold, commitments.count))
}
