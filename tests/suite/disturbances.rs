//! What happens under a running daemon, to its files and at its door, by accident or on purpose.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use claviger_client::{Client, ClientError, Key, KeyFilter, KeyList, SetKeyState};
use serde_json::json;
use tokio::net::TcpStream;

use crate::approvals::{approve, log};
use crate::daemon::{Daemon, cli, problem, words};
use crate::load::{CMAC, generic, into};
use crate::reload::{configuration, reload};

async fn generate(daemon: &Daemon, version: &str) -> Result<Key, ClientError> {
    let key =
        json!({ "tenant": "demo", "scheme": "generic", "role": "CMAC", "version": version, "algorithm": "aes128" });
    daemon.client("officer").post("/v1/keys", &key).await
}

async fn versions(daemon: &Daemon) -> Vec<String> {
    let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
    let KeyList { keys } = daemon.client("officer").get("/v1/keys", &filter).await.unwrap();
    keys.into_iter().map(|key| key.version).collect()
}

/// Nothing is done of which the log does not know: where it takes no record, nothing is begun, and what is done was begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_written_down_before_it_is_made() {
    let mut daemon = Daemon::start();
    let key = generate(&daemon, "01").await.unwrap();
    let state = SetKeyState { state: "suspended".to_owned() };
    let path = format!("/v1/keys/{}/state", key.id);
    let _: Key = daemon.client("officer").post(&path, &state).await.unwrap();
    for action in ["generate_key", "suspend_key"] {
        let of = |outcome: &str| {
            let outcome = format!("\"outcome\":\"{outcome}\"");
            let of_action = format!("\"action\":\"{action}\"");
            log(&daemon).lines().position(|line| line.contains(&of_action) && line.contains(&outcome)).unwrap()
        };
        assert!(of("begun") < of("done"), "{action}");
    }
    let (there, away) = (daemon.data().join("audit.jsonl"), daemon.data().join("away"));
    std::fs::rename(&there, &away).unwrap();
    assert_eq!(problem(generate(&daemon, "02").await).code, "audit_failed");
    std::fs::rename(&away, &there).unwrap();
    daemon.kill_and_restart();
    assert_eq!(versions(&daemon).await, ["01"], "a key was made that the log does not know of");
    generate(&daemon, "02").await.unwrap();
}

/// Whatever kills the daemon, and when: each key that is destroyed was about to be, says the log.
#[tokio::test(flavor = "multi_thread")]
async fn no_kill_leaves_a_change_without_a_record() {
    let mut daemon = Daemon::start();
    let mut destroyed = 0;
    for round in 0..6_u8 {
        let mut keys = Vec::new();
        for number in 0..8 {
            keys.push(generate(&daemon, &format!("{:02X}", 16 * round + number)).await.unwrap());
        }
        let client = daemon.client("officer");
        let ended = Arc::new(AtomicBool::new(false));
        let one_has = Arc::clone(&ended);
        let working = tokio::spawn(async move {
            for key in keys {
                let state = SetKeyState { state: "destroyed".to_owned() };
                let done = client.post::<Key>(&format!("/v1/keys/{}/state", key.id), &state).await;
                one_has.store(true, Ordering::Relaxed);
                if done.is_err() {
                    return;
                }
            }
        });
        // However slow the machine: one is destroyed, and others are about to be.
        while !ended.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(3 + 4 * u64::from(round))).await;
        daemon.kill_and_restart();
        let _ = working.await;
        let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
        let KeyList { keys } = daemon.client("officer").get("/v1/keys", &filter).await.unwrap();
        let log = log(&daemon);
        for key in keys.iter().filter(|key| key.state == "destroyed") {
            let of_key = format!("demo/generic/CMAC aes128 {}", key.version);
            let known =
                |line: &str| line.contains("\"destroy_key\"") && line.contains(&of_key) && line.contains("\"begun\"");
            assert!(log.lines().any(known), "{} is destroyed, and the log knows nothing of it", key.version);
            destroyed += 1;
        }
    }
    assert!(destroyed > 0, "nothing was destroyed");
}

/// Runs a statement on the store of a daemon that does not run.
fn in_store(daemon: &Daemon, statement: &str) {
    let script = "import sqlite3, sys\nd = sqlite3.connect(sys.argv[1])\nd.execute(sys.argv[2])\nd.commit()";
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let store = daemon.data().join("claviger.db");
    let done = Command::new(python).args(["-c", script, store.to_str().unwrap(), statement]).output().unwrap();
    assert!(done.status.success(), "{}", words(&done));
}

/// An approval is used once, whatever somebody writes into the store.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_the_log_has_as_used_is_used() {
    let daemon = Daemon::start();
    let production = configuration(&daemon).replace("policies = \"dev\"", "policies = \"production\"");
    assert!(reload(&daemon, &production).await.contains("done"));
    // A master key in the daemon's own memory.
    let master = json!({ "tenant": "demo", "scheme": "cjt166", "role": "DTK", "version": "01", "algorithm": "3des" });
    let make = async |officer: Client| officer.post::<Key>("/v1/keys", &master).await;
    let needed = problem(make(daemon.client("officer")).await);
    let id = needed.approval.unwrap_or_else(|| panic!("{}", needed.detail));
    approve(&daemon, &id, "officer-2").await.unwrap();
    approve(&daemon, &id, "officer-3").await.unwrap();
    let with = |daemon: &Daemon| daemon.client("officer").approved(Some(id.clone()));
    make(with(&daemon)).await.unwrap();
    assert!(log(&daemon).lines().any(|line| line.contains(&id) && line.contains("\"begun\"")), "its use is in the log");
    let daemon = daemon.stop();
    in_store(&daemon, "UPDATE proposals SET state = 'open'");
    let daemon = daemon.serve(&production);
    let again = problem(make(with(&daemon)).await);
    assert_eq!(again.code, "proposal_over", "{again:?}");
}

/// A change that nobody would find after the next start is not acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_taken_away_takes_no_change() {
    type TakenAway = fn(&Path);
    let ways: [TakenAway; 2] = [
        |store| std::fs::remove_file(store).unwrap(),
        |store| {
            let other = store.with_extension("other");
            std::fs::copy(store, &other).unwrap();
            std::fs::rename(other, store).unwrap();
        },
    ];
    for take_away in ways {
        let daemon = Daemon::start();
        generate(&daemon, "01").await.unwrap();
        take_away(&daemon.data().join("claviger.db"));
        let refused = problem(generate(&daemon, "02").await);
        assert_eq!((refused.status, refused.code.as_str()), (503, "store_failed"), "{refused:?}");
        assert!(refused.detail.contains("is not the file that was opened any more"), "{refused:?}");
    }
}

/// While nothing can be written nothing is done, and once it can be, everything is as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_full_goes_on_once_there_is_room() {
    let daemon = Daemon::start();
    generate(&daemon, "01").await.unwrap();
    let set = |limit: &str| {
        let process = daemon.process().to_string();
        let set = Command::new("prlimit").args(["--pid", &process, &format!("--fsize={limit}")]).output().unwrap();
        assert!(set.status.success(), "{}", words(&set));
    };
    // As much as the log may still grow to: what the store writes ahead is beyond it already.
    let log = std::fs::metadata(daemon.data().join("audit.jsonl")).unwrap().len();
    let ahead = std::fs::metadata(daemon.data().join("claviger.db-wal")).unwrap().len();
    assert!(ahead > log + 100_000 || ahead > 2 * log, "{ahead} bytes are written ahead, and {log} in the log");
    set(&format!("{}:unlimited", (log + 20_000).min(ahead)));
    for version in ["02", "03", "04", "05"] {
        let refused = problem(generate(&daemon, version).await);
        assert_eq!(refused.code, "store_failed", "{refused:?}");
    }
    set("unlimited:unlimited");
    for version in ["02", "03", "04", "05", "06", "07"] {
        generate(&daemon, version).await.unwrap();
    }
    assert_eq!(versions(&daemon).await.len(), 7);
}

/// Silent strangers hold every place for a handshake, and take each one that is given up: callers come in all the same.
#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_keep_nobody_out() {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let address = daemon.connection("officer").url.trim_start_matches("https://").to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let (to, told) = (address.clone(), Arc::clone(&stop));
    let strangers = tokio::spawn(async move {
        let mut silent = std::collections::VecDeque::new();
        while !told.load(Ordering::Relaxed) {
            if let Ok(stream) = TcpStream::connect(&to).await {
                silent.push_back(stream);
            }
            if silent.len() > 400 {
                silent.pop_front();
            }
            // Some hundreds a second.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        silent.len()
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    for _ in 0..40 {
        // Each with a connection of its own.
        assert_eq!(versions(&daemon).await.len(), 1);
    }
    println!("40 new callers beside silent strangers took {:?}", begun.elapsed());
    stop.store(true, Ordering::Relaxed);
    assert!(strangers.await.unwrap() > 300, "there were not as many strangers as places");
}

/// What is run, and by what PIN, nobody else puts another in the place of.
#[test]
fn a_module_or_a_pin_that_others_could_replace_is_not_gone_by() {
    let certificates = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for directory in ["modules", "pins"] {
        std::fs::create_dir(at(directory)).unwrap();
    }
    std::fs::write(at("modules/m.so"), "no library").unwrap();
    std::fs::write(at("pins/pin"), "1234\n").unwrap();
    let backend = "[[backend]]\nname = \"room\"\ndriver = \"pkcs11\"\nmodule = \"modules/m.so\"\n\
        token = { label = \"t\" }\npin = { file = \"pins/pin\" }\n";
    let config =
        crate::serving::configure(folder.path(), &certificates, &format!("[seal]\nkey_file = \"k\"\n{backend}"));
    let set = |file: &Path, mode: u32| {
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    set(&at("pins/pin"), 0o600);
    for (file, loose, as_it_was) in [
        ("modules", 0o777, 0o755),
        ("modules/m.so", 0o666, 0o644),
        ("pins", 0o773, 0o755),
        ("pins/pin", 0o620, 0o600),
        ("claviger.toml", 0o622, 0o644),
    ] {
        set(&at(file), loose);
        let refused = cli(&["serve", "--config", &config]);
        let said = words(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("{} can be changed by others", at(file).display())), "{file}: {said}");
        set(&at(file), as_it_was);
    }
}

/// What root starts workers by is root's: the daemon that has become another user writes no word of it. Only root can show that.
#[test]
fn a_launcher_that_is_root_goes_by_no_other_users_configuration() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let certificates = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let config = crate::serving::configure(folder.path(), &certificates, "[seal]\nkey_file = \"k\"");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("user = \"nobody\"\n{text}")).unwrap();
    for theirs in [Path::new(&config), folder.path()] {
        std::os::unix::fs::chown(theirs, Some(65534), None).unwrap();
        let said = words(&cli(&["serve", "--config", &config]));
        assert!(said.contains("what root starts workers by must be root's alone"), "{said}");
        assert!(said.contains(&format!("{} belongs to user 65534", theirs.display())), "{said}");
        std::os::unix::fs::chown(theirs, Some(0), None).unwrap();
    }
}

/// A pipe or a device in the place of the configuration holds nobody up.
#[test]
fn a_configuration_is_a_plain_file() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, device) = (folder.path().join("pipe.toml"), folder.path().join("device.toml"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
    for config in [pipe, device] {
        for command in ["serve", "init", "doctor"] {
            let refused = cli(&[command, "--config", config.to_str().unwrap()]);
            assert_eq!(refused.status.code(), Some(2), "{command}");
            assert!(words(&refused).contains("it is no plain file"), "{command}: {}", words(&refused));
        }
    }
}
