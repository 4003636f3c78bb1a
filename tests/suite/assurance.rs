//! What the documentation claims, each with a test that shows it.

use std::collections::BTreeSet;
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
}
