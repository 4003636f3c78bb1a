//! `claviger transactions verify`: a file through the daemon, in bounded memory.

mod arrow_file;
mod journal;
mod source;
mod verdicts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use claviger_client::{Client, ClientError, Scheme, VerifyParameters};
use futures_util::StreamExt;
use serde::Serialize;

use super::Global;
use super::output::{Output, thousands};
use super::upload::{Answers, Upload, check_output};
use journal::{Journal, Paths, VERSION, digest};
pub(super) use source::{Format, Source};
use verdicts::Verdicts;

pub use arrow_file::Rows as ArrowRows;

/// Verify transaction records
#[derive(Subcommand)]
#[command(after_help = "Example:
  claviger --data ./dev --as clearing transactions verify day.csv --tenant demo \\
      --scheme cjt166 --out verdicts.csv")]
pub(super) enum Transactions {
    /// Verify the TAC of every record of a file
    Verify(Verify),
}

/// Verify the TAC of every record of a file
///
/// Writes `record_id,verdict,reason` for every record, in order. Exits 0 if all are valid, 1 if some are
/// not, 2 if the job could not be done; then the old verdicts, if any, are untouched, and `--resume` goes on
/// with an interrupted job.
#[derive(Args)]
#[command(after_help = "Examples:
  claviger --data ./dev --as clearing transactions verify day.csv --tenant demo \\
      --scheme cjt166 --out verdicts.csv
  claviger --data ./dev --as clearing transactions verify day.parquet --tenant demo \\
      --scheme cjt166 --out verdicts.csv
  claviger --data ./dev --as clearing transactions verify day.dat --tenant demo \\
      --format packed-binary --scheme cjt166 --out verdicts.csv --resume")]
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
    /// csv, parquet, arrow, or a layout of the scheme; if the file itself does not tell
    #[arg(long)]
    pub(super) format: Option<String>,
    /// Go on with an interrupted job
    #[arg(long)]
    pub(super) resume: bool,
}

/// What is told at the end.
#[derive(Serialize)]
pub(super) struct Summary {
    tenant: String,
    scheme: String,
    /// Of the keys that made the TACs.
    role: String,
    /// In the audit log.
    job: String,
    pub(super) records: u64,
    pub(super) counts: BTreeMap<String, u64>,
    /// Of all records, those that an earlier run had verified.
    resumed: u64,
    seconds: f64,
    records_per_second: u64,
    out: PathBuf,
}

const VERDICTS: &[&str] = &["valid", "invalid", "unknown_key", "unverifiable", "malformed"];

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
        let size = std::fs::metadata(&self.file).with_context(|| self.file.display().to_string())?.len();
        check_output(&self.out, &self.file)?;
        let scheme: Scheme = client.get(&format!("/v1/schemes/{}", self.scheme), &()).await?;
        let format = Format::of(&self.file, self.format.as_deref(), &scheme)?;
        let paths = Paths::beside(&self.out);
        let begun = Instant::now();
        let (before, file, answers) = if self.resume {
            let (journal, file, answers) = paths.resume()?;
            self.check(&journal, &format)?;
            (Some(journal), file, answers)
        } else {
            (None, paths.begin()?, Answers::new(1, VERDICTS, true))
        };
        let resumed = answers.total();
        let mut verdicts = Verdicts::new(file, answers, format.content_type())?;
        let done = self.stream(client, output, (&format, size), before, &paths, &mut verdicts).await;
        let job = done.map_err(|error| {
            paths.abandon();
            let refused = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ClientError::Problem(_))));
            match paths.has_journal() && !refused {
                true => error.context("the job was interrupted, and --resume goes on with it"),
                false => error,
            }
        })?;
        paths.finish(verdicts.file())?;
        let (records, counts) = (verdicts.answers().total(), verdicts.answers().counts());
        let seconds = begun.elapsed().as_secs_f64();
        let records_per_second = ((records - resumed) as f64 / seconds.max(1e-9)) as u64;
        let (tenant, role) = (self.tenant, scheme.tac_role.unwrap_or_default());
        Ok(Summary {
            tenant,
            scheme: self.scheme,
            role,
            job,
            records,
            counts,
            resumed,
            seconds,
            records_per_second,
            out: self.out,
        })
    }

    /// Whether an interrupted job is this one, and its input what it was.
    fn check(&self, journal: &Journal, format: &Format) -> anyhow::Result<()> {
        let same = journal.tenant == self.tenant && journal.scheme == self.scheme && journal.format == format.name();
        if !same {
            bail!(
                "the interrupted job was of tenant {}, scheme {}, format {}",
                journal.tenant,
                journal.scheme,
                journal.format
            );
        }
        if digest(&self.file)? != journal.input {
            bail!("{} has changed since the job was interrupted: start again without --resume", self.file.display());
        }
        Ok(())
    }

    async fn stream(
        &self,
        client: &Client,
        output: &Output,
        (format, size): (&Format, u64),
        before: Option<Journal>,
        paths: &Paths,
        verdicts: &mut Verdicts,
    ) -> anyhow::Result<String> {
        let done = before.as_ref().map_or(0, |journal| journal.records);
        let source = Source::open(&self.file, format.clone(), done)?;
        let layout = if let Format::Layout { name, .. } = format { Some(name.clone()) } else { None };
        let parameters = VerifyParameters {
            tenant: self.tenant.clone(),
            scheme: self.scheme.clone(),
            layout,
            before: Some(source.before),
            keys: before.as_ref().map(|journal| journal.keys.clone()),
        };
        // The digest is made beside the upload; until it is there the job cannot be resumed.
        let input = match before {
            Some(journal) => Digest::Known(journal.input),
            None => {
                let path = self.file.clone();
                Digest::Running(tokio::task::spawn_blocking(move || digest(&path)))
            }
        };
        let (bar, path) = (output.progress(size), self.file.clone());
        let (upload, sent) = Upload::start(bar.clone(), move |upload| {
            let name = path.display().to_string();
            source.send(upload).context(name)
        });
        let answer = client.stream("/v1/transactions/verify", &parameters, format.content_type(), upload).await;
        let answer = answer.map_err(|error| sent.blame(error))?;
        let mut progress = Progress {
            input,
            journal: Journal {
                version: VERSION,
                input: String::new(),
                tenant: self.tenant.clone(),
                scheme: self.scheme.clone(),
                format: format.name().to_owned(),
                keys: answer.keys.unwrap_or_default(),
                records: 0,
                bytes: 0,
            },
            written: Instant::now(),
        };
        let job = answer.job.unwrap_or_default();
        let mut pieces = std::pin::pin!(answer.pieces);
        while let Some(piece) = pieces.next().await {
            let taken = match piece {
                Ok(piece) => verdicts.take(&piece),
                Err(error) => Err(sent.blame(error))
                    .with_context(|| {
                        format!(
                            "job {job} broke off: its record `job-aborted` in the audit log says why, as `quota` for a tenant's \
                             quota that is used up; --resume goes on"
                        )
                    }),
            };
            if let Err(error) = taken {
                // What has come until now need not be verified again.
                progress.write(paths, verdicts).await?;
                return Err(error);
            }
            if progress.written.elapsed().as_secs() >= 1 {
                progress.write(paths, verdicts).await?;
            }
        }
        bar.finish_and_clear();
        verdicts.end()?;
        let all = done + sent.records();
        if let Err(error) = verdicts.answers().check(all) {
            progress.write(paths, verdicts).await?;
            return Err(error);
        }
        Ok(job)
    }
}

/// The journal as it is kept up while verdicts come.
struct Progress {
    input: Digest,
    journal: Journal,
    written: Instant,
}

enum Digest {
    Known(String),
    Running(tokio::task::JoinHandle<anyhow::Result<String>>),
}

impl Progress {
    /// Puts the verdicts that have come on disk, and then the journal that counts them; not before the digest
    /// of the input is known.
    async fn write(&mut self, paths: &Paths, verdicts: &mut Verdicts) -> anyhow::Result<()> {
        self.written = Instant::now();
        if let Digest::Running(task) = &mut self.input
            && task.is_finished()
        {
            self.input = Digest::Known(task.await??);
        }
        let Digest::Known(input) = &self.input else { return Ok(()) };
        let bytes = verdicts.sync()?;
        let records = verdicts.answers().total();
        paths.write(&Journal { input: input.clone(), records, bytes, ..self.journal.clone() })
    }
}

impl Summary {
    pub(super) fn words(&self) -> String {
        let mut text = format!(
            "{} records of {} under {} of tenant {} in {:.2} s: {} a second\n",
            thousands(self.records),
            self.scheme,
            self.role,
            self.tenant,
            self.seconds,
            thousands(self.records_per_second)
        );
        if self.resumed > 0 {
            text += &format!("  {} of them were verified before\n", thousands(self.resumed));
        }
        for verdict in VERDICTS {
            text += &format!("  {verdict:<13}{:>12}\n", thousands(self.counts.get(*verdict).copied().unwrap_or(0)));
        }
        text + &format!("verdicts: {} (job {} of the audit log)", self.out.display(), self.job)
    }
}
