//! `claviger evidence`.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use claviger_client::{BackendList, CallerList, Key, KeyFilter, KeyList, ProposalFilter, ProposalList};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Global;
use super::output::Output;
use crate::audit::{self, InForce, Proof, Record, Verified};
use crate::config::Config;
use crate::policy::{self, USES};

/// What standards ask, in this project's reading, and where an answer lies.
const MAPPING: &str = include_str!("../../docs/evidence-mapping.md");
const CLAIMS: &str = include_str!("../../docs/assurance.toml");

/// Gather for an assessor what there is to show
///
/// Writes the key inventory with check values, states, places, ceilings, origins and last use; callers and backends; the
/// digest of the policies that the daemon enforces, by the log, and of those that the configuration names; the audit log with
/// its signed end, and proofs of single verdicts in it; and which requirement each answers. No secret is in it. The log is
/// checked first.
#[derive(Args)]
#[command(
    after_help = "Example:\n  claviger --as auditor --data ./dev evidence --out ./evidence --config ./dev/claviger.toml --tenant demo"
)]
pub(super) struct Evidence {
    /// A directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The daemon's configuration: its audit log and policies are read
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Whose keys; may be given several times
    #[arg(long, required = true)]
    tenant: Vec<String>,
    /// A proof that `claviger audit prove` made, to be checked against the log and put in; may be given several times
    #[arg(long, value_name = "FILE")]
    proof: Vec<PathBuf>,
}

/// A key as the assessor sees it.
#[derive(Serialize)]
struct Held {
    #[serde(flatten)]
    key: Key,
    /// Null if nobody has set one: it is used until its state says otherwise.
    crypto_period: Option<CryptoPeriod>,
    /// When the log names it last, and for what.
    last_use: Option<(String, String)>,
}

/// When a key may be used (NIST SP 800-57 part 1, section 5.3); open where it is null.
#[derive(Serialize)]
struct CryptoPeriod {
    protect_from: Option<String>,
    protect_until: Option<String>,
    verify_until: Option<String>,
}

impl CryptoPeriod {
    fn of(key: &Key) -> Option<Self> {
        let Key { protect_from, protect_until, verify_until, .. } = key.clone();
        let any = [&protect_from, &protect_until, &verify_until].iter().any(|time| time.is_some());
        any.then_some(Self { protect_from, protect_until, verify_until })
    }
}

impl Evidence {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let config = Config::load(&self.config)?;
        let log = config.data.join("audit.jsonl");
        let verified = match audit::verify(&log) {
            Ok(verified) => verified,
            Err(error) => bail!("{}: {error}; that is what an assessor should hear first", log.display()),
        };
        let proofs = self.proofs(&log, &verified)?;
        let client = global.client()?;
        let Told { last, in_force } = told(&log)?;
        let (mut held, mut approvals) = (Vec::new(), Vec::new());
        for tenant in &self.tenant {
            let filter = KeyFilter { tenant: tenant.clone(), ..KeyFilter::default() };
            let KeyList { keys } = client.get("/v1/keys", &filter).await?;
            let filter = ProposalFilter { tenant: Some(tenant.clone()) };
            approvals.extend(client.get::<ProposalList>("/v1/approvals", &filter).await?.proposals);
            held.extend(keys.into_iter().map(|key| Held {
                crypto_period: CryptoPeriod::of(&key),
                last_use: last.get(&label(&key)).cloned(),
                key,
            }));
        }
        let of_the_daemon = ProposalFilter { tenant: None };
        approvals.extend(client.get::<ProposalList>("/v1/approvals", &of_the_daemon).await?.proposals);
        let CallerList { principals } = client.get("/v1/principals", &()).await?;
        let BackendList { backends } = client.get("/v1/backends", &()).await?;

        // An inventory of keys is nobody's but the assessor's, whatever the umask.
        DirBuilder::new().mode(0o700).create(&self.out).with_context(|| self.out.display().to_string())?;
        let at = |name: &str| self.out.join(name);
        put(&at("keys.json"), &held)?;
        put(&at("approvals.json"), &approvals)?;
        put(&at("callers.json"), &principals)?;
        put(&at("backends.json"), &backends)?;
        let texts = config.policy_source().texts()?;
        let files: BTreeMap<&String, String> =
            texts.iter().map(|(file, text)| (file, hex::encode(Sha256::digest(text)))).collect();
        let configured = policy::digest(&texts);
        let differ = in_force.as_ref().map(|enforced| enforced.policies.sha256 != configured);
        let policies = json!({ "configured": config.policies, "sha256": configured, "files": files,
            "in_force": in_force, "differ": differ });
        put(&at("policies.json"), &policies)?;
        match &in_force {
            None => output.say("the log does not say which policies the daemon enforces"),
            Some(Enforced { record, time, policies }) if policies.sha256 != configured => output.say(format!(
                "the daemon enforces other policies than the configuration names: by record {record} of the log, since {time}, {} \
                 with the digest {}; configured is {} with the digest {configured}",
                policies.name, policies.sha256, config.policies
            )),
            Some(_) => {}
        }
        let head = if verified.end.is_some() { " --head head.json" } else { "" };
        let proves = json!({
            "records": verified.head.records(),
            "checkpoints": verified.checkpoints,
            "signed_to": verified.signed,
            "keys": verified.keys,
            "check": format!("claviger audit verify audit.jsonl{head}"),
        });
        put(&at("audit.json"), &proves)?;
        copy_log(&log, verified.head.records(), &at("audit.jsonl"))?;
        // The signed end that the log was checked by: whatever log is shown later must lead to it.
        if let Some(end) = &verified.end {
            put(&at("head.json"), end)?;
        }
        for (number, proof) in (1..).zip(&proofs) {
            put(&at(&format!("proof-{number}.json")), proof)?;
        }
        write(&at("claims.toml"), CLAIMS.as_bytes())?;
        write(&at("mapping.md"), MAPPING.as_bytes())?;
        let object = json!({ "out": self.out, "keys": held.len(), "callers": principals.len(),
            "records": verified.head.records(), "proofs": proofs.len(), "policies_sha256": configured, "policies_differ": differ });
        output.result(&object, || {
            format!(
                "{}: {} keys, {} callers, {} backends, an audit log of {} records that holds\nbegin with mapping.md",
                self.out.display(),
                held.len(),
                principals.len(),
                backends.len(),
                verified.head.records()
            )
        });
        Ok(ExitCode::SUCCESS)
    }
}

impl Evidence {
    /// The proofs that were named, each of which the log must hold.
    fn proofs(&self, log: &Path, verified: &Verified) -> anyhow::Result<Vec<Proof>> {
        let read = |path: &PathBuf| -> anyhow::Result<Proof> {
            let proof: Proof = serde_json::from_slice(&std::fs::read(path)?)?;
            proof.check_in(BufReader::new(File::open(log)?), verified)?;
            Ok(proof)
        };
        self.proof.iter().map(|path| read(path).with_context(|| path.display().to_string())).collect()
    }
}

/// Copies the records that were checked; those that have come since stand after them.
fn copy_log(log: &Path, records: u64, to: &Path) -> anyhow::Result<()> {
    let mut lines = BufReader::new(File::open(log)?);
    let mut copy = BufWriter::new(make(to)?);
    for _ in 0..records {
        let mut line = Vec::new();
        lines.read_until(b'\n', &mut line)?;
        copy.write_all(&line).with_context(|| to.display().to_string())?;
    }
    copy.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}

fn put(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    write(path, &serde_json::to_vec_pretty(value)?)
}

fn write(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    make(path)?.write_all(text).with_context(|| path.display().to_string())
}

fn make(path: &Path) -> anyhow::Result<File> {
    let made = File::options().write(true).create_new(true).mode(0o600).open(path);
    made.with_context(|| path.display().to_string())
}

/// A key as the audit log names it.
fn label(key: &Key) -> String {
    let held = if key.factors.is_empty() { String::new() } else { format!(" [{}]", key.factors.join(" ")) };
    format!("{}/{}/{} {} {}{held}", key.tenant, key.scheme, key.role, key.algorithm, key.version)
}

/// What the log tells of keys and policies.
struct Told {
    /// Of each key that it names, when and for what it was let be used last.
    last: BTreeMap<String, (String, String)>,
    /// None in a log that begins before this was written down.
    in_force: Option<Enforced>,
}

/// The policies that the daemon goes by, and the record that says so.
#[derive(Serialize)]
struct Enforced {
    record: u64,
    time: String,
    #[serde(flatten)]
    policies: InForce,
}

fn told(log: &Path) -> anyhow::Result<Told> {
    let (mut last, mut in_force) = (BTreeMap::new(), None);
    for line in audit::whole_lines(BufReader::new(File::open(log)?)) {
        let Record { seq, time, event, .. } = serde_json::from_str(&line?)?;
        if let Some(policies) = event.in_force {
            in_force = Some(Enforced { record: seq, time: time.clone(), policies });
        }
        // Neither was a question about it, nor its end; nor what was let in and then failed.
        let is_use = USES.contains(&event.action.as_str());
        if is_use && event.decision == "allow" && ["done", "open", "running"].contains(&event.outcome.as_str()) {
            for key in event.keys {
                last.insert(key, (time.clone(), event.action.clone()));
            }
        }
    }
    Ok(Told { last, in_force })
}
