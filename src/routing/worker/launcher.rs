//! The launcher starts workers and does nothing else. It holds no key and no connection, so that the daemon itself need not be
//! able to start processes.
//!
//! The daemon names a backend over a socket that keeps packets apart, and hands the worker's end of its socket over with the
//! question. What runs then, as whom and with what around it is not the daemon's to say: the launcher, which may be root where the
//! daemon is not, reads it in the configuration. The answer is the worker's process id. Since a confined daemon cannot start the launcher again, it is two
//! processes: one serves, and the other starts it anew when it ends; when that other one ends, the one that serves takes
//! its part.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How long the launcher may take to start a worker.
const ANSWER: Duration = Duration::from_secs(2);
/// How long the one that keeps waits before it starts another that serves.
const AGAIN: Duration = Duration::from_millis(100);
/// How often a launcher that serves looks whether it is still kept.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a question; environments are short.
const QUESTION: usize = 64 << 10;

/// What the daemon asks.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    /// Its answer has the same: one that came too late is nobody's.
    number: u64,
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
enum What {
    /// For a worker of the backend of that name; its socket comes along.
    Start(String),
    /// For the end of one, which may be of another user than the daemon.
    Kill(u32),
}

/// How a backend's workers are started, by the configuration.
#[derive(Debug, Clone)]
pub struct Start {
    /// The driver's name in the registry.
    pub driver: String,
    /// Its table, as TOML.
    pub settings: String,
    /// What is around it of the vendor's.
    pub environment: BTreeMap<String, String>,
    /// Whom it runs as; as the launcher if none.
    pub user: Option<User>,
}

/// The environment variable by which a worker hears its driver's table.
pub const SETTINGS: &str = "CLAVIGER_WORKER_SETTINGS";

/// A user of the system.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
}

impl User {
    /// The user of that name, as `/etc/passwd` has it.
    pub fn named(name: &str) -> Option<Self> {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        fields.into_iter().find_map(|fields| match fields.as_slice() {
            [found, _, uid, gid, ..] if *found == name => Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? }),
            _ => None,
        })
    }
}

/// The daemon's side.
pub struct Launcher {
    /// The arguments that say where the backends stand.
    backends: Vec<PathBuf>,
    running: Mutex<Option<Running>>,
}

struct Running {
    socket: OwnedFd,
    process: Child,
}

impl Launcher {
    /// A launcher for the backends of a daemon's configuration, which is started when it is first needed, and again if it is lost.
    pub fn of(config: &Path) -> Self {
        let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
        Self { backends: vec!["--config".into(), config], running: Mutex::new(None) }
    }

    /// The same for a file of which nothing but its backends is read.
    pub fn of_backends(config: &Path) -> Self {
        let mut launcher = Self::of(config);
        launcher.backends.push("--backends-only".into());
        launcher
    }

    /// Starts it now, while the daemon still can.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(&self) -> io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = Some(self.spawn()?);
        Ok(())
    }

    /// The launcher's process id, for tests that end it.
    pub fn process(&self) -> Option<u32> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|running| running.process.id())
    }

    /// Has a worker started with `socket` as its standard input; its process id.
    pub(super) fn worker(&self, backend: &str, socket: OwnedFd) -> io::Result<u32> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launcher) = &*running {
            match ask(&launcher.socket, What::Start(backend.to_owned()), Some(&socket)) {
                Ok(id) => return Ok(id),
                Err(Refused::Worker(error)) => return Err(error),
                // Both of its processes are gone.
                Err(Refused::Launcher(error)) => tracing::warn!(%error, "the launcher is gone"),
            }
        }
        let launcher = self.spawn().map_err(|error| {
            let words = format!("the launcher is gone, and a confined daemon starts none: restart it ({error})");
            io::Error::other(words)
        })?;
        if let Some(mut lost) = running.replace(launcher) {
            let _ = lost.process.kill();
            let _ = lost.process.wait();
        }
        let launcher = running.as_ref().ok_or_else(|| io::Error::other("no launcher"))?;
        ask(&launcher.socket, What::Start(backend.to_owned()), Some(&socket)).map_err(|refused| match refused {
            Refused::Worker(error) | Refused::Launcher(error) => error,
        })
    }

    /// Has a worker ended that the daemon may not end itself.
    pub(super) fn kill(&self, worker: u32) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launcher) = &*running
            && let Err(Refused::Worker(error) | Refused::Launcher(error)) =
                ask(&launcher.socket, What::Kill(worker), None)
        {
            tracing::warn!(worker, %error, "a worker could not be ended");
        }
    }

    fn spawn(&self) -> io::Result<Running> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // One that does not answer is as good as gone.
        set_socket_timeout(&ours, Timeout::Recv, Some(ANSWER))?;
        set_socket_timeout(&ours, Timeout::Send, Some(ANSWER))?;
        let process = Command::new(std::env::current_exe()?)
            .arg("launcher")
            .args(&self.backends)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            // What ends the daemon at a terminal lets it drain first: its workers are still needed then.
            .process_group(0)
            .spawn()?;
        Ok(Running { socket: ours, process })
    }
}

enum Refused {
    /// The worker could not be started.
    Worker(io::Error),
    /// The launcher does not answer.
    Launcher(io::Error),
}

fn ask(launcher: &OwnedFd, what: What, socket: Option<&OwnedFd>) -> Result<u32, Refused> {
    static QUESTIONS: AtomicU64 = AtomicU64::new(0);
    let number = QUESTIONS.fetch_add(1, Ordering::Relaxed);
    let question =
        postcard::to_stdvec(&Question { number, what }).map_err(|error| Refused::Worker(io::Error::other(error)))?;
    let gone = |error: Errno| Refused::Launcher(error.into());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<_> = socket.into_iter().map(AsFd::as_fd).collect();
    if !sockets.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&sockets));
    }
    sendmsg(launcher, &[IoSlice::new(&question)], &mut control, SendFlags::NOSIGNAL).map_err(gone)?;
    let mut answer = [0; 512];
    loop {
        let len = match rustix::net::recv(launcher, &mut answer, RecvFlags::empty()) {
            // Whoever took the question may have ended with it: it is asked again with another socket.
            Err(error @ Errno::AGAIN) => return Err(Refused::Worker(error.into())),
            received => received.map_err(gone)?.0,
        };
        match postcard::from_bytes::<(u64, Result<u32, String>)>(&answer[..len]) {
            Ok((of, _)) if of != number => {}
            Ok((_, Ok(id))) => return Ok(id),
            Ok((_, Err(reason))) => return Err(Refused::Worker(io::Error::other(reason))),
            Err(_) => return Err(Refused::Launcher(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// How the workers of a backend are started; an error, if there is no such backend.
pub type StartOf<'a> = dyn FnMut(&str) -> io::Result<Start> + 'a;

/// The launcher's side: starts workers, each as `start_of` says, until the daemon closes its end. `serves` says which of its two
/// processes this is.
///
/// # Errors
/// If the socket fails.
pub fn launch(serves: bool, start_of: &mut StartOf<'_>) -> io::Result<()> {
    if serves && !serve_while_kept(start_of)? {
        return Ok(());
    }
    keep()
}

/// What the one of the two processes that serves is told.
const SERVES: &str = "--serves";

/// Starts a process that serves, and another whenever one ends before the daemon does.
fn keep() -> io::Result<()> {
    loop {
        let socket = rustix::stdio::stdin().try_clone_to_owned()?;
        let asked = std::env::args_os().skip(1).filter(|argument| argument != SERVES);
        let serving = Command::new(std::env::current_exe()?)
            .args(asked)
            .arg(SERVES)
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .spawn()?;
        // Workers that this process started when it served itself end here too.
        let ended = loop {
            match rustix::process::wait(WaitOptions::empty())? {
                Some((process, status)) if process == Pid::from_child(&serving) => break status,
                _ => {}
            }
        };
        if ended.exit_status() == Some(0) {
            return Ok(());
        }
        std::thread::sleep(AGAIN);
    }
}

/// Serves until the daemon closes its end, or until nobody keeps this process: whether that is it.
fn serve_while_kept(start_of: &mut StartOf<'_>) -> io::Result<bool> {
    let socket = rustix::stdio::stdin().try_clone_to_owned()?;
    let keeper = rustix::process::getppid();
    set_socket_timeout(&socket, Timeout::Recv, Some(LOOK))?;
    let mut workers: Vec<Child> = Vec::new();
    let mut question = vec![0; QUESTION];
    loop {
        if rustix::process::getppid() != keeper {
            return Ok(true);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(&socket, &mut [IoSliceMut::new(&mut question)], &mut control, flags) {
            Err(Errno::AGAIN | Errno::INTR) => continue,
            received => received?,
        };
        if received.bytes == 0 {
            return Ok(false);
        }
        // Workers that have ended leave no trace.
        workers.retain_mut(|worker| matches!(worker.try_wait(), Ok(None)));
        let handed = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        let Ok(Question { number, what }) = postcard::from_bytes::<Question>(&question[..received.bytes]) else {
            // Of the same program there is none that cannot be read; nobody waits for its answer.
            continue;
        };
        let done = match what {
            What::Start(backend) => start_worker(&backend, start_of, handed).map(|worker| {
                let id = worker.id();
                workers.push(worker);
                id
            }),
            What::Kill(worker) => end_worker(worker).map(|()| worker),
        };
        let answer = done.map_err(|error| error.to_string());
        let answer = postcard::to_stdvec(&(number, answer)).map_err(io::Error::other)?;
        rustix::net::send(&socket, &answer[..answer.len().min(512)], SendFlags::NOSIGNAL)?;
    }
}

/// Ends a process if it is a worker: of this program, whoever it runs as.
fn end_worker(worker: u32) -> io::Result<()> {
    let no_worker = || io::Error::other(format!("{worker} is no worker"));
    let process = Pid::from_raw(worker as i32).ok_or_else(no_worker)?;
    let handle = pidfd_open(process, PidfdFlags::empty())?;
    if std::fs::read_link(format!("/proc/{worker}/exe"))? != std::fs::read_link("/proc/self/exe")? {
        return Err(no_worker());
    }
    Ok(pidfd_send_signal(&handle, Signal::KILL)?)
}

fn start_worker(backend: &str, start_of: &mut StartOf<'_>, socket: Option<OwnedFd>) -> io::Result<Child> {
    let socket = socket.ok_or_else(|| io::Error::other("no socket was handed over"))?;
    let start = start_of(backend)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        // The name is shown to operators.
        .args(["worker", "--backend", backend, "--driver", &start.driver])
        .env_clear()
        .envs(&start.environment)
        .env(SETTINGS, &start.settings)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .current_dir("/");
    if let Some(user) = start.user {
        command.uid(user.uid).gid(user.gid);
    }
    command.spawn()
}
