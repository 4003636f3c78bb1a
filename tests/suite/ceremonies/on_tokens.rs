//! The same ceremonies on tokens: what they make lives in one.

use std::collections::BTreeMap;

use claviger_client::{ImportKey, Key, KeyFilter, KeyList, KeyMove, NewKey};
use claviger_key_ceremonies::{Plan, shipped};
use serde_json::json;

use super::{Player, Room, now};
use crate::daemon::{Daemon, components, problem, words};
use crate::exchange::KBPK;
use crate::load::generic;
use crate::purse::card_key;
use crate::reference::ask_for;
use crate::token_keys::{DTK, dtk};
use crate::tokens::Token;

/// Makes a binding by the command that officers use, opens the ceremony at a terminal, and has everybody play.
fn hold(daemon: &Daemon, plan: &str, backends: &[(&str, &str)], parameters: &[(&str, &str)]) -> Room {
    let data = daemon.data();
    let folder = data.parent().unwrap();
    let mut arguments: Vec<String> = ["ceremony", "binding", plan, "--tenant", "demo"].map(str::to_owned).to_vec();
    let parsed = Plan::parse(shipped(plan).unwrap()).unwrap();
    for asked in &parsed.parameters {
        let given = parameters.iter().find(|(name, _)| *name == asked.name).map_or(asked.example.as_str(), |(_, v)| *v);
        arguments.extend(["--set".to_owned(), format!("{}={given}", asked.name)]);
    }
    for (name, backend) in backends {
        arguments.extend(["--backend".to_owned(), format!("{name}={backend}")]);
    }
    for role in &parsed.roles {
        for n in 1..=role.count {
            let name = if n == 1 { role.name.clone() } else { format!("{}-{n}", role.name) };
            let certificate = data.join(format!("clients/{name}.pem"));
            arguments.extend(["--person".to_owned(), format!("{}={}", role.name, certificate.display())]);
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let binding = crate::daemon::cli(&arguments);
    assert!(binding.status.success(), "{}", words(&binding));
    let file = daemon.file("binding.toml", &binding.stdout);
    let check = daemon.cli("officer", &["ceremony", "plan", "check", plan, "--binding", &file]);
    assert!(check.status.success(), "{plan}: {}", words(&check));
    let checked = words(&check);
    assert!(
        !checked.contains('{') && checked.contains("  tenant: demo") && checked.contains(", certificate "),
        "{checked}"
    );
    let opener = Player::at(
        folder,
        &["--data", data.to_str().unwrap(), "--as", "officer", "ceremony", "run", plan, "--binding", &file],
    );
    opener.terminal.expect_written("ceremony join ");
    let id = opener.terminal.written().split("ceremony join ").nth(1).unwrap()[..32].to_owned();
    let room = Room { folder: folder.to_owned(), data: data.clone(), id, plan: plan.to_owned() };
    for (who, player) in &mut room.play([("officer".to_owned(), opener)].into()) {
        assert_eq!(player.terminal.end(), 0, "{plan}: {who}\n{}", player.terminal.everything_visible());
    }
    let transcript = folder.join(format!("{}.jsonl", room.id));
    let shown = daemon.cli("auditor", &["ceremony", "show", &room.id, "--transcript", transcript.to_str().unwrap()]);
    assert!(shown.status.success(), "{}", words(&shown));
    let verified =
        crate::daemon::cli(&["ceremony", "verify", transcript.to_str().unwrap(), "--plan", plan, "--binding", &file]);
    assert_eq!(verified.status.code(), Some(0), "{plan}: {}", words(&verified));
    room
}

fn keys(daemon: &Daemon) -> Vec<Key> {
    let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
    let KeyList { keys } = now(daemon.client("auditor").get("/v1/keys", &filter)).unwrap();
    keys
}

#[test]
fn six_plans_are_held_on_softhsm_and_on_nss() {
    for token in [Token::softhsm(), Token::nss()] {
        let daemon = Daemon::with_backends(&token.backend("room", "on-prem", ""));
        hold(&daemon, "generate-root", &[("home", "room")], &[("algorithm", "3des")]);
        hold(&daemon, "receive-components", &[("home", "room")], &[]);
        hold(&daemon, "exchange-transport-key", &[("home", "room")], &[]);
        hold(&daemon, "rotate-version", &[("home", "room")], &[]);
        // A block that psec has made, under a protection key that stays in the token.
        let kbpk = NewKey { role: "KBPK".to_owned(), algorithm: "aes256".to_owned(), ..generic("KBPK") };
        let import = ImportKey { key: kbpk, components: components(KBPK), kcv: None, odd_parity: false };
        let _: Key = now(daemon.client("officer").post("/v1/keys/import", &import)).unwrap();
        let block = json!({"op": "key_block_wrap", "kbpk": KBPK, "header": "D0000B3TX05N0000", "key": DTK});
        daemon.file("received.key", ask_for(&block).as_bytes());
        hold(&daemon, "receive-key-block", &[("home", "room")], &[]);
        let sealed = NewKey { version: "06".to_owned(), ceiling: Some("nothing".to_owned()), ..dtk() };
        let import = ImportKey { key: sealed, components: components(DTK), kcv: None, odd_parity: false };
        let _: Key = now(daemon.client("officer").post("/v1/keys/import", &import)).unwrap();
        hold(&daemon, "raise-ceiling", &[], &[("version", "06")]);
        let keys = keys(&daemon);
        let received = keys.iter().find(|key| key.version == "05").unwrap();
        assert_eq!(received.kcv, super::kcv("3des", DTK));
        assert!(keys.iter().all(|key| key.backends == ["room"]), "{keys:?}");
        // What a token does not give out is said before, and that a ceiling is high enough.
        for (plan, refused) in
            [("send-key-block", "step 2: "), ("raise-ceiling", "step 3: field `ceiling` is not above card-key")]
        {
            let there = [("version", "01"), ("algorithm", "3des")];
            let order = super::attacks::order(&daemon.data(), plan, &[], &there);
            let checked: Result<claviger_client::Health, _> =
                now(daemon.client("officer").post("/v1/ceremonies/check", &order.request()));
            let told = problem(checked).detail;
            assert!(told.starts_with(refused), "{plan}: {told}");
        }
        let origins: BTreeMap<&str, usize> = keys.iter().fold(BTreeMap::new(), |mut origins, key| {
            *origins.entry(key.origin.as_str()).or_default() += 1;
            origins
        });
        assert_eq!(origins, [("components", 4), ("generated", 2), ("unwrapped", 1)].into());
    }
}

/// What a token cannot do is said before the ceremony, and in which step: neither of the two has SM4.
#[test]
fn a_plan_that_a_token_cannot_carry_is_refused_by_its_step() {
    for token in [Token::softhsm(), Token::nss()] {
        let daemon = Daemon::with_backends(&token.backend("room", "on-prem", ""));
        let (data, sm4) = (daemon.data(), [("algorithm", "sm4")]);
        for (plan, parameters, refused) in [
            ("generate-root", &sm4[..], Some("step 2: backend room: ")),
            ("receive-components", &sm4, Some("step 2: backend room: ")),
            ("rotate-version", &sm4, Some("step 1: backend room: ")),
            ("generate-root", &[("algorithm", "3des")], None),
        ] {
            let order = super::attacks::order(&data, plan, &[("home", "room")], parameters);
            let checked: Result<claviger_client::Health, _> =
                now(daemon.client("officer").post("/v1/ceremonies/check", &order.request()));
            match refused {
                Some(step) => {
                    let told = problem(checked).detail;
                    assert!(told.starts_with(step) && told.contains("sm4"), "{plan}: {told}");
                }
                None => drop(checked.unwrap()),
            }
        }
    }
}

#[test]
fn a_key_is_copied_from_one_token_to_another() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "on-prem", "")];
    let daemon = Daemon::with_backends(&tables.concat());
    let import = |key: NewKey, value: &str| {
        let import = ImportKey { key, components: components(value), kcv: None, odd_parity: false };
        let _: Key = now(daemon.client("officer").post("/v1/keys/import", &import)).unwrap();
    };
    let kek = NewKey {
        scheme: "generic".to_owned(),
        role: "KEK".to_owned(),
        algorithm: "aes256".to_owned(),
        factors: Vec::new(),
        backends: vec!["room".to_owned(), "hosted".to_owned()],
        ..card_key()
    };
    import(kek, &DTK.repeat(2));
    import(NewKey { movable: true, backends: vec!["room".to_owned()], ..dtk() }, DTK);
    hold(&daemon, "copy-key", &[("other", "hosted")], &[]);
    let copied = keys(&daemon).into_iter().find(|key| key.role == "DTK").unwrap();
    assert_eq!(copied.backends, ["room", "hosted"]);
}

/// All that a tenant has goes from one maker's token to another's, and says before what could not.
#[test]
fn a_tenant_moves_from_one_token_to_another() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "on-prem", "")];
    let daemon = Daemon::with_backends(&tables.concat());
    let import = |key: NewKey| {
        let value = if key.algorithm == "aes256" { DTK.repeat(2) } else { DTK.to_owned() };
        let import = ImportKey { key, components: components(&value), kcv: None, odd_parity: false };
        let made: Key = now(daemon.client("officer").post("/v1/keys/import", &import)).unwrap();
        made
    };
    let both = vec!["room".to_owned(), "hosted".to_owned()];
    import(NewKey { algorithm: "aes256".to_owned(), backends: both, ..generic("KEK") });
    let in_room = |key: NewKey| NewKey { movable: true, backends: vec!["room".to_owned()], ..key };
    import(in_room(dtk()));
    import(in_room(NewKey { role: "DPK".to_owned(), ceiling: Some("nothing".to_owned()), ..dtk() }));
    import(in_room(NewKey { algorithm: "aes128".to_owned(), ..generic("CMAC") }));
    let bound = import(NewKey { movable: false, version: "02".to_owned(), ..in_room(dtk()) });

    let order = super::attacks::order(&daemon.data(), "migrate-tenant", &[("other", "hosted")], &[]);
    let checked: Result<claviger_client::Health, _> =
        now(daemon.client("officer").post("/v1/ceremonies/check", &order.request()));
    let told = problem(checked).detail;
    assert!(told.starts_with("step 2: field `key` demo/cjt166/DTK 3des 02") && told.contains("may not move"), "{told}");
    let ended = json!({"state": "destroyed"});
    let _: Key = now(daemon.client("officer").post(&format!("/v1/keys/{}/state", bound.id), &ended)).unwrap();

    hold(&daemon, "migrate-tenant", &[("other", "hosted")], &[]);
    let living: Vec<Key> = keys(&daemon).into_iter().filter(|key| key.state != "destroyed").collect();
    assert_eq!(living.len(), 4);
    for key in living {
        assert!(key.backends.contains(&"hosted".to_owned()) && key.behind.is_empty(), "{key:?}");
        let at = format!("/v1/keys/{}/move", key.id);
        let stands: KeyMove = now(daemon.client("officer").get(&at, &())).unwrap();
        assert_eq!((stands.answers.as_str(), stands.to), ("hosted", None), "{}", key.role);
    }
}

/// What the vendor's procedure has left in the device is registered: here another daemon has left it.
#[test]
fn a_key_that_came_by_key_card_is_registered() {
    let token = Token::softhsm();
    let backend = token.backend("room", "on-prem", "");
    let vendor = Daemon::with_backends(&backend);
    let import = ImportKey { key: dtk(), components: components(DTK), kcv: None, odd_parity: false };
    let _: Key = now(vendor.client("officer").post("/v1/keys/import", &import)).unwrap();
    drop(vendor);
    let daemon = Daemon::with_backends(&backend);
    let label = "demo/cjt166/DTK 3des 01 ceiling card-key";
    let parameters = [("scheme", "cjt166"), ("role", "DTK"), ("algorithm", "3des"), ("object", label)];
    hold(&daemon, "adopt-key", &[("device", "room")], &parameters);
    assert_eq!(keys(&daemon)[0].origin, "adopted");
}
