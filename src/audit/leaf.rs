//! What one leaf of a job's tree holds: which record, and its verdict, under a salt of its own.
//!
//! Without the salt, whoever has a proof of one record could try the four bytes of its neighbour's MAC. Salts are not kept:
//! they follow from the job's id and a key that follows from the storage master key.
//!
//! | bytes | |
//! |---|---|
//! | 0..16 | salt |
//! | 16 | verdict: 1 valid, 2 invalid, 3 unknown_key, 4 unverifiable, 5 malformed |
//! | 17 | bytes of the record id |
//! | 18..20 | which fields the record has, big-endian, a bit for each in the order of the columns |
//! | 20..72 | those fields, as cards write them; zeros for a record that could not be read |
//! | 72..128 | the record id, then zeros; of one that is longer its BLAKE3 |
//!
//! The leaf of a row of a call (`POST /v1/mac/verify` ...) has no fields, and as its id what the row holds.

use blake3::{Hasher, OutputReader};
use claviger_card_schemes::FieldSet;
use claviger_hsm_api::Verdict;
use zeroize::Zeroizing;

use super::tree::LEAF;

const SALT: usize = 16;
const FIELDS: usize = 20;
const ID: usize = FIELDS + FieldSet::RECORD_BYTES;

/// The bytes of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf(pub(super) [u8; LEAF]);

impl Leaf {
    /// Of a record, or of one that could not be read; its verdict is still to come.
    pub fn of(record: Option<&FieldSet>) -> Self {
        let mut leaf = [0; LEAF];
        if let Some(record) = record {
            let (present, fields) = record.of_record();
            leaf[18..FIELDS].copy_from_slice(&present.to_be_bytes());
            leaf[FIELDS..ID].copy_from_slice(fields);
        }
        Self(leaf)
    }

    /// Of a row of a call that verifies, which has no fields and no id but what it holds.
    pub fn of_call(row: &[u8], valid: bool) -> Self {
        let mut leaf = Self::of(None);
        leaf.decide(row, if valid { Verdict::Valid } else { Verdict::Invalid });
        leaf
    }

    /// As the tree takes them.
    pub fn bytes(leaves: &[Self]) -> impl Iterator<Item = &[u8; LEAF]> {
        leaves.iter().map(|leaf| &leaf.0)
    }

    /// With the verdict of the record of that id.
    pub fn decide(&mut self, id: &[u8], verdict: Verdict) {
        self.0[16] = code(verdict);
        self.0[17] = u8::try_from(id.len()).unwrap_or(u8::MAX);
        match self.0[ID..].get_mut(..id.len()) {
            Some(place) => place.copy_from_slice(id),
            None => self.0[ID..ID + 32].copy_from_slice(blake3::hash(id).as_bytes()),
        }
    }

    /// Whether it says this, whatever its salt.
    pub fn says(&self, record: Option<&FieldSet>, id: &[u8], verdict: Verdict) -> bool {
        let mut leaf = Self::of(record);
        leaf.decide(id, verdict);
        leaf.0[SALT..] == self.0[SALT..]
    }

    /// Its verdict, if it is one.
    pub fn verdict(&self) -> Option<Verdict> {
        Verdict::ALL.iter().copied().find(|verdict| code(*verdict) == self.0[16])
    }

    /// Whether it holds the digest of this id, which is too long to stand there.
    pub(super) fn holds_digest_of(&self, id: &[u8]) -> bool {
        usize::from(self.0[17]) == id.len() && self.0[ID..].starts_with(blake3::hash(id).as_bytes())
    }

    /// Its record's id, if it is short enough to be there.
    pub fn id(&self) -> Option<&[u8]> {
        self.0[ID..].get(..usize::from(self.0[17]))
    }
}

fn code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Valid => 1,
        Verdict::Invalid => 2,
        Verdict::UnknownKey => 3,
        Verdict::Unverifiable => 4,
        Verdict::Malformed => 5,
    }
}

/// What a job's salts follow from.
pub struct Blinding(Zeroizing<[u8; 32]>);

impl Blinding {
    /// Of a job, under the log's key.
    pub(super) fn of(key: &[u8; 32], job: &str) -> Self {
        Self(Zeroizing::new(*blake3::keyed_hash(key, job.as_bytes()).as_bytes()))
    }

    /// As an auditor was given it.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, &mut *bytes).ok()?;
        Some(Self(bytes))
    }

    /// For an auditor.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(*self.0))
    }

    /// The job's salts, one after another.
    pub fn salts(&self) -> Salts {
        Salts(Hasher::new_keyed(&self.0).finalize_xof())
    }
}

/// The stream of a job's salts.
pub struct Salts(OutputReader);

impl Salts {
    /// Gives each leaf its salt.
    pub fn blind(&mut self, leaves: &mut [Leaf]) {
        // The stream is quickest by many blocks at once.
        let mut salts = [[0; SALT]; 64];
        for leaves in leaves.chunks_mut(salts.len()) {
            let salts = &mut salts[..leaves.len()];
            self.0.fill(salts.as_flattened_mut());
            leaves.iter_mut().zip(salts).for_each(|(leaf, salt)| leaf.0[..SALT].copy_from_slice(salt));
        }
    }
}
