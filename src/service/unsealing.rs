//! A sealed service becomes one that answers.

use std::sync::{Arc, PoisonError};

use claviger_hsm_api::Secret;
use tokio::runtime::Handle;

use super::{Caller, Service, ServiceError, blocking};
use crate::audit::{Attest, Event, Signer};
use crate::backup::BackupKey;
use crate::policy::Resource;
use crate::routing::Router;
use crate::seal::{self, Opener};

impl Service {
    /// Opens the backends with the storage master key.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn unseal(&self, storage_key: Secret, by: &str) -> Result<(), ServiceError> {
        let kept = Secret::copy_of(storage_key.expose());
        let backup_key = BackupKey::of(&storage_key).map_err(|_| ServiceError::Internal)?;
        let routing = self.routing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let launcher = Arc::clone(&self.launcher);
        let in_backend = self.signing.signed_by.as_deref();
        let derived = match in_backend {
            None => {
                let signer = Signer::of(kept.expose()).map_err(|_| ServiceError::Internal)?;
                Some(self.goes_on(signer, None, &kept).await?)
            }
            Some(_) => None,
        };
        // What is opened here answers nobody before it is set below.
        let open = move || Router::open(&routing, &storage_key, &launcher).map_err(ServiceError::from);
        let opened = match (blocking(open).await, derived) {
            (Ok(router), Some(signer)) => Ok((router, signer)),
            (Ok(router), None) => {
                let signer = self.signer_in(in_backend.unwrap_or_default(), &router, &kept).await;
                signer.map(|signer| (router, signer))
            }
            (Err(error), _) => Err(error),
        };
        let outcome = opened.as_ref().map_or_else(ServiceError::code, |_| "unsealed");
        self.audit
            .append(Event {
                event: "unseal".to_owned(),
                principal: by.to_owned(),
                outcome: outcome.to_owned(),
                ..Event::default()
            })
            .await?;
        let (router, signer) = opened?;
        self.audit.sign_with(signer);
        let _ = self.backup_key.set(Arc::new(backup_key));
        let _ = self.storage_key.set(kept);
        // A second unsealing finds the backends open and changes nothing.
        if self.router.set(router).is_ok() {
            self.tend().await;
        }
        Ok(())
    }

    /// The log's key that a backend keeps.
    async fn signer_in(
        &self,
        backend: &str,
        router: &Arc<Router>,
        storage_key: &Secret,
    ) -> Result<Signer, ServiceError> {
        let (asked, name, installation) = (Arc::clone(router), backend.to_owned(), self.installation.clone());
        let attest: Attest = Box::new(move |message| {
            let attested = asked.attest(&name, &installation, message).map_err(|error| error.to_string())?;
            Ok((attested.public_key, attested.signature))
        });
        let (kept, patience) = (Secret::copy_of(storage_key.expose()), self.signing.patience());
        let begin = move || Signer::kept(kept.expose(), attest, patience).map_err(ServiceError::AuditKey);
        let derived = Signer::of(storage_key.expose()).map_err(|_| ServiceError::Internal)?;
        self.goes_on(blocking(begin).await?, Some(derived), storage_key).await
    }

    /// That a log goes on with a key: whoever could write it anew could not sign it. One that was signed by the storage master key's
    /// may be handed over, and one whose key is gone if the configuration says which that was.
    async fn goes_on(
        &self,
        mut signer: Signer,
        derived: Option<Signer>,
        storage_key: &Secret,
    ) -> Result<Signer, ServiceError> {
        let before = self.audit.before();
        if let Some(last) = before.keys.last()
            && let Err(foreign) = before.is_signed_by(&signer.public_key())
        {
            let handed_over = derived.filter(|derived| derived.public_key() == *last);
            let is_gone = self.signing.after.as_deref().is_some_and(|after| after.eq_ignore_ascii_case(last));
            // Up to here it must be that key's all the same, with the end that stands beside it.
            before.is_signed_by(last).map_err(|_| ServiceError::AuditLog(foreign))?;
            if handed_over.is_none() && !is_gone {
                return Err(ServiceError::AuditKey(format!(
                    "it is signed by {last}, and the key of now is another: give it the backend or the storage key of before, or, if that \
                     key is known and gone, name it as `after` in [audit]"
                )));
            }
            signer.takes_over(last.clone(), handed_over);
        }
        self.settle_policies(storage_key.expose()).await?;
        Ok(signer)
    }

    /// Opens the seal at start, with what the configuration names; a failure is written down.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn unseal_at_start(&self, opener: Opener<'_>) -> Result<(), ServiceError> {
        let by = if matches!(opener, Opener::Credential(_)) { "systemd credential" } else { "key file" };
        match seal::unseal(&self.store, opener).await {
            Ok(storage_key) => self.unseal(storage_key, by).await,
            Err(error) => {
                let error = ServiceError::from(error);
                let event = Event {
                    event: "unseal".to_owned(),
                    principal: by.to_owned(),
                    outcome: error.code().to_owned(),
                    ..Event::default()
                };
                self.audit.append(event).await?;
                Err(error)
            }
        }
    }

    pub(super) async fn unseal_with(
        &self,
        caller: &Caller,
        action: &'static str,
        passphrase: &Secret,
    ) -> Result<(), ServiceError> {
        // What others have approved is used up by the right passphrase, not by one that was mistyped.
        let (permit, used) = match self.would_permit(caller, action, &Resource::Daemon) {
            Some(permit) => (permit, false),
            None => (self.decide(caller, action, &[Resource::Daemon], 1).await?, true),
        };
        let unsealing = async {
            // Argon2id takes its time.
            tokio::task::block_in_place(|| {
                Handle::current().block_on(seal::unseal(&self.store, Opener::Passphrase(passphrase)))
            })
        };
        let opened = unsealing.await.map_err(ServiceError::from);
        let result = match opened {
            Ok(storage_key) => {
                if !used {
                    self.use_approval(caller, &permit).await?;
                }
                self.unseal(storage_key, &caller.principal.to_string()).await
            }
            Err(error) => Err(error),
        };
        self.settle(caller, &permit, Event::default(), result).await
    }
}
