//! Other rules for a service that runs: all of them or none, and what is in force stands in the log.

use std::sync::{Arc, PoisonError};

use super::{Rules, Service, ServiceError, blocking};
use crate::audit::Event;
use crate::routing::RoutingConfig;

/// Characters of a reason in the log.
const REASON: usize = 400;

/// A record that says which policies are in force from now on.
pub(super) fn in_force(rules: &Rules, event: &str, outcome: &str) -> Event {
    Event {
        event: event.to_owned(),
        outcome: outcome.to_owned(),
        in_force: Some(rules.policy.in_force().clone()),
        ..Event::default()
    }
}

impl Service {
    /// Writes down that a configuration was read that cannot be used, and why; the reason holds no secret.
    ///
    /// # Errors
    /// If the audit log does not take the record.
    pub async fn reload_refused(&self, reason: &str) -> Result<(), ServiceError> {
        self.read_again("wrong_configuration", reason).await
    }

    /// Takes other policies and another way of calls to backends: both or neither, and `let_in` with them. It is written
    /// down once it is in force.
    ///
    /// # Errors
    /// [`ServiceError`]; then everything stays as it was, unless it is the audit log that failed.
    pub async fn reload(
        &self,
        rules: Rules,
        routing: RoutingConfig,
        let_in: impl FnOnce(),
    ) -> Result<(), ServiceError> {
        let mut held = self.waiting.lock().await;
        let (rules, waiting, is_taken) = match self.reconcile(rules) {
            Ok(reconciled) => reconciled,
            Err(error) => {
                self.read_again(error.code(), &error.to_string()).await?;
                return Err(error);
            }
        };
        let router = self.router.get().cloned();
        let (again, wanted) = (routing.clone(), router.is_some());
        let reloaded = match router {
            Some(router) => blocking(move || Ok(router.reload(&again)?)).await,
            None => Ok(()),
        };
        let mut reason = String::new();
        if reloaded.is_ok() {
            if let (true, Some(storage_key)) = (is_taken, self.storage_key.get()) {
                self.keep_policies(&rules.policy, storage_key.expose()).await?;
            }
            if let Some(next) = &waiting {
                reason = format!("the policies `{}` wait for officers to agree to them", next.in_force().name);
                tracing::warn!("{reason}");
            }
            *held = waiting;
            *self.routing.lock().unwrap_or_else(PoisonError::into_inner) = routing;
            self.quotas.reload(rules.quotas.clone());
            *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
            let_in();
            // Streamed jobs ask again.
            self.keyring.touch();
        }
        // Once it is written down, it is in force.
        match &reloaded {
            Ok(()) => self.read_again("done", &reason).await?,
            Err(error) => self.read_again(error.code(), &error.to_string()).await?,
        }
        reloaded?;
        tracing::info!(unsealed = wanted, "the configuration was read again");
        Ok(())
    }

    /// Writes down what came of it. A refused reload leaves the policies in force that were, and the record says so.
    async fn read_again(&self, outcome: &str, reason: &str) -> Result<(), ServiceError> {
        let reason = reason.chars().take(REASON).collect();
        let event = Event { reason, ..in_force(&self.rules(), "reload", outcome) };
        self.audit.append(event).await?;
        Ok(())
    }
}
