//! Idea five: card schemes are data.
//!
//! What a TAC covers, how a card number becomes a factor, which key is used for what: a profile in
//! `profiles/*.toml` says it, and carries known answers that it must reproduce before it is used. This
//! crate turns (scheme, transaction) into recipes and columns; it never sees a key except the test keys
//! of the known answers.

#![forbid(unsafe_code)]

mod csv;
mod fields;
mod known_answers;
mod piece;
mod profile;
mod purse;
mod scheme;
mod tac;

pub use csv::{CsvHeader, HeaderError, LineFault, record_id_of};
pub use fields::{Field, FieldError, FieldSet};
pub use known_answers::{KnownAnswer, KnownAnswerFailed};
pub use piece::Piece;
pub use profile::{ProfileError, RoleFinish};
pub use purse::{PurseError, PurseStep};
pub use scheme::{CardScheme, Role, SchemeError, Schemes, Transaction};
pub use tac::{Reason, RunBatch, SelectableKey, TacVerifier, Verified};
