//! One worker as the daemon sees it: questions with deadlines, and an end that nobody waits for.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_hsm_api::DriverError;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::frame::{Assignment, Reply, Request, Response, Task, read, write};
use super::launcher::Launcher;

/// How long a frame may take to be written.
const WRITE: Duration = Duration::from_secs(2);

/// The driver's name in errors about the process itself.
const NAME: &str = "worker";

/// A running worker.
pub(super) struct Process {
    to: Mutex<UnixStream>,
    launcher: Arc<Launcher>,
    /// Kills exactly this process, even if its id is another's by now.
    handle: OwnedFd,
    pub(super) id: u32,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU64,
    epoch: Arc<AtomicU64>,
    dead: Arc<AtomicBool>,
    pub(super) busy: AtomicUsize,
}

/// Who waits for which answer; none once the worker is gone.
type Waiting = Option<HashMap<u64, SyncSender<Result<Reply, DriverError>>>>;

impl Process {
    /// Starts a worker and tells it what it is.
    pub(super) fn start(
        launcher: &Arc<Launcher>,
        backend: &str,
        assignment: &Assignment,
    ) -> std::io::Result<Arc<Self>> {
        let (ours, theirs) = UnixStream::pair()?;
        let id = launcher.worker(backend, theirs.into())?;
        let pid = Pid::from_raw(id as i32).ok_or_else(|| std::io::Error::other("no process id"))?;
        // The worker waits for its assignment, so it is still there.
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let mut to = ours.try_clone()?;
        // A worker that is stopped does not read: nobody waits for it with the lock held.
        to.set_write_timeout(Some(WRITE))?;
        write(&mut to, assignment)?;
        let process = Arc::new(Self {
            to: Mutex::new(to),
            launcher: Arc::clone(launcher),
            handle,
            id,
            waiting: Arc::new(Mutex::new(Some(HashMap::new()))),
            next: AtomicU64::new(0),
            epoch: Arc::new(AtomicU64::new(0)),
            dead: Arc::default(),
            busy: AtomicUsize::new(0),
        });
        let (waiting, epoch, dead) =
            (Arc::clone(&process.waiting), Arc::clone(&process.epoch), Arc::clone(&process.dead));
        let backend = backend.to_owned();
        std::thread::Builder::new().name(format!("worker {backend}")).spawn(move || {
            let why = listen(ours, &waiting, &epoch);
            let why =
                if dead.load(Ordering::Acquire) { "it was ended: it did not answer, or is not needed" } else { why };
            dead.store(true, Ordering::Release);
            tracing::warn!(backend, worker = id, why, "a worker is gone");
            // Whoever still waits learns that nobody knows.
            lock(&waiting).take();
        })?;
        Ok(process)
    }

    /// Whether it is gone.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// The driver's epoch as the last answer told it.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Asks, and waits no longer than `deadline`: a worker that has not answered by then is killed, since a vendor's
    /// call cannot be cancelled.
    pub(super) fn ask(&self, task: Task, deadline: Duration) -> Result<Reply, DriverError> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let result = self.ask_it(task, deadline);
        self.busy.fetch_sub(1, Ordering::Relaxed);
        result
    }

    fn ask_it(&self, task: Task, deadline: Duration) -> Result<Reply, DriverError> {
        let gone = || DriverError::backend(NAME, "ask", "the worker is gone");
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = sync_channel(1);
        lock(&self.waiting).as_mut().ok_or_else(gone)?.insert(number, tell);
        let mut frame = zeroize::Zeroizing::new(Vec::new());
        write(&mut *frame, &Request { number, task }).map_err(|error| DriverError::caller(NAME, "ask", error))?;
        // The lock is given back before the process is ended, which takes it too.
        let written = self.to.lock().unwrap_or_else(PoisonError::into_inner).write_all(&frame);
        if let Err(error) = written {
            self.kill();
            return Err(DriverError::unknown(NAME, "ask", error));
        }
        match answer.recv_timeout(deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                let reason = format!("no answer in {} ms, so the worker was killed", deadline.as_millis());
                Err(DriverError::unknown(NAME, "ask", reason))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(DriverError::unknown(NAME, "ask", "the worker ended before it answered"))
            }
        }
    }

    /// Ends the process at once. Its sockets close with it, and the listener tells those who wait.
    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        // That it is gone already is what was wanted. One that runs as somebody else is the launcher's to end.
        if pidfd_send_signal(&self.handle, Signal::KILL) == Err(Errno::PERM) {
            self.launcher.kill(self.id);
        }
        let to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = to.shutdown(std::net::Shutdown::Both);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands answers to those who wait, until the stream ends or holds something else; why it did.
fn listen(from: UnixStream, waiting: &Mutex<Waiting>, epoch: &AtomicU64) -> &'static str {
    let mut from = BufReader::new(from);
    loop {
        match read::<Response>(&mut from) {
            Ok(Some(response)) => {
                epoch.store(response.epoch, Ordering::Release);
                let answer = lock(waiting).as_mut().and_then(|waiting| waiting.remove(&response.number));
                match answer {
                    // Whoever asked may have given up.
                    Some(tell) => drop(tell.send(response.result)),
                    None => return "it answered what nobody asked",
                }
            }
            Ok(None) => return "it ended",
            Err(_) => return "its frames are damaged",
        }
    }
}
