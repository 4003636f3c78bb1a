//! This driver's part of the configuration.

use std::sync::Arc;

use claviger_hsm_api::{DriverError, HsmDriver, Secret};
use serde::Deserialize;

use crate::SoftwareDriver;
use crate::driver::NAME;

/// What stands in the configuration file.
pub const CONFIG_EXAMPLE: &str = r#"[[backend]]
name = "embedded"
driver = "software"
"#;

/// The driver's table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether it plays a device that holds whatever key is asked for: of nothing but chance, for rehearsals.
    #[serde(default)]
    pub plays_device: bool,
}

/// Makes the driver from its table and the storage master key of the unsealed daemon.
///
/// # Errors
/// If the table holds what it should not, or the daemon is sealed.
pub fn open(table: toml::Table, storage_key: Option<Secret>) -> Result<Arc<dyn HsmDriver>, DriverError> {
    let Config { plays_device } = table.try_into().map_err(|error| DriverError::caller(NAME, "configure", error))?;
    let storage_key = storage_key.ok_or_else(|| DriverError::backend(NAME, "configure", "the daemon is sealed"))?;
    Ok(Arc::new(SoftwareDriver::new(storage_key)?.playing_device(plays_device)))
}
