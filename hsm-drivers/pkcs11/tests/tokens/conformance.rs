//! SoftHSM2 and NSS pass the suite; what they cannot do is counted, so that it can become neither more nor less
//! unnoticed.

use std::path::Path;

use claviger_hsm_conformance::Tally;

use crate::parts::{self, Part, in_child};

/// Cases of each entry: SoftHSM2, NSS.
const EXPECTED: &[(&str, usize, usize)] = &[("iso9797-1-mac.json", 19, 18)];

fn tally(part: &Part) -> Tally {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    claviger_hsm_conformance::check(&part.driver(), &vectors)
        .unwrap_or_else(|failure| panic!("{}: {}", failure.case, failure.reason))
}

#[test]
fn softhsm_conforms() {
    in_child("conformance::on_softhsm");
}

#[test]
fn nss_conforms() {
    in_child("conformance::on_nss");
}

#[test]
#[ignore = "run by softhsm_conforms, in a process of its own"]
fn on_softhsm() {
    let expected: Tally = EXPECTED.iter().map(|(entry, softhsm, _)| (*entry, *softhsm)).collect();
    assert_eq!(tally(&parts::softhsm("conformance")), expected);
}

#[test]
#[ignore = "run by nss_conforms, in a process of its own"]
fn on_nss() {
    let expected: Tally = EXPECTED.iter().map(|(entry, _, nss)| (*entry, *nss)).collect();
    assert_eq!(tally(&parts::nss()), expected);
}
