//! What auditors ask: who may call, and who may do what.

use std::sync::Arc;

use jiff::Timestamp;

use super::approvals::{MOST_APPROVALS, others};
use super::asked::PROPOSED;
use super::job::JOB_ID;
use super::keys::key_event;
use super::{Caller, Rules, Service, ServiceError};
use crate::audit::{Blinding, Event};
use crate::policy::{self, Backing, Circumstances, Principal, Resource, Said};

/// What policy says of somebody who would do something with a key.
pub struct Standing {
    /// Of whom.
    pub principal: Arc<Principal>,
    /// Alone; if it takes others, what would permit it with them.
    pub said: Said,
    /// How many others must approve it; none if it is permitted without, or not at all.
    pub approvals: Option<u64>,
}

impl Service {
    pub(super) async fn list_principals(
        &self,
        caller: &Caller,
        action: &'static str,
    ) -> Result<Vec<Arc<Principal>>, ServiceError> {
        let permit = self.decide(caller, action, &[Resource::Daemon], 1).await?;
        self.settle(caller, &permit, Event::default(), Ok(self.rules().principals.clone())).await
    }

    /// Lets an auditor make proofs of a job's verdicts. Which jobs there were is in the log.
    pub(super) async fn prove_verdicts(
        &self,
        caller: &Caller,
        action: &'static str,
        job: String,
    ) -> Result<Blinding, ServiceError> {
        let permit = self.decide(caller, action, &[Resource::AuditLog], 1).await?;
        let result = match self.audit.blinding(&job) {
            _ if hex::decode(&job).map_or(true, |id| id.len() != JOB_ID) => Err(ServiceError::field(
                "job",
                "is not the id of a job: 16 hexadecimal digits, as the audit log has it",
            )),
            None => Err(ServiceError::Sealed),
            Some(blinding) => Ok(blinding),
        };
        self.settle(caller, &permit, Event { job, ..Event::default() }, result).await
    }

    /// What policy says of each principal that would do something with a key, one row at a time from where the caller is.
    pub(super) async fn who_can(
        &self,
        caller: &Caller,
        action: &'static str,
        what: &str,
        id: &str,
    ) -> Result<Vec<Standing>, ServiceError> {
        let rules = self.rules();
        let what = policy::action(what)
            .ok_or_else(|| ServiceError::field("action", "is not an action of policies/claviger.cedarschema"))?;
        if !rules.policy.is_done_to(what, "Key") {
            let reason = format!("is `{what}`, which is not done to keys: who can is asked of those that are");
            return Err(ServiceError::field("action", reason));
        }
        let entry = self.known(caller, id).await?;
        let key = Resource::of(&entry);
        let permit = self.decide(caller, action, std::slice::from_ref(&key), 1).await?;
        let circumstances =
            rules.surroundings.circumstances(caller.source, 1, Backing::default(), &key, Timestamp::now());
        let standing = |principal: &Arc<Principal>| rules.standing(principal, what, &key, &circumstances);
        let grants = rules.principals.iter().map(standing).collect();
        self.settle(caller, &permit, key_event(&entry.record), Ok(grants)).await
    }
}

impl Rules {
    /// Of one principal: alone, and if that is refused, with as few approvals as it takes.
    fn standing(
        &self,
        principal: &Arc<Principal>,
        what: &'static str,
        key: &Resource,
        circumstances: &Circumstances,
    ) -> Standing {
        let ask = |approvals| {
            let circumstances = Circumstances { approvals, ..circumstances.clone() };
            self.policy.say(principal, what, key, &circumstances)
        };
        let alone = ask(0);
        let more = if alone.allowed || !PROPOSED.contains(&what) { 0 } else { MOST_APPROVALS };
        let with = (1..=more).map(|approvals| (approvals, ask(approvals))).find(|(_, said)| said.allowed);
        let (said, approvals) = match with {
            None => (alone, None),
            Some((needed, said)) => {
                let reason = format!("{} must approve it first", others(needed));
                (Said { allowed: false, reason, ..said }, Some(needed))
            }
        };
        Standing { principal: Arc::clone(principal), said, approvals }
    }
}
