//! A job's tree as it grows: a thread of its own hashes once there is much to hash.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::leaf::Salts;
use super::tree::Tree;
use super::{Blinding, Leaf, VerdictTree};

impl VerdictTree {
    /// The tree of a call, whole; the leaves get their salts.
    pub fn of(leaves: &mut [Leaf], blinding: &Blinding) -> Self {
        blinding.salts().blind(leaves);
        let mut tree = Tree::default();
        tree.append(Leaf::bytes(leaves));
        Self { before: 0, items: tree.len(), root: hex::encode(tree.root()) }
    }
}

/// Leaves from which on it pays to wake another thread.
const MUCH: usize = 1024;
/// Batches that may wait for it.
const WAITING: usize = 2;

/// What has come of the leaves so far.
struct Grown {
    tree: Tree,
    salts: Salts,
}

impl Grown {
    fn take(&mut self, leaves: &mut Vec<Leaf>) {
        self.salts.blind(leaves);
        self.tree.append(Leaf::bytes(leaves));
        leaves.clear();
    }
}

/// The other thread.
struct Beside {
    batches: SyncSender<Vec<Leaf>>,
    back: Receiver<Vec<Leaf>>,
    /// Batches that have not come back.
    away: usize,
}

/// The tree of a job's verdicts.
pub struct Growth {
    before: u64,
    grown: Arc<Mutex<Grown>>,
    beside: Option<Beside>,
}

impl Growth {
    /// An empty tree, for a job that begins after so many lines or records of its file.
    pub fn new(blinding: &Blinding, before: u64) -> Self {
        let grown = Grown { tree: Tree::default(), salts: blinding.salts() };
        Self { before, grown: Arc::new(Mutex::new(grown)), beside: None }
    }

    /// Takes leaves in; `leaves` is empty afterwards.
    ///
    /// # Errors
    /// If the other thread cannot be started, or has died.
    pub fn take(&mut self, leaves: &mut Vec<Leaf>) -> io::Result<()> {
        if leaves.len() < MUCH && self.beside.is_none() {
            self.grown.lock().unwrap_or_else(PoisonError::into_inner).take(leaves);
            return Ok(());
        }
        let beside = match &mut self.beside {
            Some(beside) => beside,
            None => self.beside.insert(Beside::start(Arc::clone(&self.grown))?),
        };
        let empty = if beside.away < WAITING { Vec::with_capacity(leaves.len()) } else { beside.wait()? };
        beside.batches.send(std::mem::replace(leaves, empty)).map_err(|_| died())?;
        beside.away += 1;
        Ok(())
    }

    /// The tree over all that was taken in.
    ///
    /// # Errors
    /// If the other thread has died.
    pub fn head(&mut self) -> io::Result<VerdictTree> {
        if let Some(beside) = &mut self.beside {
            while beside.away > 0 {
                beside.wait()?;
            }
        }
        let grown = self.grown.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(VerdictTree { before: self.before, items: grown.tree.len(), root: hex::encode(grown.tree.root()) })
    }
}

impl Beside {
    fn start(grown: Arc<Mutex<Grown>>) -> io::Result<Self> {
        let (batches, waiting) = sync_channel::<Vec<Leaf>>(WAITING);
        let (give_back, back) = channel();
        std::thread::Builder::new().name("verdict-tree".to_owned()).spawn(move || {
            for mut leaves in waiting {
                grown.lock().unwrap_or_else(PoisonError::into_inner).take(&mut leaves);
                if give_back.send(leaves).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { batches, back, away: 0 })
    }

    /// A batch that has been taken in, to be filled again.
    fn wait(&mut self) -> io::Result<Vec<Leaf>> {
        let empty = self.back.recv().map_err(|_| died())?;
        self.away -= 1;
        Ok(empty)
    }
}

fn died() -> io::Error {
    io::Error::other("the thread that hashes verdicts has died")
}

#[cfg(test)]
mod tests {
    use claviger_hsm_api::Verdict;

    use super::*;

    #[test]
    fn batches_beside_and_here_grow_the_same_tree() {
        let blinding = Blinding::from_hex(&"3C".repeat(32)).unwrap();
        let leaves = |from: usize, to: usize| -> Vec<Leaf> {
            let leaf = |number: usize| {
                let mut leaf = Leaf::of(None);
                leaf.decide(number.to_string().as_bytes(), Verdict::Malformed);
                leaf
            };
            (from..to).map(leaf).collect()
        };
        let (mut here, mut beside) = (Growth::new(&blinding, 0), Growth::new(&blinding, 0));
        for from in (0..9000).step_by(500) {
            here.take(&mut leaves(from, from + 500)).unwrap();
        }
        for (from, to) in [(0, 4096), (4096, 4097), (4097, 8500), (8500, 8500), (8500, 9000)] {
            beside.take(&mut leaves(from, to)).unwrap();
            assert_eq!(beside.head().unwrap().items, to as u64);
        }
        assert_eq!(here.head().unwrap(), beside.head().unwrap());
    }
}
