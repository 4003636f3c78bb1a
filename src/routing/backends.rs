//! Configured backends.

use std::sync::Arc;

use claviger_hsm_api::{DriverError, HsmDriver, Secret};
use serde::Deserialize;

use crate::keyring::Place;

/// One `[[backend]]` table. What else stands in it is the driver's business.
#[derive(Debug, Clone, Deserialize)]
pub struct BackendConfig {
    /// Unique; replicas are named by it, so it must not change.
    pub name: String,
    /// One of the registry.
    pub driver: String,
    /// Where it stands.
    #[serde(default = "on_prem")]
    pub place: Place,
    /// For the driver.
    #[serde(flatten)]
    pub settings: toml::Table,
}

fn on_prem() -> Place {
    Place::OnPrem
}

/// A backend that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// None configured.
    #[error("the configuration names no [[backend]]")]
    None,
    /// Not in this build.
    #[error("backend `{backend}`: this build has no driver `{driver}`")]
    NoDriver {
        /// The backend.
        backend: String,
        /// The driver.
        driver: String,
    },
    /// It does not answer.
    #[error("backend `{backend}`: {error}")]
    Driver {
        /// The backend.
        backend: String,
        /// Why.
        error: DriverError,
    },
    /// A known answer came out wrong.
    #[error("backend `{backend}` does not show its known answer for {capability}")]
    Unproved {
        /// The backend.
        backend: String,
        /// What it got wrong.
        capability: String,
    },
}

/// An open backend.
pub struct Backend {
    /// Its configured name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    pub(super) driver: Arc<dyn HsmDriver>,
}

impl Backend {
    pub(super) fn open(config: &BackendConfig, storage_key: &Secret) -> Result<Self, BackendError> {
        let backend = config.name.clone();
        let driver = claviger_hsm_registry::find(&config.driver)
            .ok_or_else(|| BackendError::NoDriver { backend: backend.clone(), driver: config.driver.clone() })?;
        let storage_key = driver.keeps_keys_here.then(|| Secret::copy_of(storage_key.expose()));
        let failed = |error| BackendError::Driver { backend: backend.clone(), error };
        let opened = (driver.open)(config.settings.clone(), storage_key).map_err(failed)?;
        let proofs = opened.probe().map_err(failed)?;
        if let Some(wrong) = proofs.into_iter().find(|proof| !proof.proved) {
            return Err(BackendError::Unproved { backend, capability: wrong.capability });
        }
        Ok(Self { name: backend, place: config.place, driver: opened })
    }
}
