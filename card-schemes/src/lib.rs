//! Idea five: card schemes are data.
//!
//! What a TAC covers, how a card number becomes a factor, which key is used for what: a profile in
//! `profiles/*.toml` says it, and carries known answers that it must reproduce before it is used. This
//! crate turns (scheme, transaction) into recipes and columns; it never sees a key except the test keys
//! of the known answers.

#![forbid(unsafe_code)]

mod ascii;
mod command;
mod consistency;
mod digits;
mod fields;
mod key_set;
mod known_answers;
mod piece;
mod profile;
mod purse;
mod records;
mod request_error;
mod role;
mod scheme;
mod schemes;
mod tac;

pub use command::{ApduShape, CommandRequest, PreparedCommand};
pub use fields::{Field, FieldError, FieldSet};
pub use key_set::{KeySet, KeySetMaker};
pub use known_answers::{CommandAnswer, KnownAnswer, KnownAnswerFailed};
pub use piece::Piece;
pub use profile::{ProfileError, RoleFinish};
pub use purse::PurseStep;
pub use records::{
    ArrowReader, Columns, CsvReader, FormatError, LineFault, ReadError, Reader, RecordSink, append_record_id,
};
pub use request_error::RequestError;
pub use role::{CardKey, Role, SchemeError};
pub use scheme::{CardScheme, Transaction};
pub use schemes::Schemes;
pub use tac::{Reason, RunBatch, SelectableKey, TacVerifier, Verified};
