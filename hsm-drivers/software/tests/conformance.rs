//! The embedded backend passes the suite, and no case of it is dropped.

use std::path::Path;

use claviger_driver_software::SoftwareDriver;
use claviger_hsm_api::Secret;

#[test]
fn conforms() -> Result<(), Box<dyn std::error::Error>> {
    let driver = SoftwareDriver::new(Secret::copy_of(&[7; 32]))?;
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let tally = claviger_hsm_conformance::check(&driver, &vectors)
        .map_err(|failure| format!("{}: {}", failure.case, failure.reason))?;
    let expected = [
        ("iso9797-1-mac.json", 22),
        ("gbt15852-1-sm4-mac.json", 31),
        ("pboc-dispersion.json", 14),
        ("kcv.json", 14),
        ("sm4-modes.json", 9),
        ("sm2.json", 1),
    ];
    assert_eq!(tally, expected);
    Ok(())
}
