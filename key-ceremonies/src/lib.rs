//! What several people do with keys together: operations that others must approve, and ceremonies.
//!
//! A ceremony is a [`Plan`] (who does what, which keys come of it), a [`Binding`] (which tenant, backends and people) and a
//! [`Transcript`]: what happened, hash-chained and signed by those who were there. This crate says what may follow what; it
//! reaches no daemon and no key. Whoever holds a ceremony hands it to the daemon, and whoever checks one later needs nothing
//! else than this.
#![forbid(unsafe_code)]

mod binding;
mod bundle;
mod component;
mod course;
mod plan;
mod shares;
mod shipped;
mod signature;
mod statement;
mod step;
mod transcript;
mod words;

#[cfg(test)]
mod tests;

pub use binding::{Binding, Person};
pub use bundle::{Bundle, BundleError, SENT, Sent};
pub use component::{TypedComponent, TypedWrong, Written, read_component, write_component};
pub use course::{Act, Course, CourseError, TRIES, Turn};
pub use plan::{LONGEST, Parameter, Plan, PlanError, PlannedKey, Role, digest};
pub use shares::{Commitments, MOST_SHARES, SHARE_LEN, Share, ShareError, join_shares, make_shares};
pub use shipped::{PLANS, shipped};
pub use signature::{PersonalKey, SignatureError, Signed};
pub use statement::{Fingerprint, Statement, Vote};
pub use step::{Form, Step};
pub use transcript::{Ending, Entry, Event, Opening, Transcript, TranscriptError};
pub use words::words;
