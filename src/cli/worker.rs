//! `claviger launcher` and `claviger worker`: processes of the daemon's own, not for people.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output::Output;
use super::serve::log_to_stderr;
use crate::config::Config;
use crate::permissions::only_we_change;
use crate::routing::BackendConfig;
use crate::routing::worker::{SETTINGS, Start, launch, serve};

/// Run a backend's driver
#[derive(Args)]
pub(super) struct Worker {
    /// The backend's name, so that operators can tell workers apart
    #[arg(long, value_name = "NAME")]
    backend: String,
    /// The driver's
    #[arg(long, value_name = "NAME")]
    driver: String,
    /// The driver's table
    #[arg(long, value_name = "TOML", env = SETTINGS, hide_env_values = true)]
    settings: String,
}

impl Worker {
    pub(super) fn run(&self, output: &Output) -> ExitCode {
        log_to_stderr();
        match serve(&self.driver, &self.settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output.fail(&anyhow::Error::from(error).context(format!("worker of {}", self.backend))),
        }
    }
}

/// Start workers until the daemon ends
#[derive(Args)]
pub(super) struct Launch {
    /// Where the backends stand
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read nothing else of that file
    #[arg(long)]
    backends_only: bool,
    /// Start workers, rather than the process that does
    #[arg(long)]
    serves: bool,
}

impl Launch {
    pub(super) fn run(&self, output: &Output) -> ExitCode {
        let mut known = Vec::new();
        let mut start_of = |name: &str| -> io::Result<Start> {
            // One that is wrong just now is not in force: a worker that was lost comes back by the last that was right.
            match self.backends() {
                Ok(backends) => known = backends,
                Err(error) if known.is_empty() => return Err(io::Error::other(format!("{error:#}"))),
                Err(_) => {}
            }
            let backend = known.iter().find(|backend| backend.name == name);
            let backend =
                backend.ok_or_else(|| io::Error::other(format!("the configuration has no backend `{name}`")))?;
            backend.only_we_change_its_files().map_err(io::Error::other)?;
            backend.start().map_err(io::Error::other)
        };
        match launch(self.serves, &mut start_of) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output.fail(&anyhow::Error::from(error).context("launcher")),
        }
    }

    /// The configuration's backends. What root starts by is root's alone: the daemon, once it is another user, writes no word of it.
    fn backends(&self) -> anyhow::Result<Vec<BackendConfig>> {
        only_we_change(&self.config)?;
        Ok(match self.backends_only {
            true => Config::load_backends(&self.config)?,
            false => Config::load(&self.config)?.routing().backends,
        })
    }
}
