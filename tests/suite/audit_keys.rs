//! An audit log that is signed by a key in a token.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use claviger::audit::{Verified, verify};
use rustix::process::Signal;

use crate::daemon::{Daemon, cli, problem, words};
use crate::load::{CMAC, generic, into, mac, signal};
use crate::reload::configuration;
use crate::tokens::Token;

const EMBEDDED: &str = "[[backend]]\nname = \"embedded\"\ndriver = \"software\"\n";
/// Hexadecimal digits of a key of P-256; one that belongs to a storage master key has 64.
const POINT: usize = 130;

/// The same with the log signed in the backend `room`.
fn signed_in_room(configuration: &str, more: &str) -> String {
    format!("{configuration}\n[audit]\nsigned_by = \"room\"\n{more}\n")
}

/// The log once the last of its keys has signed whatever is in it.
fn once_signed(log: &Path, wanted: impl Fn(&Verified) -> bool) -> Verified {
    let begun = Instant::now();
    loop {
        match verify(log) {
            Ok(verified) if verified.unsigned == 0 && wanted(&verified) => return verified,
            other => assert!(begun.elapsed() < Duration::from_secs(20), "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a token signed last.
fn is_in_token(log: &Verified) -> bool {
    log.keys.last().is_some_and(|key| key.len() == POINT)
}

/// What a daemon says that does not start.
fn refusal(configuration: &str, daemon: &Daemon) -> String {
    let path = daemon.data().join("claviger.toml");
    std::fs::write(&path, configuration).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(["serve", "--config", path.to_str().unwrap()])
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    assert!(!output.status.success());
    words(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_signs_the_log_and_nobody_else_goes_on_with_it() {
    for token in [Token::softhsm(), Token::nss()] {
        let daemon = Daemon::with_backends(&format!("{}{EMBEDDED}", token.backend("room", "on-prem", "")));
        into(&daemon, &["embedded"], generic("CMAC"), CMAC).await;
        let (log, before) = (daemon.data().join("audit.jsonl"), configuration(&daemon));
        let derived = once_signed(&log, |log| log.checkpoints > 0).keys;
        // A log that was begun without it is handed over.
        let daemon = daemon.serve(&signed_in_room(&before, ""));
        mac(&daemon).await.unwrap();
        let [first, last] = &once_signed(&log, |log| log.keys.len() > 1).keys[..] else { panic!("two keys") };
        assert_eq!((first, last.len()), (&derived[0], POINT));
        let text = std::fs::read_to_string(&log).unwrap();
        let said = format!("signed by {first} until here, and by {last} from here");
        let lines: Vec<&str> = text.lines().skip_while(|line| !line.contains(&said)).collect();
        assert!(lines[1].contains(&format!("\"key\":\"{first}\"")), "the one before has signed that: {}", lines[1]);
        let path = log.to_str().unwrap();
        assert_eq!(cli(&["audit", "verify", path, "--signed-by", last]).status.code(), Some(0));
        assert_eq!(cli(&["audit", "verify", path, "--signed-by", first]).status.code(), Some(1));
        // It goes on with that key, of the token and not of the daemon.
        let daemon = daemon.serve(&signed_in_room(&before, ""));
        mac(&daemon).await.unwrap();
        let again = once_signed(&log, |log| log.keys.len() > 1);
        assert_eq!(&again.keys, &[first.clone(), last.clone()]);
        let daemon = daemon.stop();
        let told = refusal(&before, &daemon);
        assert!(told.contains(&format!("it is signed by {last}")), "{told}");
        // Unless whoever configures it says that that key signs no more; which the log keeps.
        let daemon = daemon.serve(&format!("{before}\n[audit]\nafter = \"{last}\"\n"));
        mac(&daemon).await.unwrap();
        let derived = once_signed(&log, |log| log.keys.len() > 2).keys.pop().unwrap();
        assert_eq!(&derived, first);
        let said = format!("signed by {last} until here, and by {first} from here");
        assert!(std::fs::read_to_string(&log).unwrap().contains(&said));
        // A backend that keeps no such key, and one that is not there, are said before anybody is answered.
        let daemon = daemon.stop();
        let wrong = signed_in_room(&before, "").replace("signed_by = \"room\"", "signed_by = \"embedded\"");
        assert!(refusal(&wrong, &daemon).contains("keeps no key pair of the daemon's"));
        let wrong = wrong.replace("signed_by = \"embedded\"", "signed_by = \"cellar\"");
        assert!(refusal(&wrong, &daemon).contains("no [[backend]] with the name `cellar`"));
    }
}

/// A token that does not answer keeps no call waiting; but nothing is answered for long that nobody has signed.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_signs_takes_no_more_after_a_while() {
    let (remote, server) = Token::remote();
    let daemon = Daemon::with_backends(&format!("{}{EMBEDDED}", remote.backend("room", "hosted", "deadline_ms = 300")));
    into(&daemon, &["embedded"], generic("CMAC"), CMAC).await;
    let signed = signed_in_room(&configuration(&daemon), "unsigned_seconds = 2");
    let daemon = daemon.serve(&signed);
    mac(&daemon).await.unwrap();
    let log = daemon.data().join("audit.jsonl");
    once_signed(&log, is_in_token);
    server.signal(Signal::STOP);
    let (begun, mut made) = (Instant::now(), 0);
    let refused = loop {
        match mac(&daemon).await {
            Ok(()) => made += 1,
            refused => break problem(refused),
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "records go unsigned");
    };
    assert_eq!((refused.code.as_str(), refused.status), ("audit_failed", 503), "{refused:?}");
    assert!(made > 10 && begun.elapsed() > Duration::from_secs(2), "{made} in {:?}", begun.elapsed());
    let waiting = verify(&log).unwrap();
    assert!(waiting.unsigned >= made, "{waiting:?}");
    server.signal(Signal::CONT);
    let begun = Instant::now();
    while mac(&daemon).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let signed = once_signed(&log, |log| log.signed > waiting.head.records());
    assert!(is_in_token(&signed), "{signed:?}");
}

/// Another token of the same name makes a key of its own: that is no signature of this log.
#[tokio::test(flavor = "multi_thread")]
async fn another_tokens_signature_is_none() {
    let token = Token::softhsm();
    let (tokens, empty, away) = (token.path("tokens"), token.path("empty"), token.path("away"));
    let copied = Command::new("cp").arg("-r").args([&tokens, &empty]).status().unwrap();
    assert!(copied.success());
    let daemon = Daemon::with_backends(&format!("{}{EMBEDDED}", token.backend("room", "on-prem", "")));
    into(&daemon, &["embedded"], generic("CMAC"), CMAC).await;
    let signed = signed_in_room(&configuration(&daemon), "unsigned_seconds = 1");
    let daemon = daemon.serve(&signed);
    mac(&daemon).await.unwrap();
    let log = daemon.data().join("audit.jsonl");
    let before = once_signed(&log, is_in_token);
    std::fs::rename(&tokens, &away).unwrap();
    std::fs::rename(&empty, &tokens).unwrap();
    signal(&daemon, "room", Signal::KILL).await;
    let begun = Instant::now();
    let refused = loop {
        if let refused @ Err(_) = mac(&daemon).await {
            break problem(refused);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on by another key");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(refused.code, "audit_failed");
    assert_eq!(verify(&log).unwrap().keys, before.keys);
    let (daemon, last) = (daemon.stop(), before.keys.last().unwrap());
    let told = refusal(&signed, &daemon);
    assert!(told.contains(&format!("it is signed by {last}")), "{told}");
    std::fs::rename(&tokens, &empty).unwrap();
    std::fs::rename(&away, &tokens).unwrap();
    let daemon = daemon.serve(&signed);
    mac(&daemon).await.unwrap();
    assert_eq!(once_signed(&log, |log| log.signed > before.signed).keys, before.keys);
}

/// A daemon that is told to stop leaves a log that is signed to its end, whoever signs.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_has_its_last_record_signed() {
    let token = Token::softhsm();
    let daemon = Daemon::with_backends(&format!("{}{EMBEDDED}", token.backend("room", "on-prem", "")));
    into(&daemon, &["embedded"], generic("CMAC"), CMAC).await;
    let (log, derived) = (daemon.data().join("audit.jsonl"), configuration(&daemon));
    let signed = signed_in_room(&derived, "");
    let mut daemon = daemon;
    for configuration in [&derived, &signed] {
        for _ in 0..3 {
            daemon = daemon.serve(configuration);
            mac(&daemon).await.unwrap();
            assert!(daemon.terminate().success());
            let verified = verify(&log).unwrap();
            assert_eq!((verified.unsigned, is_in_token(&verified)), (0, configuration == &signed), "{verified:?}");
            assert_eq!(verified.end.map(|end| end.seq), Some(verified.signed), "the end beside it as well");
        }
    }
}
