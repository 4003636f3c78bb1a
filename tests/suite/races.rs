//! A key that is ended does nothing more from the moment that whoever ended it has the answer: no cache, no handle, no
//! decision that was remembered serves a call that begins later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use claviger_client::{Client, ClientError, Key, MacGenerate, MacResult, SetKeyState};
use futures_util::StreamExt;

use crate::daemon::Daemon;
use crate::load::{CMAC, MESSAGE, generic, into, reference};
use crate::reload::{configuration, reload};
use crate::tokens::Token;

/// When each call began and ended, and whether it was let through.
type Calls = Arc<Mutex<Vec<(Instant, Instant, bool)>>>;

fn caller(client: Client, calls: &Calls, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (calls, stop) = (Arc::clone(calls), Arc::clone(stop));
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let messages = vec![MESSAGE.to_owned()];
            let request = MacGenerate { key: reference(), padding: "none".to_owned(), length: None, messages };
            let made: Result<MacResult, ClientError> = client.post("/v1/mac/generate", &request).await;
            calls.lock().unwrap().push((begun, Instant::now(), made.is_ok()));
        }
    })
}

async fn set(officer: &Client, key: &Key, state: &str) -> Instant {
    let change = SetKeyState { state: state.to_owned() };
    officer.post::<Key>(&format!("/v1/keys/{}/state", key.id), &change).await.unwrap();
    Instant::now()
}

/// Suspends and resumes a key under calls, and ends it for good.
async fn race(daemon: &Daemon, backends: &[&str], end: &str) {
    let key = into(daemon, backends, generic("CMAC"), CMAC).await;
    let officer = daemon.client("officer");
    let (calls, stop) = (Calls::default(), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..4).map(|_| caller(daemon.client("card-management"), &calls, &stop)).collect();
    let mut ended = Vec::new();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let suspended = set(&officer, &key, "suspended").await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        let before = Instant::now();
        set(&officer, &key, "active").await;
        ended.push((suspended, Some(before)));
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    ended.push((set(&officer, &key, end).await, None));
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let calls = calls.lock().unwrap();
    let mut refused = 0;
    for (from, until) in &ended {
        // Of those that are answered after the key is resumed nothing is said.
        let during = |begun: &Instant, done: &Instant| begun > from && until.is_none_or(|until| *done < until);
        for (.., made) in calls.iter().filter(|(begun, done, _)| during(begun, done)) {
            assert!(!made, "a call was let through that began after the key's end");
            refused += 1;
        }
    }
    let made = calls.iter().filter(|(.., made)| *made).count();
    println!("{end}: {made} of {} calls were let through, {refused} began while the key was none", calls.len());
    assert!(made > 20 && refused > 20, "{made} of {}, {refused}", calls.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_key_is_used_by_no_call_that_begins_later() {
    for end in ["suspended", "compromised", "destroyed"] {
        race(&Daemon::start(), &[], end).await;
    }
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "hosted", "")];
    race(&Daemon::with_backends(&tables.concat()), &["room", "hosted"], "destroyed").await;
}

/// A caller who is let in no more gets no further verdicts of a job that it began before.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_when_its_caller_is_let_in_no_more() {
    let daemon = Arc::new(Daemon::start());
    crate::main_job::import_keys(&daemon, "cjt166-3des");
    let day = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/days/cjt166-3des-day.csv")).unwrap();
    let (header, records) = day.split_once('\n').unwrap();
    let pieces = std::iter::once(format!("{header}\n")).chain((0..4).map(|_| records.to_owned()));
    let pieces: Vec<bytes::Bytes> = pieces.map(bytes::Bytes::from).collect();
    let without: Vec<String> = configuration(&daemon)
        .split("[[principal]]")
        .filter(|table| !table.contains("/clearing"))
        .map(str::to_owned)
        .collect();
    let without = without.join("[[principal]]");
    let reloading = Arc::clone(&daemon);
    let body = futures_util::stream::iter(pieces.into_iter().enumerate()).then(move |(number, piece)| {
        let (daemon, without) = (Arc::clone(&reloading), without.clone());
        async move {
            if number == 2 {
                assert!(reload(&daemon, &without).await.contains("done"));
                tokio::time::sleep(Duration::from_millis(1200)).await;
            }
            Ok(piece)
        }
    });
    let parameters = crate::main_job::a_day();
    let clearing = daemon.client("clearing");
    let answer = clearing.stream("/v1/transactions/verify", &parameters, "text/csv", body).await.unwrap();
    let pieces: Vec<_> = answer.pieces.collect().await;
    assert!(pieces.last().unwrap().is_err(), "the job went on to its end");
    let told: usize = pieces.iter().flatten().map(|piece| piece.iter().filter(|byte| **byte == b'\n').count()).sum();
    assert!(told <= 1 + 2 * records.lines().count(), "{told} verdicts");
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    assert!(log.lines().any(|line| line.contains("\"job-aborted\"") && line.contains("\"outcome\":\"denied\"")));
}
