//! Keys move from the embedded backend to one token and on to another, and back, while they are used.

use std::time::{Duration, Instant};

use claviger_client::{Key, KeyMove, NewKey};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, problem};
use crate::load::{CMAC, Load, generic, into, mac, signal};
use crate::purse::{DLK, card_key};
use crate::tokens::{Token, give_value};

const EMBEDDED: &str = "[[backend]]\nname = \"embedded\"\ndriver = \"software\"\n";

async fn step(daemon: &Daemon, key: &Key, body: Value) -> KeyMove {
    daemon.client("officer").post(&format!("/v1/keys/{}/move", key.id), &body).await.unwrap()
}

/// Until so many items were compared.
async fn compared(daemon: &Daemon, key: &Key, items: u64) -> KeyMove {
    let begun = Instant::now();
    loop {
        let stands: KeyMove = daemon.client("officer").get(&format!("/v1/keys/{}/move", key.id), &()).await.unwrap();
        if stands.compared >= items {
            return stands;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{stands:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn movable(key: NewKey) -> NewKey {
    NewKey { movable: true, places: vec!["on-prem".to_owned(), "hosted".to_owned()], ..key }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_move_under_load_and_back_without_a_failed_call() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [EMBEDDED, &room.backend("room", "on-prem", ""), &hosted.backend("hosted", "hosted", "")].concat();
    let daemon = Daemon::with_backends(&tables);
    let kek = NewKey { algorithm: "aes256".to_owned(), ..generic("KEK") };
    into(&daemon, &["embedded", "room", "hosted"], kek, &CMAC.repeat(2)).await;
    let keys = [
        into(&daemon, &["embedded"], movable(card_key()), DLK).await,
        into(&daemon, &["embedded"], movable(generic("CMAC")), CMAC).await,
    ];
    let load = Load::start(&daemon, 3);
    load.after("before", Duration::from_secs(1)).await;
    for (from, to) in [("embedded", "room"), ("room", "hosted")] {
        for key in &keys {
            let under = json!({ "tenant": "demo", "scheme": "generic", "role": "KEK", "version": "01",
                "algorithm": "aes256" });
            let at = format!("/v1/keys/{}/replicas", key.id);
            let _: Key = daemon.client("officer").post(&at, &json!({ "to": to, "under": under })).await.unwrap();
            let stands = step(&daemon, key, json!({ "step": "begin", "to": to })).await;
            assert_eq!((stands.answers.as_str(), stands.to.as_deref()), (from, Some(to)));
        }
        for key in &keys {
            assert_eq!(compared(&daemon, key, 50).await.diverged, 0);
        }
        for (name, answers) in [("cut-over", to), ("roll-back", from), ("cut-over", to)] {
            for key in &keys {
                assert_eq!(step(&daemon, key, json!({ "step": name })).await.answers, answers);
            }
            load.after(&format!("{from} to {to}, {name}"), Duration::from_secs(1)).await;
        }
        for key in &keys {
            let stands = compared(&daemon, key, 100).await;
            assert_eq!((stands.diverged, stands.failed), (0, 0), "{stands:?}");
            let ended = step(&daemon, key, json!({ "step": "finish" })).await;
            assert_eq!((ended.answers.as_str(), ended.from), (to, None));
        }
    }
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_answers_differently_is_named_and_not_moved_to() {
    let room = Token::softhsm();
    let daemon = Daemon::with_backends(&[EMBEDDED, &room.backend("room", "on-prem", "")].concat());
    let objects = async |version: &str, backends: &[&str], value: &str| {
        let before = room.objects();
        let key = into(&daemon, backends, NewKey { version: version.to_owned(), ..generic("CMAC") }, value).await;
        (key, room.objects().difference(&before).cloned().collect::<Vec<_>>())
    };
    objects("02", &["room"], "00112233445566778899AABBCCDDEEFF").await;
    let (_, other) = objects("03", &["room"], "FFEEDDCCBBAA99887766554433221100").await;
    let (key, own) = objects("01", &["embedded", "room"], CMAC).await;
    give_value(&own[0], &other[0]);
    signal(&daemon, "room", Signal::KILL).await;
    step(&daemon, &key, json!({ "step": "begin", "to": "room" })).await;
    let begun = Instant::now();
    let stands = loop {
        mac(&daemon).await.unwrap();
        let at = format!("/v1/keys/{}/move", key.id);
        let stands: KeyMove = daemon.client("officer").get(&at, &()).await.unwrap();
        if stands.diverged > 0 {
            break stands;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{stands:?}");
    };
    assert_eq!((stands.answers.as_str(), stands.to.as_deref()), ("embedded", Some("room")));
    let cut_over = json!({ "step": "cut-over" });
    let at = format!("/v1/keys/{}/move", key.id);
    assert_eq!(problem(daemon.client("officer").post::<KeyMove>(&at, &cut_over).await).code, "diverged");
    let metrics = daemon.cli("officer", &["backends", "--json"]);
    let told = String::from_utf8(metrics.stdout).unwrap();
    assert!(told.lines().any(|line| line.contains("room") && line.contains(&key.id)), "{told}");
    assert_eq!(step(&daemon, &key, json!({ "step": "roll-back" })).await.from, None);
}
