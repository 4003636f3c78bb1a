//! The audit log of a real daemon, and what becomes of it when somebody changes it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use claviger::audit::{ChainError, SignedHead, Verified, verify, verify_lines};
use claviger_client::{Key, KeyFilter, KeyList};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::daemon::{Daemon, cli, problem, words};
use crate::load::{CMAC, generic, into, mac};

/// A log with some hundred records and several checkpoints, and the signed end beside it.
async fn log() -> (Daemon, PathBuf) {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let log = daemon.data().join("audit.jsonl");
    for _ in 0..3 {
        for _ in 0..40 {
            mac(&daemon).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    until_it_is_signed(&log);
    (daemon, log)
}

/// Until the last record is signed, beside the checkpoint that does.
pub(crate) fn until_it_is_signed(log: &Path) {
    let begun = Instant::now();
    // The signed end is put beside the log after the record of it is in it.
    let is_beside = |log: &Verified| log.end.as_ref().is_some_and(|end| end.seq == log.signed);
    while verify(log).is_ok_and(|log| log.signed + 1 < log.head.records() || !is_beside(&log)) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the end is not signed");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The same records as anybody could write them who can write the file: another story, a chain of hashes, no signature.
pub(crate) fn forged(log: &Path, change: impl Fn(&str) -> String) -> String {
    let (mut forged, mut before) = (String::new(), "0".repeat(64));
    let kept = lines(log).into_iter().filter(|line| !line.contains("\"event\":\"checkpoint\""));
    for (number, line) in (1..).zip(kept) {
        let line = change(&line);
        let end = line.rfind(",\"hash\"").unwrap();
        let begin = line.find("\"time\"").unwrap();
        let rest = &line[begin..end];
        let (time, rest) = rest.split_once(",\"prev\":\"").unwrap();
        let text = format!("{{\"seq\":{number},{time},\"prev\":\"{before}\"{}}}", &rest[65..]);
        before = hex::encode(Sha256::digest(&text));
        forged += &format!("{},\"hash\":\"{before}\"}}\n", text.strip_suffix('}').unwrap());
    }
    forged
}

fn lines(log: &Path) -> Vec<String> {
    std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A generator of its own, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_changes_are_found_where_they_are() {
    let (_daemon, log) = log().await;
    let whole = lines(&log);
    let head = SignedHead::beside(&log).unwrap().unwrap();
    let check = |lines: &[String]| verify_lines(joined(lines).as_bytes(), Some(&head));
    let verified = check(&whole).unwrap();
    assert!(verified.checkpoints >= 3 && whole.len() > 120, "{verified:?}, {} lines", whole.len());
    let mut dice = Dice(0x5EED);
    let signed = head.seq as usize;
    for _ in 0..250 {
        // One byte is another.
        let (mut changed, at) = (whole.clone(), dice.below(signed));
        let mut bytes = changed[at].clone().into_bytes();
        let place = dice.below(bytes.len());
        bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
        changed[at] = String::from_utf8_lossy(&bytes).into_owned();
        let found = check(&changed).unwrap_err();
        assert_eq!(found.line(), Some(at as u64 + 1), "{found}: byte {place} of line {}", at + 1);

        let (mut removed, at) = (whole.clone(), dice.below(signed));
        removed.remove(at);
        let found = check(&removed).unwrap_err();
        // What follows does not follow; of the last signed one, the end is missing.
        assert!(found.line().is_some_and(|line| line as usize == at + 1), "{found}: without line {}", at + 1);

        let (mut swapped, at) = (whole.clone(), dice.below(signed - 1));
        swapped.swap(at, at + 1);
        assert_eq!(check(&swapped).unwrap_err().line(), Some(at as u64 + 1));

        let at = dice.below(signed);
        let found = check(&whole[..at]).unwrap_err();
        assert!(
            matches!(found, ChainError::Cut { line, signed } if line == at as u64 && signed == head.seq),
            "{found}"
        );
    }
    // Nor may the last line be missing, a checkpoint that signs all of those.
    let found = check(&whole[..signed]).unwrap_err();
    assert!(
        matches!(found, ChainError::CutBefore { line, signed: of } if line == signed as u64 && of == line),
        "{found}"
    );
}

/// Whoever can write the file can make hashes, but not signatures.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_was_made_anew_is_found_by_its_checkpoints() {
    let (_daemon, log) = log().await;
    let mut forged = lines(&log);
    let at = forged.iter().position(|line| line.contains("generate_mac")).unwrap();
    forged[at] = forged[at].replace("generate_mac", "encrypt");
    let mut before: Option<String> = None;
    for line in &mut forged[at..] {
        let mut record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        if let Some(before) = before {
            record["prev"] = before.into();
        }
        // As the daemon writes it, but for the hash.
        let hash = record.remove("hash").unwrap().as_str().unwrap().to_owned();
        let end = line.rfind(",\"hash\"").unwrap();
        let mut text = line[..end].to_owned() + "}";
        let old = serde_json::from_str::<serde_json::Value>(&text).unwrap()["prev"].as_str().unwrap().to_owned();
        text = text.replacen(&old, record["prev"].as_str().unwrap(), 1);
        let new = hex::encode(Sha256::digest(&text));
        *line = format!("{},\"hash\":\"{new}\"}}", text.strip_suffix('}').unwrap());
        assert_ne!(hash, new);
        before = Some(new);
    }
    std::fs::write(&log, joined(&forged)).unwrap();
    let found = verify(&log).unwrap_err();
    assert!(matches!(found, ChainError::Forged { line, .. } if line as usize > at + 1), "{found}");
    let output = cli(&["audit", "verify", log.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(words(&output).contains("were written anew"), "{}", words(&output));
    assert_eq!(cli(&["audit", "export", log.to_str().unwrap()]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_checks_the_log_and_passes_it_on() {
    let (mut daemon, log) = log().await;
    let path = log.to_str().unwrap();
    let output = cli(&["audit", "verify", path, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let key = told["keys"][0].as_str().unwrap().to_owned();
    assert!(told["checkpoints"].as_u64().unwrap() >= 3);
    assert_eq!(cli(&["audit", "verify", path, "--signed-by", &key]).status.code(), Some(0));
    assert_eq!(cli(&["audit", "verify", path, "--signed-by", &"00".repeat(32)]).status.code(), Some(1));
    // Written anew without a signature, it is a chain like any other; whoever knows the key is not deceived.
    let other =
        daemon.file("forged.jsonl", forged(&log, |line| line.replace("officer/officer", "officer/mallory")).as_bytes());
    let believed = cli(&["audit", "verify", &other]);
    let said = words(&believed);
    assert!(believed.status.success() && said.contains("none of them is signed"), "{said}");
    assert!(said.contains("whether it was cut off at its end is not known"), "{said}");
    let refused = cli(&["audit", "verify", &other, "--signed-by", &key]);
    assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
    assert!(words(&refused).contains("no record of it is signed"), "{}", words(&refused));
    // A signed end of another's beside the true log.
    let own = daemon.file("own.jsonl", &std::fs::read(&log).unwrap());
    let mut end: serde_json::Value =
        serde_json::from_slice(&std::fs::read(log.with_extension("head")).unwrap()).unwrap();
    let stranger = claviger::audit::Signer::of(&[7; 32])
        .unwrap()
        .sign(end["seq"].as_u64().unwrap(), end["hash"].as_str().unwrap());
    end = serde_json::to_value(stranger.unwrap()).unwrap();
    std::fs::write(own.replace(".jsonl", ".head"), end.to_string()).unwrap();
    assert_eq!(cli(&["audit", "verify", &own, "--signed-by", &key]).status.code(), Some(1));
    // A line that was not written to its end is told.
    let torn = [std::fs::read(&log).unwrap(), b"{\"seq\":".to_vec()].concat();
    let torn = daemon.file("torn.jsonl", &torn);
    assert!(words(&cli(&["audit", "verify", &torn])).contains("7 bytes after them"));
    // Whoever reads it while it is written leaves that line out.
    for command in [["audit", "export"], ["usage", "--daily"]] {
        let read = cli(&[&command[..], &[&torn]].concat());
        assert!(read.status.success(), "{}", words(&read));
    }
    // An end that the auditor took away: the log leads to it still, and not when it was rolled back.
    let kept = daemon.folder.path().join("kept.json");
    std::fs::copy(log.with_extension("head"), &kept).unwrap();
    let older = std::fs::read(&log).unwrap();
    let old_head = std::fs::read(log.with_extension("head")).unwrap();
    mac(&daemon).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(cli(&["audit", "verify", path, "--head", kept.to_str().unwrap()]).status.code(), Some(0));
    let newest = daemon.folder.path().join("newest.json");
    std::fs::copy(log.with_extension("head"), &newest).unwrap();
    let exported = cli(&["audit", "export", path, "--event", "decision", "--after", "5"]);
    let text = String::from_utf8(exported.stdout).unwrap();
    assert!(text.lines().count() > 100 && text.lines().all(|line| line.contains("\"event\":\"decision\"")));
    std::fs::write(&log, &older).unwrap();
    // Cut: the daemon does not start on it, and says so to whoever asks.
    let cut = cli(&["audit", "verify", path]);
    assert!(cut.status.code() == Some(1) && words(&cut).contains("it was cut off"), "{}", words(&cut));
    // Log and end rolled back together are found by an end that is elsewhere.
    std::fs::write(log.with_extension("head"), old_head).unwrap();
    assert_eq!(cli(&["audit", "verify", path]).status.code(), Some(0));
    let rolled_back = cli(&["audit", "verify", path, "--head", newest.to_str().unwrap()]);
    assert_eq!(rolled_back.status.code(), Some(1), "{}", words(&rolled_back));
    daemon.kill_and_restart();
    mac(&daemon).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_no_more_lets_nothing_out() {
    let mut daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let log = daemon.data().join("audit.jsonl");
    mac(&daemon).await.unwrap();
    // As on a full disk, from some record on: a limit on the size of files does the same to this one process.
    let limit = std::fs::metadata(&log).unwrap().len() + 6000;
    let set = std::process::Command::new("prlimit")
        .args(["--pid", &daemon.process().to_string(), &format!("--fsize={limit}:{limit}")])
        .output()
        .unwrap();
    assert!(set.status.success(), "{}", words(&set));
    let (mut made, mut refused) = (1, 0);
    for _ in 0..60 {
        match mac(&daemon).await {
            Ok(()) => {
                assert_eq!(refused, 0, "a call was let through after the log took no more");
                made += 1;
            }
            Err(claviger_client::ClientError::Problem(problem)) => {
                assert_eq!((problem.code.as_str(), problem.status), ("audit_failed", 503));
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(made > 2 && refused > 20, "{made} made, {refused} refused");
    daemon.kill_and_restart();
    let whole = verify(&log).unwrap();
    let written = lines(&log).iter().filter(|line| line.contains("generate_mac")).count();
    assert!(written >= made, "{made} were answered and {written} stand in the log of {} records", whole.head.records());
    mac(&daemon).await.unwrap();
}

/// What takes the log away from under the daemon, and what it then says of it.
type TakenAway = (&'static str, fn(&Path));

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_taken_away_lets_nothing_out() {
    let ways: [TakenAway; 3] = [
        ("No such file", |log| std::fs::remove_file(log).unwrap()),
        ("another file", |log| {
            let other = log.with_extension("other");
            std::fs::copy(log, &other).unwrap();
            std::fs::rename(other, log).unwrap();
        }),
        ("0 bytes", |log| std::fs::OpenOptions::new().write(true).open(log).unwrap().set_len(0).unwrap()),
    ];
    for (said, take_away) in ways {
        let daemon = Daemon::start();
        into(&daemon, &[], generic("CMAC"), CMAC).await;
        mac(&daemon).await.unwrap();
        take_away(&daemon.data().join("audit.jsonl"));
        let first = problem(mac(&daemon).await);
        assert_eq!((first.code.as_str(), first.status), ("audit_failed", 503));
        assert!(first.detail.contains(said), "{first:?}");
        let next = problem(mac(&daemon).await);
        assert!(next.code == "audit_failed" && next.detail.contains("restart the daemon"), "{next:?}");
        // Nor is a refusal that needs no decision let out.
        let unread = problem(daemon.client("clearing").get::<serde_json::Value>("/v1/nothing", &()).await);
        assert_eq!(unread.code, "audit_failed");
        let ready = daemon.client("clearing").get::<serde_json::Value>("/readyz", &()).await.unwrap_err();
        assert!(ready.to_string().contains("503"), "{ready}");
    }
}

/// Whoever hangs up leaves nothing half done: each key that was made stands in the log, and no other does.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_goes_away_from_is_ended_and_written_down() {
    let daemon = Daemon::start();
    let officer = daemon.client("officer");
    let mut answered = 0;
    for number in 1..=100u64 {
        let version = format!("{number:02X}");
        let key =
            json!({ "tenant": "demo", "scheme": "generic", "role": "CMAC", "version": version, "algorithm": "aes128" });
        let patience = Duration::from_micros(100 * number);
        if let Ok(made) = tokio::time::timeout(patience, officer.post::<Key>("/v1/keys", &key)).await {
            made.unwrap();
            answered += 1;
        }
    }
    let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
    let written = || {
        let made = |line: &&String| line.contains("\"generate_key\"") && line.contains("\"outcome\":\"done\"");
        lines(&daemon.data().join("audit.jsonl")).iter().filter(made).count()
    };
    let (begun, mut before) = (Instant::now(), 0);
    // Until nothing is under way any more.
    let keys = loop {
        let KeyList { keys } = officer.get("/v1/keys", &filter).await.unwrap();
        if keys.len() == before && keys.len() == written() {
            break keys.len();
        }
        before = keys.len();
        assert!(begun.elapsed() < Duration::from_secs(10), "{before} keys, and {} in the log", written());
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    assert!(keys > answered, "{keys} keys, {answered} answered: nobody hung up while one was made");
}
