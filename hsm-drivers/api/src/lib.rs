//! The contract between Claviger and whatever holds its keys.
//!
//! Here are the words (key attributes, recipes, batches, verdicts, exposure) and the one trait that a
//! backend's driver implements, [`HsmDriver`]. The crate does no I/O.
//!
//! A [`Recipe`] says what to do with stored keys, a [`Batch`] holds the columns it is done to, and
//! every driver answers with an [`Outcome`] of the same shape.

#![forbid(unsafe_code)]

mod attributes;
mod batch;
mod driver;
mod exchange;
mod exposure;
mod kcv;
mod mac;
mod name;
mod recipe;
mod rules;
mod secret;

pub use attributes::{Algorithm, Exportability, KeyAttributes, KeyRank, KeyState, KeyUsage, ModeOfUse, UnknownWord};
pub use batch::{Batch, Cell, Column, KeyColumn, LegOutcome, LegValue, MalformedBatch, Outcome, Verdict};
pub use driver::{
    Arrival, Attestation, DriverError, Fault, Finding, HsmDriver, Identity, KeyHandle, NewKey, Proof, StoredKey,
};
pub use exchange::{BlockHeader, BlockVersion, EnvelopeForm, EnvelopeLayout, KeyPadding, PurseLabel, WrappedKey};
pub use exposure::{Exposure, Raised};
pub use kcv::{Kcv, KcvFunction, KcvInput, KcvRule};
pub use mac::Mac;
pub use name::{KeyName, KeyVersion, NameError};
pub use recipe::{
    CipherMode, DispersionRule, Finish, FoldRule, Input, KeyPath, Leg, MacAlgorithm, MacSpec, Message, Padding, Parity,
    Recipe, Step, Truncation, When, WrapFormat,
};
pub use rules::RecipeRefused;
pub use secret::{ComponentError, Secret};
