//! Vectors, the independent reference and the seven days on every set of kernels that this machine has.

use std::path::Path;
use std::process::Command;

use claviger_bulk_mac::Platform;

use crate::daemon::words;

/// Runs tests of this binary in a process of their own, since kernels are chosen once for a process.
fn run_on(platform: Platform, tests: &[&str]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(tests)
        .args(["--test-threads", "2"])
        .env("CLAVIGER_KERNELS", platform.name())
        .output()
        .unwrap();
    assert!(output.status.success(), "on {}: {}", platform.name(), words(&output));
    assert!(!words(&output).contains(" 0 passed"), "on {} nothing ran: {}", platform.name(), words(&output));
}

#[test]
fn vectors_and_reference_agree_on_every_platform() {
    Platform::available().for_each(|platform| run_on(platform, &["vectors::", "reference::"]));
}

#[test]
fn the_seven_days_are_right_on_every_platform() {
    Platform::available().for_each(|platform| run_on(platform, &["main_job::", "--skip", "a_citys_variant"]));
}

#[test]
fn kernels_that_there_are_not_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("dev"))
        .env("CLAVIGER_KERNELS", "sse2")
        .output()
        .unwrap();
    assert!(words(&output).contains("CLAVIGER_KERNELS is `sse2`"), "{}", words(&output));
    assert_eq!(output.status.code(), Some(2));
}

/// The circuits in the code are what the tool makes of the lists beside it.
#[test]
fn sbox_circuits_are_what_their_tool_writes() {
    let (own, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("bulk-mac"), tempfile::tempdir().unwrap());
    let (tools, written) = (folder.path().join("tools"), folder.path().join("src/des/sbox"));
    std::fs::create_dir_all(&tools).unwrap();
    std::fs::create_dir_all(&written).unwrap();
    for file in ["emit_sboxes.py", "sbox_circuits.txt", "sbox_circuits_ternary.txt"] {
        std::fs::copy(own.join("tools").join(file), tools.join(file)).unwrap();
    }
    assert!(Command::new("python3").arg(tools.join("emit_sboxes.py")).status().unwrap().success());
    for file in ["gates.rs", "ternary.rs"] {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read(&written), read(&own.join("src/des/sbox")), "{file}");
    }
}
