//! What each tenant used, by the audit log: what is billed is what was written down before it was answered.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::Serialize;

use super::{Record, whole_lines};

/// Whose, on which day (UTC), doing what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// City or operator.
    pub tenant: String,
    /// As `2026-11-25`.
    pub day: String,
    /// As the policy schema names it.
    pub action: String,
}

/// How much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Requests that were permitted, and jobs.
    pub calls: u64,
    /// Rows of their batches: records, MACs, cards.
    pub items: u64,
}

/// Adds up the records of the days from `from` to `until`, both included.
///
/// # Errors
/// If a line cannot be read, or is no record.
pub fn usage(log: impl BufRead, from: &str, until: &str) -> io::Result<BTreeMap<Use, Used>> {
    let mut used: BTreeMap<Use, Used> = BTreeMap::new();
    for line in whole_lines(log) {
        let line = line?;
        let Record { time, event, .. } = serde_json::from_str(&line).map_err(io::Error::other)?;
        let day = time.get(..10).unwrap_or_default();
        if day < from || day > until || event.tenant.is_empty() {
            continue;
        }
        // A job's closing record has the counts of all that were before it.
        let counts = matches!(event.event.as_str(), "job-closed" | "job-aborted")
            || event.event == "decision" && event.decision == "allow";
        if counts {
            let items = event.items();
            let of = Use { tenant: event.tenant, day: day.to_owned(), action: event.action };
            let used = used.entry(of).or_default();
            used.calls += 1;
            used.items += items;
        }
    }
    Ok(used)
}
