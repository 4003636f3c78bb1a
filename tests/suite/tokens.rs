//! Real tokens for daemons: SoftHSM2 and NSS softokn, made for a test and gone with it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) const PIN: &str = "246810";
pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const NSS: &str = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so";

/// The client's side of `p11-kit server`.
const KIT: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so";

/// A server that ends with its value.
pub(crate) struct Server(Child);

impl Server {
    /// Sends a signal to the server and to the processes that serve its connections.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let children = children.split_whitespace().map(|child| child.parse().unwrap());
        for process in children.chain([id as i32]) {
            kill_process(Pid::from_raw(process).unwrap(), signal).unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Those that serve connections would outlive it, stopped or not.
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}

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

    /// A SoftHSM2 token, and `p11-kit server` that makes it a remote and poor one.
    pub(crate) fn remote() -> (Self, Server) {
        let token = Self::softhsm();
        let socket = token.path("socket");
        let process = Command::new("p11-kit")
            .args(["server", "--foreground", "--name"])
            .arg(&socket)
            .args(["--provider", SOFTHSM, "pkcs11:manufacturer=SoftHSM%20project"])
            .env("SOFTHSM2_CONF", token.path("softhsm2.conf"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < Duration::from_secs(10), "p11-kit server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        (Self { module: KIT, ..token }, Server(process))
    }

    /// The same so far away: a proxy before its socket holds up whatever is asked.
    pub(crate) fn far_away(delay: Duration) -> (Self, Server) {
        let (token, server) = Self::remote();
        let near = token.path("near");
        std::fs::rename(token.path("socket"), &near).unwrap();
        let listener = UnixListener::bind(token.path("socket")).unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, Ok(server)) = (client.unwrap(), UnixStream::connect(&near)) else { return };
                let (mut asked, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (mut to_server, mut to_client) = (server, client);
                std::thread::spawn(move || {
                    let mut question = vec![0; 1 << 16];
                    while let Ok(len @ 1..) = asked.read(&mut question) {
                        std::thread::sleep(delay);
                        if to_server.write_all(&question[..len]).is_err() {
                            return;
                        }
                    }
                    let _ = to_server.shutdown(std::net::Shutdown::Both);
                });
                std::thread::spawn(move || std::io::copy(&mut answers, &mut to_client));
            }
        });
        (token, server)
    }

    pub(crate) fn nss() -> Self {
        let directory = directory();
        let pin = directory.path().join("pin");
        write_pin(&pin);
        let database = format!("sql:{}", directory.path().display());
        run(Command::new("certutil").args(["-N", "-d", &database, "-f"]).arg(&pin));
        Self { directory, module: NSS, label: "NSS Certificate DB" }
    }

    /// Puts a private key and its certificate into a token of NSS.
    pub(crate) fn import(&self, key: &Path, certificate: &Path, label: &str) {
        let both = self.path("both.p12");
        run(Command::new("openssl")
            .args(["pkcs12", "-export", "-passout", "pass:both", "-name", label, "-inkey"])
            .args([key, Path::new("-in"), certificate, Path::new("-out"), &both]));
        let database = format!("sql:{}", self.directory.path().display());
        run(Command::new("pk12util").args(["-W", "both", "-d", &database, "-k"]).args([
            &self.path("pin"),
            Path::new("-i"),
            &both,
        ]));
        std::fs::remove_file(both).unwrap();
    }

    /// Runs SoftHSM2's tool on it.
    pub(crate) fn util(&self, arguments: &[&str]) {
        run(Command::new("softhsm2-util").args(arguments).env("SOFTHSM2_CONF", self.path("softhsm2.conf")));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lets another user have the token, its PIN and what tells where it is.
    pub(crate) fn open_to_all(&self) {
        run(Command::new("chown").args(["-R", "nobody"]).arg(self.directory.path()));
    }

    /// The files of SoftHSM2's objects.
    pub(crate) fn objects(&self) -> BTreeSet<PathBuf> {
        let of = |directory: PathBuf| std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let files = of(self.path("tokens")).flat_map(of);
        files
            .filter(|path| path.extension().is_some_and(|end| end == "object") && !path.ends_with("token.object"))
            .collect()
    }

    /// What NSS is initialised with.
    pub(crate) fn init(&self) -> String {
        format!(
            "configdir='sql:{}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=",
            self.directory.path().display()
        )
    }

    /// Its `[[backend]]` table, with more lines of settings.
    pub(crate) fn backend(&self, name: &str, place: &str, more: &str) -> String {
        let here = self.directory.path().display();
        let (module, label) = (self.module, self.label);
        let own = if module == NSS {
            format!("init = \"{}\"\nenv = {{ NSS_MAX_MP_PBE_ITERATION_COUNT = \"1\" }}\n", self.init())
        } else if module == KIT {
            format!("env = {{ P11_KIT_SERVER_ADDRESS = \"unix:path={here}/socket\" }}\n")
        } else {
            format!("env = {{ SOFTHSM2_CONF = \"{here}/softhsm2.conf\" }}\n")
        };
        format!(
            "[[backend]]\nname = \"{name}\"\ndriver = \"pkcs11\"\nplace = \"{place}\"\nmodule = \"{module}\"\n\
             token = {{ label = \"{label}\" }}\npin = {{ file = \"{here}/pin\" }}\n{own}{more}\n"
        )
    }
}

/// Gives an object of SoftHSM2 the value of another of the same token, as a token that was restored from the wrong backup
/// has it.
pub(crate) fn give_value(to: &Path, of: &Path) {
    let (mut changed, other) = (std::fs::read(to).unwrap(), std::fs::read(of).unwrap());
    let (there, here) = (attribute_at(&other, CKA_VALUE).unwrap(), attribute_at(&changed, CKA_VALUE).unwrap());
    changed.splice(here, other[there].iter().copied());
    std::fs::write(to, changed).unwrap();
}

/// Has an object of SoftHSM2 want the PIN for each signature, as smart cards have keys for signatures; false if it does not
/// say whether it wants that.
pub(crate) fn want_pin_each_time(object: &Path) -> bool {
    let mut changed = std::fs::read(object).unwrap();
    let Some(here) = attribute_at(&changed, CKA_ALWAYS_AUTHENTICATE) else { return false };
    changed[here.start] = 1;
    std::fs::write(object, changed).unwrap();
    true
}

const CKA_VALUE: u64 = 0x11;
const CKA_ALWAYS_AUTHENTICATE: u64 = 0x202;

/// Where an attribute's value is in a file of SoftHSM2, which is `generation`, then `type, kind, value` for each attribute,
/// all of eight bytes big-endian but for flags of one byte and the bytes of strings and sets.
fn attribute_at(file: &[u8], wanted: u64) -> Option<Range<usize>> {
    let number = |at: usize| u64::from_be_bytes(file[at..at + 8].try_into().unwrap());
    let mut at = 8;
    while at < file.len() {
        let (attribute, kind) = (number(at), number(at + 8));
        let len = match kind {
            1 => 1,
            2 => 8,
            3 => 8 + number(at + 16) as usize,
            _ => 8 + 8 * number(at + 16) as usize,
        };
        if attribute == wanted {
            return Some(at + 16..at + 16 + len);
        }
        at += 16 + len;
    }
    None
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
