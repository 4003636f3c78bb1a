//! `claviger init`: seals a new store.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output::Output;
use super::unseal::ask_passphrase;
use crate::audit::{Audit, Event};
use crate::config::Config;
use crate::daemon::make_private_directory;
use crate::seal::{self, Opener};
use crate::store::Store;

/// Seal a new store, before a daemon's first start
///
/// Makes the storage master key and wraps it under the configuration's key file (made if it is not there),
/// or under a passphrase if the configuration names none.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  claviger init --config /etc/claviger/claviger.toml\n  claviger init --config claviger.toml --passphrase-file words.txt"
)]
pub(super) struct Init {
    /// The configuration, one TOML file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read the passphrase from the first line of a file instead of the terminal
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Init {
    pub(super) async fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        crate::confinement::private_files();
        let config = Config::load(&self.config)?;
        make_private_directory(&config.data)?;
        let store = Store::open(&config.data.join("claviger.db")).await?;
        let kind = match &config.seal.key_file {
            Some(path) => {
                if !path.exists() {
                    seal::create_key_file(path)?;
                }
                seal::initialise(&store, Opener::KeyFile(path)).await?;
                format!("key file {}", path.display())
            }
            None => {
                let passphrase = ask_passphrase(self.passphrase_file.as_deref(), true)?;
                seal::initialise(&store, Opener::Passphrase(&passphrase)).await?;
                "passphrase".to_owned()
            }
        };
        let audit = Audit::open(&config.data.join("audit.jsonl"))?;
        audit
            .append(Event { event: "initialise".to_owned(), outcome: "sealed".to_owned(), ..Event::default() })
            .await?;
        output.result(&serde_json::json!({ "sealed": true, "by": kind }), || {
            format!("the store in {} is sealed with the {kind}", config.data.display())
        });
        Ok(ExitCode::SUCCESS)
    }
}
