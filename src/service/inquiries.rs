//! What auditors ask: who may call, and who may do what.

use jiff::Timestamp;

use super::job::JOB_ID;
use super::keys::key_event;
use super::{Caller, Service, ServiceError};
use crate::audit::{Blinding, Event};
use crate::policy::{self, Backing, Principal, Resource, Said};

impl Service {
    pub(super) async fn list_principals(
        &self,
        caller: &Caller,
        action: &'static str,
    ) -> Result<Vec<Principal>, ServiceError> {
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
        let permit = self.decide(caller, action, &[Resource::Daemon], 1).await?;
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
    ) -> Result<Vec<(Principal, Said)>, ServiceError> {
        let what = policy::action(what).ok_or_else(|| ServiceError::field("action", "is not one of the schema"))?;
        let entry = self.known(caller, id).await?;
        let key = Resource::of(&entry);
        let permit = self.decide(caller, action, std::slice::from_ref(&key), 1).await?;
        let rules = self.rules();
        let circumstances =
            rules.surroundings.circumstances(caller.source, 1, Backing::default(), &key, Timestamp::now());
        let said =
            |principal: &Principal| (principal.clone(), rules.policy.say(principal, what, &key, circumstances.clone()));
        let grants = rules.principals.iter().map(said).collect();
        self.settle(caller, &permit, key_event(&entry.record), Ok(grants)).await
    }
}
