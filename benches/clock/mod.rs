//! Processor time.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of processor time that this thread has had: neighbours do not count.
pub(crate) fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
