//! Keys that go out in a ceremony, and never arrive.

use claviger_client::StepTaken;
use claviger_key_ceremonies::{Binding, Event, Plan, SENT, Transcript};
use sha2::{Digest, Sha256};

use super::attacks::{client, make_what_is_there, open, order, show, take};
use super::{Player, Room};
use crate::daemon::{Daemon, cli, problem, words};

const ASKED: &str = "Type yes if you have it, no if it never arrived: ";

/// Opens a ceremony that sends a key, and has it sent to somebody who is told nothing.
async fn send(daemon: &Daemon, plan: &str) -> String {
    let order = order(&daemon.data(), plan, &[], &[]);
    let bound = Plan::bound(order.plan, &Binding::parse(&order.binding).unwrap()).unwrap();
    make_what_is_there(daemon, &bound).await;
    let id = open(daemon, &order).await.unwrap().id;
    let mut held = Vec::new();
    take(daemon, &id, &mut held).await.unwrap();
    take(daemon, &id, &mut held).await.unwrap();
    id
}

async fn lost(daemon: &Daemon, who: &str, id: &str) -> Result<StepTaken, claviger_client::ClientError> {
    let lost = claviger_client::TakeStep { turn: "2".to_owned(), lost: true, ..Default::default() };
    client(daemon, who).post(&format!("/v1/ceremonies/{id}/turns"), &lost).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_never_arrived_is_given_out_again() {
    let daemon = Daemon::start();
    let id = send(&daemon, "send-key-block").await;
    // To whom it went, and to nobody else.
    let others = problem(lost(&daemon, "claviger://officer/witness", &id).await);
    assert_eq!(others.code, "ceremony_order", "{}", others.detail);
    let data = daemon.data();
    let folder = data.parent().unwrap().to_owned();
    let room = Room { folder: folder.clone(), data, id: id.clone(), plan: "send-key-block".to_owned() };
    let played = tokio::task::spawn_blocking(move || {
        let mut officer = room.join("officer");
        officer.terminal.expect(ASKED);
        officer.terminal.type_in("47F8E1\r");
        officer.terminal.expect_written("that is neither yes nor no");
        officer.terminal.type_in("no\r");
        // Who says yes where a file is asked for is told so.
        officer.terminal.expect("name of a file");
        officer.terminal.type_in("yes\r");
        officer.terminal.expect_written("one of that name is ./yes");
        let mut players = room.play([("officer".to_owned(), officer)].into());
        players.values_mut().map(|player: &mut Player| player.terminal.end()).collect::<Vec<_>>()
    });
    assert_eq!(played.await.unwrap(), [0, 0]);
    let ended = show(&daemon, &id).await;
    let transcript = Transcript::parse(&ended.transcript).unwrap();
    let went_out: Vec<&str> = transcript
        .entries()
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Done { lines, .. } => lines.iter().find(|(name, _)| name == SENT).map(|(_, digest)| digest.as_str()),
            _ => None,
        })
        .collect();
    // That they came with another terminal is there too.
    let returned = Event::Returned { by: "claviger://officer/officer".to_owned() };
    assert_eq!(transcript.entries().iter().filter(|entry| entry.event == returned).count(), 1);
    let arrived = std::fs::read_to_string(folder.join("sent.key")).unwrap();
    assert_eq!(went_out.len(), 2);
    assert_eq!(went_out[1], hex::encode(Sha256::digest(&arrived)));
    assert!(ended.transcript.contains("officer/officer has not received the key"), "{}", ended.transcript);
    let file = daemon.file("transcript.jsonl", ended.transcript.as_bytes());
    let verified = cli(&["ceremony", "verify", &file, "--plan", "send-key-block"]);
    assert_eq!(verified.status.code(), Some(0), "{}", words(&verified));
}

/// What was confirmed to be with the other party did arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_seen_to_arrive_is_not_given_out_again() {
    let daemon = Daemon::start();
    let id = send(&daemon, "psam-batch").await;
    take(&daemon, &id, &mut Vec::new()).await.unwrap();
    let refused = problem(lost(&daemon, "claviger://officer/officer", &id).await);
    assert_eq!(refused.code, "ceremony_order", "{}", refused.detail);
    // After a restart as before one.
    let mut daemon = daemon;
    daemon.kill_and_restart();
    let id = send(&daemon, "send-envelope").await;
    daemon.kill_and_restart();
    lost(&daemon, "claviger://officer/officer", &id).await.unwrap();
    assert_eq!(show(&daemon, &id).await.next.unwrap().turn, "2");
}
