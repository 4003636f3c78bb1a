//! The tests of the whole, by intent. One binary.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod abuse;
mod api;
mod approvals;
mod architecture;
mod assurance;
mod audit;
mod backups;
mod canary;
mod cards;
mod ceremonies;
mod confinement;
mod contract;
mod daemon;
mod exchange;
mod faults;
mod formats;
mod fuzzing;
mod generic;
mod load;
mod main_job;
mod matrix;
mod openapi;
mod packaging;
mod policies;
mod proofs;
mod purse;
mod quotas;
mod races;
mod reference;
mod refusals;
mod reload;
mod serving;
mod terminal;
mod tiers;
mod token_ceilings;
mod token_days;
mod token_faults;
mod token_keys;
mod token_life;
mod token_moves;
mod token_secrets;
mod token_sessions;
mod tokens;
mod vectors;
