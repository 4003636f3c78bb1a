//! A sealed service becomes one that answers.

use std::sync::{Arc, PoisonError};

use claviger_hsm_api::Secret;
use tokio::runtime::Handle;

use super::{Caller, Service, ServiceError, blocking};
use crate::audit::{Event, Signer};
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
        let signer = Signer::of(storage_key.expose()).map_err(|_| ServiceError::Internal)?;
        let kept = Secret::copy_of(storage_key.expose());
        let backup_key = BackupKey::of(&storage_key).map_err(|_| ServiceError::Internal)?;
        let routing = self.routing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let launcher = Arc::clone(&self.launcher);
        // Whoever could write the log anew could not sign it.
        let before = self.audit.before();
        if before.checkpoints > 0 {
            before.is_signed_by(&signer.public_key()).map_err(ServiceError::AuditLog)?;
        }
        self.settle_policies(kept.expose()).await?;
        let open = move || Router::open(&routing, &storage_key, &launcher).map_err(ServiceError::from);
        let opened = blocking(open).await;
        let outcome = opened.as_ref().map_or_else(ServiceError::code, |_| "unsealed");
        self.audit
            .append(Event {
                event: "unseal".to_owned(),
                principal: by.to_owned(),
                outcome: outcome.to_owned(),
                ..Event::default()
            })
            .await?;
        self.audit.sign_with(signer);
        let _ = self.backup_key.set(Arc::new(backup_key));
        let _ = self.storage_key.set(kept);
        // A second unsealing finds the backends open and changes nothing.
        if self.router.set(opened?).is_ok() {
            self.tend().await;
        }
        Ok(())
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
        let permit = self.decide(caller, action, &[Resource::Daemon], 1).await?;
        let unsealing = async {
            // Argon2id takes its time.
            tokio::task::block_in_place(|| {
                Handle::current().block_on(seal::unseal(&self.store, Opener::Passphrase(passphrase)))
            })
        };
        let opened = unsealing.await.map_err(ServiceError::from);
        let result = match opened {
            Ok(storage_key) => self.unseal(storage_key, &caller.principal.to_string()).await,
            Err(error) => Err(error),
        };
        self.settle(caller, &permit, Event::default(), result).await
    }
}
