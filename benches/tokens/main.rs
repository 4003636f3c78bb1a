//! What a token costs, and what of it is Claviger's: a day of 3DES TACs dispersed by SoftHSM2 in bulk, beside the same
//! token record by record and beside its own bulk rate; and one MAC verified over the API, by backend.
//!
//!     cargo bench --bench tokens
//!     cargo bench --bench tokens -- --rounds 21 --calls 5000 --json

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on ends")]

mod day;
mod latency;
#[expect(unsafe_code, reason = "the token without Claviger is asked by its C functions")]
mod raw;

use std::path::Path;
use std::process::Command;

pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const PIN: &str = "246810";

fn main() {
    let (mut rounds, mut calls, mut json) = (11, 3000, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().unwrap().parse().unwrap();
        match argument.as_str() {
            "--rounds" => rounds = number(),
            "--calls" => calls = number(),
            "--json" => json = true,
            "--bench" => {}
            other => panic!("`{other}` is not --rounds, --calls or --json"),
        }
    }
    // The module reads its configuration from the environment when it is loaded, so another process does.
    if std::env::var_os("SOFTHSM2_CONF").is_none() {
        let folder = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
        make_token(folder.path());
        let status = Command::new(std::env::current_exe().unwrap())
            .args(std::env::args().skip(1))
            .env("SOFTHSM2_CONF", folder.path().join("softhsm2.conf"))
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let folder = std::env::var("SOFTHSM2_CONF").unwrap();
    let folder = Path::new(&folder).parent().unwrap();
    latency::report(folder, calls, json);
    day::report(folder, rounds, json);
}

fn make_token(folder: &Path) {
    std::fs::create_dir(folder.join("tokens")).unwrap();
    let configuration = format!("directories.tokendir = {}\n", folder.join("tokens").display());
    std::fs::write(folder.join("softhsm2.conf"), configuration).unwrap();
    write_pin(&folder.join("pin"));
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "bench", "--pin", PIN, "--so-pin", "13579111"])
        .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))
        .output()
        .unwrap();
    assert!(made.status.success());
}

pub(crate) fn write_pin(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, PIN).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Median, and the quarters on both sides of it.
pub(crate) fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[values.len() / 4], values[values.len() / 2], values[values.len() * 3 / 4]]
}
