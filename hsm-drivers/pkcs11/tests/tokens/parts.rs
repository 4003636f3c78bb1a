//! Real tokens, made for a test and gone with it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use claviger_driver_pkcs11::{Config, PinSource, Pkcs11Driver, TokenName};

pub(crate) const PIN: &str = "246810";
pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// OpenSC's module that passes every call on and writes it down.
pub(crate) const SPY: &str = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so";

/// A token in a directory of its own.
pub(crate) struct Part {
    pub(crate) config: Config,
    pub(crate) directory: tempfile::TempDir,
}

impl Part {
    pub(crate) fn driver(&self) -> Pkcs11Driver {
        Pkcs11Driver::new(self.config.clone())
    }

    pub(crate) fn label(&self) -> &str {
        self.config.token.label.as_deref().unwrap()
    }

    /// The same token by way of the spy, and what the spy writes.
    pub(crate) fn spied(mut self) -> (Self, Spy) {
        self.config.module = PathBuf::from(SPY);
        (self, Spy(PathBuf::from(std::env::var_os("PKCS11SPY_OUTPUT").unwrap())))
    }
}

/// What a spied module was asked.
pub(crate) struct Spy(PathBuf);

impl Spy {
    /// All that was written so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.0).unwrap()).into_owned()
    }

    /// How often a function was called.
    pub(crate) fn count(&self, function: &str) -> usize {
        let call = format!(": {function}");
        self.text().lines().filter(|line| line.ends_with(&call)).count()
    }
}

/// Says in a test's parent process that its child has run it, and in the child that it has to: modules read their
/// environment once, and SoftHSM2's names its directory of tokens.
pub(crate) fn run_in_child(test: &str) -> bool {
    if std::env::var_os("CLAVIGER_TOKENS").is_some() {
        return false;
    }
    let directory = directory();
    let tokens = directory.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let configuration = directory.path().join("softhsm2.conf");
    std::fs::write(&configuration, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("CLAVIGER_TOKENS", &tokens)
        .env("SOFTHSM2_CONF", configuration)
        .env("PKCS11SPY", SOFTHSM)
        .env("PKCS11SPY_OUTPUT", directory.path().join("spy.log"))
        // NSS stretches the password of its database ten thousand times for each key otherwise.
        .env("NSS_MAX_MP_PBE_ITERATION_COUNT", "1")
        .status();
    assert!(status.unwrap().success(), "{test}, above");
    true
}

fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{shown}: {error}; `./test --setup` installs it"));
    assert!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
}

fn config(module: &Path, label: &str, directory: &Path, init: Option<String>) -> Config {
    let pin = directory.join("pin");
    write_pin(&pin, PIN);
    Config {
        module: module.to_owned(),
        token: TokenName { label: Some(label.to_owned()), serial: None },
        pin: PinSource::File(pin),
        sessions: 6,
        queue_ms: 2000,
        init,
        sm4: None,
    }
}

/// A PIN that only its owner reads.
pub(crate) fn write_pin(path: &Path, pin: &str) {
    std::fs::write(path, format!("{pin}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// In memory where there is such a place: a token's database waits for the disk at each key.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// SoftHSM2 reads one directory of tokens a process, so all tokens of a test binary share it.
pub(crate) fn softhsm(label: &str) -> Part {
    let directory = directory();
    run(Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", label])
        .args(["--pin", PIN, "--so-pin", "13579111"]));
    let config = config(Path::new(SOFTHSM), label, directory.path(), None);
    Part { config, directory }
}

/// NSS softokn: one database a process.
pub(crate) fn nss() -> Part {
    let directory = directory();
    let config = config(
        &PathBuf::from("/usr/lib/x86_64-linux-gnu/libsoftokn3.so"),
        "NSS Certificate DB",
        directory.path(),
        Some(format!(
            "configdir='sql:{}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=",
            directory.path().display()
        )),
    );
    let database = format!("sql:{}", directory.path().display());
    run(Command::new("certutil").args(["-N", "-d", &database, "-f"]).arg(directory.path().join("pin")));
    Part { config, directory }
}
