//! What a ceremony on a machine without a network brings to a daemon: its transcript, and the keys that went out in it.

use serde::{Deserialize, Serialize};

use crate::plan::digest;
use crate::step::Step;
use crate::transcript::{Ending, Event, Transcript, TranscriptError};

/// The name of the line in a transcript that has the SHA-256 of a key as it went out.
pub const SENT: &str = "sha-256 of what went out";

/// Why a bundle is none.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be read.
    #[error("the bundle cannot be read: {0}")]
    Form(String),
    /// Its transcript does not hold.
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    /// The ceremony did not end well.
    #[error("the ceremony is not finished")]
    Unfinished,
    /// Somebody who was there has not signed.
    #[error("{0} was there and has not signed")]
    Unsigned(String),
    /// A key that the transcript does not know.
    #[error("key number {0} of the bundle did not go out in this ceremony")]
    Stranger(usize),
    /// The same again.
    #[error("key number {0} of the bundle is there twice")]
    Twice(usize),
    /// A key that went out, and is not there.
    #[error("key `{0}` went out in this ceremony, and is not in the bundle")]
    Missing(String),
}

/// A transcript and the keys that went out.
pub struct Bundle {
    transcript: Transcript,
    keys: Vec<Sent>,
}

/// A key as it went out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Number of the step that it went out in, from zero.
    pub step: usize,
    /// A key block as it is, anything else in hexadecimal.
    pub wrapped: String,
}

/// As it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    transcript: String,
    keys: Vec<String>,
}

impl Bundle {
    /// Puts a finished ceremony and what went out in it together: each key by the digest that the transcript has of it.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn new(transcript: Transcript, wrapped: &[String]) -> Result<Self, BundleError> {
        if transcript.course().ending() != Some(Ending::Finished) {
            return Err(BundleError::Unfinished);
        }
        if let Some(name) = transcript.course().unsigned().next() {
            return Err(BundleError::Unsigned(name.to_owned()));
        }
        let sent = sent(&transcript);
        let mut keys = Vec::new();
        for (number, wrapped) in (1..).zip(wrapped) {
            let hash = hex::encode(digest(wrapped));
            let step = sent.iter().find(|(_, known)| *known == hash).ok_or(BundleError::Stranger(number))?.0;
            if keys.iter().any(|key: &Sent| key.step == step) {
                return Err(BundleError::Twice(number));
            }
            keys.push(Sent { step, wrapped: wrapped.clone() });
        }
        keys.sort_by_key(|key| key.step);
        match sent.iter().find(|(step, _)| !keys.iter().any(|key| key.step == *step)) {
            Some((step, _)) => {
                let key = transcript.plan().steps.get(*step).and_then(Step::key).unwrap_or_default();
                Err(BundleError::Missing(key.to_owned()))
            }
            None => Ok(Self { transcript, keys }),
        }
    }

    /// Reads a bundle, and checks all of it that needs nothing else.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        let file: File = serde_json::from_str(text).map_err(|error| BundleError::Form(error.to_string()))?;
        if file.version != 1 {
            return Err(BundleError::Form(format!("it is of version {}, and not of 1", file.version)));
        }
        Self::new(Transcript::parse(&file.transcript)?, &file.keys)
    }

    /// The bundle as it stands in a file.
    pub fn text(&self) -> String {
        let keys = self.keys.iter().map(|key| key.wrapped.clone()).collect();
        let file = File { version: 1, transcript: self.transcript.text(), keys };
        serde_json::to_string_pretty(&file).unwrap_or_default() + "\n"
    }

    /// What was held.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// The keys, in the order in which they went out.
    pub fn keys(&self) -> &[Sent] {
        &self.keys
    }
}

/// The steps in which a key went out, and its digest.
fn sent(transcript: &Transcript) -> Vec<(usize, String)> {
    let turns = transcript.course().turns();
    let of = |event: &Event| {
        let Event::Done { turn, lines, .. } = event else { return None };
        let step = turns.iter().find(|known| known.label == *turn)?.step;
        matches!(transcript.plan().steps.get(step)?, Step::SendKey { .. }).then_some(())?;
        let (_, digest) = lines.iter().find(|(name, _)| name == SENT)?;
        Some((step, digest.clone()))
    };
    transcript.entries().iter().filter_map(|entry| of(&entry.event)).collect()
}
