//! The hash chain, made and checked.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{BEGUN, Event, InForce, Record, SignedHead};

/// Where a log is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The file cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// A line is no record.
    #[error("line {line} is not an audit record")]
    NotARecord {
        /// Counted from one.
        line: u64,
    },
    /// A record was removed, added or put elsewhere.
    #[error("line {line} does not follow the line before it: a record was removed, added or moved")]
    Broken {
        /// Counted from one.
        line: u64,
    },
    /// A record was changed.
    #[error("line {line} was changed after it was written")]
    Changed {
        /// Counted from one.
        line: u64,
    },
    /// A checkpoint does not sign what stands before it.
    #[error(
        "line {line} is a checkpoint that does not sign what stands before it: the records after line {after} were written anew"
    )]
    Forged {
        /// Counted from one.
        line: u64,
        /// The last checkpoint that does.
        after: u64,
    },
    /// It is not the signed end that stands beside the log.
    #[error("line {line} is not the record that was signed: the records after line {after} were written anew")]
    Rewritten {
        /// Counted from one.
        line: u64,
        /// The last checkpoint that is.
        after: u64,
    },
    /// The signed end that stands beside it, or was kept elsewhere, is nobody's.
    #[error("the signed end of record {seq} is not signed by the key that it names: it is none, whatever the log is")]
    FalseEnd {
        /// The record that it speaks of.
        seq: u64,
    },
    /// Whoever can write the file can make such a log.
    #[error("no record of it is signed")]
    Unsigned,
    /// Signed by somebody else.
    #[error("it is signed by {key}, which is not the key that was given")]
    Foreign {
        /// The public key, hexadecimal.
        key: String,
    },
    /// The last checkpoint is gone.
    #[error("the log ends with line {line}, before the checkpoint that signs record {signed}: it was cut off")]
    CutBefore {
        /// The last line.
        line: u64,
        /// The record that was signed.
        signed: u64,
    },
    /// Signed records are gone.
    #[error("the log ends with line {line}, and {signed} were signed: it was cut off")]
    Cut {
        /// The last line.
        line: u64,
        /// How many there were.
        signed: u64,
    },
}

impl ChainError {
    /// The line at which it shows.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::Read(_) | Self::FalseEnd { .. } | Self::Unsigned | Self::Foreign { .. } => None,
            Self::NotARecord { line }
            | Self::Broken { line }
            | Self::Changed { line }
            | Self::Forged { line, .. }
            | Self::Rewritten { line, .. }
            | Self::Cut { line, .. }
            | Self::CutBefore { line, .. } => Some(*line),
        }
    }
}

/// A log that is what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its end.
    pub head: Head,
    /// Its checkpoints.
    pub checkpoints: u64,
    /// The last record that is signed; zero if none is.
    pub signed: u64,
    /// Records after that, checkpoints themselves not counted.
    pub unsigned: u64,
    /// The public keys that signed, hexadecimal, in order.
    pub keys: Vec<String>,
    /// The signed end that it leads to, if there was one.
    pub end: Option<SignedHead>,
    /// Bytes of a last line that was not written to its end.
    pub torn: usize,
    /// Policy sets that were taken.
    pub sets: Sets,
    /// Approvals that something was begun by.
    pub used: HashSet<String>,
}

/// Records that a checkpoint may sign so long after they were written; a backend that keeps the key answers long before.
const FARTHEST: usize = 1 << 20;

/// The records since the last that is signed.
#[derive(Default)]
struct Unsigned {
    /// Their hashes, and whether each is more than a checkpoint.
    waiting: VecDeque<([u8; 32], bool)>,
    /// The number of the last.
    last: u64,
    /// How many are more than checkpoints.
    count: u64,
}

impl Unsigned {
    fn push(&mut self, record: &Record) {
        let mut hash = [0; 32];
        // It was compared with one that was made here.
        let _ = hex::decode_to_slice(&record.hash, &mut hash);
        let counts = record.event.signed.is_none();
        self.waiting.push_back((hash, counts));
        if self.waiting.len() > FARTHEST {
            self.waiting.pop_front();
        }
        self.last = record.seq;
        self.count += u64::from(counts);
    }

    /// Whether the checkpoint signs one of them; those up to it wait no longer.
    fn sign(&mut self, checkpoint: &SignedHead) -> bool {
        let after = self.last.checked_sub(checkpoint.seq).and_then(|after| usize::try_from(after).ok());
        let Some(at) = after.and_then(|after| self.waiting.len().checked_sub(after + 1)) else { return false };
        let is_it = hex::encode(self.waiting[at].0) == checkpoint.hash && checkpoint.is_authentic();
        if is_it {
            self.waiting.drain(..=at);
            self.count = self.waiting.iter().map(|(_, counts)| u64::from(*counts)).sum();
        }
        is_it
    }
}

/// The policy sets that have taken the place of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sets {
    /// How many were about to, counted from the store's first.
    begun: u64,
    /// How many did.
    taken: u64,
    /// Which each was.
    known: BTreeMap<u64, InForce>,
}

/// What a record is called that speaks of one.
pub(crate) const SETS: &str = "policies";

impl Sets {
    /// Whether the last that was taken has this number; of one that was about to be, nobody knows.
    pub fn may_end_with(&self, number: u64) -> bool {
        (self.taken..=self.begun).contains(&number)
    }

    /// Whether it is known that the set of this number was taken.
    pub fn took(&self, number: u64) -> bool {
        number <= self.taken
    }

    /// The set of this number.
    pub fn set(&self, number: u64) -> Option<&InForce> {
        self.known.get(&number)
    }

    fn saw(&mut self, event: &Event) {
        if event.event != SETS {
            return;
        }
        let number = event.counts.get(SETS).copied().unwrap_or_default();
        self.begun = self.begun.max(number);
        self.known.extend(event.in_force.clone().map(|set| (number, set)));
        if event.outcome == "taken" {
            self.taken = self.taken.max(number);
        }
    }
}

impl Verified {
    /// Whether a key has signed its last checkpoint, and with it whatever stands before.
    ///
    /// # Errors
    /// [`ChainError::Unsigned`] and [`ChainError::Foreign`].
    pub fn is_signed_by(&self, key: &str) -> Result<(), ChainError> {
        if self.checkpoints == 0 {
            return Err(ChainError::Unsigned);
        }
        let last = self.keys.last().filter(|last| !last.eq_ignore_ascii_case(key));
        // An end that was kept may be of a key that has handed over since.
        let end = self.end.as_ref().map(|end| &end.key).filter(|end| !self.keys.contains(end));
        match last.or(end) {
            Some(foreign) => Err(ChainError::Foreign { key: foreign.clone() }),
            None => Ok(()),
        }
    }
}

/// The end of a chain: what the next record follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl Head {
    pub(super) fn empty() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }

    /// How many records stand before.
    pub fn records(&self) -> u64 {
        self.seq
    }

    /// Appends the next record to `lines`. After an error neither these nor the head are of use.
    pub(super) fn extend(&mut self, event: Event, time: String, lines: &mut Vec<u8>) -> serde_json::Result<()> {
        let begin = lines.len();
        let prev = std::mem::take(&mut self.hash);
        let record = Record { seq: self.seq + 1, time, prev, event, hash: String::new() };
        serde_json::to_writer(&mut *lines, &record)?;
        self.seq = record.seq;
        self.hash = hex::encode(Sha256::digest(&lines[begin..]));
        // The hash is the last member: the line needs not be made again for it.
        lines.pop();
        lines.extend_from_slice(b",\"hash\":\"");
        lines.extend_from_slice(self.hash.as_bytes());
        lines.extend_from_slice(b"\"}\n");
        Ok(())
    }
}

fn hash(record: &Record) -> serde_json::Result<String> {
    debug_assert!(record.hash.is_empty());
    Ok(hex::encode(Sha256::digest(serde_json::to_vec(record)?)))
}

/// Whether this is what a crash in the middle of a write may leave of a record: its beginning, or the zeros of a file that has
/// grown before its bytes were there.
fn may_be_torn(text: &[u8], seq: u64) -> bool {
    let begin = format!("{{\"seq\":{seq},");
    let shared = text.len().min(begin.len());
    text.iter().all(|byte| *byte == 0) || text[..shared] == begin.as_bytes()[..shared]
}

/// Checks a whole log, up to the signed end beside it if there is one. A last line without its line break is the trace of a crash in the middle of a
/// write: nothing was answered on it, so it does not count.
///
/// # Errors
/// [`ChainError`] for the first line that is wrong.
pub fn verify(path: &Path) -> Result<Verified, ChainError> {
    verify_lines(BufReader::new(File::open(path)?), SignedHead::beside(path)?.as_ref())
}

/// The same for lines from anywhere, which must lead to a signed end.
///
/// # Errors
/// [`ChainError`] for the first line that is wrong.
pub fn verify_lines(mut reader: impl BufRead, end: Option<&SignedHead>) -> Result<Verified, ChainError> {
    let mut head = Head::empty();
    let (mut checkpoints, mut signed, mut keys) = (0, 0, Vec::new());
    let (mut text, mut torn, mut sets, mut used) = (Vec::new(), 0, Sets::default(), HashSet::new());
    let mut unsigned = Unsigned::default();
    if let Some(end) = end.filter(|end| !end.is_authentic()) {
        return Err(ChainError::FalseEnd { seq: end.seq });
    }
    for line in 1.. {
        text.clear();
        let read = reader.read_until(b'\n', &mut text)?;
        if text.last() != Some(&b'\n') {
            if !may_be_torn(&text, head.seq + 1) {
                return Err(ChainError::NotARecord { line });
            }
            torn = read;
            break;
        }
        let mut record: Record = serde_json::from_slice(&text).map_err(|_| ChainError::NotARecord { line })?;
        if record.seq != head.seq + 1 || record.prev != head.hash {
            return Err(ChainError::Broken { line });
        }
        let claimed = std::mem::take(&mut record.hash);
        if hash(&record).ok().as_ref() != Some(&claimed) {
            return Err(ChainError::Changed { line });
        }
        // What was hashed is what stands there, byte for byte: nothing was added to it.
        record.hash.clone_from(&claimed);
        let written = serde_json::to_vec(&record).map_err(|_| ChainError::NotARecord { line })?;
        if text.strip_suffix(b"\n") != Some(&written[..]) {
            return Err(ChainError::Changed { line });
        }
        if let Some(checkpoint) = &record.event.signed {
            if !unsigned.sign(checkpoint) {
                return Err(ChainError::Forged { line, after: signed });
            }
            (checkpoints, signed) = (checkpoints + 1, checkpoint.seq);
            if keys.last() != Some(&checkpoint.key) {
                keys.push(checkpoint.key.clone());
            }
        }
        sets.saw(&record.event);
        if record.event.outcome == BEGUN && !record.event.approval.is_empty() {
            used.insert(record.event.approval.clone());
        }
        unsigned.push(&record);
        head = Head { seq: record.seq, hash: claimed };
        if end.is_some_and(|end| end.seq == head.seq && end.hash != head.hash) {
            return Err(ChainError::Rewritten { line, after: signed });
        }
    }
    match end {
        Some(end) if end.seq > head.seq => Err(ChainError::Cut { line: head.seq, signed: end.seq }),
        // A checkpoint is in the log before it is beside it.
        Some(end) if end.seq > signed => Err(ChainError::CutBefore { line: head.seq, signed: end.seq }),
        _ => {
            let (unsigned, end) = (unsigned.count, end.cloned());
            Ok(Verified { head, checkpoints, signed, unsigned, keys, end, torn, sets, used })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Signer;
    use super::*;

    fn log(events: u64) -> Vec<String> {
        let (mut head, mut lines) = (Head::empty(), Vec::new());
        for n in 0..events {
            let event = Event { event: "decision".to_owned(), tenant: format!("city-{n}"), ..Event::default() };
            head.extend(event, "2026-11-21T00:00:00Z".to_owned(), &mut lines).unwrap();
        }
        String::from_utf8(lines).unwrap().lines().map(str::to_owned).collect()
    }

    fn check(lines: &[String]) -> Result<Verified, ChainError> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        verify_lines(text.as_bytes(), None)
    }

    /// A record that signs the one of that number.
    fn checkpoint(lines: &mut Vec<String>, key: u8, seq: usize) {
        let record = |line: &String| serde_json::from_str::<Record>(line).unwrap();
        let (signed, last) = (record(&lines[seq - 1]), record(lines.last().unwrap()));
        let signed = Signer::of(&[key; 32]).unwrap().sign(signed.seq, &signed.hash).unwrap();
        let event = Event { event: "checkpoint".to_owned(), signed: Some(signed), ..Event::default() };
        let mut head = Head { seq: last.seq, hash: last.hash };
        let mut line = Vec::new();
        head.extend(event, "2026-11-21T00:00:00Z".to_owned(), &mut line).unwrap();
        lines.push(String::from_utf8(line).unwrap().trim_end().to_owned());
    }

    #[test]
    fn a_checkpoint_signs_what_was_the_end_when_it_was_asked_for() {
        let mut lines = log(5);
        checkpoint(&mut lines, 1, 3);
        let verified = check(&lines).unwrap();
        assert_eq!((verified.signed, verified.unsigned, verified.checkpoints), (3, 2, 1));
        // The next signs the rest, with the checkpoint in between.
        checkpoint(&mut lines, 1, 6);
        let verified = check(&lines).unwrap();
        assert_eq!((verified.signed, verified.unsigned, verified.checkpoints), (6, 0, 2));
        // Nothing is signed twice, nor what was never there.
        let mut twice = lines.clone();
        checkpoint(&mut twice, 1, 3);
        assert!(matches!(check(&twice), Err(ChainError::Forged { line: 8, after: 6 })));
        let mut other = log(4);
        checkpoint(&mut other, 1, 2);
        other[4] = lines[5].clone();
        assert!(check(&other).is_err());
    }

    #[test]
    fn the_last_key_vouches_for_what_stands_before() {
        let mut lines = log(3);
        checkpoint(&mut lines, 1, 3);
        checkpoint(&mut lines, 2, 4);
        let verified = check(&lines).unwrap();
        let [first, last] = [1, 2].map(|key| Signer::of(&[key; 32]).unwrap().public_key());
        assert_eq!(verified.keys, [first.clone(), last.clone()]);
        assert!(verified.is_signed_by(&last).is_ok());
        assert!(matches!(verified.is_signed_by(&first), Err(ChainError::Foreign { key }) if key == last));
    }

    #[test]
    fn an_untouched_log_verifies() {
        assert_eq!(check(&log(5)).unwrap().head.records(), 5);
    }

    #[test]
    fn every_kind_of_tampering_is_found_where_it_is() {
        let mut changed = log(5);
        changed[2] = changed[2].replace("city-2", "city-9");
        assert!(matches!(check(&changed), Err(ChainError::Changed { line: 3 })));
        let mut removed = log(5);
        removed.remove(1);
        assert!(matches!(check(&removed), Err(ChainError::Broken { line: 2 })));
        let mut swapped = log(5);
        swapped.swap(3, 4);
        assert!(matches!(check(&swapped), Err(ChainError::Broken { line: 4 })));
        let mut added = log(3);
        added[1] = added[1].replacen("{", "{\"note\":\"harmless\",", 1);
        assert!(matches!(check(&added), Err(ChainError::Changed { line: 2 })));
        let mut spaced = log(3);
        spaced[1] = spaced[1].replacen(":", ": ", 1);
        assert!(matches!(check(&spaced), Err(ChainError::Changed { line: 2 })));
        let mut foreign = log(2);
        foreign.push("{}".to_owned());
        assert!(matches!(check(&foreign), Err(ChainError::NotARecord { line: 3 })));
    }

    #[test]
    fn what_a_crash_leaves_at_the_end_is_told_from_what_it_cannot() {
        let whole = log(3).join("\n") + "\n";
        let next = log(4)[3].clone();
        for (end, torn) in [
            (&next[..1], true),
            (&next[..9], true),
            (&next[..], true),
            ("\0\0\0", true),
            ("garbage", false),
            ("{}", false),
        ] {
            match verify_lines(format!("{whole}{end}").as_bytes(), None) {
                Ok(verified) => assert!(torn && (verified.head.seq, verified.torn) == (3, end.len()), "{end}"),
                Err(ChainError::NotARecord { line: 4 }) => assert!(!torn, "{end}"),
                Err(error) => unreachable!("{end}: {error}"),
            }
        }
        // A signed end whose signature is none says nothing of the log.
        let mut end = Signer::of(&[1; 32]).unwrap().sign(3, &"00".repeat(32)).unwrap();
        end.signature = "00".repeat(64);
        assert!(matches!(verify_lines(whole.as_bytes(), Some(&end)), Err(ChainError::FalseEnd { seq: 3 })));
    }
}
