//! The unit that systemd runs the daemon by.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use claviger::confinement::allowed_calls;

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/claviger.service")
}

fn analyze(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .arg("--no-pager")
        .output()
        .unwrap_or_else(|error| panic!("systemd-analyze: {error}; `./test --setup` installs it"));
    let words = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(words).unwrap())
}

/// A group's calls, and those of groups in it; a call is its own group.
fn expand(name: &str, into: &mut BTreeSet<String>) {
    if !name.starts_with('@') {
        into.insert(name.to_owned());
        return;
    }
    let (known, words) = analyze(&["syscall-filter", name]);
    assert!(known, "{words}");
    for line in words.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        expand(line, into);
    }
}

#[test]
fn its_exposure_is_small() {
    let (small, words) = analyze(&["security", "--offline=true", "--threshold=15", unit().to_str().unwrap()]);
    assert!(small, "{words}");
}

#[test]
fn it_leaves_the_daemon_the_calls_that_it_needs() {
    let text = std::fs::read_to_string(unit()).unwrap();
    let mut allowed = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (taken, names) = line.strip_prefix('~').map_or((false, line), |names| (true, names));
        let mut these = BTreeSet::new();
        names.split_whitespace().for_each(|name| expand(name, &mut these));
        if taken {
            allowed.retain(|call| !these.contains(call));
        } else {
            allowed.extend(these);
        }
    }
    // The launcher and its workers are started, the daemon confines itself, listens, and locks memory.
    let to_start = [
        "execve",
        "clone",
        "vfork",
        "wait4",
        "socket",
        "bind",
        "listen",
        "setsockopt",
        "mlock",
        "memfd_secret",
        "prlimit64",
        "capget",
        "capset",
        "prctl",
        "seccomp",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "umask",
        "setpgid",
        "dup2",
        "arch_prctl",
        "set_tid_address",
        "pidfd_open",
    ];
    let needed: BTreeSet<&str> = allowed_calls().into_iter().chain(to_start).collect();
    let missing: Vec<&&str> = needed.iter().filter(|call| !allowed.contains(**call)).collect();
    assert!(missing.is_empty(), "the unit takes {missing:?}");
    for call in
        ["ptrace", "mount", "bpf", "init_module", "kexec_load", "process_vm_readv", "keyctl", "setuid", "reboot"]
    {
        assert!(!allowed.contains(call), "the unit leaves {call}");
    }
}
