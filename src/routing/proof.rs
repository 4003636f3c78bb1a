//! Idea four: a replica proves that it is the same key, beyond its KCV.

use claviger_hsm_api::{
    Batch, DispersionRule, DriverError, Finish, HsmDriver, Input, KcvRule, KeyHandle, KeyPath, KeyRank, Parity, Recipe,
    Step,
};

/// A factor that no card has.
const FACTOR: [u8; 8] = *b"claviger";

/// The KCV of the child by a fixed factor at every level that the key lacks; keys that do not disperse have
/// no second proof, and their KCV must do.
///
/// # Errors
/// That of the driver.
pub fn prove(driver: &dyn HsmDriver, handle: &KeyHandle) -> Result<Option<String>, DriverError> {
    let KeyRank::Dispersion { steps_left } = handle.attributes.rank else { return Ok(None) };
    let step = Step::Disperse {
        rule: DispersionRule::FactorAndComplement,
        parity: Parity::AsComputed,
        factor: Input::Constant(FACTOR.to_vec()),
    };
    let path = KeyPath {
        slot: 0,
        algorithm: handle.attributes.algorithm,
        steps: vec![step; usize::from(steps_left)],
        steps_left: 0,
    };
    let recipe = Recipe::single(path, Finish::Kcv { rule: KcvRule::ZEROS });
    let outcome = driver.run(std::slice::from_ref(handle), &recipe, &Batch::one(Vec::new(), 1))?;
    Ok(outcome.bytes(0, 0).map(hex::encode_upper))
}
