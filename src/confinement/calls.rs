//! seccomp: an allow-list of calls to the kernel, and nothing else.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use super::{ConfinementError, failed};

/// Calls by name and number.
macro_rules! calls {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => { &[$($(#[$attribute])* (stringify!($name), libc::$name)),*] };
}

/// What serving needs, whatever the arguments. The names are libc's, without what stands before the call's own.
const ALLOWED: &[(&str, i64)] = calls![
    // Files of the data directory, and those that are read again.
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_lseek,
    SYS_openat,
    SYS_close,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_fcntl,
    SYS_fsync,
    SYS_fdatasync,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_flock,
    SYS_getdents64,
    SYS_unlinkat,
    SYS_renameat,
    SYS_renameat2,
    SYS_mkdirat,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_readlinkat,
    SYS_getcwd,
    SYS_fchmod,
    SYS_fchown,
    SYS_fadvise64,
    // Connections that came in, and the sockets of workers.
    SYS_accept4,
    SYS_recvfrom,
    SYS_sendto,
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_shutdown,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_getsockname,
    SYS_getpeername,
    SYS_socketpair,
    // Waiting.
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_ppoll,
    SYS_eventfd2,
    SYS_futex,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_restart_syscall,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_membarrier,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_pipe2,
    SYS_dup,
    SYS_dup3,
    // Memory.
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    SYS_mlock,
    SYS_munlock,
    SYS_memfd_secret,
    SYS_getrandom,
    // Threads and their ends; `clone3` is answered as if it did not exist.
    SYS_clone3,
    SYS_exit,
    SYS_exit_group,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_gettid,
    SYS_getpid,
    SYS_getppid,
    SYS_tgkill,
    SYS_sigaltstack,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_set_tid_address,
    // Workers that hang are ended, and the launcher is waited for.
    SYS_kill,
    SYS_wait4,
    SYS_waitid,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    // About itself.
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_uname,
    SYS_sysinfo,
    SYS_prlimit64,
    SYS_getrusage,
    SYS_umask,
    SYS_getrlimit,
    // The same by the names that only this processor has.
    #[cfg(target_arch = "x86_64")]
    SYS_open,
    #[cfg(target_arch = "x86_64")]
    SYS_stat,
    #[cfg(target_arch = "x86_64")]
    SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    SYS_access,
    #[cfg(target_arch = "x86_64")]
    SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    SYS_rename,
    #[cfg(target_arch = "x86_64")]
    SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    SYS_poll,
    #[cfg(target_arch = "x86_64")]
    SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    SYS_dup2,
];

/// Names of the calls that a confined daemon may make, those with bound arguments among them: for the unit's test.
pub fn allowed_calls() -> Vec<&'static str> {
    let bound = ["SYS_clone", "SYS_mmap", "SYS_mprotect", "SYS_prctl", "SYS_ioctl"];
    ALLOWED.iter().map(|(name, _)| *name).chain(bound).filter_map(|name| name.strip_prefix("SYS_")).collect()
}

pub(super) fn confine() -> Result<(), ConfinementError> {
    for program in [without_clone3(), allow_list()] {
        let program = program.map_err(|error| failed("calls")(io::Error::other(error)))?;
        apply_filter_all_threads(&program).map_err(|error| failed("calls")(io::Error::other(error)))?;
    }
    Ok(())
}

type Compiled = Result<BpfProgram, seccompiler::BackendError>;

/// The C library starts threads by `clone3`, whose arguments a filter cannot see, and by `clone` where there is none.
fn without_clone3() -> Compiled {
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new([(libc::SYS_clone3, Vec::new())].into(), SeccompAction::Allow, unknown, arch()?)?.try_into()
}

fn allow_list() -> Compiled {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|(_, number)| (*number, Vec::new())).collect();
    // Threads, never processes.
    rules.insert(libc::SYS_clone, vec![bits(0, libc::CLONE_THREAD as u64, libc::CLONE_THREAD as u64)?]);
    // No code that was not there at the start.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![bits(2, libc::PROT_EXEC as u64, 0)?]);
    }
    // A thread's name, and nothing else of what `prctl` can do.
    rules.insert(libc::SYS_prctl, vec![bits(0, u64::from(u32::MAX), libc::PR_SET_NAME as u64)?]);
    // Whether a file is a terminal, and sockets that do not block.
    let ioctls = [libc::TCGETS, libc::FIONBIO, libc::FIOCLEX];
    rules.insert(
        libc::SYS_ioctl,
        ioctls.iter().map(|call| bits(1, u64::from(u32::MAX), *call)).collect::<Result<_, _>>()?,
    );
    SeccompFilter::new(rules, refusal(), SeccompAction::Allow, arch()?)?.try_into()
}

/// In a build for tests a call that is not allowed ends the process, so that no test passes over it; otherwise it fails.
fn refusal() -> SeccompAction {
    if cfg!(debug_assertions) { SeccompAction::KillProcess } else { SeccompAction::Errno(libc::EPERM as u32) }
}

/// A rule for an argument some of whose bits are bound.
fn bits(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let bound = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)?;
    SeccompRule::new(vec![bound])
}

fn arch() -> Result<TargetArch, seccompiler::BackendError> {
    std::env::consts::ARCH.try_into()
}
