//! Clearing days on tokens: dispersed by them, finished in their workers, for keys that let card keys out.

use std::time::{Duration, Instant};

use claviger_client::{ClientError, ImportKey, Key, NewKey, RandomBytes, RandomRequest};

use crate::daemon::{Daemon, components, problem, words};
use crate::main_job::verify_day_on;
use crate::purse::card_key;
use crate::tokens::Token;

fn on(token: &Token, place: &str, days: &[&str]) {
    for day in days {
        let daemon = Daemon::with_backends(&token.backend("token", place, ""));
        verify_day_on(&daemon, day);
    }
}

#[test]
fn days_of_3des_pass_on_softhsm() {
    on(&Token::softhsm(), "on-prem", &["pboc-3des", "cjt166-3des", "jtt978-3des"]);
}

#[test]
fn days_of_3des_pass_on_nss() {
    on(&Token::nss(), "hosted", &["pboc-3des", "cjt166-3des", "jtt978-3des"]);
}

/// A hosted token: trying what it can do takes longer than any call may, and a day is a few calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_passes_on_a_token_five_milliseconds_away() {
    for milliseconds in [1, 5] {
        let (token, _server) = Token::far_away(Duration::from_millis(milliseconds));
        let daemon = Daemon::with_backends(&token.backend("token", "hosted", ""));
        let begun = Instant::now();
        let client = daemon.client("card-management");
        while let Err(error) = client.post::<RandomBytes>("/v1/random", &RandomRequest { len: 16 }).await {
            assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("{milliseconds} ms away: it serves after {:?}", begun.elapsed());
        verify_day_on(&daemon, "cjt166-city-held");
    }
}

fn key(algorithm: &str, ceiling: Option<&str>) -> NewKey {
    NewKey {
        role: "DTK".to_owned(),
        algorithm: algorithm.to_owned(),
        factors: Vec::new(),
        ceiling: ceiling.map(str::to_owned),
        ..card_key()
    }
}

async fn import(daemon: &Daemon, key: NewKey) -> Result<Key, ClientError> {
    let components = components("0123456789ABCDEFFEDCBA9876543210");
    let import = ImportKey { key, components, kcv: None, odd_parity: false };
    daemon.client("officer").post("/v1/keys/import", &import).await
}

/// A TAC of 3DES is made under folded halves, which no token folds: the card's key has to leave, and may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_key_is_refused_with_the_reason() {
    for token in [Token::softhsm(), Token::nss()] {
        let daemon = Daemon::with_backends(&token.backend("token", "on-prem", ""));
        import(&daemon, key("3des", Some("nothing"))).await.unwrap();
        let day = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/days/cjt166-3des-day.csv");
        let out = daemon.file("verdicts.csv", b"");
        std::fs::remove_file(&out).unwrap();
        let arguments = ["transactions", "verify", day, "--tenant", "demo", "--scheme", "cjt166", "--out", &out];
        let output = daemon.cli("clearing", &arguments);
        let told = words(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("card-key would leave") && told.contains("whose ceiling is nothing"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sm4_is_impossible_on_a_token_and_says_so() {
    for token in [Token::softhsm(), Token::nss()] {
        let daemon = Daemon::with_backends(&token.backend("token", "on-prem", ""));
        let refused = problem(import(&daemon, key("sm4", None)).await);
        assert_eq!(refused.code, "unsupported");
        assert!(refused.detail.contains("sm4"), "{}", refused.detail);
    }
}

#[test]
fn the_doctor_says_what_leaves() {
    let (softhsm, nss) = (Token::softhsm(), Token::nss());
    let file = softhsm.path("backends.toml");
    let tables = [softhsm.backend("room", "on-prem", ""), nss.backend("hosted", "hosted", "")].concat();
    std::fs::write(&file, tables).unwrap();
    let config = file.to_str().unwrap();
    let output = crate::daemon::cli(&["doctor", "--config", config, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let found: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), 2);
    for (backend, name, personalise) in [(&found[0], "room", "card-key"), (&found[1], "hosted", "nothing")] {
        assert_eq!((&backend["name"], &backend["driver"]), (&name.into(), &"pkcs11".into()));
        let exposure = |recipe: &str| backend["recipes"][recipe]["exposure"].as_str().unwrap();
        assert_eq!(exposure("verify_transactions.3des"), "card-key");
        assert_eq!(exposure("verify_transactions.sm4"), "impossible");
        assert_eq!(exposure("verify_purse.3des"), "nothing");
        assert_eq!(exposure("personalise_cards.3des"), personalise);
        assert!(backend["findings"].as_array().unwrap().iter().any(|finding| finding["id"] == "no-sm4"));
    }

    // Paths are beside the file, wherever whoever asks stands.
    let beside =
        softhsm.backend("room", "on-prem", "").replace(&format!("{}/pin", softhsm.directory.path().display()), "pin");
    std::fs::write(&file, beside).unwrap();
    let mut relative = std::process::Command::new(env!("CARGO_BIN_EXE_claviger"));
    relative.args(["doctor", "--config", "backends.toml"]).current_dir(softhsm.directory.path());
    assert_eq!(relative.output().unwrap().status.code(), Some(0));

    // One that does not answer is told apart, and the others are still reported.
    let missing = softhsm.backend("room", "on-prem", "").replace("城市卡", "another");
    std::fs::write(&file, missing + &nss.backend("hosted", "hosted", "")).unwrap();
    let output = crate::daemon::cli(&["doctor", "--config", config]);
    let told = words(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the token `another` is not there; the module shows `城市卡`"), "{told}");
    assert!(told.contains("hosted  pkcs11  Mozilla"), "{told}");
}

/// The table of the documentation is what the doctor says, so it is taken from it.
#[test]
fn the_table_of_the_documentation_is_the_doctor_s() {
    let (softhsm, nss, (remote, _server)) = (Token::softhsm(), Token::nss(), Token::remote());
    let file = softhsm.path("backends.toml");
    let tables = [
        "[[backend]]\nname = \"embedded\"\ndriver = \"software\"\n".to_owned(),
        softhsm.backend("SoftHSM2", "on-prem", ""),
        nss.backend("NSS", "hosted", ""),
        remote.backend("SoftHSM2 by p11-kit", "hosted", ""),
    ];
    std::fs::write(&file, tables.concat()).unwrap();
    let output = crate::daemon::cli(&["doctor", "--config", file.to_str().unwrap(), "--markdown"]);
    let table = String::from_utf8(output.stdout).unwrap();
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/backends.md")).unwrap();
    assert!(table.lines().count() > 50, "{table}");
    assert!(document.contains(table.trim()), "docs/backends.md does not hold this table:\n{table}");
}
