//! The suite that every driver passes: answers compared with published and independent vectors, alone and
//! in batches, and refusals of what keys do not admit.
//!
//! A driver calls [`check`] from a test of its own. The suite reaches the driver through the trait only.

#![forbid(unsafe_code)]

mod attest;
mod bench;
mod children;
mod key_life;
mod key_wrap;
mod legs;
mod macs;
mod malformed;
mod others;
mod refusals;
mod shapes;
mod sm2;
mod wycheproof;

use std::path::Path;

use claviger_hsm_api::HsmDriver;

use bench::Bench;

/// A check that a driver does not pass.
#[derive(Debug)]
pub struct Failure {
    /// The vector, or the name of the rule.
    pub case: String,
    /// What came instead.
    pub reason: String,
    /// Whether the driver said that it cannot do this at all.
    impossible: bool,
}

/// Cases of each vector file and of each Wycheproof set that were run through the driver; those that a driver
/// must refuse or that do not apply, since they ask for what it does not offer, have an entry of their own that says
/// why. The last entry counts what this driver says it cannot do.
pub type Tally = Vec<(&'static str, usize)>;

/// Runs a driver through the suite with the vectors of a folder.
///
/// # Errors
/// The first [`Failure`].
pub fn check(driver: &dyn HsmDriver, vectors: &Path) -> Result<Tally, Failure> {
    let bench = Bench::new(driver, vectors);
    let mut tally = vec![
        ("iso9797-1-mac.json", macs::iso9797(&bench)?),
        ("gbt15852-1-sm4-mac.json", macs::gbt15852(&bench)?),
        ("algorithm 7 as halves of algorithm 1", macs::halves(&bench)?),
        ("pboc-dispersion.json", others::dispersion(&bench)?),
        ("kcv.json", others::kcvs(&bench)?),
    ];
    tally.extend(others::sm4_modes(&bench)?);
    tally.extend(others::sm3_hmac(&bench)?);
    tally.extend(sm2::check(&bench)?);
    tally.push(("shapes of one leg, alone and mixed", shapes::check(&bench)?));
    tally.push(("shapes of several legs, alone and mixed", legs::check(&bench)?));
    tally.extend(wycheproof::check(&bench)?);
    tally.extend(key_wrap::check(&bench)?);
    let before = bench.refusals();
    refusals::check(&bench)?;
    malformed::check(&bench)?;
    key_life::check(&bench)?;
    children::check(&bench)?;
    attest::check(&bench)?;
    tally.push(("refusals", bench.refusals() - before));
    tally.push(("impossible on this backend", bench.impossible()));
    Ok(tally)
}
