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

/// Start workers until the daemon ends
#[derive(Args)]
pub(super) struct Launch {
    /// Start workers, rather than the process that does
    #[arg(long)]
    serves: bool,
}

impl Launch {
    pub(super) fn run(&self, output: &Output) -> ExitCode {
        match launch(self.serves) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output.fail(&anyhow::Error::from(error).context("launcher")),
        }
    }
}
