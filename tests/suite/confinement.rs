//! What the daemon has given up. What it cannot do any more is tried in processes of their own, which are confined by the
//! same code.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use claviger::config::Config;
use claviger::confinement::{after_start, before_threads};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use rustix::process::{Pid, Signal, getuid, kill_process};

use crate::daemon::Daemon;
use crate::load::{CMAC, generic, into, launcher, mac_before_long, signal, status};
use crate::tokens::Token;

const TRIAL: &str = "CLAVIGER_CONFINED_TRIAL";

/// Runs one of the trials below in a process of its own.
fn confined(trial: &str) -> Output {
    let this = std::env::current_exe().unwrap();
    Command::new(this).args(["--exact", "confinement::trial", "--nocapture"]).env(TRIAL, trial).output().unwrap()
}

/// Not a test of its own: what a confined process tries. Without a name it does nothing.
#[test]
fn trial() {
    let Ok(trial) = std::env::var(TRIAL) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claviger.toml");
    let user = if trial == "user" { "user = \"nobody\"\n" } else { "" };
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndata = \"data\"\n{user}[tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n"
    );
    std::fs::write(&path, &text).unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let config = Config::load(&path).unwrap();
    before_threads(&config, &path).unwrap();
    let denied = |error: std::io::Error| assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{error}");
    match trial.as_str() {
        "files" => {
            std::fs::write(config.data.join("store"), "written").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            denied(std::fs::write(&path, "changed").unwrap_err());
            denied(std::fs::read("/etc/group").unwrap_err());
            denied(std::fs::read_dir("/root").unwrap_err());
            denied(std::net::TcpStream::connect("127.0.0.1:1").unwrap_err());
            denied(Command::new("/bin/true").spawn().unwrap_err());
            assert!(std::net::TcpListener::bind("127.0.0.1:0").is_ok());
        }
        "user" => {
            assert_eq!(getuid().as_raw(), 65534);
            assert!(rustix::thread::set_thread_uid(rustix::process::Uid::ROOT).is_err(), "it became root again");
        }
        "calls" => {
            after_start().unwrap();
            // Threads, files and time are still there.
            let thread = std::thread::spawn(|| Instant::now().elapsed());
            assert!(thread.join().unwrap() < Duration::from_secs(1));
            std::fs::write(config.data.join("store"), "written").unwrap();
        }
        "process" => {
            after_start().unwrap();
            let _ = Command::new("/bin/true").spawn();
            unreachable!("a process was begun");
        }
        "socket" => {
            after_start().unwrap();
            let _ = std::net::TcpListener::bind("127.0.0.1:0");
            unreachable!("a socket was made");
        }
        "owner" => {
            after_start().unwrap();
            let _ = rustix::thread::set_thread_uid(rustix::process::Uid::ROOT);
            unreachable!("it asked to be somebody else");
        }
        other => panic!("no trial {other}"),
    }
}

#[test]
fn what_is_not_the_daemons_cannot_be_opened_nor_reached() {
    let output = confined("files");
    assert!(output.status.success(), "{}", crate::daemon::words(&output));
}

#[test]
fn a_user_of_its_own_stays_that_user() {
    if !getuid().is_root() {
        // Only root can become another.
        assert!(crate::daemon::words(&confined("user")).contains("only root can become another user"));
        return;
    }
    let output = confined("user");
    assert!(output.status.success(), "{}", crate::daemon::words(&output));
}

#[test]
fn no_process_no_socket_and_no_other_user_once_it_serves() {
    let output = confined("calls");
    assert!(output.status.success(), "{}", crate::daemon::words(&output));
    for trial in ["process", "socket", "owner"] {
        let output = confined(trial);
        // In a build for tests such a call ends the process: SIGSYS.
        assert_eq!(output.status.signal(), Some(Signal::SYS.as_raw()), "{trial}: {}", crate::daemon::words(&output));
    }
}

fn about(process: u32) -> String {
    std::fs::read_to_string(format!("/proc/{process}/status")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_serves_has_given_up_what_it_can() {
    let daemon = Daemon::start();
    for thread in std::fs::read_dir(format!("/proc/{}/task", daemon.process())).unwrap() {
        let about = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for (name, wanted) in [
            ("NoNewPrivs:", "1"),
            ("Seccomp:", "2"),
            ("CapEff:", "0000000000000000"),
            ("CapPrm:", "0000000000000000"),
            ("CapInh:", "0000000000000000"),
        ] {
            let line = about.lines().find(|line| line.starts_with(name)).unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some(wanted), "{about}");
        }
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.process())).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    // Now, and at most: it cannot be raised again.
    assert_eq!(cores.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
    // Files that it makes are its own alone.
    for entry in std::fs::read_dir(daemon.data()).unwrap().map(Result::unwrap) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions());
        let made_by_the_daemon = ["db", "jsonl", "head"].iter().any(|end| entry.path().to_string_lossy().contains(end));
        assert!(!made_by_the_daemon || mode & 0o077 == 0, "{:?} has mode {mode:o}", entry.path());
    }
}

fn kill(process: u32) {
    kill_process(Pid::from_raw(process as i32).unwrap(), Signal::KILL).unwrap();
}

/// The one child of a process that is a launcher, once there is one.
async fn child_of(process: u32) -> u32 {
    let children = Path::new("/proc").join(process.to_string()).join(format!("task/{process}/children"));
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(&children).unwrap_or_default();
        let is_launcher = |child: &u32| {
            std::fs::read(format!("/proc/{child}/cmdline"))
                .is_ok_and(|line| line.windows(8).any(|word| word == b"launcher"))
        };
        if let Some(child) = text.split_whitespace().map(|id| id.parse().unwrap()).find(is_launcher) {
            // A worker looks like the launcher that starts it until it runs its own program.
            tokio::time::sleep(Duration::from_millis(200)).await;
            if is_launcher(&child) {
                return child;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "process {process} has no child");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_back_whichever_launcher_ends() {
    let room = Token::softhsm();
    let daemon = Daemon::with_backends(&room.backend("room", "on-prem", ""));
    into(&daemon, &["room"], generic("CMAC"), CMAC).await;
    let keeper = launcher(&daemon).as_raw_pid() as u32;
    let serving = child_of(keeper).await;

    kill(serving);
    signal(&daemon, "room", Signal::KILL).await;
    mac_before_long(&daemon).await;
    let serving = child_of(keeper).await;

    kill(keeper);
    // The one that serves takes the part of the one that kept it.
    let serves_next = child_of(serving).await;
    signal(&daemon, "room", Signal::KILL).await;
    mac_before_long(&daemon).await;
    kill(serves_next);
    signal(&daemon, "room", Signal::KILL).await;
    mac_before_long(&daemon).await;
    assert!(about(daemon.process()).contains("Seccomp:\t2"), "all this in a daemon that can start no process");
    assert!(!status(&daemon, "room").await.workers.is_empty());
}

/// Asks a launcher as the daemon does; what it answers.
fn ask(launcher: &OwnedFd, question: &[u8]) -> Vec<u8> {
    let (kept, handed) = UnixStream::pair().unwrap();
    let sockets = [handed.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)));
    sendmsg(launcher, &[IoSlice::new(question)], &mut control, SendFlags::empty()).unwrap();
    // A worker waits for its assignment as long as the other end is there.
    std::mem::forget(kept);
    let mut answer = vec![0; 512];
    let len = rustix::net::recv(launcher, &mut answer, RecvFlags::empty()).unwrap().0;
    answer.truncate(len);
    answer
}

/// Whoever has taken the daemon over names a backend and nothing else: not a library that comes along, nor who runs it, as root
/// where the launcher is.
#[test]
fn a_launcher_starts_what_the_configuration_says_whatever_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claviger.toml");
    let root = getuid().is_root();
    let user = if root { "user = \"nobody\"\n" } else { "" };
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndata = \"data\"\n{user}[tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n\
         [[backend]]\nname = \"room\"\ndriver = \"pkcs11\"\nmodule = \"/m.so\"\ntoken = {{ label = \"t\" }}\n\
         pin = {{ file = \"p\" }}\nenv = {{ OWN = \"1\" }}\n"
    );
    std::fs::write(&path, &text).unwrap();
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let mut launcher = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(["launcher", "--config", path.to_str().unwrap()])
        .stdin(theirs)
        .spawn()
        .unwrap();
    // Number, start, the name; and what once was heard: what is around it, and that nobody in particular runs it.
    let told = |name: &str| [&[1, 0, name.len() as u8], name.as_bytes(), b"\x01\x0aLD_PRELOAD\x05/e.so\x00"].concat();
    let refused = ask(&ours, &told("attic"));
    assert!(String::from_utf8_lossy(&refused).contains("has no backend `attic`"), "{refused:?}");
    let (number, worker): (u64, Result<u32, String>) = postcard::from_bytes(&ask(&ours, &told("room"))).unwrap();
    let worker = worker.unwrap();
    assert_eq!(number, 1);
    let of = |file: &str| std::fs::read(format!("/proc/{worker}/{file}")).unwrap();
    let begun = Instant::now();
    while !String::from_utf8_lossy(&of("cmdline")).contains("worker") {
        assert!(begun.elapsed() < Duration::from_secs(10), "the worker does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let around = String::from_utf8(of("environ")).unwrap();
    let names: Vec<&str> = around.split('\0').filter_map(|variable| Some(variable.split_once('=')?.0)).collect();
    assert_eq!(names, ["CLAVIGER_WORKER_SETTINGS", "OWN"]);
    assert!(around.contains("module = \"/m.so\""), "{around}");
    if root {
        assert!(String::from_utf8(of("status")).unwrap().contains("Uid:\t65534\t65534"));
    }
    drop(ours);
    launcher.wait().unwrap();
}
