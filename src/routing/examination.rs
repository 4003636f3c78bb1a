//! A backend looked at from outside, without keys: what it was proved to do, and what leaves it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_hsm_api::{DriverError, Finding, HsmDriver, Identity, Proof, Secret};

use super::backends::{Backend, BackendConfig};
use super::catalogue::{Reachable, catalogue, reachable};
use super::worker::Launcher;
use crate::keyring::Place;

/// How long a backend has to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was found.
pub struct Examination {
    /// As configured.
    pub name: String,
    /// As configured.
    pub driver: String,
    /// As configured.
    pub place: Place,
    /// Or why it does not answer.
    pub report: Result<Report, String>,
}

/// Of a backend that answers.
pub struct Report {
    /// Who is there.
    pub identity: Identity,
    /// What was tried.
    pub proofs: Vec<Proof>,
    /// Each recipe of the catalogue, and the least that leaves.
    pub recipes: Vec<(String, Reachable)>,
    /// Deviations.
    pub findings: Vec<Finding>,
}

/// Opens a backend by its configuration and closes it again.
pub fn examine(config: &BackendConfig, launcher: &Arc<Launcher>) -> Examination {
    let mut examination = Examination {
        name: config.name.clone(),
        driver: config.driver.clone(),
        place: config.place,
        report: Err(String::new()),
    };
    // A driver that keeps keys here has none to open: any storage key will do.
    let storage_key = Secret::copy_of(&[1; 32]);
    examination.report = match Backend::open(config, Some(&storage_key), launcher) {
        Err(error) => Err(error.to_string()),
        Ok(backend) => report(&*backend.driver).map_err(|error| error.to_string()),
    };
    examination
}

fn report(driver: &dyn HsmDriver) -> Result<Report, DriverError> {
    let begun = Instant::now();
    let proofs = loop {
        match driver.probe() {
            Ok(proofs) => break proofs,
            // A worker is started in a moment; a token that is not there does not come by waiting long.
            Err(error) if error.driver == "worker" && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    };
    let recipes = catalogue()
        .into_iter()
        .map(|named| Ok((named.name, reachable(driver, &named.recipe)?)))
        .collect::<Result<_, DriverError>>()?;
    Ok(Report { identity: driver.identity(), proofs, recipes, findings: driver.findings()? })
}
