//! Two tokens, one after another out of order under a steady load: no wrong answer, no failed call.

use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::daemon::Daemon;
use crate::load::{CMAC, Load, generic, into, launcher, signal, status};
use crate::purse::{DLK, card_key};
use crate::tokens::Token;

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
