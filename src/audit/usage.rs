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

/// Adds up the records of the days from `from` to `until`, both included. A job that a crash has ended has no closing record:
/// what its last checkpoint says was answered.
///
/// # Errors
/// If a line cannot be read, or is no record.
pub fn usage(log: impl BufRead, from: &str, until: &str) -> io::Result<BTreeMap<Use, Used>> {
    let mut used: BTreeMap<Use, Used> = BTreeMap::new();
    let mut running: BTreeMap<String, (Use, u64)> = BTreeMap::new();
    let mut add = |of: Use, items: u64| {
        let used = used.entry(of).or_default();
        used.calls += 1;
        used.items += items;
    };
    for line in whole_lines(log) {
        let line = line?;
        let Record { time, event, .. } = serde_json::from_str(&line).map_err(io::Error::other)?;
        let day = time.get(..10).unwrap_or_default();
        // Of one that went on until another day nothing is counted twice.
        let ends = matches!(event.event.as_str(), "job-closed" | "job-aborted");
        if ends {
            running.remove(&event.job);
        }
        if day < from || day > until || event.tenant.is_empty() {
            continue;
        }
        // A job's closing record has the counts of all that were before it.
        let counts = ends || event.event == "decision" && event.decision == "allow";
        let (items, job) = (event.items(), event.job);
        let of = Use { tenant: event.tenant, day: day.to_owned(), action: event.action };
        if counts {
            add(of, items);
        } else if event.event == "job-checkpoint" {
            running.insert(job, (of, items));
        }
    }
    running.into_values().for_each(|(of, items)| add(of, items));
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::super::chain::Head;
    use super::*;

    #[test]
    fn a_job_that_nobody_ended_used_what_it_last_said_and_none_counts_twice() {
        let (mut head, mut log) = (Head::empty(), Vec::new());
        let mut write = |day: &str, event: &str, job: &str, items: u64| {
            let event = Event {
                event: event.to_owned(),
                action: "verify_transactions".to_owned(),
                tenant: "demo".to_owned(),
                job: job.to_owned(),
                counts: [("valid".to_owned(), items)].into(),
                ..Event::default()
            };
            head.extend(event, format!("{day}T23:59:59Z"), &mut log).unwrap();
        };
        write("2026-11-28", "job-checkpoint", "a", 10);
        write("2026-11-28", "job-checkpoint", "b", 100);
        write("2026-11-28", "job-checkpoint", "a", 20);
        write("2026-11-29", "job-closed", "b", 300);
        let on = |from: &str, until: &str| -> Vec<(u64, u64)> {
            usage(&log[..], from, until).unwrap().values().map(|used| (used.calls, used.items)).collect()
        };
        assert_eq!(on("2026-11-28", "2026-11-28"), [(1, 20)]);
        assert_eq!(on("2026-11-29", "2026-11-29"), [(1, 300)]);
        assert_eq!(on("2026-11-01", "2026-11-30"), [(1, 20), (1, 300)]);
    }
}
