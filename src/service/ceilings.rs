//! Ceilings that are raised for a time: by the word of others, and over by the clock.

use std::sync::Arc;

use claviger_hsm_api::{Exposure, KeyState, Raised};
use jiff::{SignedDuration, Timestamp};

use super::keys::key_event;
use super::{Caller, Service, ServiceError};
use crate::audit::Event;
use crate::keyring::Entry;
use crate::operation::Raise;
use crate::policy::Resource;

/// As long as a ceremony may last.
const LONGEST: SignedDuration = SignedDuration::from_hours(168);

/// Who takes a ceiling back that is over.
const CLOCK: &str = "the daemon's clock";

impl Raise {
    /// What may be asked for.
    ///
    /// # Errors
    /// [`ServiceError::Field`].
    pub(super) fn check(&self) -> Result<(), ServiceError> {
        if self.ceiling > Exposure::CardKey {
            return Err(ServiceError::field("ceiling", "may be raised to card-key at most: no master key ever leaves"));
        }
        let allowed = SignedDuration::from_secs(1)..=LONGEST;
        match allowed.contains(&self.lasting) {
            true => Ok(()),
            false => Err(ServiceError::field("lasting", "must be one second to 168 hours")),
        }
    }

    /// Whether the key has not as much anyway.
    ///
    /// # Errors
    /// [`ServiceError::Field`].
    pub(super) fn check_above(&self, entry: &Entry) -> Result<(), ServiceError> {
        let ceiling = entry.record.key.attributes.ceiling;
        if self.ceiling > ceiling {
            return Ok(());
        }
        Err(ServiceError::field("ceiling", format!("is not above {ceiling}, which the key has anyway")))
    }
}

impl Service {
    /// Lets more leave on account of a key for a time, or takes that back before its time.
    pub(super) async fn change_ceiling(
        self: &Arc<Self>,
        caller: &Caller,
        action: &'static str,
        id: &str,
        raise: Option<Raise>,
    ) -> Result<Arc<Entry>, ServiceError> {
        let router = self.router()?;
        let _alone = self.copying.lock().await;
        let entry = self.known(caller, id).await?;
        // What nobody could approve is said, and not denied.
        raise.as_ref().map_or(Ok(()), Raise::check)?;
        let permit = self.decide(caller, action, &[Resource::of(&entry)], 1).await?;
        let result = async {
            router.may_change_ceiling(&permit, id, if raise.is_some() { "raise-ceiling" } else { "lower-ceiling" })?;
            match raise {
                Some(raise) => self.raise(&entry, &raise).await,
                // A backend that does not answer follows later, and until then does not serve the key.
                None => Ok(self.put_ceiling(&entry, None).await?.0),
            }
        };
        let result = result.await;
        let stands = |entry: &Arc<Entry>| entry.record.ceiling_in_words();
        let statement = result.as_ref().map(stands).unwrap_or_default();
        self.settle(caller, &permit, Event { statement, ..key_event(&entry.record) }, result).await
    }

    async fn raise(&self, entry: &Arc<Entry>, raise: &Raise) -> Result<Arc<Entry>, ServiceError> {
        raise.check_above(entry)?;
        let state = entry.record.key.state;
        if matches!(state, KeyState::Compromised | KeyState::Destroyed) {
            return Err(ServiceError::field("key", format!("is {state}")));
        }
        let over = Timestamp::now() + raise.lasting;
        let until = u64::try_from(over.as_second()).map_err(|_| ServiceError::Internal)?;
        let (changed, failed) = self.put_ceiling(entry, Some(Raised { ceiling: raise.ceiling, until })).await?;
        match failed.into_iter().next() {
            None => Ok(changed),
            // Half of it is of no use to anybody who asked for it.
            Some(error) => {
                self.put_ceiling(&changed, None).await?;
                Err(error)
            }
        }
    }

    /// Takes back every ceiling whose time is over. It was over by itself; now devices let the key do less as well.
    pub(super) async fn lower_overdue(&self) {
        for entry in self.keyring.overdue() {
            let event = Event {
                event: "ceiling_over".to_owned(),
                principal: CLOCK.to_owned(),
                outcome: "lowered".to_owned(),
                ..key_event(&entry.record)
            };
            // What cannot be written down now is done when it can.
            let lowered = match self.audit.append(event).await {
                Ok(_) => self.put_ceiling(&entry, None).await.map(drop),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = lowered {
                tracing::error!(key = entry.record.label(), %error, "a ceiling whose time is over is taken back later");
            }
        }
    }

    /// The record is first, as with states; what backends had to say who did not follow.
    async fn put_ceiling(
        &self,
        entry: &Arc<Entry>,
        raised: Option<Raised>,
    ) -> Result<(Arc<Entry>, Vec<ServiceError>), ServiceError> {
        let router = self.router()?;
        let changed = match entry.record.raised == raised {
            true => Arc::clone(entry),
            false => self.keyring.set_raised(entry, raised).await?,
        };
        tokio::task::block_in_place(|| router.purge(entry.id(), changed.record_version()));
        let failed = self.follow(&router, &changed).await;
        Ok((self.keyring.find(entry.id()).unwrap_or(changed), failed))
    }
}
