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

#[test]
fn the_example_configuration_is_right_and_every_asset_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    claviger::config::Config::load(&root.join("packaging/claviger.toml")).unwrap();
    let manifest: toml::Table = std::fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    for asset in manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        // What is built comes from the build.
        if !source.starts_with("target/") {
            let folder = root.join(source.rsplit_once('/').map_or("", |(folder, _)| folder));
            let end = source.rsplit('*').next().unwrap();
            let found =
                std::fs::read_dir(folder).unwrap().any(|entry| entry.unwrap().path().to_str().unwrap().ends_with(end));
            assert!(found, "{source} is not there");
        }
    }
}

/// The policies that are installed pass the cases that are installed.
#[test]
fn installed_policies_are_whole() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = std::fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let installed = tempfile::tempdir().unwrap();
    for asset in manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap() {
        let [from, to] = [0, 1].map(|at| asset[at].as_str().unwrap());
        let Some(to) = to.strip_prefix("usr/share/claviger/policies/") else { continue };
        let (folder, names) = from.rsplit_once('/').unwrap();
        std::fs::create_dir_all(installed.path().join(to)).unwrap();
        for file in std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if name.ends_with(names.trim_start_matches('*')) {
                std::fs::copy(&file, installed.path().join(to).join(name)).unwrap();
            }
        }
    }
    let directory = installed.path().to_str().unwrap();
    for command in ["check", "test"] {
        let output = crate::daemon::cli(&["policy", command, directory]);
        assert!(output.status.success(), "{command}: {}", crate::daemon::words(&output));
    }
    // One set has no cases of its own, and says where they are; one that locks everybody out is as bad here as in a daemon.
    let output = crate::daemon::cli(&["policy", "test", installed.path().join("production").to_str().unwrap()]);
    assert!(crate::daemon::words(&output).contains("name the directory that has both"));
    let nobody = "@id(\"nobody\") @reason(\"nobody does anything\") forbid (principal, action, resource);";
    for (text, told) in [(nobody.to_owned(), "ever unseal"), (nobody.replace("\"nobody\"", "\"default\""), "`default`")]
    {
        let set = tempfile::tempdir().unwrap();
        std::fs::write(set.path().join("own.cedar"), text).unwrap();
        let output = crate::daemon::cli(&["policy", "check", set.path().to_str().unwrap()]);
        assert!(!output.status.success() && crate::daemon::words(&output).contains(told));
    }
}

#[test]
fn every_command_has_a_page_and_every_shell_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    let output = crate::daemon::cli(&["manual", "--out", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", crate::daemon::words(&output));
    for page in ["claviger.1", "claviger-keys-import.1", "claviger-audit-prove.1", "claviger-serve.1"] {
        let text = std::fs::read_to_string(folder.path().join("man").join(page)).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}");
    }
    let pages = std::fs::read_dir(folder.path().join("man")).unwrap().map(|page| page.unwrap().file_name());
    let pages: Vec<String> = pages.map(|page| page.into_string().unwrap()).collect();
    assert!(pages.iter().all(|page| !page.contains("-help")), "{pages:?}");
    assert_eq!(std::fs::read_dir(folder.path().join("completions")).unwrap().count(), 3);
    assert!(crate::daemon::words(&crate::daemon::cli(&["completions", "bash"])).contains("_claviger"));
}
