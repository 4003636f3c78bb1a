//! Files that stream through: lines in, verdicts out, in bounded memory.

use std::io;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use claviger_card_schemes::{CsvHeader, FieldSet, LineFault, record_id_of};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::Refusal;
use crate::config::Limits;
use crate::service::{BATCH, ServiceError, VerifyJob};

/// Pieces that may wait on either side: with the usual 16 KiB to 64 KiB each, under a mebibyte.
const WAITING: usize = 8;
/// Answers are handed to the connection in pieces of about this size.
const PIECE: usize = 64 << 10;
/// Verdicts that one checkpoint of the audit log covers, in bytes, unless a second has passed.
const COVERED: usize = 512 << 10;

/// The upload, cut into lines.
pub(super) struct Upload {
    body: BodyDataStream,
    /// Bytes that were received and not yet used.
    pending: Vec<u8>,
    longest_line: usize,
    patience: Duration,
}

impl Upload {
    pub(super) fn new(body: Body, limits: &Limits) -> Self {
        Self {
            body: body.into_data_stream(),
            pending: Vec::new(),
            longest_line: limits.line_bytes,
            patience: Duration::from_secs(limits.request_seconds),
        }
    }

    /// The next piece of the body; `None` at its end.
    async fn receive(&mut self) -> Result<Option<Bytes>, Refusal> {
        match tokio::time::timeout(self.patience, self.body.next()).await {
            Err(_) => Err(Refusal::new(408, "too_slow", "the upload stood still for too long")),
            Ok(Some(Err(error))) => Err(Refusal::new(400, "upload_failed", error.to_string())),
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(None) => Ok(None),
        }
    }
}

/// Reads the header line.
pub(super) async fn csv_header(upload: &mut Upload) -> Result<CsvHeader, Refusal> {
    loop {
        if let Some(end) = memchr::memchr(b'\n', &upload.pending) {
            let line: Vec<u8> = upload.pending.drain(..=end).collect();
            return CsvHeader::parse(&line).map_err(|error| Refusal::new(422, "bad_header", error.to_string()));
        }
        if upload.pending.len() > upload.longest_line {
            return Err(Refusal::new(422, "bad_header", "the first line is too long for a header"));
        }
        match upload.receive().await? {
            Some(bytes) => upload.pending.extend_from_slice(&bytes),
            None if upload.pending.is_empty() => return Err(Refusal::new(422, "bad_header", "the file is empty")),
            None => upload.pending.push(b'\n'),
        }
    }
}

/// Verifies the lines that follow the header. The stream ends well only if every record has its verdict
/// and the job's closing record is on disk; else the connection breaks off.
pub(super) fn verify_csv(
    mut upload: Upload,
    header: CsvHeader,
    job: VerifyJob,
) -> impl Stream<Item = io::Result<Bytes>> {
    let (pieces, received) = mpsc::channel::<Result<Option<Bytes>, ()>>(WAITING);
    let (answers, answered) = mpsc::channel::<io::Result<Option<Bytes>>>(WAITING);
    let worker = CsvWorker {
        header,
        job,
        answers: answers.clone(),
        longest_line: upload.longest_line,
        line: 1,
        carry: std::mem::take(&mut upload.pending),
        too_long: false,
        id: Vec::new(),
        ids: Vec::with_capacity(BATCH * 12),
        id_ends: Vec::with_capacity(BATCH),
        fields: FieldSet::default(),
        out: b"record_id,verdict,reason\n".to_vec(),
        checkpoint: Instant::now(),
    };
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
        if let Err(error) = worker.run(received) {
            tracing::warn!(%error, "a verification job was aborted");
            // If the caller has gone, nobody waits for this.
            let _ = answers.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    futures_util::stream::unfold(Some(answered), |answered| async move {
        let mut answered = answered?;
        match answered.recv().await {
            Some(Ok(Some(piece))) => Some((Ok(piece), Some(answered))),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(io::Error::other("the job stopped before its end")), None)),
        }
    })
}

/// Works through an upload on a thread of its own.
struct CsvWorker {
    header: CsvHeader,
    job: VerifyJob,
    answers: mpsc::Sender<io::Result<Option<Bytes>>>,
    longest_line: usize,
    /// Number of the line that was read last; the header is the first.
    line: u64,
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
    /// Whether that line is beyond the limit: its rest is skipped.
    too_long: bool,
    id: Vec<u8>,
    /// Record ids of the batch, one after another.
    ids: Vec<u8>,
    id_ends: Vec<usize>,
    fields: FieldSet,
    /// Verdicts that no checkpoint covers yet.
    out: Vec<u8>,
    checkpoint: Instant,
}

impl CsvWorker {
    fn run(mut self, mut received: mpsc::Receiver<Result<Option<Bytes>, ()>>) -> Result<(), ServiceError> {
        let worked = self.work(&mut received);
        let last = std::mem::take(&mut self.out);
        let answers = self.answers.clone();
        let counts = self.job.close(worked.as_ref().copied())?;
        worked?;
        for (verdict, count) in counts {
            metrics::counter!("claviger_records_total", "verdict" => verdict).increment(count);
        }
        let sent = answers.blocking_send(Ok(Some(last.into()))).and_then(|()| answers.blocking_send(Ok(None)));
        sent.map_err(|_| ServiceError::Stopped)
    }

    fn work(&mut self, received: &mut mpsc::Receiver<Result<Option<Bytes>, ()>>) -> Result<(), ServiceError> {
        let first = std::mem::take(&mut self.carry);
        self.take(&first)?;
        loop {
            match received.blocking_recv() {
                Some(Ok(Some(piece))) => self.take(&piece)?,
                Some(Ok(None)) => break,
                _ => return Err(ServiceError::field("body", "broke off")),
            }
        }
        if !self.carry.is_empty() || self.too_long {
            self.end_of_line(&[])?;
        }
        self.flush()
    }

    fn take(&mut self, mut piece: &[u8]) -> Result<(), ServiceError> {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            self.end_of_line(&piece[..end])?;
            piece = &piece[end + 1..];
        }
        if self.carry.len() + piece.len() > self.longest_line {
            self.too_long = true;
            self.carry.clear();
        } else if !self.too_long {
            self.carry.extend_from_slice(piece);
        }
        Ok(())
    }

    fn end_of_line(&mut self, rest: &[u8]) -> Result<(), ServiceError> {
        self.line += 1;
        if std::mem::take(&mut self.too_long) || self.carry.len() + rest.len() > self.longest_line {
            self.carry.clear();
            self.id.clear();
            return self.record(Err(LineFault::NoId));
        }
        if self.carry.is_empty() {
            return self.read(rest);
        }
        let mut line = std::mem::take(&mut self.carry);
        line.extend_from_slice(rest);
        let result = self.read(&line);
        line.clear();
        self.carry = line;
        result
    }

    fn read(&mut self, line: &[u8]) -> Result<(), ServiceError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            // An empty line is no record: files end with one.
            return Ok(());
        }
        let read = self.header.read(line, &mut self.id, &mut self.fields);
        self.record(read)
    }

    fn record(&mut self, read: Result<(), LineFault>) -> Result<(), ServiceError> {
        self.job.push(read.map(|()| &self.fields), self.line);
        self.ids.extend_from_slice(&self.id);
        self.id_ends.push(self.ids.len());
        if self.job.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ServiceError> {
        let Self { job, ids, id_ends, out, .. } = self;
        let (mut from, mut ends) = (0, id_ends.iter());
        job.run(|verified| {
            let to = ends.next().copied().unwrap_or(from);
            out.extend_from_slice(&record_id_of(&ids[from..to]));
            from = to;
            // Writing to memory cannot fail.
            let _ = io::Write::write_fmt(out, format_args!(",{},{}\n", verified.verdict, verified.reason));
        })?;
        self.ids.clear();
        self.id_ends.clear();
        if self.out.len() < COVERED && self.checkpoint.elapsed() < Duration::from_secs(1) {
            return Ok(());
        }
        // The counts are on disk before the verdicts that they cover leave.
        self.job.checkpoint()?;
        self.checkpoint = Instant::now();
        let out = Bytes::from(std::mem::take(&mut self.out));
        for start in (0..out.len()).step_by(PIECE) {
            let piece = out.slice(start..out.len().min(start + PIECE));
            self.answers.blocking_send(Ok(Some(piece))).map_err(|_| ServiceError::Stopped)?;
        }
        Ok(())
    }
}
