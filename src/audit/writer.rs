//! The one writer: waiting records are written together and synchronised once.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::away::Away;
use super::chain::{ChainError, Head, Verified, verify};
use super::checkpoint::Succession;
use super::queue::{Bringers, Coming, NotTaken, Queue};
use super::{Blinding, Event, SignedHead, Signer};

/// The log cannot take a record; the answer that it speaks of must not leave.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AuditError(String);

type Answer = Result<u64, AuditError>;

/// A record, and who is answered on it.
type Waiting = (Event, Place);

/// How long a record may stand unsigned.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// How long the writer waits for a signature from elsewhere. One that takes longer is taken in a second later.
const AT_ONCE: Duration = Duration::from_millis(20);
/// How long it waits for the last one of all.
const AT_THE_END: Duration = Duration::from_secs(5);

/// The audit log, open for appending.
#[derive(Clone)]
pub struct Audit {
    queue: Arc<Bringers<Waiting>>,
    signer: Arc<OnceLock<Signer>>,
    /// What was there when it was opened.
    before: Arc<Verified>,
    end: End,
}

/// Whether the writer has ended, which it does once nobody is left who brings records, or it is told that nobody will.
#[derive(Clone)]
pub struct End {
    ended: Arc<AtomicBool>,
    queue: Weak<Bringers<Waiting>>,
}

impl End {
    /// Waits until the last record is signed, but not for ever: a process that ends takes its threads with it. Those who are
    /// at work have a while to bring theirs; whoever is not done then, as somebody who waits for others, brings none.
    pub async fn wait(&self) {
        self.wait_for(CHECKPOINT).await;
        if let Some(queue) = self.queue.upgrade() {
            queue.end();
        }
        self.wait_for(AT_THE_END).await;
    }

    async fn wait_for(&self, most: Duration) {
        let begun = Instant::now();
        while !self.ended.load(Ordering::Acquire) && begun.elapsed() < most {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
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
        if signed > 0 && verified.end.is_none() {
            tracing::warn!(
                log = %path.display(),
                "signed records stand in the audit log, and no signed end beside it: whether it was cut is not known"
            );
        }
        let last = if verified.unsigned > 0 { head.records() } else { signed };
        drop_half_line(&mut file, path)?;
        let (bringers, queue) = Queue::new();
        let signer = Arc::new(OnceLock::new());
        let log = Log {
            len: file.metadata()?.len(),
            file,
            path: path.to_owned(),
            head,
            signed,
            last,
            signer: Arc::clone(&signer),
            is_handed_over: false,
            away: None,
            unsigned_since: None,
            trouble: String::new(),
            lines: Vec::new(),
        };
        let bringers = Arc::new(bringers);
        let end = End { ended: Arc::default(), queue: Arc::downgrade(&bringers) };
        let ended = Arc::clone(&end.ended);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            log.write_all(queue);
            ended.store(true, Ordering::Release);
        })?;
        Ok(Self { queue: bringers, signer, before: Arc::new(verified), end })
    }

    /// The log as it was when it was opened.
    pub fn before(&self) -> &Verified {
        &self.before
    }

    /// Whether it takes records.
    ///
    /// # Errors
    /// [`AuditError`] once its writer has stopped.
    pub fn is_open(&self) -> Result<(), AuditError> {
        if self.queue.is_heard() { Ok(()) } else { Err(stopped()) }
    }

    /// For whoever waits until it is written to its end.
    pub fn end(&self) -> End {
        self.end.clone()
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
    AuditError("its writer has stopped after an error: mend that, then restart the daemon".to_owned())
}

/// The log as its writer has it.
struct Log {
    file: File,
    path: PathBuf,
    /// Bytes that are in it.
    len: u64,
    head: Head,
    /// The last record that a checkpoint signs.
    signed: u64,
    /// The last record that is no checkpoint: a checkpoint alone needs none of its own.
    last: u64,
    signer: Arc<OnceLock<Signer>>,
    /// Whether it was written down which key that is, if it is another than before.
    is_handed_over: bool,
    /// Whoever signs, if the key is not here.
    away: Option<Away>,
    /// Since when there have been records that such a key has not signed.
    unsigned_since: Option<Instant>,
    /// Why it has not.
    trouble: String,
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
                if let Err(failure) = self.checkpoint().and_then(|()| self.last_checkpoint()) {
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
        if let Some(refusal) = self.unsigned_too_long() {
            group.drain(..).for_each(|(_, place)| place.answer(Err(refusal.clone())));
            return Ok(());
        }
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
        self.last = self.head.seq;
        self.unsigned_since.get_or_insert_with(Instant::now);
        for (seq, place) in (first..).zip(places) {
            place.answer(done.clone().map(|()| seq));
        }
        done
    }

    /// Why nothing is written: what is there has waited too long for a signature from elsewhere.
    fn unsigned_too_long(&self) -> Option<AuditError> {
        let patience = self.signer.get()?.patience()?;
        let waited = self.unsigned_since.filter(|_| self.away.is_some())?.elapsed();
        let refusal = || format!("its end has not been signed for {} s: {}", waited.as_secs(), self.trouble);
        (waited > patience).then(|| AuditError(refusal()))
    }

    /// Signs the end, if there is anything after the last checkpoint. By a key that is elsewhere the end is signed that there was when
    /// it was asked for.
    fn checkpoint(&mut self) -> Result<(), AuditError> {
        let signer = Arc::clone(&self.signer);
        let Some(signer) = signer.get() else { return Ok(()) };
        if let Some(succession) = signer.succession().filter(|_| !self.is_handed_over) {
            self.hand_over(succession, &signer.public_key())?;
            self.is_handed_over = true;
        }
        if signer.patience().is_none() {
            if self.last <= self.signed {
                return Ok(());
            }
            let signed = signer.sign(self.head.seq, &self.head.hash).map_err(AuditError)?;
            return self.put_checkpoint(&signed);
        }
        self.take_signature(Duration::ZERO)?;
        // A backend that does not answer is waited for once, and not at every turn.
        if self.ask_for_signature()? { self.take_signature(AT_ONCE) } else { Ok(()) }
    }

    /// Says which key signs from here, signed by the one before if that is here.
    fn hand_over(&mut self, succession: &Succession, next: &str) -> Result<(), AuditError> {
        let statement = format!("signed by {} until here, and by {next} from here", succession.before);
        let event = Event { event: "audit-key".to_owned(), statement, ..Event::default() };
        self.put_event(event)?;
        self.last = self.head.seq;
        match &succession.signer {
            Some(before) => {
                let signed = before.sign(self.head.seq, &self.head.hash).map_err(AuditError)?;
                self.put_checkpoint(&signed)?;
                // What the one before has signed the next signs as well.
                self.last = self.head.seq;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The signature of the very end, by a key that is elsewhere.
    fn last_checkpoint(&mut self) -> Result<(), AuditError> {
        if self.away.is_none() {
            return Ok(());
        }
        self.take_signature(AT_THE_END)?;
        if self.ask_for_signature()? {
            self.take_signature(AT_THE_END)?;
        }
        if self.last > self.signed { Err(AuditError(self.trouble.clone())) } else { Ok(()) }
    }

    /// Asks whoever is elsewhere to sign the end; false if there is nothing to sign, or another signature is awaited.
    fn ask_for_signature(&mut self) -> Result<bool, AuditError> {
        if self.last <= self.signed {
            return Ok(false);
        }
        if self.away.is_none() {
            let started = Away::start(Arc::clone(&self.signer)).map_err(|error| AuditError(error.to_string()))?;
            self.away = Some(started);
            // While the daemon was sealed nobody could sign.
            self.unsigned_since = Some(Instant::now());
        }
        Ok(self.away.as_mut().is_some_and(|away| away.ask(self.head.seq, &self.head.hash)))
    }

    /// Takes in what was signed elsewhere, if it comes within some time.
    fn take_signature(&mut self, within: Duration) -> Result<(), AuditError> {
        let Some((asked, answer)) = self.away.as_mut().and_then(|away| away.answer(within)) else { return Ok(()) };
        match answer {
            Ok(signed) => {
                self.put_checkpoint(&signed)?;
                self.trouble.clear();
                self.unsigned_since = (self.last > self.signed).then_some(asked);
            }
            Err(reason) => {
                tracing::warn!(%reason, "the end of the audit log is not signed, which is tried again");
                self.trouble = reason;
            }
        }
        Ok(())
    }

    /// Writes a checkpoint, and puts it beside the log as well.
    fn put_checkpoint(&mut self, signed: &SignedHead) -> Result<(), AuditError> {
        let event = Event { event: "checkpoint".to_owned(), signed: Some(signed.clone()), ..Event::default() };
        self.put_event(event)?;
        self.signed = signed.seq;
        signed.put_beside(&self.path).map_err(|error| AuditError(error.to_string()))
    }

    /// Writes a record of the log's own.
    fn put_event(&mut self, event: Event) -> Result<(), AuditError> {
        let mut lines = Vec::new();
        let now = jiff::Timestamp::now().to_string();
        self.head.extend(event, now, &mut lines).map_err(|error| AuditError(error.to_string()))?;
        self.put(&lines)
    }

    fn put(&mut self, lines: &[u8]) -> Result<(), AuditError> {
        self.is_in_place()?;
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| AuditError(error.to_string()))?;
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Whether the file is still the one of that name, and as long as it was written: nobody would find what is written to one
    /// that was taken away.
    fn is_in_place(&self) -> Result<(), AuditError> {
        let gone = |why: String| AuditError(format!("{}: {why}", self.path.display()));
        let found = std::fs::metadata(&self.path).map_err(|error| gone(error.to_string()))?;
        let ours = self.file.metadata().map_err(|error| gone(error.to_string()))?;
        if (found.dev(), found.ino()) != (ours.dev(), ours.ino()) {
            return Err(gone("it is another file than the one that was opened".to_owned()));
        }
        if ours.len() != self.len {
            return Err(gone(format!("it has {} bytes, and {} were written", ours.len(), self.len)));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_log_ends_though_somebody_still_means_to_write() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(&folder.path().join("audit.jsonl")).unwrap();
        let event = || Event { event: "start".to_owned(), ..Event::default() };
        let (place, written) = audit.place();
        assert_eq!(audit.append(event()).await.unwrap(), 1);
        audit.end().wait().await;
        assert!(audit.end().ended.load(Ordering::Acquire), "the writer has not ended");
        audit.append_at(place, event());
        assert!(written.wait().await.unwrap_err().to_string().contains("stopped"));
    }
}
