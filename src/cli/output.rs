//! Where words go: JSON and results to standard output, words for people to standard error.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use arrow_schema::ArrowError;
use claviger_client::ClientError;
use indicatif::{ProgressBar, ProgressStyle};
use parquet::errors::ParquetError;
use serde::Serialize;

/// How this run speaks.
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// One result: an object a line with `--json`, else the words.
    pub(super) fn result(&self, object: &impl Serialize, words: impl FnOnce() -> String) {
        let text = if self.json { serde_json::to_string(object).unwrap_or_default() } else { words() };
        // A closed pipe is the reader's wish.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// Words on the way.
    pub(super) fn say(&self, words: impl AsRef<str>) {
        let _ = writeln!(std::io::stderr().lock(), "{}", words.as_ref());
    }

    /// A bar over `bytes` on a terminal, nothing elsewhere.
    pub(super) fn progress(&self, bytes: u64) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(bytes);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {bytes_per_sec}  {eta} left") {
            bar.set_style(style);
        }
        bar
    }

    /// Says what went wrong, and on what field or by which policy.
    pub(super) fn fail(&self, error: &anyhow::Error) -> ExitCode {
        let problem = error.chain().find_map(|cause| match cause.downcast_ref::<ClientError>() {
            Some(ClientError::Problem(problem)) => Some(problem),
            _ => None,
        });
        let by = problem
            .and_then(|problem| problem.policy.as_ref())
            .map(|policy| format!(" (policy {policy})"))
            .unwrap_or_default();
        if self.json {
            let code = problem.map_or_else(|| code_of(error), |problem| problem.code.as_str());
            let mut object = serde_json::json!({ "code": code, "detail": in_words(error) });
            // What a program goes on by: whose refusal it was, and what others must approve.
            let more = problem.map(|problem| [("policy", &problem.policy), ("approval", &problem.approval)]);
            for (name, value) in more.into_iter().flatten() {
                if let Some(value) = value {
                    object[name] = value.as_str().into();
                }
            }
            let _ = writeln!(std::io::stdout().lock(), "{}", serde_json::json!({ "error": object }));
        }
        self.say(format!("claviger: {}{by}", in_words(error)));
        if let Some(id) = problem.and_then(|problem| problem.approval.as_ref()) {
            self.say(format!("others see it by `claviger approvals show {id}`; then repeat this with --approval {id}"));
        }
        ExitCode::from(2)
    }
}

/// An error and its causes. Some say their cause themselves, and it is not said again.
fn in_words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if words.is_empty() {
            words = cause;
        } else if !words.ends_with(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// What kind of failure it is, where the daemon did not say.
fn code_of(error: &anyhow::Error) -> &'static str {
    let of = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref() {
        Some(ClientError::File { .. }) => Some("file"),
        Some(ClientError::Connection { .. }) => Some("connection"),
        Some(ClientError::Answer(_)) => Some("bad_answer"),
        Some(ClientError::Problem(_)) => None,
        None if cause.is::<ArrowError>() || cause.is::<ParquetError>() => Some("bad_file"),
        None => cause.is::<std::io::Error>().then_some("file"),
    };
    error.chain().find_map(of).unwrap_or("refused_here")
}

/// A number with its thousands apart.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::audit::ChainError;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::Error::from(ChainError::from(std::io::Error::other("no such log"))).context("audit.jsonl");
        assert_eq!(super::in_words(&error), "audit.jsonl: the audit log cannot be read: no such log");
        assert_eq!(super::in_words(&anyhow::anyhow!("one").context("other")), "other: one");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([7, 1000, 1_234_567].map(super::thousands), ["7", "1,000", "1,234,567"]);
    }
}
