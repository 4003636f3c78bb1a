//! A transcript: what happened in a ceremony, a line of JSON each, every line holding the hash of the one before, signed at
//! the end by each who was there. It holds check values and never a key, a component or a share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::binding::Binding;
use crate::course::{Course, CourseError};
use crate::plan::{Plan, PlanError, digest};
use crate::signature::{SignatureError, Signed};
use crate::step::Step;

/// How a ceremony ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Every step was done.
    Finished,
    /// A step was refused three times, or could not be done.
    Failed,
    /// Somebody ended it, with approval.
    Cancelled,
    /// Its hours were over.
    Expired,
}

impl Ending {
    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// How a ceremony begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// 16 random bytes, hexadecimal.
    pub ceremony: String,
    /// The daemon that holds it.
    pub daemon: String,
    /// Who opened it.
    pub by: String,
    /// The proposal under which others approved it; empty if policy asked for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub approval: String,
    /// The plan's file.
    pub plan: String,
    /// The binding's.
    pub binding: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It was opened.
    Opened(Opening),
    /// Somebody is there.
    Joined {
        /// Who.
        by: String,
        /// SHA-256 of their certificate.
        certificate: String,
    },
    /// Somebody who was there has joined once more: their terminal had ended, or they have another.
    Returned {
        /// Who.
        by: String,
    },
    /// The daemon that holds it was started again, and goes on from here.
    Resumed {},
    /// A turn that makes or changes a key was begun.
    Begun {
        /// Which.
        turn: String,
        /// By whom.
        by: String,
    },
    /// A turn was done.
    Done {
        /// Which.
        turn: String,
        /// By whom.
        by: String,
        /// What came of it: name and value.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<(String, String)>,
    },
    /// A turn was tried, and was not good.
    Refused {
        /// Which.
        turn: String,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// A turn that was begun could not be done: nothing was made, and it may be begun again.
    Undone {
        /// Which.
        turn: String,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// Components are brought again.
    Back {
        /// From which turn on.
        to: String,
        /// Why.
        reason: String,
    },
    /// It is over.
    Ended {
        /// How.
        how: Ending,
        /// By whom, if somebody ended it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
        /// Why, if it is not finished.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Somebody who was there signed how it ended.
    Signed {
        /// Who.
        by: String,
        /// Their certificate and signature.
        signed: Signed,
    },
}

/// A line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counted from one.
    pub n: u64,
    /// When, UTC.
    pub at: Timestamp,
    /// SHA-256 of the line before, hexadecimal; zeros in the first.
    pub prev: String,
    /// On every line of a rehearsal: its keys are for nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Why a transcript is none, or an event does not go into it.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    /// A line that is no entry.
    #[error("line {line}: {reason}")]
    Line {
        /// From one.
        line: u64,
        /// Why.
        reason: String,
    },
    /// The plan or the binding in it is none, or another.
    #[error("line 1: {0}")]
    Plan(#[from] PlanError),
    /// What happened cannot have.
    #[error("line {line}: {error}")]
    Course {
        /// From one.
        line: u64,
        /// Why.
        error: CourseError,
    },
    /// A signature does not hold.
    #[error("line {line}: {error}")]
    Signature {
        /// From one.
        line: u64,
        /// Why.
        error: SignatureError,
    },
}

/// A transcript so far, all of which holds together.
#[derive(Debug, Clone)]
pub struct Transcript {
    lines: Vec<String>,
    entries: Vec<Entry>,
    plan: Plan,
    binding: Binding,
    course: Course,
}

impl Transcript {
    /// Begins one.
    ///
    /// # Errors
    /// [`TranscriptError`]: the plan or the binding is none, or they do not fit.
    pub fn begin(opening: Opening, at: Timestamp, rehearsal: bool) -> Result<Self, TranscriptError> {
        let entry = Entry { n: 1, at, prev: "0".repeat(64), rehearsal, event: Event::Opened(opening) };
        Self::first(line_of(&entry)?, entry)
    }

    fn first(line: String, entry: Entry) -> Result<Self, TranscriptError> {
        let Event::Opened(opening) = &entry.event else {
            return Err(TranscriptError::Course { line: 1, error: CourseError::Opening });
        };
        let binding = Binding::parse(&opening.binding)?;
        let plan = Plan::bound(&opening.plan, &binding)?;
        let mut course = Course::new(&plan, binding.clone());
        course.take(&entry.event).map_err(|error| TranscriptError::Course { line: 1, error })?;
        Ok(Self { lines: vec![line], entries: vec![entry], plan, binding, course })
    }

    /// Reads one, and checks every line of it: chain, order, who did what, and signatures.
    ///
    /// # Errors
    /// [`TranscriptError`] names the first line that does not hold.
    pub fn parse(text: &str) -> Result<Self, TranscriptError> {
        let reason = if text.is_empty() { "is missing: there is nothing in it" } else { "is cut off" };
        let cut = TranscriptError::Line { line: text.lines().count().max(1) as u64, reason: reason.to_owned() };
        let body = text.strip_suffix('\n').ok_or(cut)?;
        let mut lines = body.split('\n');
        let first = lines.next().unwrap_or_default();
        let mut transcript = Self::first(first.to_owned(), entry_of(first, 1, &"0".repeat(64))?)?;
        for (number, line) in (2..).zip(lines) {
            let entry = entry_of(line, number, &transcript.head())?;
            if entry.rehearsal != transcript.is_rehearsal() {
                return Err(TranscriptError::Line { line: number, reason: "is of a rehearsal, or not".to_owned() });
            }
            if !is_signature(&entry.event) && transcript.entries.last().is_some_and(|before| entry.at < before.at) {
                return Err(TranscriptError::Line {
                    line: number,
                    reason: "is earlier than the one before".to_owned(),
                });
            }
            transcript.take(line.to_owned(), entry)?;
        }
        Ok(transcript)
    }

    /// Adds what happened, if it may follow; the line that is new.
    ///
    /// # Errors
    /// [`TranscriptError`]; then nothing was added.
    pub fn add(&mut self, at: Timestamp, event: Event) -> Result<&str, TranscriptError> {
        let n = self.entries.len() as u64 + 1;
        // A clock that was set back does not turn the order around. Of a signature the time is in what is signed; several
        // people sign at once, and it does not matter whose comes first.
        let at = match &event {
            event if is_signature(event) => at,
            _ => self.entries.last().map_or(at, |before| before.at.max(at)),
        };
        let entry = Entry { n, at, prev: self.head(), rehearsal: self.is_rehearsal(), event };
        self.take(line_of(&entry)?, entry)?;
        Ok(self.lines.last().map_or("", String::as_str))
    }

    fn take(&mut self, line: String, entry: Entry) -> Result<(), TranscriptError> {
        let number = entry.n;
        if let Event::Signed { by, signed } = &entry.event {
            let text = self.closing(by, &signed.certificate, entry.at).unwrap_or_default();
            let one_way = signed.signature.to_ascii_uppercase() == signed.signature;
            let held = if one_way { signed.verify(text.as_bytes()) } else { Err(SignatureError::Wrong) };
            held.map_err(|error| TranscriptError::Signature { line: number, error })?;
        }
        self.course.take(&entry.event).map_err(|error| TranscriptError::Course { line: number, error })?;
        self.lines.push(line);
        self.entries.push(entry);
        Ok(())
    }

    /// SHA-256 of the last line.
    pub fn head(&self) -> String {
        hex::encode(digest(self.lines.last().map_or("", String::as_str)))
    }

    /// What somebody who was there signs, once it is over: the hash of the line that ended it covers all before, and the
    /// time and the hash of the text that their certificate is written in what stands in the transcript beside the signature. Their certificate itself is called
    /// as everywhere, by the SHA-256 of its DER.
    pub fn closing(&self, by: &str, certificate: &str, at: Timestamp) -> Option<String> {
        let (last, how) = self.entries.iter().zip(&self.lines).find_map(|(entry, line)| match &entry.event {
            Event::Ended { how, .. } => Some(((entry.n, line), *how)),
            _ => None,
        })?;
        let (opening, (lines, last)) = (self.opening()?, last);
        let plan = format!("{} version {}, {}", self.plan.id, self.plan.version, hex::encode(digest(&opening.plan)));
        let rehearsal = if self.is_rehearsal() { "yes" } else { "no" };
        let (hash, written) = (hex::encode(digest(last)), hex::encode(digest(certificate)));
        let signed = Signed { certificate: certificate.to_owned(), signature: String::new() };
        let certificate = signed.fingerprint().unwrap_or_default();
        Some(format!(
            "claviger ceremony, version 1\nceremony: {}\nplan: {plan}\nrehearsal: {rehearsal}\noutcome: {}\n\
             lines: {lines}\nhash: {hash}\nsigner: {by}\ncertificate: {certificate}\n\
             as written, SHA-256: {written}\ntime: {at}\n",
            opening.ceremony,
            how.as_str(),
        ))
    }

    /// How it began.
    pub fn opening(&self) -> Option<&Opening> {
        self.entries.first().and_then(|entry| match &entry.event {
            Event::Opened(opening) => Some(opening),
            _ => None,
        })
    }

    /// Whether its keys are for nothing else.
    pub fn is_rehearsal(&self) -> bool {
        self.entries.first().is_some_and(|entry| entry.rehearsal)
    }

    /// Keys that came from others and whose check value is still to be compared with theirs, each with the step that took it in.
    pub fn unproved(&self) -> impl Iterator<Item = (usize, &str)> {
        let steps = &self.plan.steps;
        let next = self.course.next().map_or(usize::MAX, |turn| turn.step);
        let entered = |key: &str| {
            steps.iter().any(|step| matches!(step, Step::EnterComponents { key: entered, .. } if entered == key))
        };
        let from_others = move |step: &Step| match step {
            Step::ReceiveKey { .. } => true,
            Step::JoinComponents { key, .. } => entered(key),
            _ => false,
        };
        let compared_later = move |key: &str| {
            let compares = |step: &Step| matches!(step, Step::CompareKcv { .. }) && step.key() == Some(key);
            steps.iter().skip(next).any(compares)
        };
        let done = steps.iter().enumerate().take(next).filter(move |(_, step)| from_others(step));
        done.filter_map(|(number, step)| Some((number, step.key()?))).filter(move |(_, key)| compared_later(key))
    }

    /// The plan, with the binding's values in it.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The binding.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Where it is.
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// The lines, as entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The whole text, each line with its end.
    pub fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// After which nothing more is done.
    pub fn expires(&self) -> Timestamp {
        let opened = self.entries.first().map_or(Timestamp::MIN, |entry| entry.at);
        opened + std::time::Duration::from_secs(3600 * u64::from(self.plan.hours))
    }
}

fn is_signature(event: &Event) -> bool {
    matches!(event, Event::Signed { .. })
}

fn line_of(entry: &Entry) -> Result<String, TranscriptError> {
    serde_json::to_string(entry).map_err(|error| TranscriptError::Line { line: entry.n, reason: error.to_string() })
}

/// An entry that is written as it must be, and follows the line before.
fn entry_of(line: &str, number: u64, prev: &str) -> Result<Entry, TranscriptError> {
    let wrong = |reason: &str| TranscriptError::Line { line: number, reason: reason.to_owned() };
    let entry: Entry = serde_json::from_str(line).map_err(|_| wrong("is no entry of a transcript"))?;
    if entry.n != number {
        return Err(wrong("has another number: a line is missing, or stands elsewhere"));
    }
    if entry.prev != prev {
        return Err(wrong("does not follow the line before: one of the two was changed"));
    }
    // One way to write it: nothing hides in blanks, in members that nobody reads, or in members twice.
    if line_of(&entry)? != line {
        return Err(wrong("is not written as it was"));
    }
    Ok(entry)
}
