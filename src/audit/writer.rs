//! The one writer: waiting records are written together and synchronised once.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::chain::{ChainError, Head, Verified, verify};
use super::queue::{Bringers, Coming, NotTaken, Queue};
use super::{Blinding, Event, Signer};

/// The log cannot take a record; the answer that it speaks of must not leave.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AuditError(String);

type Answer = Result<u64, AuditError>;

/// A record, and who is answered on it.
type Waiting = (Event, Place);

/// How long a record may stand unsigned.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// The audit log, open for appending.
#[derive(Clone)]
pub struct Audit {
    queue: Arc<Bringers<Waiting>>,
    signer: Arc<OnceLock<Signer>>,
    /// What was there when it was opened.
    before: Arc<Verified>,
}

/// A place in the log for a record that is still to come, from whatever thread brings it: whoever is to wait for the record
/// need not wait for the thread first, and is woken once. Meanwhile the writer knows that it comes.
pub struct Place {
    answer: oneshot::Sender<Answer>,
    _coming: Coming,
}

/// Where it is said that a record is on disk.
pub struct Written(oneshot::Receiver<Answer>);

impl Place {
    fn answer(self, answer: Answer) {
        // Whoever asked may have gone; the record stays.
        let _ = self.answer.send(answer);
    }
}

impl Written {
    /// The number of the record once it is on disk.
    ///
    /// # Errors
    /// [`AuditError`], also if the place was given up; then the record may or may not be there, and the answer must not leave.
    pub async fn wait(self) -> Result<u64, AuditError> {
        self.0.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Audit {
    /// Opens or makes the log, checks it, drops the half line that a crash may have left, and starts the
    /// writer.
    ///
    /// # Errors
    /// If the log does not verify or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ChainError> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let verified = verify(path)?;
        let (head, signed) = (verified.head.clone(), verified.signed);
        drop_half_line(&mut file, path)?;
        let (bringers, queue) = Queue::new();
        let signer = Arc::new(OnceLock::new());
        let lines = Vec::new();
        let log = Log { file, path: path.to_owned(), head, signed, signer: Arc::clone(&signer), lines };
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || log.write_all(queue))?;
        Ok(Self { queue: Arc::new(bringers), signer, before: Arc::new(verified) })
    }

    /// The log as it was when it was opened.
    pub fn before(&self) -> &Verified {
        &self.before
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
        let (place, written) = self.place();
        self.append_at(place, event);
        written.wait().await
    }

    /// The same from a thread that may wait.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_blocking(&self, event: Event) -> Result<u64, AuditError> {
        let (place, written) = self.place();
        self.append_at(place, event);
        // Also where other tasks of this thread would wait: they move away.
        tokio::task::block_in_place(|| written.0.blocking_recv()).unwrap_or_else(|_| Err(stopped()))
    }

    /// A place for a record, and where it is said that the record is on disk.
    pub fn place(&self) -> (Place, Written) {
        let (answer, written) = oneshot::channel();
        (Place { answer, _coming: self.queue.come() }, Written(written))
    }

    /// Appends a record at its place, without waiting for it.
    pub fn append_at(&self, place: Place, event: Event) {
        if cfg!(feature = "unguarded") {
            return place.answer(Ok(0));
        }
        if let Err((error, place)) = self.enqueue(event, place) {
            place.answer(Err(error));
        }
    }

    /// Appends a record without waiting for it: for what nobody is answered on.
    pub fn append_detached(&self, event: Event) {
        if let Err((error, _)) = self.enqueue(event, self.place().0) {
            tracing::error!(%error, "a record is lost");
        }
    }

    fn enqueue(&self, event: Event, place: Place) -> Result<(), (AuditError, Place)> {
        self.queue.bring((event, place)).map_err(|(why, (_, place))| match why {
            NotTaken::Full => (AuditError("too many records are waiting".to_owned()), place),
            NotTaken::Stopped => (stopped(), place),
        })
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
    /// What is to be written next; kept for its memory.
    lines: Vec<u8>,
}

impl Log {
    /// After the first failure the chain's end is unknown, so the writer stops and every later record fails.
    fn write_all(mut self, mut queue: Queue<Waiting>) {
        let mut signed_at = Instant::now();
        let mut group = Vec::new();
        loop {
            if !queue.take(&mut group, CHECKPOINT) {
                // What nobody is answered on any more is signed all the same.
                if let Err(failure) = self.checkpoint() {
                    tracing::error!(%failure, "the end of the audit log is not signed");
                }
                return;
            }
            let done = if group.is_empty() { Ok(()) } else { self.write(&mut group) };
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

    fn write(&mut self, group: &mut Vec<Waiting>) -> Result<(), AuditError> {
        let first = self.head.records() + 1;
        let now = jiff::Timestamp::now().to_string();
        let mut places = Vec::with_capacity(group.len());
        let mut lines = std::mem::take(&mut self.lines);
        let mut done = Ok(());
        for (event, place) in group.drain(..) {
            places.push(place);
            if done.is_ok() {
                done = self.head.extend(event, now.clone(), &mut lines);
            }
        }
        let done = done.map_err(|error| AuditError(error.to_string())).and_then(|()| self.put(&lines));
        lines.clear();
        self.lines = lines;
        for (seq, place) in (first..).zip(places) {
            place.answer(done.clone().map(|()| seq));
        }
        done
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
