//! `claviger doctor`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};

use super::output::Output;
use crate::config::Config;
use crate::routing::{Examination, Launcher, examine};

/// Say what each backend was proved to do, what stays inside it, and how it deviates
///
/// Needs only the [[backend]] tables of the configuration, no store and no running daemon. For each recipe of the
/// operation catalogue it says the least that leaves the backend: nothing, session-key, card-key, master-key, or
/// impossible. Exits 0 if every backend answered, 1 if one did not, whatever they cannot do.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  claviger doctor --config /etc/claviger/claviger.toml\n  claviger doctor --config claviger.toml --backend room-1 --json\n  claviger doctor --config claviger.toml --markdown > backends.md"
)]
pub(super) struct Doctor {
    /// The configuration, one TOML file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only this backend; may be given several times
    #[arg(long, value_name = "NAME")]
    backend: Vec<String>,
    /// Print one table of recipes and backends, in Markdown
    #[arg(long)]
    markdown: bool,
}

impl Doctor {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let shown = self.config.display();
        let configured = Config::load_backends(&self.config)?;
        if let Some(unknown) = self.backend.iter().find(|name| configured.iter().all(|backend| backend.name != **name))
        {
            anyhow::bail!("{shown} has no backend `{unknown}`");
        }
        let wanted: Vec<_> = configured
            .into_iter()
            .filter(|backend| self.backend.is_empty() || self.backend.contains(&backend.name))
            .collect();
        anyhow::ensure!(!wanted.is_empty(), "{shown} names no [[backend]]");
        let launcher = Arc::new(Launcher::of_backends(&self.config));
        let found: Vec<Examination> = wanted.iter().map(|backend| examine(backend, &launcher)).collect();
        if self.markdown && !output.is_json() {
            output.result(&(), || table(&found));
        } else {
            found.iter().for_each(|backend| output.result(&object(backend), || words(backend)));
        }
        let all = found.iter().all(|backend| backend.report.is_ok());
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn object(backend: &Examination) -> Value {
    match &backend.report {
        Err(error) => json!({ "name": backend.name, "driver": backend.driver, "error": error }),
        Ok(report) => {
            let recipes: Map<String, Value> = report
                .recipes
                .iter()
                .map(|(name, reached)| (name.clone(), json!({ "exposure": reached.as_str() })))
                .collect();
            json!({
                "name": backend.name,
                "driver": backend.driver,
                "place": backend.place,
                "identity": report.identity,
                "proofs": report.proofs,
                "recipes": recipes,
                "findings": report.findings,
            })
        }
    }
}

fn words(backend: &Examination) -> String {
    let Examination { name, driver, .. } = backend;
    let report = match &backend.report {
        Ok(report) => report,
        Err(error) => return format!("{name}  {driver}\n  does not answer: {error}\n"),
    };
    let who = &report.identity;
    let mut words = format!("{name}  {driver}  {} {} {}\n", who.model, who.serial, who.firmware);
    let proved = |proved| {
        let which = report.proofs.iter().filter(|proof| proof.proved == proved);
        which.map(|proof| proof.capability.as_str()).collect::<Vec<_>>().join(", ")
    };
    words += &format!("  proved: {}\n", proved(true));
    let not = proved(false);
    if !not.is_empty() {
        words += &format!("  not proved: {not}\n");
    }
    words += "  what leaves at least:\n";
    for (recipe, reached) in &report.recipes {
        words += &format!("    {recipe:<32} {}\n", reached.as_str());
    }
    for finding in &report.findings {
        words += &format!("  {}: {}\n    {}\n", finding.id, finding.cause, finding.remedy);
    }
    words
}

/// Recipes down, backends across.
fn table(backends: &[Examination]) -> String {
    let answered: Vec<_> =
        backends.iter().filter_map(|backend| Some((backend, backend.report.as_ref().ok()?))).collect();
    let across = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let names = answered.iter().map(|(backend, _)| backend.name.as_str());
    let mut table = across(std::iter::once("recipe").chain(names).collect());
    table += &across(vec!["---"; answered.len() + 1]);
    let Some((_, first)) = answered.first() else { return table };
    for (row, (recipe, _)) in first.recipes.iter().enumerate() {
        let reached =
            answered.iter().map(|(_, report)| report.recipes.get(row).map_or("", |(_, reached)| reached.as_str()));
        table += &across(std::iter::once(recipe.as_str()).chain(reached).collect());
    }
    table
}
