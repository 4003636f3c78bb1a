//! The wire types of Claviger's API and a small client, shared by the CLI, the bridge and the server.

#![forbid(unsafe_code)]

mod http;
mod wire;

pub use http::{Client, ClientError, Connection};
pub use wire::{
    GenerateKey, Health, ImportKey, Key, KeyFilter, KeyList, NewKey, Problem, PsamDebit, PsamResult, Purse,
    PurseResult, RandomBytes, RandomRequest, SetKeyState, Unseal, Verdict, VerdictCounts, VerifyParameters,
    VerifyRecords, VerifyResult,
};
