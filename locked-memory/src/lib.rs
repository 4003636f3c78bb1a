//! Memory for secrets: locked, left out of core dumps, kept from children and wiped when freed.
//!
//! Secrets are small (a card key is 16 bytes) and many, while the kernel locks whole pages. So this
//! crate keeps *regions* of locked pages and hands out runs of 32-byte granules from them. A region
//! is made with `memfd_secret(2)` where the kernel allows it (the pages then leave the kernel's own
//! direct map), else with `mmap` and `mlock`.
//!
//! This is one of the few homes of `unsafe` in the project; its face is safe.

#![deny(unsafe_op_in_unsafe_fn)]

mod region;

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use region::Protection;
use region::Region;
use zeroize::Zeroize;

/// Bytes that hold a secret. Neither printable, comparable nor clonable; wiped on drop.
pub struct LockedBytes {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a `LockedBytes` owns its granules alone, as a `Box<[u8]>` does; the pool behind it is
// guarded by a mutex. Needed because secrets move between the threads of the daemon.
unsafe impl Send for LockedBytes {}
// SAFETY: shared access only reads.
unsafe impl Sync for LockedBytes {}

impl LockedBytes {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        Self { start: pool().allocate(len), len }
    }

    /// `len` bytes, filled in place so that the secret is never elsewhere.
    pub fn init(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = Self::zeroed(len);
        fill(bytes.expose_mut());
        bytes
    }

    /// A copy of `source`; wiping the source is the caller's duty.
    pub fn copy_of(source: &[u8]) -> Self {
        Self::init(source.len(), |bytes| bytes.copy_from_slice(source))
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `start` points to `len` initialised bytes that this value owns until its drop.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The secret itself, to be written.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `expose`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.expose_mut().zeroize();
        pool().free(self.start, self.len);
    }
}

/// The weakest protection of any region in use. A production daemon refuses to start on
/// [`Protection::Unlocked`].
pub fn protection() -> Protection {
    // Touch the pool so that the answer is about a real region, not about an empty list.
    drop(LockedBytes::zeroed(1));
    pool().regions.iter().map(Region::protection).min().unwrap_or(Protection::Unlocked)
}

/// Keeps this process out of core dumps and away from debuggers of the same user.
///
/// # Errors
/// The error of `prctl(PR_SET_DUMPABLE)`.
pub fn forbid_core_dumps() -> std::io::Result<()> {
    region::set_undumpable()
}

/// Bytes of a stack below a caller that work with keys has reached.
const DEEP: usize = 128 << 10;

/// Overwrites what earlier calls of this thread left on its stack: key schedules and the like are moved and copied there by
/// the compiler, where nobody can wipe them by name. To be called by whoever called them, from as shallow a place.
#[inline(never)]
pub fn wipe_stack() {
    // Handed out, so that it is written although nobody reads it; as one block, since every call waits for it.
    std::hint::black_box(&mut [0u8; DEEP]);
}

struct Pool {
    regions: Vec<Region>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { regions: Vec::new() });

fn pool() -> MutexGuard<'static, Pool> {
    // A panic while the lock is held leaves the bitmaps whole: they change in one statement each.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn allocate(&mut self, len: usize) -> NonNull<u8> {
        if len == 0 {
            return NonNull::dangling();
        }
        if let Some(start) = self.regions.iter_mut().find_map(|region| region.take(len)) {
            return start;
        }
        let mut region = Region::map(len);
        let start = region.take(len);
        self.regions.push(region);
        // A fresh region was mapped to be large enough for `len`.
        start.unwrap_or(NonNull::dangling())
    }

    fn free(&mut self, start: NonNull<u8>, len: usize) {
        if len == 0 {
            return;
        }
        if let Some(at) = self.regions.iter().position(|region| region.contains(start)) {
            self.regions[at].give_back(start, len);
            if self.regions[at].is_oversized() {
                drop(self.regions.swap_remove(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_neighbours_do_not_overlap() {
        let secrets: Vec<_> =
            (0..500u16).map(|i| LockedBytes::init(usize::from(i % 97) + 1, |b| b.fill(i as u8))).collect();
        for (i, secret) in secrets.iter().enumerate() {
            assert!(secret.expose().iter().all(|b| *b == i as u8), "secret {i} was overwritten");
        }
    }

    #[test]
    fn freed_memory_is_zero_when_it_is_handed_out_again() {
        for _ in 0..200 {
            let secret = LockedBytes::init(4096, |b| b.fill(0xA5));
            drop(secret);
            assert!(LockedBytes::zeroed(4096).expose().iter().all(|b| *b == 0));
        }
    }

    /// Leaves a word on the stack, and says where.
    #[inline(never)]
    fn leave(word: [u8; 64]) -> usize {
        let copy = std::hint::black_box(word);
        std::ptr::from_ref(std::hint::black_box(&copy)) as usize
    }

    #[test]
    fn what_a_call_left_on_the_stack_is_wiped() {
        let at = leave([0xA7; 64]);
        wipe_stack();
        // SAFETY: the address is of this thread's stack, below the frame of this test and mapped, since it was written to.
        let left = unsafe { std::ptr::read_volatile(at as *const [u8; 64]) };
        assert_ne!(left, [0xA7; 64]);
    }

    #[test]
    fn a_secret_larger_than_a_region_gets_its_own() {
        let secret = LockedBytes::init(300_000, |b| b.fill(7));
        assert_eq!(secret.len(), 300_000);
        assert!(secret.expose().iter().all(|b| *b == 7));
    }

    #[test]
    fn an_empty_secret_is_allowed() {
        assert!(LockedBytes::zeroed(0).expose().is_empty());
    }

    #[test]
    fn pages_are_locked_on_this_machine() {
        assert!(protection() > Protection::Unlocked, "neither memfd_secret nor mlock worked");
    }
}
