//! `claviger audit`.

mod prove;
mod prove_call;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::Global;
use super::output::Output;
use crate::audit::{self, ChainError, Proof, Record, SignedHead, VerdictTree, Verified};

/// Check the audit log, and pass it on
#[derive(Subcommand)]
#[command(after_help = "Examples:
  claviger audit verify /var/lib/claviger/audit.jsonl
  claviger audit export /var/lib/claviger/audit.jsonl --after 120000
  claviger audit check-proof proof.json --log /var/lib/claviger/audit.jsonl")]
pub(super) enum Audit {
    /// Check every record, every checkpoint and the signed end; without a daemon. Exits 1 if something was changed
    #[command(after_help = "Examples:
  claviger audit verify audit.jsonl
  claviger audit verify audit.jsonl --head head-of-last-month.json --signed-by 3b6a27bc...")]
    Verify(Verify),
    /// Check the log and print its records, one JSON object a line, for a SIEM
    #[command(after_help = "Example:
  claviger audit export audit.jsonl --after 120000 --event decision")]
    Export(Export),
    /// Prove that one record had one verdict in one job, from its file, its verdicts and the log
    ///
    /// The proof is some hundred bytes for each doubling of the job's size, holds nothing of other records, and can be
    /// checked by anybody who has the log. Only auditors can make one: the daemon tells nobody else what blinds the
    /// verdicts.
    #[command(after_help = "Example:
  claviger --data ./dev --as auditor audit prove R0000017 --job 5f0c3a9d21e87b46 --records day.csv \\
      --verdicts verdicts.csv --scheme cjt166 --log ./dev/audit.jsonl --out proof.json")]
    Prove(prove::Prove),
    /// Prove what was found of one item of a single call, from what was sent, what was answered and the log
    ///
    /// Of `POST /v1/mac/verify` and `/v1/verify-signature`. The proof is like that of a record and is checked like it; the item
    /// goes by its message and MAC.
    #[command(after_help = "Example:
  claviger --data ./dev --as auditor audit prove-call 1 --call sent.json --answer answered.json \\
      --log ./dev/audit.jsonl --out proof.json")]
    ProveCall(prove_call::ProveCall),
    /// Check such a proof, without a daemon and without any key. Exits 1 if it proves nothing
    #[command(after_help = "Examples:
  claviger audit check-proof proof.json --log audit.jsonl
  claviger audit check-proof proof.json --log audit.jsonl --signed-by 3b6a27bc...")]
    CheckProof(prove::CheckProof),
}

#[derive(Args)]
pub(super) struct Verify {
    /// The log
    log: PathBuf,
    #[command(flatten)]
    anchors: Anchors,
}

/// What an auditor has of the log from elsewhere: whoever can write the file cannot write these.
#[derive(Args)]
pub(super) struct Anchors {
    /// A signed end that was kept elsewhere: the log must lead to it. That beside the log is always asked
    #[arg(long, value_name = "FILE", requires = "log")]
    head: Option<PathBuf>,
    /// The only public key that may have signed, in hexadecimal; a log that nobody has signed is refused then
    #[arg(long, value_name = "HEX", requires = "log", value_parser = public_key)]
    signed_by: Option<String>,
}

#[derive(Args)]
pub(super) struct Export {
    /// The log
    log: PathBuf,
    /// Only records with higher numbers
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// Only records of this event, as `decision`; may be given several times
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
}

impl Audit {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Prove(prove) => prove.run(global, output).await,
            Self::ProveCall(prove) => prove.run(global, output).await,
            Self::CheckProof(check) => check.run(output),
            Self::Verify(verify) => verify.run(output),
            Self::Export(export) => export.run(output),
        }
    }
}

/// A public key of Ed25519, or a point on P-256.
fn public_key(text: &str) -> Result<String, String> {
    match hex::decode(text).as_deref().map(<[u8]>::len) {
        Ok(32 | 65) => Ok(text.to_ascii_lowercase()),
        _ => Err("a public key has 64 or 130 hexadecimal digits".to_owned()),
    }
}

/// What was wrong, if that is what it is; other errors pass.
fn wrong(error: ChainError) -> anyhow::Result<ChainError> {
    match error {
        ChainError::Read(error) => Err(ChainError::Read(error).into()),
        wrong => Ok(wrong),
    }
}

fn found_wrong(output: &Output, error: &ChainError) -> ExitCode {
    output.result(&json!({ "ok": false, "wrong": error.to_string(), "line": error.line() }), || error.to_string());
    ExitCode::from(1)
}

impl Anchors {
    /// Checks a log, up to the signed end beside it and to one that was kept elsewhere, and who has signed it.
    fn check(&self, log: &Path) -> Result<Verified, ChainError> {
        let mut verified = audit::verify(log)?;
        if let Some(path) = &self.head {
            let unreadable = |why: String| std::io::Error::other(format!("--head {}: {why}", path.display()));
            let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
            let head: SignedHead =
                serde_json::from_slice(&text).map_err(|error| unreadable(format!("is no signed end: {error}")))?;
            verified = audit::verify_lines(BufReader::new(File::open(log)?), Some(&head))?;
        }
        self.signed_by.as_ref().map_or(Ok(()), |key| verified.is_signed_by(key))?;
        Ok(verified)
    }
}

impl Verify {
    fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let verified = match self.anchors.check(&self.log) {
            Ok(verified) => verified,
            Err(error) => return Ok(found_wrong(output, &wrong(error)?)),
        };
        let records = verified.head.records();
        let unsigned = verified.unsigned;
        let object = json!({ "ok": true, "records": records, "checkpoints": verified.checkpoints,
            "signed": verified.signed, "keys": verified.keys, "signed_end": verified.end.as_ref().map(|end| end.seq),
            "torn_bytes": verified.torn });
        output.result(&object, || {
            let signed = match verified.checkpoints {
                0 => "none of them is signed: whoever can write the file can make such a log".to_owned(),
                many => {
                    format!("{many} checkpoints by {}, {unsigned} records after the last", verified.keys.join(", "))
                }
            };
            format!("{records} records that follow one another; {signed}")
        });
        if verified.end.is_none() {
            output.say(
                "there is no signed end, beside the log or by --head: whether it was cut off at its end is not known",
            );
        }
        if verified.torn > 0 {
            output.say(format!("{} bytes after them are of a record that was not written to its end", verified.torn));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Export {
    fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        if let Err(error) = audit::verify(&self.log) {
            let wrong = wrong(error)?;
            bail!("{wrong}; nothing is passed on (`claviger audit verify` says more)");
        }
        for record in records(&self.log)? {
            let (text, record) = record?;
            let wanted = self.events.is_empty() || self.events.contains(&record.event.event);
            if record.seq > self.after && wanted {
                output.result(&record, || text);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the log says last of a job's verdicts.
fn stands_in(log: &Path, job: &str) -> anyhow::Result<VerdictTree> {
    audit::verify(log)?;
    let mut found = None;
    for record in records(log)? {
        let event = record?.1.event;
        if event.job == job && event.verdicts.is_some() {
            found = event.verdicts;
        }
    }
    found.with_context(|| format!("{} knows no job {job} that gave verdicts", log.display()))
}

/// Writes a proof that holds, and says so.
fn written(proof: &Proof, out: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    proof.check()?;
    std::fs::write(out, serde_json::to_vec_pretty(proof)?).with_context(|| out.display().to_string())?;
    output.result(proof, || {
        format!(
            "record {} had the verdict {} in job {}: {} hashes lead to the log's root\nproof: {}",
            proof.record_id,
            proof.verdict,
            proof.job,
            proof.path.len(),
            out.display()
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// The records of a log, each with its line.
fn records(log: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<(String, Record)>>> {
    let shown = log.display().to_string();
    let file = File::open(log).context(shown)?;
    Ok(audit::whole_lines(BufReader::new(file)).map(|line| {
        let line = line?;
        let record = serde_json::from_str(&line)?;
        Ok((line, record))
    }))
}
