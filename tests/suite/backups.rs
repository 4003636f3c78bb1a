//! Backups of a running daemon, restored on an empty machine.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use claviger_client::{
    Ceremony, ClientError, Key, KeyFilter, KeyList, OpenCeremony, ProposalFilter, ProposalList, SetKeyState,
    SetTerminal,
};
use serde_json::{Value, json};

use crate::approvals::approve;
use crate::daemon::{Daemon, cli, problem, words};
use crate::load::{CMAC, Load, generic, into, mac};
use crate::purse::{DLK, card_key};
use crate::reload::{configuration, reload};
use crate::token_keys::DTK;

fn back_up(daemon: &Daemon, name: &str) -> String {
    let path = daemon.folder.path().join(name);
    let made = daemon.cli("officer", &["backup", "--out", path.to_str().unwrap()]);
    assert!(made.status.success(), "{}", words(&made));
    path.to_str().unwrap().to_owned()
}

/// A machine that has nothing but the key file and the configuration.
fn machine(daemon: &Daemon, name: &str) -> (String, std::path::PathBuf) {
    let folder = daemon.folder.path().join(name);
    std::fs::create_dir_all(folder.join("keys")).unwrap();
    std::fs::copy(daemon.data().join("storage.key"), folder.join("keys/storage.key")).unwrap();
    let text = configuration(daemon)
        .replace("data = \".\"", "data = \"data\"")
        .replace("\"storage.key\"", "\"keys/storage.key\"")
        .replace("\"server", &format!("\"{}/server", daemon.data().display()))
        .replace("\"ca.pem", &format!("\"{}/ca.pem", daemon.data().display()));
    let path = folder.join("claviger.toml");
    std::fs::write(&path, text).unwrap();
    (path.to_str().unwrap().to_owned(), folder.join("data"))
}

fn restore(backup: &str, config: &str) -> Output {
    cli(&["restore", backup, "--config", config])
}

fn is_empty(data: &Path) -> bool {
    !data.exists() || std::fs::read_dir(data).unwrap().next().is_none()
}

async fn debit(daemon: &Daemon) -> Result<Value, ClientError> {
    let document: Value = daemon.client("auditor").get("/openapi.json", &()).await.unwrap();
    let example = &document["paths"]["/v1/psam/debit"]["post"]["requestBody"]["content"]["application/json"]["example"];
    daemon.client("terminals").post("/v1/psam/debit", example).await
}

/// A daemon at work is backed up, and another goes on from the backup where nothing can be done twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_daemon_at_work_is_restored_on_an_empty_machine() {
    let daemon = Daemon::start();
    let made = into(&daemon, &[], generic("CMAC"), CMAC).await;
    let debits = claviger_client::NewKey { role: "DPK".to_owned(), factors: Vec::new(), ..card_key() };
    into(&daemon, &[], debits, DTK).await;
    into(&daemon, &[], card_key(), DLK).await;
    debit(&daemon).await.unwrap();
    // A ceremony and a proposal that are open.
    let plan = "id = \"look\"\nversion = 1\ntitle = \"Look\"\npurpose = \"Look.\"\nhours = 8\n[[role]]\nname = \"witness\"\n\
        count = 1\n[[step]]\ndo = \"confirm\"\nby = \"witness\"\nsay = \"It is there.\"\n";
    use sha2::Digest;
    let binding = format!(
        "plan = \"{}\"\ntenant = \"demo\"\n[[person]]\nrole = \"witness\"\nname = \"claviger://officer/witness\"\n\
         certificate = \"{}\"\n",
        hex::encode(sha2::Sha256::digest(plan)),
        "00".repeat(32)
    );
    let officer = daemon.client("officer");
    let request = OpenCeremony { plan: plan.to_owned(), binding };
    let ceremony: Ceremony = officer.post("/v1/ceremonies", &request).await.unwrap();
    let production = configuration(&daemon).replace("policies = \"dev\"", "policies = \"production\"");
    assert!(reload(&daemon, &production).await.contains("done"));
    let destroy = SetKeyState { state: "destroyed".to_owned() };
    let path = format!("/v1/keys/{}/state", made.id);
    assert_eq!(problem(officer.post::<Key>(&path, &destroy).await).code, "approval_needed");

    let load = Load::start(&daemon, 4);
    let backup = back_up(&daemon, "first.backup");
    load.after("a backup", Duration::from_secs(6)).await;
    load.end().await;
    let bytes = std::fs::read(&backup).unwrap();
    for plain in [&b"demo/cjt166"[..], b"claviger://officer", b"CREATE TABLE"] {
        assert!(!bytes.windows(plain.len()).any(|window| window == plain), "the backup tells something");
    }
    let (config, data) = machine(&daemon, "second");
    let done = restore(&backup, &config);
    assert!(done.status.success(), "{}", words(&done));
    let verified = cli(&["audit", "verify", data.join("audit.jsonl").to_str().unwrap()]);
    assert!(verified.status.success(), "{}", words(&verified));
    let again = restore(&backup, &config);
    assert!(words(&again).contains("has a store already"), "{}", words(&again));

    // The first machine is lost.
    let text = std::fs::read_to_string(&config).unwrap();
    let second = daemon.serve_elsewhere(&config, &text);
    let auditor = second.client("auditor");
    let KeyList { keys } =
        auditor.get("/v1/keys", &KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() }).await.unwrap();
    assert!(keys.iter().any(|key| (&key.id, &key.kcv) == (&made.id, &made.kcv)), "{keys:?}");
    mac(&second).await.unwrap();
    let held = problem(debit(&second).await);
    assert_eq!(held.code, "terminal_held", "{held:?}");
    let officer = second.client("officer");
    // A number that is too high is never lowered: another officer sees it first.
    let set = |last| SetTerminal { tenant: "demo".to_owned(), terminal_id: "001122334455".to_owned(), last };
    // And one that is too low is nobody's to approve.
    let low = problem(officer.post::<Value>("/v1/terminals", &set(0)).await);
    assert_eq!((low.code.as_str(), low.field.as_deref()), ("bad_field", Some("last")));
    let needed = problem(officer.post::<Value>("/v1/terminals", &set(4711)).await);
    assert_eq!(needed.code, "approval_needed");
    approve(&second, needed.approval.as_ref().unwrap(), "officer-2").await.unwrap();
    let _: Value = second.client("officer").approved(needed.approval).post("/v1/terminals", &set(4711)).await.unwrap();
    assert_eq!(debit(&second).await.unwrap()["ttc"], json!("00001268"), "4712");
    let ProposalList { proposals } =
        auditor.get("/v1/approvals", &ProposalFilter { tenant: Some("demo".to_owned()) }).await.unwrap();
    // What had been asked for before, beside the one of now.
    let states: Vec<&str> = proposals.iter().map(|proposal| proposal.state.as_str()).collect();
    assert_eq!(states, ["used", "refused"]);
    let then: Ceremony = auditor.get(&format!("/v1/ceremonies/{}", ceremony.id), &()).await.unwrap();
    assert_eq!(then.state, "cancelled");
}

/// Whatever is changed in a backup, or cut off from it, is found before anything of it is used.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_backup_leaves_nothing() {
    let daemon = Daemon::start();
    for version in 0..200 {
        let version = format!("{version:02X}");
        into(&daemon, &[], claviger_client::NewKey { version, ..generic("CMAC") }, CMAC).await;
    }
    let backup = back_up(&daemon, "good.backup");
    let bytes = std::fs::read(&backup).unwrap();
    let header = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    assert!(bytes.len() > header + 3 * 65_552, "several pieces");
    let piece = |number: usize| header + number * 65_552;
    let mut others: Vec<Vec<u8>> = Vec::new();
    // A bit of the magic, the header, each piece, a tag, and the last byte.
    for at in [0, 20, header - 3, header, piece(1) + 7, piece(1) - 1, piece(2), bytes.len() - 1] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        others.push(other);
    }
    // Cut off: in a piece, between two, before the last, and all but the header. And longer than it was.
    for end in [bytes.len() - 1, piece(2), piece(1) + 100, header, header / 2, 0] {
        others.push(bytes[..end].to_vec());
    }
    others.push([&bytes[..], b"0"].concat());
    // Pieces that have changed places, and one that is there twice.
    others.push([&bytes[..header], &bytes[piece(1)..piece(2)], &bytes[header..piece(1)], &bytes[piece(2)..]].concat());
    others.push([&bytes[..piece(1)], &bytes[header..]].concat());
    let (config, data) = machine(&daemon, "other");
    for (number, other) in others.iter().enumerate() {
        let path = daemon.file("other.backup", other);
        let refused = restore(&path, &config);
        assert_eq!(refused.status.code(), Some(2), "{number}: {}", words(&refused));
        assert!(is_empty(&data), "{number} left something");
    }
    // Another machine's key opens nothing.
    let key = data.parent().unwrap().join("keys/storage.key");
    std::fs::write(&key, [7; 32]).unwrap();
    let refused = restore(&backup, &config);
    assert!(words(&refused).contains("not the key file or passphrase"), "{}", words(&refused));
    assert!(is_empty(&data));
    // Nobody but officers has one made.
    for name in ["clearing", "auditor", "card-management"] {
        let out = daemon.folder.path().join("theirs.backup");
        let refused = daemon.cli(name, &["backup", "--out", out.to_str().unwrap()]);
        assert!(words(&refused).contains("no policy permits") && !out.exists(), "{}", words(&refused));
    }
}
