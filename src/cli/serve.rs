//! `claviger serve`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use tracing_subscriber::EnvFilter;

use super::output::Output;
use crate::config::Config;
use crate::confinement;
use crate::daemon::{Daemon, make_private_directory};
use crate::permissions::{Loose, only_we_change};
use crate::routing::{BackendConfig, Launcher};

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
    /// End when standard input does: with whoever started this for a while
    #[arg(long, hide = true)]
    while_held: bool,
}

impl Serve {
    pub(super) fn run(self, output: &Output) -> ExitCode {
        log_to_stderr();
        if cfg!(feature = "unguarded") {
            return output.fail(&anyhow::anyhow!("this program was built for a benchmark: it asks no policy"));
        }
        let served = confined(&self.config, self.while_held, async |daemon| {
            let url = format!("https://{}", daemon.address());
            let sealed = if daemon.is_unsealed() {
                ""
            } else {
                " (sealed: run `claviger unseal`, or `claviger unseal --share` at each custodian's terminal; a new store needs `claviger init` before)"
            };
            output.say(format!("claviger serves {url}{sealed}"));
            Ok(())
        });
        served.map_or_else(|error| output.fail(&error), |()| ExitCode::SUCCESS)
    }
}

/// Threads for what waits and for what works.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Seconds that a daemon has to end in once nobody holds it.
const LETTING_GO: u64 = 2;

/// Serves by a configuration, in a process that gives up what it does not need: to be called before there are other
/// threads. `started` hears when it serves.
pub(super) fn confined(
    config: &Path,
    while_held: bool,
    started: impl AsyncFnOnce(&Daemon) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    claviger_locked_memory::forbid_core_dumps()?;
    // Nor its workers'.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let settings = Config::load(config)?;
    make_private_directory(&settings.data)?;
    is_the_launchers(config, &settings)?;
    let launcher = Arc::new(Launcher::of(config));
    launcher.start().context("the launcher of workers cannot be started")?;
    confinement::before_threads(&settings, config)?;
    runtime()?.block_on(async {
        let daemon = Daemon::start(config, launcher).await?;
        // Terminals that wait for each other would hold it for as long as they may wait.
        let daemon = if while_held { daemon.draining_for(LETTING_GO) } else { daemon };
        confinement::after_start()?;
        started(&daemon).await?;
        daemon
            .run(async {
                tokio::select! {
                    () = stopped() => {}
                    () = let_go(while_held) => {}
                }
            })
            .await;
        Ok(())
    })
}

/// Whether whoever starts workers may go by the configuration. That is whom this process is now; the daemon may become another, and must not
/// be able to say then what is started as this one.
fn is_the_launchers(config: &Path, settings: &Config) -> anyhow::Result<()> {
    let files = || -> Result<(), Loose> {
        only_we_change(config)?;
        settings.routing().backends.iter().try_for_each(BackendConfig::only_we_change_its_files)
    };
    files().with_context(|| match geteuid().is_root() {
        true => "what root starts workers by must be root's alone",
        false => "the launcher of workers goes by no such file",
    })
}

/// Structured logs on standard error: JSON, or plain text on a terminal. `RUST_LOG` sets what is said.
pub(super) fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    // Somebody else's subscriber, in a test, may stand already.
    let _ = if terminal { builder.compact().try_init() } else { builder.json().with_ansi(false).try_init() };
}

/// Ends when standard input does, if that is what holds the process.
async fn let_go(while_held: bool) {
    if !while_held {
        return std::future::pending().await;
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime would wait for one of its own when it ends.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = tell.send(());
    });
    let _ = told.await;
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
