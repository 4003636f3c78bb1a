//! Vendor code lives elsewhere: each backend with a vendor's library runs it in processes of its own, which the daemon
//! asks over sockets, and kills when they do not answer.
//!
//! A *launcher*, a process that does nothing else, starts them ([`launch`]); each *worker* gives up its capabilities and
//! serves one driver ([`serve`]).

mod frame;
mod launcher;
mod process;
mod serve;
mod slot;
mod workers;

pub use frame::read_response;
pub use launcher::{Launcher, SETTINGS, Start, StartOf, User, launch};
pub use serve::serve;
pub(super) use workers::{Options, Workers};
