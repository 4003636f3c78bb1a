//! The file through the command and a daemon of its own, over mutual TLS.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::files;

pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// Peak memory, in KiB.
    pub(crate) cli: u64,
    pub(crate) daemon: u64,
}

/// Verifies the file with a daemon of its own.
pub(crate) fn measure(folder: &Path, file: &Path, format: &str) -> Run {
    let data = folder.join("dev");
    let _ = std::fs::remove_dir_all(&data);
    let mut daemon = claviger(&["dev", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]).spawn().unwrap();
    let begun = Instant::now();
    while !data.join("dev.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the daemon did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    import_key(&data);
    let out = folder.join("verdicts.csv");
    let mut verify = as_name(&data, "clearing");
    verify.args(["transactions", "verify", file.to_str().unwrap(), "--tenant", "demo", "--scheme", "cjt166", "--json"]);
    verify.args(["--out", out.to_str().unwrap()]);
    if let Some(layout) = files::layout(format) {
        verify.args(["--format", layout]);
    }
    let mut cli = verify.stdout(Stdio::piped()).spawn().unwrap();
    let peak = watch(&mut cli);
    let output = cli.wait_with_output().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).expect("the verification ended well");
    assert_eq!(summary["counts"]["valid"], summary["records"], "every record is valid");
    let daemon_peak = peak_of(daemon.id());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    Run { seconds: summary["seconds"].as_f64().unwrap(), cli: peak, daemon: daemon_peak }
}

fn claviger(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn as_name(data: &Path, name: &str) -> Command {
    claviger(&["--data", data.to_str().unwrap(), "--as", name])
}

fn import_key(data: &Path) {
    let (version, algorithm, components) = files::key();
    let mut import = as_name(data, "officer");
    import.args(["keys", "import", "--tenant", "demo", "--scheme", "cjt166", "--role", "DTK"]);
    import.args(["--version", &version, "--algorithm", &algorithm]);
    for (number, component) in components.iter().enumerate() {
        let file: PathBuf = data.join(format!("component-{number}"));
        std::fs::write(&file, component).unwrap();
        import.args(["--component-file", file.to_str().unwrap()]);
    }
    assert!(import.status().unwrap().success(), "the key was not imported");
}

/// The most memory that a process had while it ran.
fn watch(process: &mut Child) -> u64 {
    let mut peak = 0;
    while process.try_wait().unwrap().is_none() {
        peak = peak.max(peak_of(process.id()));
        std::thread::sleep(Duration::from_millis(5));
    }
    peak
}

/// `VmHWM`, in KiB.
fn peak_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
