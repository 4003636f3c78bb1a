//! A file on its way to the daemon, read by a thread of its own, and the answers that come back.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::Stream;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

/// Bytes read from a file at once.
pub(super) const PIECE: usize = 256 << 10;
/// Pieces that may wait for the connection.
const WAITING: usize = 4;

/// Whether the answers may replace what stands at `out`: nothing, or a file that is not the input.
pub(super) fn check_output(out: &Path, input: &Path) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(out) {
        Ok(found) if !found.is_file() => {
            bail!("--out {} is not a regular file: give the name of a file to make", out.display())
        }
        Ok(found) if std::fs::metadata(input).is_ok_and(|input| same_file(&found, &input)) => {
            bail!("--out {} is the input: give another name", out.display())
        }
        _ => Ok(()),
    }
}

/// Whether two names are of one file.
pub(super) fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The thread's side of a file that goes up.
pub(super) struct Upload {
    pieces: mpsc::Sender<std::io::Result<Bytes>>,
    bar: ProgressBar,
    sent: Arc<AtomicU64>,
}

/// What became of a file that went up.
pub(super) struct Sent {
    records: Arc<AtomicU64>,
    failed: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Sent {
    /// Records that were sent so far.
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }

    /// Why a call failed: if the file could not be read, that is the reason, whatever the daemon saw of it.
    pub(super) fn blame(&self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.unwrap_or_else(|| error.into())
    }
}

/// How records are told apart, to count them: a missing answer must be noticed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Records {
    /// Lines that hold something.
    Lines,
    /// Blocks of so many bytes.
    Blocks(usize),
}

impl Upload {
    /// Runs `produce` on a thread of its own; gives its pieces, and the number of records that it counted.
    pub(super) fn start(
        bar: ProgressBar,
        produce: impl FnOnce(&mut Self) -> anyhow::Result<()> + Send + 'static,
    ) -> (impl Stream<Item = std::io::Result<Bytes>> + Send + 'static, Sent) {
        let (pieces, waiting) = mpsc::channel(WAITING);
        let sent = Sent { records: Arc::default(), failed: Arc::default() };
        let mut upload = Self { pieces, bar, sent: Arc::clone(&sent.records) };
        let failed = Arc::clone(&sent.failed);
        tokio::task::spawn_blocking(move || {
            // The readers of Parquet and Arrow take a damaged file for a fault of theirs.
            let produced = std::panic::catch_unwind(AssertUnwindSafe(|| produce(&mut upload)));
            let produced = produced.unwrap_or_else(|_| Err(anyhow::anyhow!("the file is damaged")));
            // A daemon that takes no more has said why.
            if let Err(error) = produced
                && !upload.pieces.is_closed()
            {
                let broken = std::io::Error::other(format!("{error:#}"));
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                let _ = upload.pieces.blocking_send(Err(broken));
            }
        });
        let stream = futures_util::stream::unfold(waiting, |mut waiting| async move {
            let piece = waiting.recv().await?;
            Some((piece, waiting))
        });
        (stream, sent)
    }

    /// Sends a piece that holds no records.
    pub(super) fn send(&mut self, piece: Vec<u8>) -> anyhow::Result<()> {
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| anyhow::anyhow!("the daemon takes no more"))
    }

    /// Counts records that were sent, and moves the bar.
    pub(super) fn count(&mut self, records: u64, bytes: u64) {
        self.sent.fetch_add(records, Ordering::AcqRel);
        self.bar.inc(bytes);
    }

    /// Takes back one record that was none.
    pub(super) fn uncount(&mut self) {
        self.sent.fetch_sub(1, Ordering::AcqRel);
    }

    /// Sends a file as it is from `position` on.
    pub(super) fn send_file(&mut self, mut file: File, position: u64, records: Records) -> anyhow::Result<()> {
        file.seek(SeekFrom::Start(position))?;
        let (mut lines, mut bytes) = (Lines::default(), 0);
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = file.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
            if read == 0 {
                break;
            }
            bytes += read;
            let counted = if records == Records::Lines { lines.take(&piece) } else { 0 };
            self.count(counted, read as u64);
            self.send(piece)?;
        }
        let rest = match records {
            Records::Lines => lines.end(),
            Records::Blocks(length) => bytes.div_ceil(length) as u64,
        };
        self.count(rest, 0);
        Ok(())
    }
}

/// Counts lines that hold something.
#[derive(Default)]
pub(super) struct Lines {
    /// Bytes of the line that has not ended yet, and whether the first is a carriage return.
    len: usize,
    returns: bool,
}

impl Lines {
    pub(super) fn take(&mut self, mut piece: &[u8]) -> u64 {
        let mut count = 0;
        while let Some(end) = memchr::memchr(b'\n', piece) {
            self.grow(&piece[..end]);
            count += self.end();
            piece = &piece[end + 1..];
        }
        self.grow(piece);
        count
    }

    fn grow(&mut self, part: &[u8]) {
        if self.len == 0 {
            self.returns = part.first() == Some(&b'\r');
        }
        self.len += part.len();
    }

    /// A line is empty if nothing stands in it but the carriage return of its end, as the daemon reads it.
    fn end(&mut self) -> u64 {
        let empty = self.len == 0 || self.len == 1 && self.returns;
        self.len = 0;
        u64::from(!empty)
    }
}

/// Answers as they are counted: lines of CSV under a header, one cell of which says what became of a record.
pub(super) struct Answers {
    /// Which cell, counted from the right; a record id may hold commas, the others do not.
    cell: usize,
    words: &'static [&'static str],
    /// How often each word came.
    counted: Vec<u64>,
    carry: Vec<u8>,
    header: bool,
}

impl Answers {
    /// With `header` still to come, or not.
    pub(super) fn new(cell: usize, words: &'static [&'static str], header: bool) -> Self {
        Self { cell, words, counted: vec![0; words.len()], carry: Vec::new(), header }
    }

    /// How often each word came that came at all.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let came = self.words.iter().zip(&self.counted).filter(|(_, count)| **count > 0);
        came.map(|(word, count)| ((*word).to_owned(), *count)).collect()
    }

    pub(super) fn total(&self) -> u64 {
        self.counted.iter().sum()
    }

    /// Whether the last answer is whole.
    pub(super) fn is_whole(&self) -> bool {
        self.carry.is_empty() && !self.header
    }

    /// Bytes of the last answer, which has not ended yet.
    pub(super) fn unfinished(&self) -> usize {
        self.carry.len()
    }

    pub(super) fn take(&mut self, mut piece: &[u8]) -> anyhow::Result<()> {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            piece = rest;
            if self.carry.is_empty() {
                self.count(line)?;
            } else {
                // A line of two pieces.
                let mut whole = std::mem::take(&mut self.carry);
                whole.extend_from_slice(line);
                self.count(&whole)?;
            }
        }
        self.carry.extend_from_slice(piece);
        Ok(())
    }

    fn count(&mut self, line: &[u8]) -> anyhow::Result<()> {
        if std::mem::take(&mut self.header) {
            return Ok(());
        }
        let said = line.rsplit(|byte| *byte == b',').nth(self.cell);
        let word = said.and_then(|said| self.words.iter().position(|word| word.as_bytes() == said));
        self.counted[word.context("the daemon's answer is not what was asked for")?] += 1;
        Ok(())
    }

    /// What must hold when the stream has ended well.
    pub(super) fn check(&self, sent: u64) -> anyhow::Result<()> {
        if !self.is_whole() {
            bail!("the daemon's answer broke off");
        }
        if self.total() != sent {
            bail!("the daemon gave {} answers for {sent} records", self.total());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_across_pieces() {
        for split in 0..=12 {
            let text = b"a,b\r\n\r\nc\n\n\r\r";
            let mut lines = Lines::default();
            let count = lines.take(&text[..split]) + lines.take(&text[split..]) + lines.end();
            assert_eq!(count, 3, "split at {split}");
        }
    }

    #[test]
    fn answers_are_read_from_the_right() {
        let mut answers = Answers::new(1, &["valid", "invalid"], true);
        answers.take("record_id,verdict,reason\n\"公交,1号\",invalid,mac\nR1,va".as_bytes()).unwrap();
        assert!(!answers.is_whole());
        answers.take(b"lid,\n").unwrap();
        assert_eq!(answers.counts(), BTreeMap::from([("invalid".to_owned(), 1), ("valid".to_owned(), 1)]));
        assert!(answers.check(2).is_ok() && answers.check(3).is_err());
        assert!(answers.take(b"R1,fine,\n").is_err());
    }
}
