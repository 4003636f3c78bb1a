//! Tokens of software, made anew for a benchmark.

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const NSS: &str = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so";
pub(crate) const PIN: &str = "246810";

/// The folder of a SoftHSM2 token that this process may use; none once another process with the same arguments has done
/// all that there is to do: the module reads its configuration from the environment when it is loaded.
pub(crate) fn folder() -> Option<PathBuf> {
    if let Some(configuration) = std::env::var_os("SOFTHSM2_CONF") {
        return Some(Path::new(&configuration).parent().unwrap().to_owned());
    }
    let folder = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
    make_softhsm(folder.path());
    let status = Command::new(std::env::current_exe().unwrap())
        .args(std::env::args().skip(1))
        .env("SOFTHSM2_CONF", folder.path().join("softhsm2.conf"))
        .status()
        .unwrap();
    assert!(status.success());
    None
}

fn make_softhsm(folder: &Path) {
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

fn write_pin(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, PIN).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The configuration of the SoftHSM2 token in a folder.
pub(crate) fn softhsm(folder: &Path) -> String {
    table(SOFTHSM, "bench", folder)
}

/// Makes an NSS database in a folder; its configuration.
pub(crate) fn make_nss(folder: &Path) -> String {
    let nss = folder.join("nss");
    std::fs::create_dir(&nss).unwrap();
    write_pin(&nss.join("pin"));
    let made = Command::new("certutil")
        .args(["-N", "-d", &format!("sql:{}", nss.display()), "-f"])
        .arg(nss.join("pin"))
        .status()
        .unwrap();
    assert!(made.success());
    let table = table(NSS, "NSS Certificate DB", &nss);
    format!(
        "{table}init = \"configdir='sql:{}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=\"\n",
        nss.display()
    )
}

fn table(module: &str, label: &str, folder: &Path) -> String {
    format!(
        "module = \"{module}\"\ntoken = {{ label = \"{label}\" }}\npin = {{ file = \"{}/pin\" }}\n",
        folder.display()
    )
}
