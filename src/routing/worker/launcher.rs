//! The process that starts workers and does nothing else. It holds no key, no connection and no configuration, so that
//! the daemon itself need not be able to start processes.
//!
//! The daemon asks over a socket that keeps packets apart, and hands the worker's end of its socket over with the
//! question. The answer is the worker's process id.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// How long the launcher may take to start a worker.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of a question; environments are short.
const QUESTION: usize = 64 << 10;

/// How a worker is to be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Start {
    /// Shown in its arguments, for operators.
    pub(super) backend: String,
    /// All of its environment.
    pub(super) environment: BTreeMap<String, String>,
    /// Whom it runs as; as the launcher if none.
    pub(super) user: Option<User>,
}

/// A user of the system.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::routing) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// The user of that name, as `/etc/passwd` has it.
    pub(in crate::routing) fn named(name: &str) -> Option<Self> {
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
    running: Mutex<Option<Running>>,
}

struct Running {
    socket: OwnedFd,
    process: Child,
}

impl Launcher {
    /// A launcher that is started when it is first needed, and again if it is lost.
    pub fn new() -> Self {
        Self { running: Mutex::new(None) }
    }

    /// Starts it now, while the daemon still can.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(&self) -> io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = Some(spawn()?);
        Ok(())
    }

    /// The launcher's process id, for tests that end it.
    pub fn process(&self) -> Option<u32> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|running| running.process.id())
    }

    /// Has a worker started with `socket` as its standard input; its process id.
    pub(super) fn worker(&self, start: &Start, socket: OwnedFd) -> io::Result<u32> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launcher) = &*running {
            match ask(&launcher.socket, start, &socket) {
                Ok(id) => return Ok(id),
                Err(Refused::Worker(error)) => return Err(error),
                // The launcher itself is gone: another takes its place.
                Err(Refused::Launcher(error)) => tracing::warn!(%error, "the launcher is gone and is started again"),
            }
        }
        if let Some(mut lost) = running.take() {
            let _ = lost.process.kill();
            let _ = lost.process.wait();
        }
        let launcher = running.insert(spawn()?);
        ask(&launcher.socket, start, &socket).map_err(|refused| match refused {
            Refused::Worker(error) | Refused::Launcher(error) => error,
        })
    }
}

impl Default for Launcher {
    fn default() -> Self {
        Self::new()
    }
}

enum Refused {
    /// The worker could not be started.
    Worker(io::Error),
    /// The launcher does not answer.
    Launcher(io::Error),
}

fn spawn() -> io::Result<Running> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // One that does not answer is as good as gone.
    set_socket_timeout(&ours, Timeout::Recv, Some(ANSWER))?;
    set_socket_timeout(&ours, Timeout::Send, Some(ANSWER))?;
    let process = Command::new(std::env::current_exe()?)
        .arg("launcher")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        // What ends the daemon at a terminal lets it drain first: its workers are still needed then.
        .process_group(0)
        .spawn()?;
    Ok(Running { socket: ours, process })
}

fn ask(launcher: &OwnedFd, start: &Start, socket: &OwnedFd) -> Result<u32, Refused> {
    let question = postcard::to_stdvec(start).map_err(|error| Refused::Worker(io::Error::other(error)))?;
    let gone = |error: rustix::io::Errno| Refused::Launcher(error.into());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(launcher, &[IoSlice::new(&question)], &mut control, SendFlags::NOSIGNAL).map_err(gone)?;
    let mut answer = [0; 512];
    let (len, _) = rustix::net::recv(launcher, &mut answer, RecvFlags::empty()).map_err(gone)?;
    match postcard::from_bytes::<Result<u32, String>>(&answer[..len]) {
        Ok(Ok(id)) => Ok(id),
        Ok(Err(reason)) => Err(Refused::Worker(io::Error::other(reason))),
        Err(_) => Err(Refused::Launcher(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The launcher's side: starts workers until the daemon closes its end.
///
/// # Errors
/// If the socket fails.
pub fn launch() -> io::Result<()> {
    let socket = rustix::stdio::stdin().try_clone_to_owned()?;
    let mut workers: Vec<Child> = Vec::new();
    let mut question = vec![0; QUESTION];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&socket, &mut [IoSliceMut::new(&mut question)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Ok(());
        }
        // Workers that have ended leave no trace.
        workers.retain_mut(|worker| matches!(worker.try_wait(), Ok(None)));
        let handed = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        let started = postcard::from_bytes::<Start>(&question[..received.bytes])
            .map_err(|error| error.to_string())
            .and_then(|start| start_worker(&start, handed).map_err(|error| error.to_string()));
        let answer = started.map(|worker| {
            let id = worker.id();
            workers.push(worker);
            id
        });
        let answer = postcard::to_stdvec(&answer).map_err(io::Error::other)?;
        rustix::net::send(&socket, &answer[..answer.len().min(512)], SendFlags::NOSIGNAL)?;
    }
}

fn start_worker(start: &Start, socket: Option<OwnedFd>) -> io::Result<Child> {
    let socket = socket.ok_or_else(|| io::Error::other("no socket was handed over"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["worker", "--backend", &start.backend])
        .env_clear()
        .envs(&start.environment)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .current_dir("/");
    if let Some(user) = start.user {
        command.uid(user.uid).gid(user.gid);
    }
    command.spawn()
}
