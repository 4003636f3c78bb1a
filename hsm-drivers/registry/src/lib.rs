//! The one list of drivers.
//!
//! A driver is its folder, one line here and one feature. Its configuration is a TOML table that only
//! the driver itself understands, so nothing here grows with it.

#![forbid(unsafe_code)]

use std::sync::Arc;

use claviger_hsm_api::{DriverError, HsmDriver, Secret};
use serde::de::DeserializeOwned;
use toml::de::ValueDeserializer;

/// How a backend is made from its table and, for a driver that keeps keys in the daemon, the storage
/// master key.
pub type Open = fn(toml::Table, Option<Secret>) -> Result<Arc<dyn HsmDriver>, DriverError>;

/// Checks a driver's own part of a table. Its errors know their place in the file.
pub type Check = fn(ValueDeserializer<'_>) -> Result<(), toml::de::Error>;

/// A driver that this build knows.
pub struct Driver {
    /// As `driver = "..."` names it.
    pub name: &'static str,
    /// Whether it needs the storage master key.
    pub keeps_keys_here: bool,
    /// Whether it runs a vendor's code, which then has a process of its own.
    pub foreign_code: bool,
    /// What to write in the configuration.
    pub example: &'static str,
    /// Says what is wrong with its settings.
    pub check: Check,
    /// Makes a backend.
    pub open: Open,
}

/// Every driver of this build.
pub const DRIVERS: &[Driver] = &[
    #[cfg(feature = "software")]
    Driver {
        name: "software",
        keeps_keys_here: true,
        foreign_code: false,
        example: claviger_driver_software::CONFIG_EXAMPLE,
        check: check::<claviger_driver_software::Config>,
        open: claviger_driver_software::open,
    },
    #[cfg(feature = "pkcs11")]
    Driver {
        name: "pkcs11",
        keeps_keys_here: false,
        foreign_code: true,
        example: claviger_driver_pkcs11::CONFIG_EXAMPLE,
        check: check::<claviger_driver_pkcs11::Config>,
        open: claviger_driver_pkcs11::open,
    },
];

fn check<Config: DeserializeOwned>(settings: ValueDeserializer<'_>) -> Result<(), toml::de::Error> {
    Config::deserialize(settings).map(drop)
}

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.name == name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_examples_name_their_driver() {
        for driver in super::DRIVERS {
            assert_eq!(super::DRIVERS.iter().filter(|other| other.name == driver.name).count(), 1);
            assert!(driver.example.contains(&format!("driver = \"{}\"", driver.name)));
        }
    }
}
