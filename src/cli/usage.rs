//! `claviger usage`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use jiff::civil::Date;
use serde_json::json;

use super::output::{Output, thousands};
use crate::audit::{self, Use, Used};

/// Add up what each tenant used, by the audit log
///
/// Calls are requests that were permitted, and jobs; items are the records, MACs and cards in them. The log is checked
/// first, so what is billed is what was written down before it was answered.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  claviger usage /var/lib/claviger/audit.jsonl --from 2026-11-01 --until 2026-11-30\n  claviger usage audit.jsonl --tenant shenzhen --json"
)]
pub(super) struct Usage {
    /// The log
    log: PathBuf,
    /// The first day, UTC
    #[arg(long, value_name = "DATE", default_value = "0001-01-01")]
    from: Date,
    /// The last day, UTC
    #[arg(long, value_name = "DATE", default_value = "9999-12-31")]
    until: Date,
    /// Of one tenant only
    #[arg(long)]
    tenant: Option<String>,
    /// One line for each day
    #[arg(long)]
    daily: bool,
}

impl Usage {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        if let Err(error) = audit::verify(&self.log) {
            bail!("{error}; nothing is billed on it (`claviger audit verify` says more)");
        }
        let log = File::open(&self.log).with_context(|| self.log.display().to_string())?;
        let used = audit::usage(BufReader::new(log), &self.from.to_string(), &self.until.to_string())?;
        let mut sums: BTreeMap<Use, Used> = BTreeMap::new();
        for (of, used) in used.into_iter().filter(|(of, _)| self.tenant.as_ref().is_none_or(|one| *one == of.tenant)) {
            let day = if self.daily { of.day.clone() } else { String::new() };
            let sum = sums.entry(Use { day, ..of }).or_default();
            sum.calls += used.calls;
            sum.items += used.items;
        }
        for (Use { tenant, day, action }, Used { calls, items }) in &sums {
            let mut object = json!({ "tenant": tenant, "action": action, "calls": calls, "items": items });
            if self.daily {
                object["day"] = day.as_str().into();
            }
            output.result(&object, || {
                format!(
                    "{tenant:<20} {day:<10} {action:<24} {:>14} calls {:>18} items",
                    thousands(*calls),
                    thousands(*items)
                )
            });
        }
        if sums.is_empty() {
            output.say("nothing was used in these days");
        }
        Ok(ExitCode::SUCCESS)
    }
}
