//! A file that is worked through while it is still going up, in bounded memory.
//!
//! A task takes pieces of the upload, a thread reads records from them and runs batches, and the answers
//! are sent as they come. Each side waits for the others, so nothing piles up.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use claviger_card_schemes::{FieldSet, FormatError, LineFault, ReadError, Reader, RecordSink};
use futures_util::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Refusal;
use crate::audit::Written;
use crate::config::Limits;
use crate::service::{BATCH, ServiceError};

/// Pieces that may wait on either side: with at most 256 KiB each, two mebibytes.
const WAITING: usize = 8;
/// Answers are handed to the connection in pieces of about this size.
const PIECE: usize = 256 << 10;
/// Answers that one checkpoint of the audit log covers, in bytes, unless the time below has passed.
const COVERED: usize = 512 << 10;
/// The longest that an answer waits for more.
const PAUSE: Duration = Duration::from_secs(1);

/// What is done with the records of a file.
pub(super) trait Job: Send + 'static {
    /// Takes a record.
    fn push(&mut self, record: Result<&FieldSet, LineFault>, number: u64);

    /// Whether a batch is full and [`run`](Self::run) is due.
    fn is_full(&self) -> bool;

    /// Works through the records taken since the last time and appends an answer for each.
    fn run(&mut self, ids: &Ids, out: &mut Vec<u8>) -> Result<(), ServiceError>;

    /// Appends what ends the answers.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ServiceError>;

    /// Writes down what the answers so far need to have on disk, and gives where it is said that it is there.
    fn checkpoint(&mut self) -> Result<Written, ServiceError>;

    /// Ends the job; its counts.
    fn close(self, outcome: Result<(), &ServiceError>) -> Result<BTreeMap<String, u64>, ServiceError>;
}

/// Record ids of a batch, one after another.
#[derive(Default)]
pub(super) struct Ids {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Ids {
    fn push(&mut self, id: &[u8]) {
        self.bytes.extend_from_slice(id);
        self.ends.push(self.bytes.len());
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(from, to)| &self.bytes[from..*to])
    }
}

/// Bytes that must come in the time that a pause may take: who sends less holds a thread for nothing.
const PACE: usize = 1 << 10;

/// The upload.
pub(super) struct Upload {
    body: BodyDataStream,
    patience: Duration,
    /// What has come, and how long was waited for it.
    came: (usize, Duration),
}

impl Upload {
    pub(super) fn new(body: Body, limits: &Limits) -> Self {
        Self {
            body: body.into_data_stream(),
            patience: Duration::from_secs(limits.request_seconds),
            came: (0, Duration::ZERO),
        }
    }

    /// The next piece of the body; `None` at its end.
    async fn receive(&mut self) -> Result<Option<Bytes>, Refusal> {
        let begun = Instant::now();
        let next = tokio::time::timeout(self.patience, self.body.next()).await;
        self.came.1 += begun.elapsed();
        match next {
            Err(_) => Err(Refusal::new(408, "too_slow", "the upload stood still for too long")),
            Ok(Some(Err(error))) => Err(Refusal::new(400, "upload_failed", error.to_string())),
            Ok(Some(Ok(bytes))) => {
                self.came.0 += bytes.len();
                if self.came.0 >= PACE {
                    self.came = (0, Duration::ZERO);
                } else if self.came.1 > self.patience {
                    return Err(Refusal::new(408, "too_slow", "the upload comes too slowly"));
                }
                Ok(Some(bytes))
            }
            Ok(None) => Ok(None),
        }
    }

    /// Reads what the file says of itself, and only then opens the job.
    pub(super) async fn begin<J>(
        mut self,
        reader: Reader,
        open: impl Future<Output = Result<J, Refusal>>,
    ) -> Result<(Self, Reader, J), Refusal> {
        let reader = self.open(reader).await?;
        let job = open.await?;
        Ok((self, reader, job))
    }

    /// Reads until it is known what the file says of itself, so that a wrong column is a problem and not a
    /// broken stream.
    async fn open(&mut self, mut reader: Reader) -> Result<Reader, Refusal> {
        let wrong = |error: FormatError| Refusal::new(422, "bad_header", error.to_string());
        loop {
            match self.receive().await? {
                Some(piece) if reader.open(&piece).map_err(wrong)? => return Ok(reader),
                Some(_) => {}
                None => {
                    reader.open_at_end().map_err(wrong)?;
                    return Ok(reader);
                }
            }
        }
    }
}

/// A piece of the answers, and what must be on disk before it leaves.
struct Piece {
    bytes: Bytes,
    covered: Option<Written>,
}

impl Piece {
    /// The piece once it may leave.
    async fn once_covered(self) -> io::Result<Bytes> {
        if let Some(covered) = self.covered {
            covered.wait().await.map_err(io::Error::other)?;
        }
        Ok(self.bytes)
    }
}

/// Works through the records. The stream ends well only if every record has its answer and the job's closing
/// record is on disk; else the connection breaks off. `first` goes before the answers.
pub(super) fn work_through<J: Job>(
    mut upload: Upload,
    reader: Reader,
    job: J,
    first: Vec<u8>,
) -> impl Stream<Item = io::Result<Bytes>> {
    let (pieces, received) = mpsc::channel::<Result<Option<Bytes>, ()>>(WAITING);
    let (answers, answered) = mpsc::channel::<io::Result<Option<Piece>>>(WAITING);
    let (ids, answering, patience) = (Ids::default(), answers.clone(), upload.patience);
    let records = Records { job, ids, out: first, checkpoint: Instant::now(), answers: answering, patience };
    tokio::spawn(async move {
        loop {
            // The end is said, not inferred from silence: a task that dies must not look like one.
            let piece = upload.receive().await.map_err(drop);
            let last = !matches!(piece, Ok(Some(_)));
            if pieces.send(piece).await.is_err() || last {
                return;
            }
        }
    });
    tokio::task::spawn_blocking(move || {
        if let Err(error) = records.work(reader, received) {
            tracing::warn!(%error, "a streamed job was aborted");
            // If the caller has gone, nobody waits for this.
            let _ = answers.try_send(Err(io::Error::other(error.to_string())));
        }
    });
    futures_util::stream::unfold(Some(answered), |answered| async move {
        let mut answered = answered?;
        match answered.recv().await {
            Some(Ok(Some(piece))) => match piece.once_covered().await {
                Ok(bytes) => Some((Ok(bytes), Some(answered))),
                Err(error) => Some((Err(error), None)),
            },
            Some(Ok(None)) => None,
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(io::Error::other("the job stopped before its end")), None)),
        }
    })
}

/// The records on a thread of their own.
struct Records<J> {
    job: J,
    ids: Ids,
    /// Answers that no checkpoint covers yet.
    out: Vec<u8>,
    checkpoint: Instant,
    answers: mpsc::Sender<io::Result<Option<Piece>>>,
    /// How long a caller may leave its answers lying.
    patience: Duration,
}

impl<J: Job> Records<J> {
    fn work(
        mut self,
        mut reader: Reader,
        mut received: mpsc::Receiver<Result<Option<Bytes>, ()>>,
    ) -> Result<(), ServiceError> {
        let worked = self.read(&mut reader, &mut received).and_then(|()| {
            self.run()?;
            self.job.finish(&mut self.out)
        });
        let counts = self.job.close(worked.as_ref().copied())?;
        worked?;
        for (result, count) in counts {
            metrics::counter!("claviger_records_total", "result" => result).increment(count);
        }
        // The last answers leave only now that the closing record is on disk.
        send(&self.answers, self.patience, self.out, None)?;
        self.answers.blocking_send(Ok(None)).map_err(|_| untaken())
    }

    fn read(
        &mut self,
        reader: &mut Reader,
        received: &mut mpsc::Receiver<Result<Option<Bytes>, ()>>,
    ) -> Result<(), ServiceError> {
        let runtime = Handle::current();
        loop {
            match runtime.block_on(tokio::time::timeout(PAUSE, received.recv())) {
                // The caller pauses: it shall have the answers to what it has sent.
                Err(_) => {
                    self.run()?;
                    self.leave()?;
                }
                Ok(Some(Ok(Some(piece)))) => reader.feed(&piece, self)?,
                Ok(Some(Ok(None))) => return Ok(reader.end(self)?),
                Ok(_) => return Err(ServiceError::field("body", "broke off")),
            }
        }
    }

    fn run(&mut self) -> Result<(), ServiceError> {
        self.job.run(&self.ids, &mut self.out)?;
        self.ids.clear();
        if self.out.len() < COVERED && self.checkpoint.elapsed() < PAUSE { Ok(()) } else { self.leave() }
    }

    /// Lets out what waits, if anything does.
    fn leave(&mut self) -> Result<(), ServiceError> {
        if self.out.is_empty() {
            return Ok(());
        }
        // The counts are on disk before the answers that they cover leave; meanwhile the next batch is worked through.
        let covered = self.job.checkpoint()?;
        self.checkpoint = Instant::now();
        // The next answers are about as long.
        let next = Vec::with_capacity(self.out.len() + self.out.len() / 16);
        send(&self.answers, self.patience, std::mem::replace(&mut self.out, next), Some(covered))
    }
}

impl<J: Job> RecordSink for Records<J> {
    type Error = ServiceError;

    fn record(&mut self, id: &[u8], fields: Result<&FieldSet, LineFault>, number: u64) -> Result<(), ServiceError> {
        if self.ids.ends.capacity() == 0 {
            self.ids.ends.reserve(BATCH);
        }
        self.job.push(fields, number);
        self.ids.push(id);
        if self.job.is_full() { self.run() } else { Ok(()) }
    }
}

impl From<ReadError<Self>> for ServiceError {
    fn from(error: ReadError<Self>) -> Self {
        match error {
            ReadError::Format(error) => Self::field("body", error),
            ReadError::Sink(error) => error,
        }
    }
}

/// Hands answers to the connection. A caller that takes none for too long ends its job: it holds a thread.
fn send(
    answers: &mpsc::Sender<io::Result<Option<Piece>>>,
    patience: Duration,
    out: Vec<u8>,
    mut covered: Option<Written>,
) -> Result<(), ServiceError> {
    let out = Bytes::from(out);
    for start in (0..out.len()).step_by(PIECE) {
        // Pieces leave one after another: what the first waits for, the others have.
        let piece = Piece { bytes: out.slice(start..out.len().min(start + PIECE)), covered: covered.take() };
        let taken = Handle::current().block_on(tokio::time::timeout(patience, answers.send(Ok(Some(piece)))));
        taken.map_err(|_| ServiceError::field("answers", "were not taken in time"))?.map_err(|_| untaken())?;
    }
    Ok(())
}

/// The connection has ended before the answers.
fn untaken() -> ServiceError {
    ServiceError::field("answers", "were not taken: the connection ended")
}
