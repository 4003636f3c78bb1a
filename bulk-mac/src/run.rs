//! Dispersion, chaining and columns, written once over [`Kernel`].

use std::ops::Range;

use zeroize::Zeroize;

use crate::job::{Keys, LastStep, Mac, PerRow, Texts};
use crate::kernel::Kernel;
use crate::wipe::Room;

/// The keys of those rows, 16 bytes each.
pub(crate) fn disperse<K: Kernel>(kernel: K, keys: &Keys<'_>, rows: Range<usize>, out: &mut [[u8; 16]]) {
    let mut path = Path::new(kernel, keys, false);
    let mut found = Room::new(16 * K::LANES);
    for (number, out) in out.chunks_mut(K::LANES).enumerate() {
        kernel.store_keys(path.walk(rows.start + number * K::LANES, out.len()), &mut found.0);
        let out = out.as_flattened_mut();
        out.copy_from_slice(&found.0[..out.len()]);
    }
}

/// The last blocks of those rows' MACs, given to `each` run by run, with the number of a run's first row.
pub(crate) fn macs<K: Kernel>(
    kernel: K,
    keys: &Keys<'_>,
    mac: Mac,
    texts: &Texts<'_>,
    rows: Range<usize>,
    mut each: impl FnMut(usize, &[u8]),
) {
    let mut path = Path::new(kernel, keys, true);
    let mut chains = Chains {
        kernel,
        mac,
        texts,
        room: Room::new(K::LANES * K::BLOCK),
        ended: Room::new(K::LANES * K::BLOCK),
        found: Room::new(K::LANES * K::BLOCK),
        zero: kernel.blocks(),
        chain: kernel.blocks(),
    };
    for first in rows.clone().step_by(K::LANES) {
        let run = K::LANES.min(rows.end - first);
        let here = path.walk(first, run);
        if mac == Mac::Retail {
            kernel.split(here);
        }
        chains.run(here, first, run);
        each(first, &chains.found.0[..run * K::BLOCK]);
    }
}

/// The chains of one run of rows after another.
struct Chains<'a, K: Kernel> {
    kernel: K,
    mac: Mac,
    texts: &'a Texts<'a>,
    room: Room,
    ended: Room,
    /// The last blocks of the run.
    found: Room,
    /// What a chain begins with.
    zero: K::Blocks,
    chain: K::Blocks,
}

impl<K: Kernel> Chains<'_, K> {
    fn run(&mut self, keys: &K::Keys, first: usize, rows: usize) {
        let blocks = self.texts.blocks.part(first, rows);
        let last = blocks.most();
        self.chain.clone_from(&self.zero);
        for (number, column) in (1..=last).zip(self.texts.columns) {
            self.kernel.xor_rows(&mut self.chain, window(column, K::BLOCK, first, rows, &mut self.room.0));
            if number == last {
                Self::end((self.kernel, self.mac, self.texts), keys, &mut self.chain, first, rows);
                self.kernel.store(&self.chain, &mut self.ended.0);
                self.take(&blocks, number);
            } else {
                if !blocks.all(|blocks| blocks != number) {
                    let mut shorter = self.chain.clone();
                    Self::end((self.kernel, self.mac, self.texts), keys, &mut shorter, first, rows);
                    self.kernel.store(&shorter, &mut self.ended.0);
                    self.take(&blocks, number);
                    shorter.zeroize();
                }
                self.kernel.encrypt(keys, &mut self.chain);
            }
        }
    }

    /// The last step, of all rows alike.
    fn end(
        (kernel, mac, texts): (K, Mac, &Texts<'_>),
        keys: &K::Keys,
        chain: &mut K::Blocks,
        first: usize,
        rows: usize,
    ) {
        if mac == Mac::Cmac {
            kernel.mask_last(keys, texts.padded.part(first, rows), chain);
        }
        kernel.encrypt(keys, chain);
        if mac == Mac::Retail {
            kernel.retail(keys, chain);
        }
    }

    /// Keeps the blocks of those rows that end with block `number`.
    fn take(&mut self, blocks: &PerRow<'_, u32>, number: u32) {
        match blocks {
            PerRow::Same(_) => std::mem::swap(&mut self.found, &mut self.ended),
            PerRow::Each(blocks) => {
                let kept = self.found.0.chunks_exact_mut(K::BLOCK).zip(self.ended.0.chunks_exact(K::BLOCK));
                for ((found, ended), _) in kept.zip(*blocks).filter(|(_, blocks)| **blocks == number) {
                    found.copy_from_slice(ended);
                }
            }
        }
    }
}

impl<K: Kernel> Drop for Chains<'_, K> {
    fn drop(&mut self) {
        self.chain.zeroize();
    }
}

/// The way from the masters to the rows' keys.
struct Path<'a, K: Kernel> {
    kernel: K,
    keys: &'a Keys<'a>,
    /// Whether the keys at the end are to encipher.
    used: bool,
    /// The masters of the run; where all rows have the same, of every run.
    master: Box<K::Keys>,
    loaded: bool,
    here: Box<K::Keys>,
    next: Box<K::Keys>,
    /// The masters' bytes.
    bytes: Room,
    room: Room,
}

impl<'a, K: Kernel> Path<'a, K> {
    fn new(kernel: K, keys: &'a Keys<'a>, used: bool) -> Self {
        Self {
            kernel,
            keys,
            used,
            master: kernel.keys(),
            loaded: false,
            here: kernel.keys(),
            next: kernel.keys(),
            bytes: Room::new(16 * K::LANES),
            room: Room::new(8 * K::LANES),
        }
    }

    /// The keys of `rows` rows from `first` on.
    fn walk(&mut self, first: usize, rows: usize) -> &mut K::Keys {
        self.load(first, rows);
        let session = match self.keys.last {
            LastStep::Session(inputs) => Some(inputs),
            LastStep::Whole | LastStep::Fold => None,
        };
        let mut from_master = true;
        for (step, column) in self.keys.levels.iter().chain(&session).enumerate() {
            if !from_master {
                self.kernel.schedule(&mut self.here);
            }
            let from = if from_master { &self.master } else { &self.here };
            let inputs = window(column.as_flattened(), 8, first, rows, &mut self.room.0);
            if step < self.keys.levels.len() {
                self.kernel.disperse(from, inputs, &mut self.next);
            } else {
                self.kernel.session(from, inputs, &mut self.next);
            }
            std::mem::swap(&mut self.here, &mut self.next);
            from_master = false;
        }
        if from_master {
            return &mut self.master;
        }
        if matches!(self.keys.last, LastStep::Fold) {
            self.kernel.fold(&mut self.here);
        }
        if self.used {
            self.kernel.schedule(&mut self.here);
        }
        &mut self.here
    }

    fn load(&mut self, first: usize, rows: usize) {
        if self.loaded && matches!(self.keys.chosen, PerRow::Same(_)) {
            return;
        }
        let bytes = self.bytes.0.as_chunks_mut::<16>().0;
        let chosen = self.keys.chosen.part(first, rows);
        match chosen {
            PerRow::Same(number) => bytes.fill(self.keys.masters[number as usize]),
            PerRow::Each(numbers) => {
                for (key, number) in bytes.iter_mut().zip(numbers) {
                    *key = self.keys.masters[*number as usize];
                }
            }
        }
        self.kernel.load_keys(&self.bytes.0, &mut self.master);
        if self.keys.levels.is_empty() && matches!(self.keys.last, LastStep::Fold) {
            self.kernel.fold(&mut self.master);
        }
        self.kernel.schedule(&mut self.master);
        self.loaded = true;
    }
}

impl<K: Kernel> Drop for Path<'_, K> {
    fn drop(&mut self) {
        self.master.zeroize();
        self.here.zeroize();
        self.next.zeroize();
    }
}

/// A run of a column's rows; where the column ends before the run does, copied into `room` before zeros.
fn window<'a>(column: &'a [u8], width: usize, first: usize, rows: usize, room: &'a mut [u8]) -> &'a [u8] {
    let given = &column[first * width..][..rows * width];
    if given.len() == room.len() {
        return given;
    }
    room[..given.len()].copy_from_slice(given);
    room[given.len()..].fill(0);
    room
}
