//! Real tokens for daemons: SoftHSM2 and NSS softokn, made for a test and gone with it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub(crate) const PIN: &str = "246810";
pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const NSS: &str = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so";

/// A token in a directory of its own.
pub(crate) struct Token {
    pub(crate) directory: TempDir,
    module: &'static str,
    label: &'static str,
}

impl Token {
    pub(crate) fn softhsm() -> Self {
        let directory = directory();
        let tokens = directory.path().join("tokens");
        std::fs::create_dir(&tokens).unwrap();
        let configuration = format!("directories.tokendir = {}\n", tokens.display());
        std::fs::write(directory.path().join("softhsm2.conf"), configuration).unwrap();
        write_pin(&directory.path().join("pin"));
        let token = Self { directory, module: SOFTHSM, label: "城市卡" };
        token.util(&["--init-token", "--free", "--label", token.label, "--pin", PIN, "--so-pin", "13579111"]);
        token
    }

    pub(crate) fn nss() -> Self {
        let directory = directory();
        let pin = directory.path().join("pin");
        write_pin(&pin);
        let database = format!("sql:{}", directory.path().display());
        run(Command::new("certutil").args(["-N", "-d", &database, "-f"]).arg(&pin));
        Self { directory, module: NSS, label: "NSS Certificate DB" }
    }

    /// Runs SoftHSM2's tool on it.
    pub(crate) fn util(&self, arguments: &[&str]) {
        run(Command::new("softhsm2-util").args(arguments).env("SOFTHSM2_CONF", self.path("softhsm2.conf")));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its `[[backend]]` table, with more lines of settings.
    pub(crate) fn backend(&self, name: &str, place: &str, more: &str) -> String {
        let here = self.directory.path().display();
        let (module, label) = (self.module, self.label);
        let own = if module == NSS {
            format!(
                "init = \"configdir='sql:{here}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=\"\n\
                 env = {{ NSS_MAX_MP_PBE_ITERATION_COUNT = \"1\" }}\n"
            )
        } else {
            format!("env = {{ SOFTHSM2_CONF = \"{here}/softhsm2.conf\" }}\n")
        };
        format!(
            "[[backend]]\nname = \"{name}\"\ndriver = \"pkcs11\"\nplace = \"{place}\"\nmodule = \"{module}\"\n\
             token = {{ label = \"{label}\" }}\npin = {{ file = \"{here}/pin\" }}\n{own}{more}\n"
        )
    }
}

/// A PIN that only its owner reads.
fn write_pin(path: &Path) {
    std::fs::write(path, PIN).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// In memory where there is such a place: a token's database waits for the disk at each key.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{shown}: {error}; `./test --setup` installs it"));
    assert!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
}
