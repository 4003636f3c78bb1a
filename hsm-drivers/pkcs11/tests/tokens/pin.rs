//! A wrong PIN.

use std::os::unix::fs::PermissionsExt;

use claviger_driver_pkcs11::{PinSource, Pkcs11Driver};
use claviger_hsm_api::{Fault, HsmDriver};

use crate::parts::{self, run_in_child};

/// Tokens lock themselves after a few wrong PINs, and a daemon connects again and again.
#[test]
fn a_refused_pin_is_tried_once() {
    if run_in_child("pin::a_refused_pin_is_tried_once") {
        return;
    }
    let part = parts::softhsm("pin");
    let wrong = part.directory.path().join("wrong");
    parts::write_pin(&wrong, "000000");
    let mut config = part.config.clone();
    config.pin = PinSource::File(wrong.clone());
    let driver = Pkcs11Driver::new(config);
    let refused = driver.probe().unwrap_err();
    assert_eq!(refused.fault, Fault::Credentials);
    assert!(refused.reason.contains("CKR_PIN_INCORRECT") && refused.reason.contains("start anew"), "{refused}");
    // It would be right now, and is not tried all the same.
    parts::write_pin(&wrong, parts::PIN);
    assert_eq!(driver.probe().unwrap_err(), refused);
    assert!(part.driver().probe().is_ok(), "another driver logs in");
    std::fs::set_permissions(part.directory.path().join("pin"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let open = part.driver().probe().unwrap_err();
    assert!(open.reason.contains("chmod 600"), "{open}");
}
