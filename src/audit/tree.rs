//! The tree of a job's verdicts: its root stands in the log, and a short path leads from one verdict to it.
//!
//! The shape is that of RFC 9162, section 2.1; the hash is BLAKE3. A leaf is the hash of [`LEAF`] bytes, a node that of its
//! two children's 64 bytes: no leaf can be taken for a node.

use blake3::platform::Platform;
use blake3::{IncrementCounter, OUT_LEN};

/// Bytes of a leaf: two blocks of the hash.
pub(super) const LEAF: usize = 128;

/// BLAKE3, 32 bytes.
pub(super) type Hash = [u8; OUT_LEN];

/// A tree that grows to the right, of which only the roots of whole subtrees are kept.
#[derive(Debug, Default)]
pub struct Tree {
    /// Of 2^i leaves, where the number of leaves has that bit.
    whole: Vec<Option<Hash>>,
    leaves: u64,
    traced: Option<Trace>,
    hashes: Vec<Hash>,
    above: Vec<Hash>,
}

/// The way from one leaf up, as far as it is known.
#[derive(Debug)]
struct Trace {
    leaf: u64,
    /// At each level, the neighbour of the leaf's ancestor.
    neighbours: Vec<Option<Hash>>,
}

impl Tree {
    /// One that keeps the path of a leaf.
    pub fn tracing(leaf: u64) -> Self {
        Self { traced: Some(Trace { leaf, neighbours: Vec::new() }), ..Self::default() }
    }

    /// How many leaves there are.
    pub fn len(&self) -> u64 {
        self.leaves
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.leaves == 0
    }

    /// Appends leaves: many at once are hashed beside each other.
    pub fn append<'l>(&mut self, leaves: impl Iterator<Item = &'l [u8; LEAF]>) {
        let mut nodes = std::mem::take(&mut self.hashes);
        hash_each(leaves, &mut nodes);
        let mut number = self.leaves;
        self.leaves += nodes.len() as u64;
        for level in 0.. {
            self.note(level, number, &nodes);
            if nodes.is_empty() {
                break;
            }
            if self.whole.len() == level {
                self.whole.push(None);
            }
            let mut above = std::mem::take(&mut self.above);
            // What waits here stands before the new ones.
            let waiting = self.whole[level].take();
            number -= u64::from(waiting.is_some());
            nodes.splice(0..0, waiting);
            let pairs = nodes.as_chunks::<2>();
            self.whole[level] = pairs.1.first().copied();
            let both = pairs.0.iter().filter_map(|pair| pair.as_flattened().first_chunk::<{ 2 * OUT_LEN }>());
            hash_each(both, &mut above);
            self.above = std::mem::replace(&mut nodes, above);
            number /= 2;
        }
        self.hashes = nodes;
    }

    /// Keeps the neighbour of the traced leaf's ancestor, if it is among these nodes.
    fn note(&mut self, level: usize, first: u64, nodes: &[Hash]) {
        let Some(trace) = &mut self.traced else { return };
        let neighbour = (trace.leaf >> level) ^ 1;
        let found = neighbour.checked_sub(first).and_then(|at| nodes.get(usize::try_from(at).ok()?));
        if let Some(found) = found {
            trace.neighbours.resize(trace.neighbours.len().max(level + 1), None);
            trace.neighbours[level] = Some(*found);
        }
    }

    /// The root over all leaves; of none, the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut whole = self.whole.iter().flatten();
        let Some(lowest) = whole.next() else { return *blake3::hash(b"").as_bytes() };
        whole.fold(*lowest, |right, left| node(left, &right))
    }

    /// The path of the traced leaf, from its neighbour up; none if it is not there.
    pub fn path(&self) -> Option<Vec<Hash>> {
        let trace = self.traced.as_ref().filter(|trace| trace.leaf < self.leaves)?;
        // The whole subtree that holds the leaf: subtrees stand from the largest to the smallest.
        let holds = (0..self.whole.len()).rev().find(|level| {
            let from = (self.leaves >> (level + 1)) << (level + 1);
            self.whole[*level].is_some() && trace.leaf < from + (1 << level)
        })?;
        let mut path: Vec<Hash> = trace
            .neighbours
            .iter()
            .take(holds)
            .copied()
            .collect::<Option<_>>()
            .filter(|path: &Vec<_>| path.len() == holds)?;
        let mut smaller = self.whole[..holds].iter().flatten();
        if let Some(lowest) = smaller.next() {
            path.push(smaller.fold(*lowest, |right, left| node(left, &right)));
        }
        path.extend(self.whole[holds + 1..].iter().flatten());
        Some(path)
    }
}

/// The root to which a leaf and a path lead (RFC 9162, section 2.1.3.2); none if the path is not of that tree.
pub(super) fn lead(leaf: &[u8; LEAF], index: u64, leaves: u64, path: &[Hash]) -> Option<Hash> {
    let (mut at, mut last) = (index, leaves.checked_sub(1).filter(|last| index <= *last)?);
    let mut hash = *blake3::hash(leaf).as_bytes();
    for neighbour in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(neighbour, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, neighbour);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

fn node(left: &Hash, right: &Hash) -> Hash {
    *blake3::hash([*left, *right].as_flattened()).as_bytes()
}

/// The hash of each input. Its size is of one chunk, so that one flag begins and two end it.
fn hash_each<'i, const LEN: usize>(inputs: impl Iterator<Item = &'i [u8; LEN]>, into: &mut Vec<Hash>) {
    /// The first words of the fractions of square roots, as in SHA-256.
    const KEY: [u32; 8] =
        [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];
    const CHUNK_START: u8 = 1;
    const CHUNK_END: u8 = 2;
    const ROOT: u8 = 8;
    const { assert!(LEN.is_multiple_of(64) && LEN <= 1024) };
    let inputs: Vec<&[u8; LEN]> = inputs.collect();
    into.clear();
    into.resize(inputs.len(), [0; OUT_LEN]);
    Platform::detect().hash_many(
        &inputs,
        &KEY,
        0,
        IncrementCounter::No,
        0,
        CHUNK_START,
        CHUNK_END | ROOT,
        into.as_flattened_mut(),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf(number: u64) -> [u8; LEAF] {
        let mut leaf = [0; LEAF];
        leaf[..8].copy_from_slice(&number.to_le_bytes());
        leaf
    }

    /// As the RFC defines it.
    fn defined(leaves: &[[u8; LEAF]]) -> Hash {
        match leaves {
            [] => *blake3::hash(b"").as_bytes(),
            [one] => *blake3::hash(one).as_bytes(),
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node(&defined(left), &defined(right))
            }
        }
    }

    proptest! {
        #[test]
        fn however_it_grows_it_is_the_tree_of_its_leaves(pieces in prop::collection::vec(0usize..40, 0..12), which in any::<u64>()) {
            let all: Vec<_> = (0..pieces.iter().sum::<usize>() as u64).map(leaf).collect();
            let traced = which % (all.len() as u64).max(1);
            let (mut tree, mut rest) = (Tree::tracing(traced), &all[..]);
            for piece in pieces {
                let (next, left) = rest.split_at(piece);
                tree.append(next.iter());
                rest = left;
                prop_assert_eq!(tree.root(), defined(&all[..tree.len() as usize]));
            }
            prop_assert_eq!(tree.path().is_none(), all.is_empty());
            let Some(path) = tree.path() else { return Ok(()) };
            prop_assert_eq!(lead(&leaf(traced), traced, tree.len(), &path), Some(tree.root()));
            // No other leaf, no other place and no other size has this path.
            prop_assert_ne!(lead(&leaf(traced + 1), traced, tree.len(), &path), Some(tree.root()));
            if all.len() > 1 {
                let other = (traced + 1) % tree.len();
                prop_assert_ne!(lead(&leaf(traced), other, tree.len(), &path), Some(tree.root()));
                let mut bent = path.clone();
                bent[0][0] ^= 1;
                prop_assert_ne!(lead(&leaf(traced), traced, tree.len(), &bent), Some(tree.root()));
                prop_assert_eq!(lead(&leaf(traced), traced, tree.len(), &path[1..]).filter(|root| *root == tree.root()), None);
            }
        }
    }

    #[test]
    fn an_index_beyond_the_tree_leads_nowhere() {
        assert_eq!(lead(&leaf(0), 1, 1, &[]), None);
        assert_eq!(lead(&leaf(0), 0, 0, &[]), None);
        assert_eq!(lead(&leaf(0), 0, u64::MAX, &[]), None);
    }
}
