//! What the daemon gives up before it serves anybody: privileges, the file system but for its own places, and every call
//! to the kernel that it does not need.
//!
//! Whoever takes the daemon over gets no shell, no file of others, no connection of its own and no other process's memory;
//! what the daemon may do with its keys is what policy and backends let it do. Workers are started by the launcher, which
//! was started before, and have jails of their own.

mod calls;
mod files;

use std::io;
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, getuid, setrlimit, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::config::Config;
use crate::routing::worker::User;

pub use calls::allowed_calls;
pub use files::out_of_reach;

/// Why the daemon could not be confined; it does not serve then.
#[derive(Debug, thiserror::Error)]
pub enum ConfinementError {
    /// A step that the kernel refuses.
    #[error("the daemon cannot be confined: {step}: {error}")]
    Step {
        /// Which.
        step: &'static str,
        /// What the kernel says.
        error: io::Error,
    },
    /// The configured user does not exist.
    #[error("the configuration's `user` is `{0}`, and there is no such user")]
    NoUser(String),
    /// Only root can become another.
    #[error(
        "the configuration's `user` is `{0}`, and only root can become another user: start as root, or leave it out"
    )]
    NotRoot(String),
}

fn failed<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> ConfinementError {
    move |error| ConfinementError::Step { step, error: error.into() }
}

/// Has files that this process makes from now on belong to its user alone.
pub fn private_files() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Gives up what is not needed to start: to be called before any other thread exists, since threads inherit it.
///
/// # Errors
/// [`ConfinementError`].
pub fn before_threads(config: &Config, path: &Path) -> Result<(), ConfinementError> {
    private_files();
    become_user(config)?;
    let none = CapabilitySet::empty();
    // A low port is bound after this.
    let kept = if (1..1024).contains(&config.listen.port()) { CapabilitySet::NET_BIND_SERVICE } else { none };
    let had = rustix::thread::capabilities(None).map_err(failed("capabilities"))?;
    let kept = kept & had.permitted;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })
        .map_err(failed("capabilities"))?;
    set_no_new_privs(true).map_err(failed("no new privileges"))?;
    files::confine(config, path)
}

/// Gives up every call that serving does not need, in all threads.
///
/// # Errors
/// [`ConfinementError`].
pub fn after_start() -> Result<(), ConfinementError> {
    calls::confine()
}

/// Becomes the configured user. Root's right to lock any amount of memory becomes a limit of none, or the highest there is.
///
/// # Errors
/// [`ConfinementError`].
pub fn become_user(config: &Config) -> Result<(), ConfinementError> {
    let is_root = getuid().is_root();
    let locked = getrlimit(Resource::Memlock);
    let unlimited = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        setrlimit(Resource::Memlock, Rlimit { current: locked.maximum, ..locked }).map_err(failed("memory to lock"))?;
    }
    let Some(name) = &config.user else {
        if is_root {
            tracing::warn!("the daemon runs as root, without root's capabilities: give the configuration a `user`");
        }
        return Ok(());
    };
    let user = User::named(name).ok_or_else(|| ConfinementError::NoUser(name.clone()))?;
    if !is_root {
        return if user.uid == getuid().as_raw() { Ok(()) } else { Err(ConfinementError::NotRoot(name.clone())) };
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_groups(&[gid]).map_err(failed("groups"))?;
    set_thread_res_gid(gid, gid, gid).map_err(failed("group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(failed("user"))
}
