//! One run of locked pages and the bitmap of its granules.

use std::io;
use std::ptr::{self, NonNull};

/// How well the pages of a region are kept, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// The pages may reach swap: the limit on locked memory (`LimitMEMLOCK`, `ulimit -l`) is too low.
    Unlocked,
    /// Locked into memory by `mlock(2)`.
    Locked,
    /// Made by `memfd_secret(2)`: locked, and unmapped from the kernel.
    SecretMemory,
}

/// Small enough not to waste locked memory on a cache line each, large enough for any card key.
const GRANULE: usize = 32;
/// 64 KiB: sixteen pages a system call, and well under the usual 8 MiB limit.
const REGION: usize = 64 * 1024;

pub(crate) struct Region {
    start: NonNull<u8>,
    len: usize,
    used: Vec<bool>,
    protection: Protection,
}

// SAFETY: the mapping belongs to this value and is only reached through the pool's mutex.
unsafe impl Send for Region {}

impl Region {
    /// Maps a region that holds at least `len` bytes.
    ///
    /// # Panics
    /// If the kernel has no memory left, as any allocator does.
    pub(crate) fn map(len: usize) -> Self {
        let len = len.max(REGION).next_multiple_of(4096);
        let (start, protection) = match map_secret(len) {
            Ok(start) => (start, Protection::SecretMemory),
            Err(_) => map_locked(len),
        };
        Self { start, len, used: vec![false; len / GRANULE], protection }
    }

    pub(crate) fn protection(&self) -> Protection {
        self.protection
    }

    /// Whether the region was made for one large secret.
    pub(crate) fn is_oversized(&self) -> bool {
        self.len > REGION
    }

    pub(crate) fn contains(&self, at: NonNull<u8>) -> bool {
        let from = self.start.addr().get();
        (from..from + self.len).contains(&at.addr().get())
    }

    /// A free run of `len` bytes, zeroed.
    pub(crate) fn take(&mut self, len: usize) -> Option<NonNull<u8>> {
        let wanted = len.div_ceil(GRANULE);
        let first = self.used.windows(wanted).position(|run| run.iter().all(|used| !used))?;
        self.used[first..first + wanted].fill(true);
        // SAFETY: `first + wanted` granules lie inside the mapping, so the offset does too.
        Some(unsafe { self.start.add(first * GRANULE) })
    }

    /// Takes back what `take` handed out; the bytes were wiped by their owner.
    pub(crate) fn give_back(&mut self, at: NonNull<u8>, len: usize) {
        let first = (at.addr().get() - self.start.addr().get()) / GRANULE;
        self.used[first..first + len.div_ceil(GRANULE)].fill(false);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and no run of it is in use.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn map_secret(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a plain system call that takes no pointers. There is no wrapper for it in `libc`.
    let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let descriptor = libc::c_int::try_from(descriptor).map_err(io::Error::other)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `descriptor` was just opened; a mapping keeps the memory alive after it is closed.
    let mapped = unsafe {
        let sized = libc::ftruncate(descriptor, len as libc::off_t) == 0;
        let mapped = if sized { map(len, libc::MAP_SHARED, descriptor) } else { Err(io::Error::last_os_error()) };
        libc::close(descriptor);
        mapped
    }?;
    keep_private(mapped, len);
    Ok(mapped)
}

fn map_locked(len: usize) -> (NonNull<u8>, Protection) {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
    let start = match unsafe { map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1) } {
        Ok(start) => start,
        Err(_) => std::alloc::handle_alloc_error(
            std::alloc::Layout::from_size_align(len, 4096).unwrap_or(std::alloc::Layout::new::<u8>()),
        ),
    };
    // SAFETY: the range was just mapped.
    let locked = unsafe { libc::mlock(start.as_ptr().cast(), len) } == 0;
    keep_private(start, len);
    (start, if locked { Protection::Locked } else { Protection::Unlocked })
}

/// # Safety
/// `flags` must not ask for a fixed address, and `descriptor` must be open or -1.
unsafe fn map(len: usize, flags: libc::c_int, descriptor: libc::c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: by the contract above the kernel picks an unused range.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, descriptor, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))
}

/// Best effort on both: an old kernel that knows neither still runs.
fn keep_private(start: NonNull<u8>, len: usize) {
    // SAFETY: advice about a range that was just mapped; it changes no contents.
    unsafe {
        libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTDUMP);
        libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTFORK);
    }
}

pub(crate) fn set_undumpable() -> io::Result<()> {
    // SAFETY: takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
