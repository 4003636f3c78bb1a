//! Two tokens, one after another out of order under a steady load: no wrong answer, no failed call.

use std::time::{Duration, Instant};

use claviger_client::{MacGenerate, MacResult, NewKey};
use rustix::process::{Signal, kill_process};

use crate::daemon::Daemon;
use crate::load::{CMAC, Load, MAC, MESSAGE, generic, into, launcher, reference, signal, status};
use crate::purse::{DLK, card_key};
use crate::tokens::{Token, give_value};

const PAUSE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_one_of_two_tokens_does() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let settings = "deadline_ms = 1000";
    let daemon = Daemon::with_backends(
        &[room.backend("room", "on-prem", settings), hosted.backend("hosted", "hosted", settings)].concat(),
    );
    into(&daemon, &["room", "hosted"], card_key(), DLK).await;
    into(&daemon, &["room", "hosted"], generic("CMAC"), CMAC).await;
    let load = Load::start(&daemon, 4);
    load.after("no fault", PAUSE).await;

    signal(&daemon, "room", Signal::KILL).await;
    load.after("the worker is killed", PAUSE).await;

    signal(&daemon, "room", Signal::STOP).await;
    load.after("the library hangs", PAUSE).await;

    let away = room.path("away");
    std::fs::rename(room.path("tokens"), &away).unwrap();
    std::fs::create_dir(room.path("tokens")).unwrap();
    signal(&daemon, "room", Signal::KILL).await;
    load.after("the token is gone", PAUSE).await;

    std::fs::remove_dir(room.path("tokens")).unwrap();
    std::fs::rename(&away, room.path("tokens")).unwrap();
    load.after("the token is there again", PAUSE).await;

    kill_process(launcher(&daemon), Signal::KILL).unwrap();
    signal(&daemon, "room", Signal::KILL).await;
    load.after("the launcher and the worker are killed", PAUSE).await;

    signal(&daemon, "hosted", Signal::KILL).await;
    load.after("the other worker is killed", PAUSE).await;
    load.end().await;
    assert_eq!(status(&daemon, "room").await.workers.len(), 1, "the worker was started again");
}

/// A batch that holds a session of the preferred token for a while.
async fn long_batch(daemon: &Daemon) {
    let messages = vec![MESSAGE.to_owned(); 8000];
    let request = MacGenerate { key: reference(), padding: "none".to_owned(), length: None, messages };
    let made: MacResult = daemon.client("card-management").post("/v1/mac/generate", &request).await.unwrap();
    assert!(made.macs.iter().all(|mac| mac == MAC));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_one_of_two_tokens_is_short_of_sessions_or_wrong() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    // One session keeps the login: room for one call at a time.
    let daemon = Daemon::with_backends(
        &[room.backend("room", "on-prem", "sessions = 2"), hosted.backend("hosted", "hosted", "")].concat(),
    );
    let cmac = |version: &str| NewKey { version: version.to_owned(), ..generic("CMAC") };
    into(&daemon, &["room"], cmac("02"), "00112233445566778899AABBCCDDEEFF").await;
    let before = room.objects();
    into(&daemon, &["room"], cmac("03"), "FFEEDDCCBBAA99887766554433221100").await;
    let other = room.objects().difference(&before).next().cloned().unwrap();
    let before = room.objects();
    let key = into(&daemon, &["room", "hosted"], cmac("01"), CMAC).await;
    let own = room.objects().difference(&before).next().cloned().unwrap();
    into(&daemon, &["room", "hosted"], card_key(), DLK).await;
    let load = Load::start(&daemon, 4);
    load.after("no fault", PAUSE).await;

    tokio::join!(long_batch(&daemon), long_batch(&daemon), long_batch(&daemon));
    load.after("its sessions were used up", PAUSE).await;

    // Objects are numbered in the order in which they are found: one that is new comes before.
    into(&daemon, &["room"], cmac("04"), &"C3".repeat(16)).await;
    signal(&daemon, "room", Signal::KILL).await;
    load.after("it is there again with other handles", PAUSE).await;

    give_value(&own, &other);
    signal(&daemon, "room", Signal::KILL).await;
    load.after("one of its keys is another", PAUSE).await;
    // The token may rest for a while before it is asked again.
    let begun = Instant::now();
    while status(&daemon, "room").await.quarantined != [key.id.clone()] {
        assert!(begun.elapsed() < Duration::from_secs(120), "the wrong key is not set aside");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    load.end().await;
}
