//! What passes between the daemon and a worker: frames of `length || body`, the length in four bytes, little-endian,
//! the body a [`Request`] or a [`Response`] in postcard. Frames may hold secrets: their buffers are wiped.

use std::io::{self, Read, Write};

use claviger_hsm_api::{
    Arrival, Attestation, Batch, DriverError, Exposure, Finding, Finish, Identity, KeyAttributes, KeyHandle, KeyState,
    LegValue, NewKey, Outcome, Proof, Raised, Recipe, StoredKey, WrappedKey,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The longest body: a batch of a streamed file is far below it.
const LONGEST: usize = 256 << 20;

/// Bodies of calls that are no batches are shorter.
const EXPECTED: usize = 64 << 10;

/// What a worker is to be; its first frame.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    /// Requests that are worked on at once.
    pub(super) threads: usize,
}

/// A question and its number.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) task: Task,
}

/// The calls of [`HsmDriver`](claviger_hsm_api::HsmDriver).
#[derive(Serialize, Deserialize)]
pub(super) enum Task {
    Identity,
    KeepAlive,
    Probe,
    Findings,
    Exposure { recipe: Recipe, ceilings: Vec<Exposure> },
    Run { keys: Vec<KeyHandle>, recipe: Recipe, batch: Batch },
    CanTake { arrival: Arrival, attributes: KeyAttributes },
    Generate { key: NewKey },
    Import { key: NewKey, secret: Bytes },
    Unwrap { key: NewKey, under: KeyHandle, wrapped: WrappedKey },
    Adopt { key: NewKey, object: String, others: Vec<Vec<u8>> },
    Open { key: StoredKey },
    Close { handle: KeyHandle },
    Restate { key: StoredKey, state: KeyState, raised: Option<Raised> },
    Destroy { key: StoredKey },
    Abandon { key_id: String },
    Random { len: usize },
    Attest { name: String, message: Vec<u8> },
}

/// An answer, the number of its question, and the epoch after it.
#[derive(Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) result: Result<Reply, DriverError>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    Identity(Identity),
    Proofs(Vec<Proof>),
    Findings(Vec<Finding>),
    Exposure(Vec<Exposure>),
    Outcome(Outcome),
    Stored(StoredKey),
    Handle(KeyHandle),
    Bytes(Bytes),
    Attestation(Attestation),
}

/// Bytes that may be secret.
#[derive(Serialize, Deserialize)]
pub(super) struct Bytes(#[serde(with = "wiped")] pub(super) Zeroizing<Vec<u8>>);

mod wiped {
    use serde::{Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(bytes: &Zeroizing<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(bytes.as_slice(), to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        serde_bytes::deserialize(from).map(Zeroizing::new)
    }
}

/// Writes one frame.
pub(super) fn write<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let body = Zeroizing::new(postcard::to_stdvec(value).map_err(io::Error::other)?);
    let len = u32::try_from(body.len()).ok().filter(|len| *len as usize <= LONGEST);
    let len = len.ok_or_else(|| io::Error::other("the frame is too long"))?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(&body)?;
    to.flush()
}

/// Reads one frame; none at the end of the stream.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let len = u32::from_le_bytes(len) as usize;
    if len > LONGEST {
        return Err(io::Error::other("the frame says that it is too long"));
    }
    // As much room as comes, whatever the length says; what fits in a page or two is not moved on the way, which would
    // leave secrets behind.
    let mut body = Zeroizing::new(Vec::with_capacity(len.min(EXPECTED)));
    from.take(len as u64).read_to_end(&mut body)?;
    if body.len() != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match postcard::take_from_bytes(&body) {
        Ok((value, [])) => Ok(Some(value)),
        Ok(_) => Err(io::Error::other("the frame holds more than its body")),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Whether an outcome is one of the recipe over so many rows: nothing else is let in from another process.
pub(super) fn fits(outcome: &Outcome, recipe: &Recipe, rows: usize) -> bool {
    let leg_fits = |(leg, finish): (&claviger_hsm_api::LegOutcome, &Finish)| {
        let ran = leg.ran.iter().filter(|ran| **ran).count();
        let value = match &leg.value {
            LegValue::Verdicts(verdicts) => finish.verifies() && verdicts.len() == rows,
            LegValue::Stored(keys) => matches!(finish, Finish::Store { .. }) && keys.len() == ran,
            LegValue::Bytes(column) => {
                let batch = Batch { rows, columns: vec![column.clone()], keys: Vec::new() };
                finish.puts_out() && batch.check(0, 0).is_ok() && column.rows() == rows
            }
        };
        value && leg.ran.len() == rows
    };
    outcome.legs.len() == recipe.legs.len()
        && outcome.legs.iter().zip(recipe.legs.iter().map(|leg| &leg.finish)).all(leg_fits)
}

/// Reads a response from bytes that anybody may have written, as the daemon does from a worker; for fuzzing.
pub fn read_response(mut bytes: &[u8]) -> bool {
    matches!(read::<Response>(&mut bytes), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_hsm_api::{Algorithm, Column, KcvRule, KeyPath, LegOutcome};

    #[test]
    fn frames_read_back_and_cut_ones_do_not() {
        let mut frame = Vec::new();
        let secret = Bytes(Zeroizing::new(b"a secret".to_vec()));
        write(&mut frame, &Response { number: 7, epoch: 2, result: Ok(Reply::Bytes(secret)) }).unwrap();
        let read_back: Response = read(&mut &frame[..]).unwrap().unwrap();
        assert!(matches!(read_back.result, Ok(Reply::Bytes(bytes)) if &*bytes.0 == b"a secret"));
        assert!(read::<Response>(&mut &frame[..0]).unwrap().is_none());
        for len in 4..frame.len() {
            assert!(read::<Response>(&mut &frame[..len]).is_err(), "{len}");
        }
        frame[0] += 1;
        frame.push(0);
        assert!(read::<Response>(&mut &frame[..]).is_err(), "something follows the body");
        assert!(read::<Response>(&mut &[0xFF; 8][..]).is_err(), "too long");
    }

    #[test]
    fn only_outcomes_of_the_recipe_fit() {
        let path = KeyPath { slot: 0, algorithm: Algorithm::Aes128, steps: Vec::new(), steps_left: 0 };
        let recipe = Recipe::single(path, Finish::Kcv { rule: KcvRule::ZEROS });
        let outcome = |column, ran| Outcome { legs: vec![LegOutcome { ran, value: LegValue::Bytes(column) }] };
        let column = |bytes: usize| Column::Fixed { width: 3, bytes: vec![0; bytes] };
        assert!(fits(&outcome(column(6), vec![true, false]), &recipe, 2));
        assert!(!fits(&outcome(column(5), vec![true, false]), &recipe, 2));
        assert!(!fits(&outcome(column(6), vec![true]), &recipe, 2));
        assert!(!fits(&outcome(Column::Variable { ends: vec![9, 1], bytes: vec![0] }, vec![true; 2]), &recipe, 2));
        assert!(!fits(&Outcome { legs: Vec::new() }, &recipe, 2));
        let verdicts = LegOutcome { ran: vec![true; 2], value: LegValue::Verdicts(vec![true; 2]) };
        assert!(!fits(&Outcome { legs: vec![verdicts] }, &recipe, 2));
    }
}
