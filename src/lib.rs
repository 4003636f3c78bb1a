//! Claviger: key management and HSM abstraction for transit-card operators.
//!
//! The modules stand in layer order: each imports only what stands before it in this list.

#![forbid(unsafe_code)]

pub mod store;

pub mod seal;

pub mod audit;

pub mod backup;

pub mod permissions;
pub mod policy;

pub mod keyring;

pub mod routing;

pub mod operation;

pub mod service;

pub mod config;

pub mod confinement;

pub mod api;

pub mod server;

pub mod daemon;

pub mod cli;
