//! Real daemons: the built binary in a process of its own, over real TLS.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use claviger_client::{Client, ClientError, Connection, Problem};
use tempfile::TempDir;
use zeroize::Zeroizing;

/// A development daemon in a temporary directory; ends with its value.
pub(crate) struct Daemon {
    process: Child,
    pub(crate) folder: TempDir,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = launch(&folder.path().join("dev"));
        Self { process, folder }
    }

    /// One that knows another tenant beside `demo`.
    pub(crate) fn with_tenant(tenant: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = launch_with(&folder.path().join("dev"), &["--tenant", tenant]);
        Self { process, folder }
    }

    /// One with these `[[backend]]` tables in place of the embedded backend.
    pub(crate) fn with_backends(backends: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backends.toml");
        std::fs::write(&file, backends).unwrap();
        let process = launch_with(&folder.path().join("dev"), &["--backends", file.to_str().unwrap()]);
        Self { process, folder }
    }

    /// The same, which knows the schemes of a directory as well.
    pub(crate) fn with_schemes(schemes: &Path, backends: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backends.toml");
        std::fs::write(&file, backends).unwrap();
        let options = ["--backends", file.to_str().unwrap(), "--schemes", schemes.to_str().unwrap()];
        let process = launch_with(&folder.path().join("dev"), &options);
        Self { process, folder }
    }

    /// One that writes everything down that it can.
    pub(crate) fn talkative() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("dev");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_claviger"))
            .args(["dev", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()])
            .env("RUST_LOG", "trace")
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        until_it_serves(&data);
        Self { process, folder }
    }

    /// What a talkative one has written.
    pub(crate) fn said(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("log")).unwrap()
    }

    /// Has the process end as a fault of its own would; how it ended.
    pub(crate) fn abort(&mut self) -> std::process::ExitStatus {
        self.end(rustix::process::Signal::ABORT)
    }

    /// Has it end as whoever runs it does.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        self.end(rustix::process::Signal::TERM)
    }

    fn end(&mut self, signal: rustix::process::Signal) -> std::process::ExitStatus {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).unwrap();
        self.process.wait().unwrap()
    }

    /// The daemon's process id.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Ends the process and serves the same data by another configuration.
    pub(crate) fn serve(mut self, configuration: &str) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let path = self.data().join("claviger.toml");
        let (address, path) = (free_address(), path.to_str().unwrap());
        std::fs::write(path, configuration.replacen("127.0.0.1:0", &address, 1)).unwrap();
        self.process = run_at(path, &address);
        std::fs::write(self.data().join("dev.json"), format!("{{\"url\":\"https://{address}\"}}")).unwrap();
        self
    }

    /// Ends the process and serves another machine's data, in a folder beside, to the same clients.
    pub(crate) fn serve_elsewhere(mut self, path: &str, configuration: &str) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let address = free_address();
        std::fs::write(path, configuration.replacen("127.0.0.1:0", &address, 1)).unwrap();
        self.process = run_at(path, &address);
        std::fs::write(self.data().join("dev.json"), format!("{{\"url\":\"https://{address}\"}}")).unwrap();
        self
    }

    /// Ends the process; its data stays.
    pub(crate) fn stop(mut self) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self
    }

    /// Ends the process at once, as a power cut would, and starts another on the same directory.
    pub(crate) fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let file = self.folder.path().join("backends.toml");
        let backends = if file.exists() { vec!["--backends", file.to_str().unwrap()] } else { Vec::new() };
        self.process = launch_with(&self.data(), &backends);
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("dev")
    }

    /// Runs the CLI against the daemon.
    pub(crate) fn cli(&self, name: &str, arguments: &[&str]) -> Output {
        let data = self.data();
        cli(&[&["--data", data.to_str().unwrap(), "--as", name], arguments].concat())
    }

    pub(crate) fn connection(&self, name: &str) -> Connection {
        connection(&self.data(), name)
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        Client::new(&self.connection(name)).unwrap()
    }

    /// A file in the daemon's temporary folder.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.path().join(name);
        let _ = std::fs::remove_file(&path);
        let mut options = std::fs::OpenOptions::new();
        // Some are secrets, which nobody else may read.
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn cli(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_claviger")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

pub(crate) fn connection(data: &Path, name: &str) -> Connection {
    let address: serde_json::Value = serde_json::from_slice(&std::fs::read(data.join("dev.json")).unwrap()).unwrap();
    Connection {
        url: address["url"].as_str().unwrap().to_owned(),
        ca: data.join("ca.pem"),
        certificate: data.join(format!("clients/{name}.pem")),
        key: data.join(format!("clients/{name}-key.pem")),
        passphrase: None,
        signer: None,
    }
}

/// The problem document of a call that must be refused.
pub(crate) fn problem<T>(result: Result<T, ClientError>) -> Problem {
    match result {
        Err(ClientError::Problem(problem)) => *problem,
        Err(other) => panic!("no problem document but {other}"),
        Ok(_) => panic!("it worked"),
    }
}

/// Two components of a key.
pub(crate) fn components(key: &str) -> Vec<Zeroizing<String>> {
    let first: Vec<u8> = hex::decode(key).unwrap().iter().map(|byte| byte ^ 0x5A).collect();
    [hex::encode(first), "5A".repeat(key.len() / 2)].map(Zeroizing::new).to_vec()
}

/// What a command wrote, for messages of failed tests.
pub(crate) fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Serves by a configuration, once somebody can be heard at its address.
fn run_at(path: &str, address: &str) -> Child {
    let process = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(["serve", "--config", path])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the daemon did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}

/// An address that nobody serves on just now.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn launch(data: &Path) -> Child {
    launch_with(data, &[])
}

fn launch_with(data: &Path, more: &[&str]) -> Child {
    let _ = std::fs::remove_file(data.join("dev.json"));
    let process = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until_it_serves(data);
    process
}

/// Waits for the address that a development daemon leaves.
pub(crate) fn until_it_serves(data: &Path) {
    let begun = Instant::now();
    while !data.join("dev.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the daemon did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}
