//! Memory that a call gives back holds nothing of its keys: each block is zeros when it is freed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "to see memory as it is given back, an allocator must look at it")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use claviger_bulk_mac::{BulkMac, Cipher, Expected, Mac, Platform};
use common::{Case, Numbers, Shape};

thread_local! {
    /// Blocks that this thread gave back, and how many of them were not zeros; none while nobody looks.
    static SEEN: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

struct Looks;

#[global_allocator]
static LOOKS: Looks = Looks;

// SAFETY: every call goes to the system's allocator as it came; what is looked at is read before it is given back.
unsafe impl GlobalAlloc for Looks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to what `alloc` asks. Zeros, so that no byte of it is ever without a value.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Ok(Some((blocks, dirty))) = SEEN.try_with(Cell::get) {
            // SAFETY: the block has that many bytes, came with values, and is its owner's until it is given back below.
            let is_dirty = (0..layout.size()).any(|at| unsafe { block.add(at).read_volatile() } != 0);
            SEEN.set(Some((blocks + 1, dirty + usize::from(is_dirty))));
        }
        // SAFETY: the caller keeps to what `dealloc` asks.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What a call gave back: blocks, and those that were not zeros.
fn given_back<T>(call: impl FnOnce() -> T) -> ((usize, usize), T) {
    SEEN.set(Some((0, 0)));
    let done = call();
    (SEEN.replace(None).unwrap(), done)
}

#[test]
fn every_block_that_a_call_gives_back_is_zeros() {
    for platform in Platform::available() {
        let tier = BulkMac::on(platform).unwrap();
        for (cipher, mac) in [
            (Cipher::TripleDes, Mac::Cbc),
            (Cipher::TripleDes, Mac::Retail),
            (Cipher::Sm4, Mac::Cbc),
            (Cipher::Sm4, Mac::Cmac),
            (Cipher::Aes128, Mac::Cbc),
            (Cipher::Aes128, Mac::Cmac),
        ] {
            for (rows, last) in [(1, 0), (5, 0), (200, 0), (512, 0), (515, 0), (515, 1), (515, 2)] {
                if mac == Mac::Retail && last != 0 {
                    continue;
                }
                let shape = Shape { cipher, mac, rows, masters: 3, levels: 2, last, columns: 3, mixed: true };
                let case = Case::new(&mut Numbers(0x5EED + rows as u64), shape);
                let tacs: Vec<u8> = (0..rows).flat_map(|row| case.mac_of(row)[..4].to_vec()).collect();
                let (mut keys, mut macs) = (vec![[0; 16]; rows], vec![0; rows * cipher.block_len()]);
                let (seen, verdicts) = case.lend(|lent, texts| {
                    given_back(|| {
                        tier.disperse(lent, &mut keys).unwrap();
                        tier.macs(lent, mac, texts, &mut macs).unwrap();
                        tier.verify(lent, mac, texts, &Expected { width: 4, bytes: &tacs }).unwrap()
                    })
                });
                assert!(verdicts.iter().all(|verdict| *verdict));
                assert!(seen.0 >= 12, "{seen:?} given back");
                assert_eq!(seen.1, 0, "{platform:?} {cipher:?} {mac:?} {rows} rows, {last}: {} of {}", seen.1, seen.0);
            }
        }
    }
    // And whoever looks sees what is not.
    assert_eq!(given_back(|| drop(std::hint::black_box(vec![1_u8; 100]))).0, (1, 1));
}
