//! A ceremony on a machine without a network, and its bundle taken in by another daemon.

use claviger_client::{KeyFilter, KeyList, NewKey};
use claviger_key_ceremonies::{Bundle, BundleError, Transcript};
use sha2::{Digest, Sha256};

use super::attacks::order;
use super::{Player, Room, now};
use crate::daemon::{Daemon, cli, words};
use crate::load::{generic, into};
use crate::reload::{configuration, reload};

fn approve(daemon: &Daemon, proposal: &str) {
    for officer in ["officer-2", "officer-3"] {
        let said = words(&daemon.cli(officer, &["approvals", "approve", "--yes", proposal]));
        assert!(said.contains("of 2 have approved it"), "{said}");
    }
}

fn after<'t>(text: &'t str, mark: &str) -> &'t str {
    &text.split(mark).nth(1).unwrap_or_else(|| panic!("no `{mark}` in {text}"))[..32]
}

#[test]
fn a_root_is_made_without_a_network_and_taken_in_by_quorum() {
    let vault = Daemon::start();
    let production = configuration(&vault).replace("policies = \"dev\"", "policies = \"production\"");
    let vault = vault.serve(&production).stop();
    let (data, folder) = (vault.data(), vault.folder.path().to_owned());
    let binding = order(&data, "offline-root", &[], &[]).request().binding;
    let binding = vault.file("binding.toml", binding.as_bytes());
    let (config, out) = (data.join("claviger.toml"), folder.join("transcript.jsonl"));
    let (config, out) = (config.to_str().unwrap(), out.to_str().unwrap());
    let run = ["ceremony", "run", "offline-root", "--binding", &binding, "--offline", config, "--out", out];
    let opener = Player::at(&folder, &[&["--data", data.to_str().unwrap(), "--as", "officer"], &run[..]].concat());
    opener.terminal.expect_written("approvals approve ");
    approve(&vault, after(&opener.terminal.written(), "approvals approve "));
    opener.terminal.expect_written("ceremony join ");
    let id = after(&opener.terminal.written(), "ceremony join ").to_owned();
    let room = Room { folder: folder.clone(), data, id, plan: "offline-root".to_owned() };
    let sheets = room.sheets();
    for (who, player) in &mut room.play([("officer".to_owned(), opener)].into()) {
        assert_eq!(player.terminal.end(), 0, "{who}\n{}", player.terminal.everything_visible());
    }
    // The daemon has gone with its ceremony.
    let gone = vault.cli("officer", &["keys", "list", "--tenant", "demo"]);
    assert!(!gone.status.success(), "{}", words(&gone));
    let verified = cli(&["ceremony", "verify", out, "--plan", "offline-root", "--binding", &binding]);
    assert_eq!(verified.status.code(), Some(0), "{}", words(&verified));
    let transcript = std::fs::read_to_string(out).unwrap();
    assert!(!Transcript::parse(&transcript).unwrap().is_rehearsal());

    let (sent, bundle) = (folder.join("sent.key"), folder.join("root.bundle"));
    let (sent, bundle) = (sent.to_str().unwrap(), bundle.to_str().unwrap());
    let made = cli(&["ceremony", "bundle", out, "--sent", sent, "--out", bundle]);
    assert!(made.status.success(), "{}", words(&made));
    let text = std::fs::read_to_string(bundle).unwrap();
    assert_eq!(Bundle::parse(&text).unwrap().text(), text);
    // Each byte of a bundle that was changed is noticed: in its key, in its transcript, in its form.
    let changed = |at: usize| {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        String::from_utf8(bytes).map(|text| Bundle::parse(&text).is_err()).unwrap_or(true)
    };
    for at in (0..text.len()).filter(|at| !text.as_bytes()[*at].is_ascii_whitespace()) {
        assert!(changed(at), "byte {at}: {}", &text[at.saturating_sub(20)..(at + 20).min(text.len())]);
    }
    let stranger = Bundle::new(Transcript::parse(&transcript).unwrap(), &["D0144".to_owned()]).err();
    assert!(matches!(stranger, Some(BundleError::Stranger(1))));
    let text_of_key = std::fs::read_to_string(sent).unwrap().trim().to_owned();
    let twice = Bundle::new(Transcript::parse(&transcript).unwrap(), &[text_of_key.clone(), text_of_key]).err();
    assert!(matches!(twice, Some(BundleError::Twice(2))));
    let missing = Bundle::new(Transcript::parse(&transcript).unwrap(), &[]).err();
    assert!(matches!(missing, Some(BundleError::Missing(key)) if key == "root"));
    let cut =
        transcript.lines().take(transcript.lines().count() - 1).map(|line| format!("{line}\n")).collect::<String>();
    let unsigned = Bundle::new(Transcript::parse(&cut).unwrap(), &[]).err();
    assert!(matches!(unsigned, Some(BundleError::Unsigned(_))));

    let parts: Vec<Vec<u8>> = sheets.iter().map(|(hex, _)| hex::decode(hex).unwrap()).collect();
    let joined: Vec<u8> = (0..32).map(|at| parts.iter().fold(0, |sum, part| sum ^ part[at])).collect();
    let online = Daemon::start();
    let protection = NewKey { version: "02".to_owned(), algorithm: "aes256".to_owned(), ..generic("KBPK") };
    now(into(&online, &[], protection, &hex::encode(joined)));
    let production = configuration(&online).replace("policies = \"dev\"", "policies = \"production\"");
    assert!(now(reload(&online, &production)).contains("done"));
    let other = online.file("other.toml", format!("{}\n", std::fs::read_to_string(&binding).unwrap()).as_bytes());
    let take = |binding: &str, more: &[&str]| {
        online.cli("officer", &[&["ceremony", "take-bundle", bundle, "--binding", binding], more].concat())
    };
    assert!(words(&take(&other, &[])).contains("another binding"));
    let asked = take(&binding, &[]);
    assert_eq!(asked.status.code(), Some(2), "{}", words(&asked));
    let said = words(&asked);
    let proposal = after(&said, "proposed as ").to_owned();
    let shown = words(&online.cli("officer-2", &["approvals", "show", &proposal]));
    let digest = transcript.split("sha-256 of what went out\",\"").nth(1).map(|rest| &rest[..64]).unwrap();
    assert!(shown.contains("unwrap_key") && shown.contains(digest), "what is approved is what went out: {shown}");
    let held = Transcript::parse(&transcript).unwrap();
    let (ceremony, hash) = (&held.opening().unwrap().ceremony, hex::encode(Sha256::digest(&transcript)));
    assert!(shown.contains(ceremony) && shown.contains(&hash), "and where that was: {shown}");
    approve(&online, &proposal);
    let taken = take(&binding, &["--approval", &proposal]);
    assert!(taken.status.success(), "{}", words(&taken));
    let log = std::fs::read_to_string(online.data().join("audit.jsonl")).unwrap();
    let told = |line: &&str| line.contains("\"outcome\":\"done\"") && line.contains(ceremony) && line.contains(&hash);
    assert!(log.lines().filter(told).any(|line| line.contains("unwrap_key")), "nor does the log leave it out");
    let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
    let KeyList { keys } = now(online.client("auditor").get("/v1/keys", &filter)).unwrap();
    let root = keys.iter().find(|key| key.role == "DTK").unwrap();
    assert_eq!((root.origin.as_str(), root.exportability.as_str()), ("unwrapped", "N"));
    assert!(transcript.contains(&format!("[\"kcv\",\"{}\"]", root.kcv)), "{}", root.kcv);
}

/// The daemon of an offline ceremony ends with whoever started it, however that ends; and no other takes its place.
#[test]
fn a_daemon_that_nobody_holds_ends() {
    let vault = Daemon::start();
    let url = vault.connection("officer").url;
    let production = configuration(&vault).replace("policies = \"dev\"", "policies = \"production\"");
    let vault = vault.serve(&production);
    let data = vault.data();
    let binding = order(&data, "offline-root", &[], &[]).request().binding;
    let binding = vault.file("binding.toml", binding.as_bytes());
    let (config, out) = (data.join("claviger.toml"), vault.folder.path().join("transcript.jsonl"));
    let (config, out) = (config.to_str().unwrap(), out.to_str().unwrap());
    let start = |more: &[&str]| {
        let us = ["--data", data.to_str().unwrap(), "--as", "officer"];
        let run = ["ceremony", "run", "offline-root", "--binding", &binding, "--offline", config];
        Player::at(vault.folder.path(), &[&us[..], more, &run[..], &["--out", out]].concat())
    };
    // One serves there already.
    let mut taken = start(&[]);
    taken.terminal.expect_written("serves at");
    assert_eq!(taken.terminal.end(), 2);
    // Another address than its own.
    let clients = data.join("clients/officer");
    let of = |end: &str| format!("{}{end}", clients.display());
    let ca = data.join("ca.pem").display().to_string();
    let elsewhere = ["--url", &url, "--ca", &ca, "--cert", &of(".pem"), "--key", &of("-key.pem")];
    let mut other = start(&elsewhere);
    other.terminal.expect_written("is not where");
    assert_eq!(other.terminal.end(), 2);
    // A transcript that could be left nowhere.
    let vault = vault.stop();
    let nowhere = vault.cli(
        "officer",
        &["ceremony", "run", "offline-root", "--binding", &binding, "--offline", config, "--out", "/nowhere/t"],
    );
    assert!(words(&nowhere).contains("there is no folder /nowhere"), "{}", words(&nowhere));
    let us = ["--data", data.to_str().unwrap(), "--as", "officer"];
    let run = ["ceremony", "run", "offline-root", "--binding", &binding, "--offline", config, "--out", out];
    let mut opener = Player::at(vault.folder.path(), &[&us[..], &run[..]].concat());
    opener.terminal.expect_written("approvals approve ");
    let listed = || vault.cli("officer-2", &["approvals", "list", "--tenant", "demo"]).status.success();
    assert!(listed());
    opener.terminal.kill();
    let begun = std::time::Instant::now();
    while listed() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "the daemon has outlived who started it");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // Nor do terminals that wait keep it: whoever comes back finds the machine free.
    let mut opener = Player::at(vault.folder.path(), &[&us[..], &run[..]].concat());
    opener.terminal.expect_written("approvals approve ");
    let id = after(&opener.terminal.written(), "approvals approve ")[..32].to_owned();
    approve(&vault, &id);
    opener.terminal.expect_written("ceremony join ");
    let id = after(&opener.terminal.written(), "ceremony join ")[..32].to_owned();
    let waits = Player::at(
        vault.folder.path(),
        &["--data", data.to_str().unwrap(), "--as", "witness", "ceremony", "join", &id],
    );
    let _asked = waits.terminal;
    let third = ["--data", data.to_str().unwrap(), "--as", "custodian", "ceremony", "join", &id];
    let mut third = Player::at(vault.folder.path(), &third);
    third.terminal.expect_written("waiting for ");
    opener.terminal.kill();
    let begun = std::time::Instant::now();
    assert_ne!(third.terminal.end(), 0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "it goes on for {:?}", begun.elapsed());
    let again = ["ceremony", "join", &id, "--offline", config, "--out", out];
    let opener = Player::at(vault.folder.path(), &[&us[..], &again[..]].concat());
    opener.terminal.expect_written("waiting for ");
}
