//! What has gone wrong with tokens elsewhere, done to a whole daemon. Each test names the failure by its number in
//! `docs/sessions.md`; those that concern one session or one handle are the driver's own.

use std::time::{Duration, Instant};

use claviger_client::{Key, MacGenerate, MacResult, NewKey};
use rustix::process::Signal;

use crate::daemon::{Daemon, problem, words};
use crate::load::{CMAC, generic, into, launcher, mac, mac_before_long, reference, signal, status};
use crate::main_job::verify_day_on;
use crate::purse::card_key;
use crate::tokens::{Token, give_value};

const EMBEDDED: &str = "[[backend]]\nname = \"embedded\"\ndriver = \"software\"\n";

async fn with_mac_key(tables: &str, backends: &[&str]) -> (Daemon, Key) {
    let daemon = Daemon::with_backends(tables);
    let key = into(&daemon, backends, generic("CMAC"), CMAC).await;
    mac(&daemon).await.unwrap();
    (daemon, key)
}

/// An HSM that restarts must not need a daemon that does.
#[tokio::test(flavor = "multi_thread")]
async fn s04_a_token_that_restarts_needs_no_restart_of_the_daemon() {
    let room = Token::softhsm();
    let (daemon, _) = with_mac_key(&room.backend("room", "on-prem", ""), &["room"]).await;
    let away = room.path("away");
    std::fs::rename(room.path("tokens"), &away).unwrap();
    std::fs::create_dir(room.path("tokens")).unwrap();
    signal(&daemon, "room", Signal::KILL).await;
    let gone = problem(mac(&daemon).await);
    assert!(matches!(gone.code.as_str(), "backend_failed" | "backend_resting"), "{}", gone.detail);
    std::fs::remove_dir(room.path("tokens")).unwrap();
    std::fs::rename(&away, room.path("tokens")).unwrap();
    mac_before_long(&daemon).await;
}

fn maps(process: u32) -> String {
    std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap()
}

/// A process that forks after `C_Initialize` shares sessions with its child. Here nobody forks who has a module: the
/// daemon and the launcher never load one, and every worker begins as a new program.
#[tokio::test(flavor = "multi_thread")]
async fn s09_no_process_that_forks_has_loaded_a_module() {
    let room = Token::softhsm();
    let (daemon, _) = with_mac_key(&room.backend("room", "on-prem", ""), &["room"]).await;
    let launcher = launcher(&daemon).as_raw_nonzero().get() as u32;
    let first = status(&daemon, "room").await.workers[0];
    signal(&daemon, "room", Signal::KILL).await;
    mac_before_long(&daemon).await;
    let second = status(&daemon, "room").await.workers[0];
    assert_ne!(first, second);
    assert!(maps(second).contains("libsofthsm2"));
    assert!(!maps(daemon.process()).contains("libsofthsm2") && !maps(launcher).contains("libsofthsm2"));
}

/// A call into a module cannot be cancelled, and the network below it may wait for a quarter of an hour.
#[tokio::test(flavor = "multi_thread")]
async fn s11_a_call_that_hangs_ends_at_its_deadline() {
    let (remote, server) = Token::remote();
    let table = remote.backend("remote", "hosted", "deadline_ms = 300");
    let daemon = Daemon::with_backends(&table);
    let random = async || {
        let request = claviger_client::RandomRequest { len: 16 };
        daemon.client("card-management").post::<claviger_client::RandomBytes>("/v1/random", &request).await
    };
    random().await.unwrap();
    server.signal(Signal::STOP);
    let begun = Instant::now();
    let hung = tokio::time::timeout(Duration::from_secs(20), random()).await.expect("the call hangs");
    assert_eq!(problem(hung).code, "backend_failed");
    println!("the call ended after {:?}", begun.elapsed());
    server.signal(Signal::CONT);
    while random().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A token may be there only after the daemon is.
#[tokio::test(flavor = "multi_thread")]
async fn s12_a_daemon_starts_before_its_token() {
    let room = Token::softhsm();
    let away = room.path("away");
    std::fs::rename(room.path("tokens"), &away).unwrap();
    std::fs::create_dir(room.path("tokens")).unwrap();
    let daemon = Daemon::with_backends(&room.backend("room", "on-prem", ""));
    assert_eq!(status(&daemon, "room").await.name, "room");
    std::fs::remove_dir(room.path("tokens")).unwrap();
    std::fs::rename(&away, room.path("tokens")).unwrap();
    let begun = Instant::now();
    let officer = daemon.client("officer");
    let key = NewKey { algorithm: "aes128".to_owned(), ..generic("CMAC") };
    while let Err(error) = officer.post::<Key>("/v1/keys", &key).await {
        assert!(begun.elapsed() < Duration::from_secs(15), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An object that is not there is no reason to forget the key: its record stays, the replica is set aside.
#[tokio::test(flavor = "multi_thread")]
async fn s16_a_missing_object_sets_the_replica_aside_and_the_record_stays() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "hosted", "")].concat();
    let daemon = Daemon::with_backends(&tables);
    into(&daemon, &["room"], card_key(), crate::purse::DLK).await;
    let before = room.objects();
    let key = into(&daemon, &["room", "hosted"], generic("CMAC"), CMAC).await;
    for object in room.objects().difference(&before) {
        std::fs::remove_file(object).unwrap();
    }
    signal(&daemon, "room", Signal::KILL).await;
    let begun = Instant::now();
    while status(&daemon, "room").await.quarantined != [key.id.clone()] {
        mac(&daemon).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "it is not set aside");
    }
    let kept: Key = daemon.client("officer").get(&format!("/v1/keys/{}", key.id), &()).await.unwrap();
    assert_eq!((kept.state.as_str(), kept.backends), ("active", key.backends));
}

/// A soft token does one thing at a time whatever the threads; processes do not share its locks.
#[tokio::test(flavor = "multi_thread")]
async fn s17_calls_spread_over_several_workers_of_one_module() {
    let room = Token::softhsm();
    let (daemon, _) = with_mac_key(&room.backend("room", "on-prem", "workers = 2"), &["room"]).await;
    let begun = Instant::now();
    while status(&daemon, "room").await.workers.len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10), "one worker only");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let workers = status(&daemon, "room").await.workers;
    let used = |worker: &u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before: Vec<u64> = workers.iter().map(used).collect();
    let call = async || {
        let messages = vec!["6BC1BEE22E409F96E93D7E117393172A".to_owned(); 4000];
        let request = MacGenerate { key: reference(), padding: "none".to_owned(), length: None, messages };
        let made: MacResult = daemon.client("card-management").post("/v1/mac/generate", &request).await.unwrap();
        assert!(made.macs.iter().all(|mac| mac == "070A16B46B4D4144F79BDD9DD04A287C"));
    };
    for _ in 0..4 {
        tokio::join!(call(), call(), call(), call());
    }
    let after: Vec<u64> = workers.iter().map(used).collect();
    let grown: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert!(grown.iter().all(|ticks| *ticks >= 5), "ticks of the processor: {grown:?}");
}

/// `p11-kit server` passes on no derivation and no CMAC, whatever the token behind it lists.
#[test]
fn s18_behind_a_poor_remote_only_what_was_proved_is_claimed() {
    let (remote, _server) = Token::remote();
    let table = remote.backend("remote", "hosted", "");
    let file = remote.path("backends.toml");
    std::fs::write(&file, &table).unwrap();
    let output = crate::daemon::cli(&["doctor", "--config", file.to_str().unwrap(), "--json"]);
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(&output)));
    let exposure = |recipe: &str| told["recipes"][recipe]["exposure"].as_str().unwrap().to_owned();
    assert_eq!(exposure("generate_cmac.aes128"), "impossible");
    assert_eq!(exposure("verify_purse.3des"), "card-key", "inside the token it would be nothing");
    assert_eq!(exposure("verify_transactions.3des"), "card-key");
    // And what is claimed is done: a day under a city's key, dispersed by the remote token.
    verify_day_on(&Daemon::with_backends(&table), "cjt166-city-held");
}

/// Vendors' libraries crash; the daemon does not, and other backends never notice.
#[tokio::test(flavor = "multi_thread")]
async fn s19_a_module_that_crashes_takes_nobody_with_it() {
    let room = Token::softhsm();
    let tables = [EMBEDDED, &room.backend("room", "on-prem", "")].concat();
    let daemon = Daemon::with_backends(&tables);
    into(&daemon, &["room"], generic("CMAC"), CMAC).await;
    into(&daemon, &["embedded"], card_key(), crate::purse::DLK).await;
    let first = status(&daemon, "room").await.workers;
    signal(&daemon, "room", Signal::ABORT).await;
    let found: claviger_client::PurseResult =
        daemon.client("card-management").post("/v1/purse", &crate::purse::load("2988AE5A", "4096")).await.unwrap();
    assert!(found.valid);
    mac_before_long(&daemon).await;
    assert_ne!(status(&daemon, "room").await.workers, first);
}

/// Two members of a cluster that should hold the same keys: one was restored from the wrong backup.
#[tokio::test(flavor = "multi_thread")]
async fn s20_a_replica_that_drifted_serves_nobody() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "hosted", "")].concat();
    let daemon = Daemon::with_backends(&tables);
    let objects = async |version: &str, backends: &[&str], value: &str| {
        let before = room.objects();
        let key = into(&daemon, backends, NewKey { version: version.to_owned(), ..generic("CMAC") }, value).await;
        let new: Vec<_> = room.objects().difference(&before).cloned().collect();
        (key, new)
    };
    // The record key of the token comes with the first.
    objects("02", &["room"], "00112233445566778899AABBCCDDEEFF").await;
    let (_, other) = objects("03", &["room"], "FFEEDDCCBBAA99887766554433221100").await;
    let (key, own) = objects("01", &["room", "hosted"], CMAC).await;
    give_value(&own[0], &other[0]);
    signal(&daemon, "room", Signal::KILL).await;
    let begun = Instant::now();
    while status(&daemon, "room").await.quarantined != [key.id.clone()] {
        mac(&daemon).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "it is not set aside");
    }
    mac(&daemon).await.unwrap();
}

/// A vendor's code has no privileges that it does not need, and nothing of the daemon's environment.
#[tokio::test(flavor = "multi_thread")]
async fn workers_are_jailed() {
    let room = Token::softhsm();
    // Only root can be somebody else.
    let root = rustix::process::getuid().is_root();
    let settings = if root { "user = \"nobody\"" } else { "" };
    if root {
        room.open_to_all();
    }
    let (daemon, _) = with_mac_key(&room.backend("room", "on-prem", settings), &["room"]).await;
    let worker = status(&daemon, "room").await.workers[0];
    let about = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let is = |name: &str, wanted: &str| {
        let line = about.lines().find(|line| line.starts_with(name)).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(wanted), "{line}");
    };
    if root {
        is("Uid:", "65534");
    }
    is("NoNewPrivs:", "1");
    ["CapEff:", "CapPrm:", "CapInh:"].iter().for_each(|set| is(set, "0000000000000000"));
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")), "{limits}");
    let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
    let names: Vec<&str> = std::str::from_utf8(&environment)
        .unwrap()
        .split('\0')
        .filter_map(|variable| Some(variable.split_once('=')?.0))
        .collect();
    assert_eq!(names, ["CLAVIGER_WORKER_SETTINGS", "SOFTHSM2_CONF"]);
}
