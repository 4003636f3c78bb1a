//! `claviger serve`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::output::Output;
use crate::daemon::Daemon;

/// Run the daemon
///
/// The daemon serves nothing until it is unsealed: at start by the key file that the configuration names,
/// or later by `claviger unseal`. SIGTERM lets running requests end;
/// SIGHUP has it read the configuration again.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  claviger serve --config /etc/claviger/claviger.toml\n  RUST_LOG=debug claviger serve --config claviger.toml"
)]
pub(super) struct Serve {
    /// The configuration, one TOML file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Serve {
    pub(super) async fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        log_to_stderr();
        claviger_locked_memory::forbid_core_dumps()?;
        let daemon = Daemon::start(&self.config).await?;
        let url = format!("https://{}", daemon.address());
        let sealed = if daemon.is_unsealed() {
            ""
        } else {
            " (sealed: run `claviger unseal`; a new store needs `claviger init` before)"
        };
        output.say(format!("claviger serves {url}{sealed}"));
        daemon.run(stopped()).await;
        Ok(ExitCode::SUCCESS)
    }
}

/// Structured logs on standard error: JSON, or plain text on a terminal. `RUST_LOG` sets what is said.
pub(super) fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    // Somebody else's subscriber, in a test, may stand already.
    let _ = if terminal { builder.compact().try_init() } else { builder.json().with_ansi(false).try_init() };
}

/// Ends when the process is told to stop.
pub(super) async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
}
