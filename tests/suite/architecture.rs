//! The architecture, held by a test: which crate may stand on which, where `unsafe` lives, and how long
//! a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// For each crate, those of ours that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("claviger-bulk-mac", &[]),
    ("claviger-locked-memory", &[]),
    ("claviger-hsm-api", &["claviger-locked-memory"]),
    (
        "claviger-hsm-engine",
        &["claviger-hsm-api", "claviger-bulk-mac", "claviger-key-blocks", "claviger-locked-memory"],
    ),
    ("claviger-driver-software", &["claviger-hsm-api", "claviger-hsm-engine"]),
    ("claviger-driver-pkcs11", &["claviger-hsm-api", "claviger-hsm-engine"]),
    ("claviger-hsm-registry", &["claviger-hsm-api", "claviger-driver-pkcs11", "claviger-driver-software"]),
    ("claviger-hsm-conformance", &["claviger-hsm-api"]),
    ("claviger-card-schemes", &["claviger-hsm-api", "claviger-hsm-engine"]),
    ("claviger-client", &[]),
    ("claviger-key-blocks", &[]),
    ("claviger-key-ceremonies", &["claviger-hsm-api"]),
    (
        "claviger",
        &[
            "claviger-card-schemes",
            "claviger-client",
            // For people's own keys in tokens; backends go by the registry.
            "claviger-driver-pkcs11",
            "claviger-hsm-api",
            "claviger-hsm-engine",
            "claviger-hsm-registry",
            "claviger-key-blocks",
            "claviger-key-ceremonies",
            "claviger-locked-memory",
        ],
    ),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &[
    "locked-memory",
    "bulk-mac/src/vector",
    "bulk-mac/src/bytewise",
    "bulk-mac/src/gfni",
    "bulk-mac/tests/wiped.rs",
    "hsm-drivers/conformance",
    "hsm-drivers/pkcs11/src/library.rs",
    "hsm-drivers/pkcs11/tests/tokens/raw.rs",
    "benches",
];

/// The modules of `src/` in layer order; each may use those before it.
const LAYERS: &[&str] = &[
    "permissions",
    "store",
    "seal",
    "audit",
    "backup",
    "policy",
    "keyring",
    "routing",
    "operation",
    "service",
    "config",
    "confinement",
    "api",
    "server",
    "daemon",
    "cli",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
        if entry.is_dir() && !matches!(name.as_str(), "target" | ".git" | ".venv" | "corpus" | "artifacts") {
            rust_files(&entry, found);
        } else if name.ends_with(".rs") {
            found.push(entry);
        }
    }
}

fn all_rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    rust_files(&root(), &mut found);
    assert!(found.len() > 50, "the project was not found");
    found
}

#[test]
fn crates_stand_only_on_those_below_them() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .unwrap();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, below)| (*name, below.iter().copied().collect())).collect();
    for package in &metadata.packages {
        let may = allowed
            .get(package.name.as_str())
            .unwrap_or_else(|| panic!("{} is not in the list of crates", package.name));
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal && dependency.name.starts_with("claviger"))
        {
            assert!(may.contains(dependency.name.as_str()), "{} must not depend on {}", package.name, dependency.name);
        }
    }
    assert_eq!(metadata.packages.len(), ALLOWED.len());
}

#[test]
fn modules_of_the_daemon_use_only_those_before_them() {
    let mut found = Vec::new();
    rust_files(&root().join("src"), &mut found);
    for file in found {
        let path = file.strip_prefix(root().join("src")).unwrap();
        let module = path.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let Some(own) = LAYERS.iter().position(|layer| *layer == module) else { continue };
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            for used in line
                .match_indices("crate::")
                .filter_map(|(at, _)| line[at + 7..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next())
            {
                let Some(layer) = LAYERS.iter().position(|layer| *layer == used) else { continue };
                assert!(layer <= own, "{}:{} uses `{used}`, which stands above `{module}`", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn only_routing_reaches_the_registry() {
    let mut found = Vec::new();
    rust_files(&root().join("src"), &mut found);
    for file in found {
        let text = std::fs::read_to_string(&file).unwrap();
        let reaches = text.contains("claviger_hsm_registry");
        assert!(!reaches || file.starts_with(root().join("src/routing")), "{} reaches the registry", file.display());
    }
}

#[test]
fn unsafe_stays_at_home_and_says_why() {
    for file in all_rust_files() {
        let path = file.strip_prefix(root()).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let word = concat!("un", "safe");
        let has_block = text.lines().any(|line| {
            !line.trim_start().starts_with("//")
                && (line.contains(&format!("{word} {{"))
                    || line.contains(&format!("{word} fn"))
                    || line.contains(&format!("{word} impl")))
        });
        let at_home = UNSAFE.iter().any(|home| path.starts_with(home));
        assert!(!has_block || at_home, "{} is no home of {word}", path.display());
    }
}

#[test]
fn files_stay_readable() {
    for file in all_rust_files() {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines", file.display());
    }
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("#[ig", "nore")];
    for file in all_rust_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        for word in words {
            assert!(!text.contains(word), "{} holds {word}", file.display());
        }
    }
}

/// What the build takes from others comes from the one registry, whole as the lock file has it; `cargo deny` judges the rest.
#[test]
fn every_dependency_is_locked_by_its_digest() {
    let lock: toml::Table = std::fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let others: Vec<_> = packages.iter().filter(|package| package.get("source").is_some()).collect();
    assert!(others.len() > 100 && packages.len() - others.len() < 20, "{} of others", others.len());
    for package in others {
        let of = |name: &str| package.get(name).and_then(toml::Value::as_str).unwrap_or_default();
        let digest = of("checksum");
        assert!(of("source").starts_with("registry+"), "{} is from {}", of("name"), of("source"));
        assert!(digest.len() == 64 && digest.bytes().all(|c| c.is_ascii_hexdigit()), "{}", of("name"));
    }
    let judge: toml::Table = std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let refused = ["unknown-registry", "unknown-git"].map(|what| judge["sources"][what].as_str());
    assert_eq!(refused, [Some("deny"); 2]);
}
