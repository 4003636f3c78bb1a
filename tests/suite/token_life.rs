//! States of keys whose tokens do not answer: the record counts, and the tokens follow.

use std::time::{Duration, Instant};

use claviger_client::{ImportKey, Key, KeyFilter, KeyList, NewKey};
use rustix::process::Signal;
use serde_json::json;

use crate::daemon::{Daemon, components, problem};
use crate::load::{CMAC, generic, into, mac, mac_before_long, signal};
use crate::tokens::Token;

/// A daemon whose key is in both tokens, of which one is taken away.
async fn without_room() -> (Daemon, Token, Token, Key) {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "hosted", "")].concat();
    let daemon = Daemon::with_backends(&tables);
    let key = into(&daemon, &["room", "hosted"], generic("CMAC"), CMAC).await;
    std::fs::rename(room.path("tokens"), room.path("away")).unwrap();
    std::fs::create_dir(room.path("tokens")).unwrap();
    signal(&daemon, "room", Signal::KILL).await;
    (daemon, room, hosted, key)
}

fn bring_back(room: &Token) {
    std::fs::remove_dir(room.path("tokens")).unwrap();
    std::fs::rename(room.path("away"), room.path("tokens")).unwrap();
}

async fn state(daemon: &Daemon, key: &Key, state: &str) -> Key {
    let at = format!("/v1/keys/{}/state", key.id);
    daemon.client("officer").post(&at, &json!({ "state": state })).await.unwrap()
}

async fn followed(daemon: &Daemon, key: &Key) -> Key {
    let begun = Instant::now();
    loop {
        let now: Key = daemon.client("officer").get(&format!("/v1/keys/{}", key.id), &()).await.unwrap();
        if now.behind.is_empty() {
            return now;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?} do not follow", now.behind);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_suspended_though_one_of_its_tokens_is_gone() {
    let (daemon, room, _hosted, key) = without_room().await;
    let suspended = state(&daemon, &key, "suspended").await;
    assert_eq!((suspended.state.as_str(), suspended.behind), ("suspended", vec!["room".to_owned()]));
    assert_eq!(problem(mac(&daemon).await).code, "key_unusable");
    // It is resumed, and the token that has not followed either step comes back.
    let resumed = state(&daemon, &key, "active").await;
    assert_eq!(resumed.state, "active");
    mac(&daemon).await.unwrap();
    bring_back(&room);
    assert_eq!(followed(&daemon, &key).await.backends.len(), 2);
    signal(&daemon, "hosted", Signal::STOP).await;
    mac_before_long(&daemon).await;
}

/// The daemon ends between the destruction in one token and that in the other.
#[tokio::test(flavor = "multi_thread")]
async fn s15_a_destruction_that_was_interrupted_is_finished_after_a_restart() {
    let (mut daemon, room, _hosted, key) = without_room().await;
    let destroyed = state(&daemon, &key, "destroyed").await;
    assert_eq!((destroyed.state.as_str(), destroyed.behind), ("destroyed", vec!["room".to_owned()]));
    daemon.kill_and_restart();
    bring_back(&room);
    let objects = room.objects().len();
    assert_eq!(followed(&daemon, &key).await.backends, Vec::<String>::new());
    assert_eq!(room.objects().len(), objects - 1, "the object is gone");
}

/// The daemon ends while two tokens make a key, at whatever moment: what nobody was told of is in neither.
#[tokio::test(flavor = "multi_thread")]
async fn creations_that_were_interrupted_leave_nothing() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "hosted", "")].concat();
    let mut daemon = Daemon::with_backends(&tables);
    into(&daemon, &["room", "hosted"], generic("CMAC"), CMAC).await;
    let mut cut_off = 0;
    for number in 2..14 {
        let client = daemon.client("officer");
        let key = NewKey { version: format!("{number:02}"), backends: both(), ..generic("CMAC") };
        let import = ImportKey { key, components: components(CMAC), kcv: None, odd_parity: false };
        let begun = tokio::spawn(async move { client.post::<Key>("/v1/keys/import", &import).await });
        // A creation in both takes about as long as the longest of these.
        tokio::time::sleep(Duration::from_millis(6 * number)).await;
        daemon.kill_and_restart();
        cut_off += usize::from(begun.await.unwrap().is_err());
    }
    println!("{cut_off} of 12 were cut off");
    let filter = KeyFilter { tenant: "demo".to_owned(), scheme: None, role: None };
    let begun = Instant::now();
    loop {
        let kept: KeyList = daemon.client("officer").get("/v1/keys", &filter).await.unwrap();
        // Beside the keys there is the record key of the token.
        if room.objects().len() == kept.keys.len() + 1 {
            assert!(kept.keys.iter().all(|key| key.backends.len() == 2));
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{} objects, {} keys",
            room.objects().len(),
            kept.keys.len()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn both() -> Vec<String> {
    vec!["room".to_owned(), "hosted".to_owned()]
}
