//! `claviger audit prove` and `check-proof`.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use claviger_card_schemes::{
    ArrowReader, Columns, CsvReader, FieldSet, LineFault, ReadError, Reader, RecordSink, append_record_id,
};
use claviger_client::{JobBlinding, Scheme};
use claviger_hsm_api::Verdict;
use futures_util::StreamExt;
use indicatif::ProgressBar;
use serde_json::json;

use super::{Anchors, found_wrong, stands_in, written, wrong};
use crate::audit::{Blinding, ChainError, Leaf, Proof, ProofError, Salts, Tree, VerdictTree};
use crate::cli::Global;
use crate::cli::output::Output;
use crate::cli::transactions::{Format, Source};
use crate::cli::upload::Upload;
use crate::config::Limits;
use crate::daemon::load_schemes;

#[derive(Args)]
pub(in crate::cli) struct Prove {
    /// The record's id
    record_id: String,
    /// The job that verified it, as `transactions verify` and the audit log name it
    #[arg(long)]
    job: String,
    /// The file that was verified
    #[arg(long, value_name = "FILE")]
    records: PathBuf,
    /// The verdicts that came of it
    #[arg(long, value_name = "FILE")]
    verdicts: PathBuf,
    /// The audit log, or a copy of it
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// Card scheme
    #[arg(long)]
    scheme: String,
    /// csv, parquet, arrow, or a layout of the scheme; if the file itself does not tell
    #[arg(long)]
    format: Option<String>,
    /// A directory of scheme profiles that add to or replace the shipped ones
    #[arg(long, value_name = "DIR")]
    schemes: Option<PathBuf>,
    /// Of several records with this id, the one at this line of the file, as an editor counts, or of this number in Parquet and
    /// Arrow
    #[arg(long, value_name = "NUMBER")]
    sequence: Option<u64>,
    /// Where the proof goes
    #[arg(long, value_name = "PROOF")]
    out: PathBuf,
}

#[derive(Args)]
pub(in crate::cli) struct CheckProof {
    /// The proof
    proof: PathBuf,
    /// The audit log, or a copy of it; without it only that the proof is whole is checked
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[command(flatten)]
    anchors: Anchors,
}

impl Prove {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let stands = stands_in(&self.log, &self.job)?;
        let client = global.client()?;
        let given: JobBlinding = client.get(&format!("/v1/audit/jobs/{}/blinding", self.job), &()).await?;
        let blinding = Blinding::from_hex(&given.blinding).context("the daemon's blinding is none")?;
        let scheme: Scheme = client.get(&format!("/v1/schemes/{}", self.scheme), &()).await?;
        let format = Format::of(&self.records, self.format.as_deref(), &scheme)?;
        let counted = self.walk(&format, Walk::counting(&self, &stands)?).await?;
        let index = self.chosen(&counted.found)?;
        let walked = self.walk(&format, Walk::tracing(&self, &stands, index, &blinding)?).await?;
        let (tree, leaf) = (walked.tree, walked.leaf.context("the record is not there any more")?);
        let same = tree.len() == stands.items && hex::encode(tree.root()) == stands.root;
        ensure!(
            same,
            "{} and {} are not what job {} verified and what came of it: the log holds another root over {} verdicts",
            self.records.display(),
            self.verdicts.display(),
            self.job,
            stands.items
        );
        let path = tree.path().context("the tree does not hold the record")?;
        let proof = Proof::new(&self.job, &self.record_id, index, tree.len(), &leaf, &path, &tree.root());
        written(&proof, &self.out, output)
    }

    /// Which of the records with the id is meant, by its place among the job's: of several none is taken unasked.
    fn chosen(&self, found: &[Found]) -> anyhow::Result<u64> {
        let id = &self.record_id;
        let chosen = match (found, self.sequence) {
            ([], _) => bail!("the job verified no record `{id}`"),
            ([only], None) => only,
            (several, None) => bail!(
                "{} records of the job have the id `{id}`, at {}: say by --sequence which is meant",
                several.len(),
                numbers(several)
            ),
            (all, Some(sequence)) => all
                .iter()
                .find(|record| record.number == sequence)
                .with_context(|| format!("no record `{id}` of the job is at {sequence}, but at {}", numbers(all)))?,
        };
        Ok(chosen.index)
    }

    /// Reads the file as the daemon did.
    async fn walk(&self, format: &Format, mut walk: Walk) -> anyhow::Result<Walk> {
        let source = Source::open(&self.records, format.clone(), 0)?;
        let limits = Limits::default();
        let mut reader = match format {
            Format::Csv => Reader::Csv(CsvReader::new(Columns::of_records(), limits.line_bytes, 0)),
            Format::Parquet | Format::Arrow => {
                Reader::Arrow(ArrowReader::new(Columns::of_records(), limits.body_bytes, 0))
            }
            Format::Layout { name, .. } => {
                let schemes = load_schemes(self.schemes.as_deref())?;
                let known = schemes.find(&self.scheme);
                known.context("name the directory of the scheme with --schemes")?.layout_reader(name, 0)?
            }
        };
        let (upload, sent) = Upload::start(ProgressBar::hidden(), move |upload| source.send(upload));
        let mut upload = std::pin::pin!(upload);
        let mut is_open = false;
        while let Some(piece) = upload.next().await {
            let piece = piece.map_err(|error| sent.blame(error))?;
            if is_open {
                reader.feed(&piece, &mut walk).map_err(read)?;
            } else {
                is_open = reader.open(&piece)?;
            }
        }
        if !is_open {
            reader.open_at_end()?;
        }
        reader.end(&mut walk).map_err(read)?;
        walk.end()?;
        Ok(walk)
    }
}

/// A record with the id that is looked for.
struct Found {
    /// Its place among the job's, counted from zero.
    index: u64,
    /// Its number in the file, as an editor shows it.
    number: u64,
}

/// More are not told one by one.
const TOLD: usize = 20;

fn numbers(found: &[Found]) -> String {
    let told: Vec<String> = found.iter().take(TOLD).map(|record| record.number.to_string()).collect();
    let more = found.len().checked_sub(TOLD).filter(|more| *more > 0);
    told.join(", ") + &more.map_or_else(String::new, |more| format!(" and {more} more"))
}

fn read(error: ReadError<anyhow::Error>) -> anyhow::Error {
    match error {
        ReadError::Format(error) => error.into(),
        ReadError::Sink(error) => error,
    }
}

/// Goes through the records and their verdicts side by side.
struct Walk {
    record_id: Vec<u8>,
    verdicts: Lines<BufReader<File>>,
    shown: PathBuf,
    /// Lines or records of the file that the job did not see.
    before: u64,
    /// How many it answered: one that was broken off did not see the rest either.
    items: u64,
    /// Those that it saw, so far.
    seen: u64,
    /// Those among them with the id.
    found: Vec<Found>,
    /// Which of the job's is proved.
    proved: Option<u64>,
    /// None while it is only looked for.
    salts: Option<Salts>,
    waiting: Vec<Leaf>,
    tree: Tree,
    leaf: Option<Leaf>,
}

/// Leaves that are hashed at once.
const TOGETHER: usize = 4096;

impl Walk {
    fn counting(prove: &Prove, stands: &VerdictTree) -> anyhow::Result<Self> {
        let shown = &prove.verdicts;
        let mut verdicts = BufReader::new(File::open(shown).with_context(|| shown.display().to_string())?).lines();
        verdicts.next().context("the file of verdicts is empty")??;
        Ok(Self {
            record_id: prove.record_id.clone().into_bytes(),
            verdicts,
            shown: shown.clone(),
            before: stands.before,
            items: stands.items,
            seen: 0,
            found: Vec::new(),
            proved: None,
            salts: None,
            waiting: Vec::new(),
            tree: Tree::default(),
            leaf: None,
        })
    }

    fn tracing(prove: &Prove, stands: &VerdictTree, index: u64, blinding: &Blinding) -> anyhow::Result<Self> {
        let counting = Self::counting(prove, stands)?;
        Ok(Self { proved: Some(index), salts: Some(blinding.salts()), tree: Tree::tracing(index), ..counting })
    }

    fn next_verdict(&mut self, id: &[u8]) -> anyhow::Result<Verdict> {
        let shown = self.shown.display();
        let line =
            self.verdicts.next().with_context(|| format!("{shown} has fewer lines than there are records"))??;
        let mut written = Vec::new();
        append_record_id(id, &mut written);
        let rest = line.as_bytes().strip_prefix(&written[..]);
        let rest = rest.and_then(|rest| rest.strip_prefix(b",")).with_context(|| {
            format!("{shown} has no verdict where that of record `{}` should be", String::from_utf8_lossy(id))
        })?;
        let word = rest.split(|byte| *byte == b',').next().unwrap_or_default();
        Ok(std::str::from_utf8(word)?.parse()?)
    }

    fn hash(&mut self) {
        let Some(salts) = &mut self.salts else { return };
        salts.blind(&mut self.waiting);
        let first = self.tree.len();
        let at = self.proved.and_then(|index| usize::try_from(index.checked_sub(first)?).ok());
        self.leaf = self.leaf.or(at.and_then(|at| self.waiting.get(at).copied()));
        self.tree.append(Leaf::bytes(&self.waiting));
        self.waiting.clear();
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.hash();
        ensure!(
            self.seen == self.items,
            "the job answered {} records, and {} has {} of them",
            self.items,
            self.shown.display(),
            self.seen
        );
        Ok(())
    }
}

impl RecordSink for Walk {
    type Error = anyhow::Error;

    fn record(&mut self, id: &[u8], fields: Result<&FieldSet, LineFault>, number: u64) -> anyhow::Result<()> {
        if self.seen == self.items {
            return Ok(());
        }
        let verdict = self.next_verdict(id)?;
        if number <= self.before {
            return Ok(());
        }
        if self.salts.is_some() {
            let mut leaf = Leaf::of(fields.ok());
            leaf.decide(id, verdict);
            self.waiting.push(leaf);
            if self.waiting.len() == TOGETHER {
                self.hash();
            }
        } else if id == self.record_id {
            self.found.push(Found { index: self.seen, number });
        }
        self.seen += 1;
        Ok(())
    }
}

impl CheckProof {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let text = std::fs::read(&self.proof).with_context(|| self.proof.display().to_string())?;
        let proof: Proof = serde_json::from_slice(&text).with_context(|| self.proof.display().to_string())?;
        let checked = match &self.log {
            None => proof.check().map(|_| None),
            Some(log) => self.anchors.check(log).map_err(ProofError::Log).and_then(|verified| {
                let lines = BufReader::new(File::open(log).map_err(ChainError::Read)?);
                let record = proof.check_in(lines, &verified)?;
                Ok(Some((record, verified)))
            }),
        };
        let found = match checked {
            Ok(found) => found,
            Err(ProofError::Log(error)) => return Ok(found_wrong(output, &wrong(error)?)),
            Err(error) => {
                output.result(&json!({ "ok": false, "wrong": error.to_string() }), || error.to_string());
                return Ok(ExitCode::from(1));
            }
        };
        let Proof { record_id, verdict, job, root, .. } = &proof;
        let record = found.as_ref().map(|(record, _)| record);
        let keys = found.as_ref().map(|(_, verified)| &verified.keys);
        let object = json!({ "ok": true, "record_id": record_id, "verdict": verdict, "job": job, "root": root,
            "log_record": record.map(|record| record.seq), "time": record.map(|record| &record.time), "keys": keys });
        output.result(&object, || match &found {
            Some((record, verified)) => format!(
                "record {record_id} had the verdict {verdict} in job {job} of {}, at {}: record {} of the log, signed by {}",
                record.event.principal,
                record.time,
                record.seq,
                verified.keys.join(", ")
            ),
            None => format!(
                "record {record_id} has the verdict {verdict} under the root {root}; whether that root is in a log was not asked"
            ),
        });
        Ok(ExitCode::SUCCESS)
    }
}
