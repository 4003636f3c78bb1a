//! Which kernels the engine runs on: chosen once for the process.

use std::sync::OnceLock;

use claviger_bulk_mac::{BulkMac, Platform};

use crate::EngineError;

/// The environment variable that forces a platform by its name: `avx512`, `avx2` or `portable`.
pub const KERNELS: &str = "CLAVIGER_KERNELS";

/// The platform that the engine runs on: the best of this machine, or that of [`KERNELS`].
///
/// # Errors
/// [`EngineError::Kernels`] if the variable names none that this machine has.
pub fn platform() -> Result<Platform, EngineError> {
    Ok(chosen().clone()?.platform())
}

/// The kernels. Where none could be chosen nothing was started that would ask; the best serve then.
pub(crate) fn kernels() -> BulkMac {
    chosen().clone().unwrap_or_default()
}

/// The platforms of this machine, best first.
pub(crate) fn names() -> String {
    Platform::available().map(Platform::name).collect::<Vec<_>>().join(", ")
}

fn chosen() -> &'static Result<BulkMac, EngineError> {
    static CHOSEN: OnceLock<Result<BulkMac, EngineError>> = OnceLock::new();
    CHOSEN.get_or_init(|| match std::env::var(KERNELS) {
        Err(_) => Ok(BulkMac::new()),
        Ok(name) => {
            let found = Platform::available().find(|platform| platform.name() == name).and_then(BulkMac::on);
            found.ok_or(EngineError::Kernels(name))
        }
    })
}
