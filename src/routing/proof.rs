//! Idea four: a replica proves that it is the same key, beyond its KCV.

use claviger_hsm_api::{
    Batch, DispersionRule, DriverError, Finish, HsmDriver, Input, KcvRule, KeyAttributes, KeyHandle, KeyPath, KeyRank,
    Outcome, Parity, Recipe, Step,
};

/// A factor that no card has.
const FACTOR: [u8; 8] = *b"claviger";

/// The KCV of the child by a fixed factor at every level that the key lacks; keys that do not disperse have
/// no second proof, and their KCV must do.
///
/// # Errors
/// That of the driver.
pub fn prove(driver: &dyn HsmDriver, handle: &KeyHandle) -> Result<Option<String>, DriverError> {
    proof_by(&handle.attributes, |recipe, batch| driver.run(std::slice::from_ref(handle), recipe, batch))
}

/// The same of a key of these attributes, by whoever runs recipes on it.
pub(super) fn proof_by(
    attributes: &KeyAttributes,
    run: impl FnOnce(&Recipe, &Batch) -> Result<Outcome, DriverError>,
) -> Result<Option<String>, DriverError> {
    let KeyRank::Dispersion { steps_left } = attributes.rank else { return Ok(None) };
    let step = Step::Disperse {
        rule: DispersionRule::FactorAndComplement,
        parity: Parity::AsComputed,
        factor: Input::Constant(FACTOR.to_vec()),
    };
    let path =
        KeyPath { slot: 0, algorithm: attributes.algorithm, steps: vec![step; usize::from(steps_left)], steps_left: 0 };
    let recipe = Recipe::single(path, Finish::Kcv { rule: KcvRule::ZEROS });
    let outcome = run(&recipe, &Batch::one(Vec::new(), 1))?;
    Ok(outcome.bytes(0, 0).map(hex::encode_upper))
}
