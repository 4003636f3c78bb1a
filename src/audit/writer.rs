//! The one writer: waiting records are written together and synchronised once.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::chain::{ChainError, Head, Verified, verify};
use super::{Blinding, Event, Signer};

/// The log cannot take a record; the answer that it speaks of must not leave.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AuditError(String);

type Waiting = (Event, oneshot::Sender<Result<u64, AuditError>>);

/// How long a record may stand unsigned.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// Records waiting to be written, at most; beyond it callers are refused rather than kept.
const QUEUE: usize = 4096;

/// The audit log, open for appending.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::SyncSender<Waiting>,
    signer: Arc<OnceLock<Signer>>,
}

impl Audit {
    /// Opens or makes the log, checks it, drops the half line that a crash may have left, and starts the
    /// writer.
    ///
    /// # Errors
    /// If the log does not verify or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ChainError> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let Verified { head, signed, .. } = verify(path)?;
        drop_half_line(&mut file, path)?;
        let (queue, waiting) = mpsc::sync_channel::<Waiting>(QUEUE);
        let signer = Arc::new(OnceLock::new());
        let log = Log { file, path: path.to_owned(), head, signed, signer: Arc::clone(&signer) };
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || log.write_all(&waiting))?;
        Ok(Self { queue, signer })
    }

    /// Has checkpoints signed from now on.
    pub fn sign_with(&self, signer: Signer) {
        // The daemon is unsealed once.
        let _ = self.signer.set(signer);
    }

    /// What a job's salts follow from; none while nothing is signed.
    pub fn blinding(&self, job: &str) -> Option<Blinding> {
        self.signer.get().map(|signer| signer.blinding(job))
    }

    /// Appends a record and returns its number once it is on disk.
    ///
    /// # Errors
    /// [`AuditError`]; then the record may or may not be there, and the answer must not leave.
    pub async fn append(&self, event: Event) -> Result<u64, AuditError> {
        if cfg!(feature = "unguarded") {
            return Ok(0);
        }
        self.enqueue(event)?.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// The same from a thread that may wait.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_blocking(&self, event: Event) -> Result<u64, AuditError> {
        if cfg!(feature = "unguarded") {
            return Ok(0);
        }
        self.enqueue(event)?.blocking_recv().unwrap_or_else(|_| Err(stopped()))
    }

    /// Appends a record without waiting for it: for what nobody is answered on.
    pub fn append_detached(&self, event: Event) {
        if let Err(error) = self.enqueue(event) {
            tracing::error!(%error, "a record is lost");
        }
    }

    fn enqueue(&self, event: Event) -> Result<oneshot::Receiver<Result<u64, AuditError>>, AuditError> {
        let (answer, written) = oneshot::channel();
        match self.queue.try_send((event, answer)) {
            Ok(()) => Ok(written),
            Err(mpsc::TrySendError::Full(_)) => Err(AuditError("too many records are waiting".to_owned())),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(stopped()),
        }
    }
}

fn stopped() -> AuditError {
    AuditError("its writer has stopped after an error".to_owned())
}

/// The log as its writer has it.
struct Log {
    file: File,
    path: PathBuf,
    head: Head,
    /// The last record that a checkpoint signs.
    signed: u64,
    signer: Arc<OnceLock<Signer>>,
}

impl Log {
    /// After the first failure the chain's end is unknown, so the writer stops and every later record fails.
    fn write_all(mut self, waiting: &mpsc::Receiver<Waiting>) {
        let mut signed_at = Instant::now();
        loop {
            let done = match waiting.recv_timeout(CHECKPOINT) {
                Ok(first) => self.write(std::iter::once(first).chain(waiting.try_iter().take(QUEUE))),
                Err(mpsc::RecvTimeoutError::Timeout) => Ok(()),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    // What nobody is answered on any more is signed all the same.
                    if let Err(failure) = self.checkpoint() {
                        tracing::error!(%failure, "the end of the audit log is not signed");
                    }
                    return;
                }
            };
            let done = done.and_then(|()| match signed_at.elapsed() >= CHECKPOINT {
                true => {
                    signed_at = Instant::now();
                    self.checkpoint()
                }
                false => Ok(()),
            });
            if let Err(failure) = done {
                tracing::error!(%failure, "audit writer stops");
                return;
            }
        }
    }

    fn write(&mut self, waiting: impl Iterator<Item = Waiting>) -> Result<(), AuditError> {
        let mut lines = Vec::new();
        let mut answers = Vec::new();
        let mut failure = None;
        for (event, answer) in waiting {
            match self.head.extend(event, jiff::Timestamp::now().to_string(), &mut lines) {
                Ok(seq) => answers.push((seq, answer)),
                Err(error) => failure = Some(AuditError(error.to_string())),
            }
        }
        let failure = failure.or_else(|| self.put(&lines).err());
        for (seq, answer) in answers {
            // The caller may have gone; its record stays.
            let _ = answer.send(failure.clone().map_or(Ok(seq), Err));
        }
        failure.map_or(Ok(()), Err)
    }

    /// Signs the end, if there is anything after the last checkpoint, and puts it beside the log as well.
    fn checkpoint(&mut self) -> Result<(), AuditError> {
        let Some(signer) = self.signer.get() else { return Ok(()) };
        // A checkpoint alone needs none of its own.
        if self.head.seq <= self.signed + 1 {
            return Ok(());
        }
        let signed = signer.sign(self.head.seq, &self.head.hash);
        let signed = signed.ok_or_else(|| AuditError("its end cannot be signed".to_owned()))?;
        let event = Event { event: "checkpoint".to_owned(), signed: Some(signed.clone()), ..Event::default() };
        let mut lines = Vec::new();
        let now = jiff::Timestamp::now().to_string();
        self.head.extend(event, now, &mut lines).map_err(|error| AuditError(error.to_string()))?;
        self.put(&lines)?;
        self.signed = signed.seq;
        signed.put_beside(&self.path).map_err(|error| AuditError(error.to_string()))
    }

    fn put(&mut self, lines: &[u8]) -> Result<(), AuditError> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| AuditError(error.to_string()))
    }
}

fn drop_half_line(file: &mut File, path: &Path) -> std::io::Result<()> {
    let text = std::fs::read(path)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < text.len() {
        tracing::warn!(bytes = text.len() - whole, "dropping a half-written audit record");
        file.set_len(whole as u64)?;
        file.sync_data()?;
    }
    Ok(())
}
