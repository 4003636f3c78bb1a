//! The one writer: waiting records are written together and synchronised once.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::Event;
use super::chain::{ChainError, Head, verify};

/// The log cannot take a record; the answer that it speaks of must not leave.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AuditError(String);

type Waiting = (Event, oneshot::Sender<Result<u64, AuditError>>);

/// Records waiting to be written, at most; beyond it callers are refused rather than kept.
const QUEUE: usize = 4096;

/// The audit log, open for appending.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::SyncSender<Waiting>,
}

impl Audit {
    /// Opens or makes the log, checks it, drops the half line that a crash may have left, and starts the
    /// writer.
    ///
    /// # Errors
    /// If the log does not verify or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ChainError> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let head = verify(path)?;
        drop_half_line(&mut file, path)?;
        let (queue, waiting) = mpsc::sync_channel::<Waiting>(QUEUE);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || write_all(file, head, waiting))?;
        Ok(Self { queue })
    }

    /// Appends a record and returns its number once it is on disk.
    ///
    /// # Errors
    /// [`AuditError`]; then the record may or may not be there, and the answer must not leave.
    pub async fn append(&self, event: Event) -> Result<u64, AuditError> {
        self.enqueue(event)?.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// The same from a thread that may wait.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_blocking(&self, event: Event) -> Result<u64, AuditError> {
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

/// After the first failure the chain's end is unknown, so the writer stops and every later record fails.
fn write_all(mut file: File, mut head: Head, waiting: mpsc::Receiver<Waiting>) {
    while let Ok(first) = waiting.recv() {
        let mut lines = Vec::new();
        let mut answers = Vec::new();
        let mut failure = None;
        for (event, answer) in std::iter::once(first).chain(waiting.try_iter().take(QUEUE)) {
            match head.extend(event, jiff::Timestamp::now().to_string(), &mut lines) {
                Ok(seq) => answers.push((seq, answer)),
                Err(error) => failure = Some(AuditError(error.to_string())),
            }
        }
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        let failure = failure.or_else(|| written.err().map(|error| AuditError(error.to_string())));
        for (seq, answer) in answers {
            // The caller may have gone; its record stays.
            let _ = answer.send(failure.clone().map_or(Ok(seq), Err));
        }
        if let Some(failure) = failure {
            tracing::error!(%failure, "audit writer stops");
            return;
        }
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
