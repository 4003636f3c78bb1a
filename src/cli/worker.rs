//! `claviger launcher` and `claviger worker`: processes of the daemon's own, not for people.

use std::process::ExitCode;

use clap::Args;

use super::output::Output;
use super::serve::log_to_stderr;
use crate::routing::worker::{launch, serve};

/// Run a backend's driver
#[derive(Args)]
pub(super) struct Worker {
    /// The backend's name, so that operators can tell workers apart
    #[arg(long, value_name = "NAME")]
    backend: String,
}

impl Worker {
    pub(super) fn run(&self, output: &Output) -> ExitCode {
        log_to_stderr();
        match serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output.fail(&anyhow::Error::from(error).context(format!("worker of {}", self.backend))),
        }
    }
}

/// Starts workers until the daemon ends.
pub(super) fn run_launcher(output: &Output) -> ExitCode {
    match launch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.fail(&anyhow::Error::from(error).context("launcher")),
    }
}
