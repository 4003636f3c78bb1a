//! What the documentation claims, each with a test that shows it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assurance {
    claim: Vec<Claim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    id: String,
    says: String,
    tests: Vec<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Names of the tests of a binary.
fn tests_of(binary: &Path) -> Vec<String> {
    let output = Command::new(binary).arg("--list").output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    words.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The newest test binary of that name beside this one: benchmarks of the same name list no tests.
fn binary(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let is_it = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_str().unwrap();
        path.extension().is_none()
            && file.rsplit_once('-').is_some_and(|(stem, _)| stem == name)
            && !tests_of(path).is_empty()
    };
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(this.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).filter(is_it).collect();
    found.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    found.pop().unwrap_or_else(|| panic!("there is no test binary {name}: run the tests of the whole workspace"))
}

#[test]
fn every_claim_has_a_test() {
    let text = std::fs::read_to_string(root().join("docs/assurance.toml")).unwrap();
    let Assurance { claim: claims } = toml::from_str(&text).unwrap();
    let ours = tests_of(&std::env::current_exe().unwrap());
    let mut ids = BTreeSet::new();
    for claim in &claims {
        assert!(ids.insert(claim.id.as_str()), "two claims are called {}", claim.id);
        assert!(!claim.says.is_empty() && !claim.tests.is_empty(), "{} says or shows nothing", claim.id);
        for filter in &claim.tests {
            // A single colon, which is none of a path's, stands behind the name of a binary.
            let (tests, filter) = match filter.split_once(':').filter(|(_, rest)| !rest.starts_with(':')) {
                Some((name, filter)) => (tests_of(&binary(name)), filter),
                None => (ours.clone(), filter.as_str()),
            };
            assert!(tests.iter().any(|test| test.contains(filter)), "{}: no test matches `{filter}`", claim.id);
        }
    }
    // The threat model leans on claims that there are.
    let model = std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    for line in model.lines().skip_while(|line| *line != "## Threats").filter(|line| line.starts_with("| ")) {
        let claims = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for claim in claims.split('`').skip(1).step_by(2).filter(|claim| *claim != "./test") {
            assert!(ids.contains(claim), "the threat model names {claim}, which nobody claims");
        }
    }
    // So does the mapping for assessors.
    let mapping = std::fs::read_to_string(root().join("docs/evidence-mapping.md")).unwrap();
    for line in mapping.lines().skip_while(|line| !line.starts_with("| subject")).filter(|line| line.starts_with("| "))
    {
        let claims = line.trim_end_matches('|').rsplit('|').next().unwrap();
        for claim in claims.split('`').skip(1).step_by(2) {
            assert!(ids.contains(claim), "the mapping names {claim}, which nobody claims");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assessor_gets_what_there_is_to_show_and_no_secret() {
    use crate::daemon::{Daemon, words};
    use crate::load::{CMAC, generic, into, mac};
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    mac(&daemon).await.unwrap();
    // A key of that name is there already: policy lets it be asked for, and nothing comes of it.
    let again = daemon.cli(
        "officer",
        &[
            "keys",
            "generate",
            "--tenant",
            "demo",
            "--scheme",
            "generic",
            "--role",
            "CMAC",
            "--version",
            "01",
            "--algorithm",
            "aes128",
        ],
    );
    assert!(!again.status.success(), "{}", words(&again));
    crate::audit::until_it_is_signed(&daemon.data().join("audit.jsonl"));
    let out = daemon.folder.path().join("evidence");
    let config = daemon.data().join("claviger.toml");
    let of = ["evidence", "--tenant", "demo", "--config", config.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let output = daemon.cli("auditor", &of);
    assert!(output.status.success(), "{}", words(&output));
    let read =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&std::fs::read(out.join(name)).unwrap()).unwrap() };
    let keys = read("keys.json");
    assert_eq!((&keys[0]["role"], &keys[0]["last_use"][1]), (&"CMAC".into(), &"generate_mac".into()));
    assert_eq!(keys[0].get("crypto_period"), Some(&serde_json::Value::Null), "that none was set is said");
    assert_eq!(read("approvals.json").as_array().unwrap().len(), 0);
    assert!(read("audit.json")["records"].as_u64().unwrap() > 3 && read("policies.json")["sha256"].is_string());
    assert_eq!(read("callers.json").as_array().unwrap().len(), 14);
    // The log that was shown can be checked without the daemon's.
    let shown = |name: &str| out.join(name).display().to_string();
    let checked = crate::daemon::cli(&["audit", "verify", &shown("audit.jsonl"), "--head", &shown("head.json")]);
    assert!(checked.status.success(), "{}", words(&checked));
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap().to_uppercase();
        assert!(!text.contains(CMAC), "{} holds a key", file.display());
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    assert_eq!(
        (&read("policies.json")["in_force"]["name"], &read("policies.json")["differ"]),
        (&"dev".into(), &false.into())
    );
    // A configuration that names others than the daemon was started with.
    let whole = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, whole.replace("policies = \"dev\"", "policies = \"production\"")).unwrap();
    let other = daemon.folder.path().join("other");
    let of = ["evidence", "--tenant", "demo", "--config", config.to_str().unwrap(), "--out", other.to_str().unwrap()];
    let told = words(&daemon.cli("auditor", &of));
    assert!(told.contains("the daemon enforces other policies than the configuration names"), "{told}");
    let policies: serde_json::Value =
        serde_json::from_slice(&std::fs::read(other.join("policies.json")).unwrap()).unwrap();
    assert_eq!((&policies["configured"], &policies["differ"]), (&"production".into(), &true.into()));
    assert_eq!(policies["in_force"], read("policies.json")["in_force"]);
    // A log that was changed is what an assessor hears of first.
    let log = daemon.data().join("audit.jsonl");
    std::fs::write(&log, std::fs::read_to_string(&log).unwrap().replacen("generate_mac", "verify_mac", 1)).unwrap();
    let again = daemon.folder.path().join("again");
    let of = ["evidence", "--tenant", "demo", "--config", config.to_str().unwrap(), "--out", again.to_str().unwrap()];
    assert!(words(&daemon.cli("auditor", &of)).contains("hear first"));
}
