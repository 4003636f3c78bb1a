//! `claviger transactions verify`: a file through the daemon, in bounded memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use claviger_client::{Client, VerifyParameters};
use futures_util::{Stream, StreamExt};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Global;
use super::output::{Output, thousands};

/// Verify transaction records
#[derive(Subcommand)]
pub(super) enum Transactions {
    /// Verify the TAC of every record of a file
    Verify(Verify),
}

/// Verify the TAC of every record of a file
///
/// Writes `record_id,verdict,reason` for every record, in order. Exits 0 if all are valid, 1 if some are
/// not, 2 if the job could not be done; then the old verdicts, if any, are untouched.
#[derive(Args)]
#[command(
    after_help = "Example:\n  claviger --data ./dev --as clearing transactions verify day.csv --tenant demo --scheme cjt166 --out verdicts.csv"
)]
pub(super) struct Verify {
    /// The records
    pub(super) file: PathBuf,
    /// City or operator
    #[arg(long)]
    pub(super) tenant: String,
    /// Card scheme
    #[arg(long)]
    pub(super) scheme: String,
    /// Where the verdicts go; replaced when the job has ended
    #[arg(long, value_name = "VERDICTS")]
    pub(super) out: PathBuf,
    /// What the file is, if its name does not tell
    #[arg(long)]
    pub(super) format: Option<Format>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Format {
    Csv,
}

/// What is told at the end.
#[derive(Serialize)]
pub(super) struct Summary {
    tenant: String,
    scheme: String,
    pub(super) records: u64,
    pub(super) counts: BTreeMap<String, u64>,
    seconds: f64,
    records_per_second: u64,
    out: PathBuf,
}

/// Bytes read from the file at once.
const PIECE: usize = 256 << 10;
const VERDICTS: [&str; 5] = ["valid", "invalid", "unknown_key", "unverifiable", "malformed"];

impl Transactions {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let Self::Verify(verify) = self;
        verify.run(global, output).await
    }
}

impl Verify {
    async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let summary = self.verify(&global.client()?, output).await?;
        output.result(&summary, || summary.words());
        let all_valid = summary.counts.get("valid").copied().unwrap_or(0) == summary.records;
        Ok(if all_valid { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    pub(super) async fn verify(self, client: &Client, output: &Output) -> anyhow::Result<Summary> {
        let file = tokio::fs::File::open(&self.file).await.with_context(|| self.file.display().to_string())?;
        let bar = output.progress(file.metadata().await?.len());
        let begun = Instant::now();
        let sent = Arc::new(AtomicU64::new(0));
        let parameters = VerifyParameters { tenant: self.tenant.clone(), scheme: self.scheme.clone() };
        let upload = upload(file, bar.clone(), Arc::clone(&sent));
        let answer = client.stream("/v1/transactions/verify", &parameters, "text/csv", upload).await?;
        let folder = self.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
        let counts = receive(answer, temporary.as_file().try_clone()?).await?;
        bar.finish_and_clear();
        let records = counts.values().sum();
        // The header is a line, too.
        let lines = sent.load(Ordering::Acquire).saturating_sub(1);
        if records != lines {
            bail!("the daemon gave {records} verdicts for {lines} records; {} is left as it was", self.out.display());
        }
        temporary.as_file().sync_all()?;
        temporary.persist(&self.out).with_context(|| self.out.display().to_string())?;
        std::fs::File::open(folder)?.sync_all()?;
        let seconds = begun.elapsed().as_secs_f64();
        let records_per_second = (records as f64 / seconds.max(1e-9)) as u64;
        Ok(Summary {
            tenant: self.tenant,
            scheme: self.scheme,
            records,
            counts,
            seconds,
            records_per_second,
            out: self.out,
        })
    }
}

impl Summary {
    pub(super) fn words(&self) -> String {
        let mut text = format!(
            "{} records of {} under tenant {} in {:.2} s: {} a second\n",
            thousands(self.records),
            self.scheme,
            self.tenant,
            self.seconds,
            thousands(self.records_per_second)
        );
        for verdict in VERDICTS {
            text += &format!("  {verdict:<13}{:>12}\n", thousands(self.counts.get(verdict).copied().unwrap_or(0)));
        }
        text + &format!("verdicts: {}", self.out.display())
    }
}

/// The file in pieces; counts its lines, so that a missing verdict is noticed.
fn upload(
    file: tokio::fs::File,
    bar: ProgressBar,
    sent: Arc<AtomicU64>,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static {
    futures_util::stream::unfold((file, Lines::default()), move |(mut file, mut lines)| {
        let (bar, sent) = (bar.clone(), Arc::clone(&sent));
        async move {
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece).await {
                Ok(0) => {
                    sent.fetch_add(lines.end(), Ordering::AcqRel);
                    None
                }
                Ok(read) => {
                    piece.truncate(read);
                    bar.inc(read as u64);
                    sent.fetch_add(lines.take(&piece), Ordering::AcqRel);
                    Some((Ok(piece.into()), (file, lines)))
                }
                Err(error) => Some((Err(error), (file, lines))),
            }
        }
    })
}

/// Counts lines that hold something.
#[derive(Default)]
struct Lines {
    /// Whether the line that has not ended yet holds something.
    open: bool,
}

impl Lines {
    fn take(&mut self, mut piece: &[u8]) -> u64 {
        let holds = |bytes: &[u8]| bytes.iter().any(|byte| *byte != b'\r');
        let mut count = 0;
        while let Some(end) = memchr::memchr(b'\n', piece) {
            count += u64::from(std::mem::take(&mut self.open) || holds(&piece[..end]));
            piece = &piece[end + 1..];
        }
        self.open |= holds(piece);
        count
    }

    fn end(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.open))
    }
}

/// Writes the verdicts and counts them.
async fn receive(
    answer: impl Stream<Item = Result<Bytes, claviger_client::ClientError>>,
    file: std::fs::File,
) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut file = tokio::io::BufWriter::with_capacity(PIECE, tokio::fs::File::from_std(file));
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut carry: Vec<u8> = Vec::new();
    let mut header = true;
    let mut answer = std::pin::pin!(answer);
    while let Some(piece) = answer.next().await {
        let piece = piece?;
        file.write_all(&piece).await?;
        let mut rest = &piece[..];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            carry.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            if !std::mem::take(&mut header) {
                count(&carry, &mut counts)?;
            }
            carry.clear();
        }
        carry.extend_from_slice(rest);
    }
    if !carry.is_empty() || header {
        bail!("the daemon's answer broke off");
    }
    file.flush().await?;
    Ok(counts)
}

/// The verdict is the last cell but one; a record id may hold commas, the others do not.
fn count(line: &[u8], counts: &mut BTreeMap<String, u64>) -> anyhow::Result<()> {
    let verdict = line.rsplit(|byte| *byte == b',').nth(1).and_then(|cell| std::str::from_utf8(cell).ok());
    let verdict = verdict
        .filter(|verdict| VERDICTS.contains(verdict))
        .context("the daemon's answer is not a list of verdicts")?;
    match counts.get_mut(verdict) {
        Some(count) => *count += 1,
        None => drop(counts.insert(verdict.to_owned(), 1)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_across_pieces() {
        for split in 0..14 {
            let text = b"a,b\r\n\r\nc\n\nd,e";
            let mut lines = Lines::default();
            let count = lines.take(&text[..split]) + lines.take(&text[split..]) + lines.end();
            assert_eq!(count, 3, "split at {split}");
        }
    }

    #[test]
    fn verdicts_are_read_from_the_right() {
        let mut counts = BTreeMap::new();
        count("\"公交,1号\",invalid,mac".as_bytes(), &mut counts).unwrap();
        count(b"R1,valid,", &mut counts).unwrap();
        assert_eq!(counts, BTreeMap::from([("invalid".to_owned(), 1), ("valid".to_owned(), 1)]));
        assert!(count(b"R1,fine,", &mut counts).is_err());
    }
}
