//! States of keys whose tokens do not answer: the record counts, and the tokens follow.

use std::time::{Duration, Instant};

use claviger_client::Key;
use rustix::process::Signal;
use serde_json::json;

use crate::daemon::{Daemon, problem};
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
