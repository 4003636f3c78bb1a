//! A daemon that several custodians unseal, each with a share of their own.

use claviger_hsm_api::Secret;
use claviger_key_ceremonies::{Commitments, Share, ShareError};

use super::ceremonies::InCeremony;
use super::{Caller, Outcome, Service, ServiceError};
use crate::audit::Event;
use crate::policy::Resource;
use crate::seal::{self, Opener, SealError};

impl Service {
    /// Takes a custodian's share; the one that suffices unseals the daemon.
    pub(super) async fn bring_share(
        &self,
        caller: &Caller,
        action: &'static str,
        share: Secret,
    ) -> Result<Outcome, ServiceError> {
        // Those who bring the others agree: policies see it as a ceremony of so many.
        let threshold = self.shares_that_open().await.unwrap_or_default();
        let together = InCeremony { approvals: u64::from(threshold).saturating_sub(1) };
        let caller = &Caller { ceremony: Some(together), ..caller.clone() };
        let permit = self.decide(caller, action, &[Resource::Daemon], 1).await?;
        let brought = self.take_share(caller, share).await;
        let statement =
            brought.as_ref().map(|(found, wanted)| format!("{found} of {wanted} shares")).unwrap_or_default();
        let event = Event { statement, ..Event::default() };
        let (found, wanted) = self.settle(caller, &permit, event, brought).await?;
        Ok(Outcome::Shares { found, wanted })
    }

    /// How many shares open the seal, if it is one of shares.
    pub(super) async fn shares_that_open(&self) -> Option<u8> {
        let text = seal::text_of(&self.store).await.ok()?;
        seal::shares_of(&text).map(|commitments| commitments.threshold)
    }

    async fn take_share(&self, caller: &Caller, share: Secret) -> Result<(usize, u8), ServiceError> {
        if self.is_unsealed() {
            return Err(SealError::Open.into());
        }
        let commitments = seal::shares_of(&seal::text_of(&self.store).await?).ok_or(SealError::NoShares)?;
        let share = Share::from_bytes(share).map_err(SealError::from)?;
        let mut brought = self.shares.lock().await;
        admit(&brought, &caller.principal.to_string(), &share, &commitments)?;
        brought.push((caller.principal.to_string(), share));
        let found = brought.len();
        if found >= usize::from(commitments.threshold) {
            // Whatever comes of it, they are brought again for another time.
            let shares: Vec<Share> = brought.drain(..).map(|(_, share)| share).collect();
            let storage_key = seal::unseal(&self.store, Opener::Shares(&shares)).await?;
            self.unseal(storage_key, &caller.principal.to_string()).await?;
        }
        Ok((found, commitments.threshold))
    }
}

/// Whether a share is a good one, and not there yet, nor another of the same custodian's.
fn admit(brought: &[(String, Share)], by: &str, share: &Share, commitments: &Commitments) -> Result<(), ServiceError> {
    commitments.check(share).map_err(SealError::from)?;
    if brought.iter().any(|(_, known)| known.number() == share.number()) {
        return Err(SealError::from(ShareError::Twice(share.number())).into());
    }
    if brought.iter().any(|(known, _)| known == by) {
        return Err(ServiceError::field("share", "is the second of the same custodian: each brings one"));
    }
    Ok(())
}
