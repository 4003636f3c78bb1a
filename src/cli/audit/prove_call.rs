//! `claviger audit prove-call`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use claviger_client::{JobBlinding, Valid};
use serde::Deserialize;

use super::{stands_in, written};
use crate::audit::{Blinding, Leaf, Proof, Tree};
use crate::cli::Global;
use crate::cli::output::Output;

#[derive(Args)]
pub(in crate::cli) struct ProveCall {
    /// Which of the call's items, counted from one
    item: usize,
    /// What was sent: the JSON of `POST /v1/mac/verify` or `/v1/verify-signature`
    #[arg(long, value_name = "FILE")]
    call: PathBuf,
    /// What was answered
    #[arg(long, value_name = "FILE")]
    answer: PathBuf,
    /// The audit log, or a copy of it
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// Where the proof goes
    #[arg(long, value_name = "PROOF")]
    out: PathBuf,
}

/// What a call has of interest here.
#[derive(Deserialize)]
struct Call {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    message: String,
    #[serde(alias = "signature")]
    mac: String,
}

impl ProveCall {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let call: Call = json(&self.call)?;
        let Valid { valid, job } = json(&self.answer)?;
        ensure!(call.items.len() == valid.len(), "the call has {} items, the answer {}", call.items.len(), valid.len());
        let Some(index) = self.item.checked_sub(1).filter(|index| *index < valid.len()) else {
            bail!("the call has no item {}", self.item)
        };
        let stands = stands_in(&self.log, &job)?;
        let given: JobBlinding = global.client()?.get(&format!("/v1/audit/jobs/{job}/blinding"), &()).await?;
        let blinding = Blinding::from_hex(&given.blinding).context("the daemon's blinding is none")?;
        let row = |item: &Item| format!("{}:{}", item.message, item.mac).to_ascii_uppercase();
        let mut leaves: Vec<Leaf> =
            call.items.iter().zip(&valid).map(|(item, valid)| Leaf::of_call(row(item).as_bytes(), *valid)).collect();
        blinding.salts().blind(&mut leaves);
        let mut tree = Tree::tracing(index as u64);
        tree.append(Leaf::bytes(&leaves));
        ensure!(
            tree.len() == stands.items && hex::encode(tree.root()) == stands.root,
            "{} and {} are not call {job}: the log holds another root over {} verdicts",
            self.call.display(),
            self.answer.display(),
            stands.items
        );
        let path = tree.path().context("the tree does not hold the item")?;
        let id = row(&call.items[index]);
        let proof = Proof::new(&job, &id, index as u64, tree.len(), &leaves[index], &path, &tree.root());
        written(&proof, &self.out, output)
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}
