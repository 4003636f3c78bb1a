//! `claviger init`: seals a new store.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use claviger_hsm_api::Secret;

use super::output::Output;
use super::serve;
use super::unseal::ask_passphrase;
use crate::audit::{Audit, Event};
use crate::config::Config;
use crate::confinement;
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
    pub(super) fn run(self, output: &Output) -> ExitCode {
        self.start(output).unwrap_or_else(|error| output.fail(&error))
    }

    /// Becomes the user that the daemon will be, before there are other threads: the store is that user's.
    fn start(self, output: &Output) -> anyhow::Result<ExitCode> {
        confinement::private_files();
        let config = Config::load(&self.config)?;
        // A file of root's is read by root.
        if config.seal.systemd_credential.is_some() {
            bail!("seal with key_file first, then hand that file to `systemd-creds encrypt` and name the credential");
        }
        let passphrase = match config.seal.key_file {
            Some(_) => None,
            None => Some(ask_passphrase(self.passphrase_file.as_deref(), true)?),
        };
        confinement::become_user(&config)?;
        serve::runtime()?.block_on(initialise(&config, passphrase, output))
    }
}

async fn initialise(config: &Config, passphrase: Option<Secret>, output: &Output) -> anyhow::Result<ExitCode> {
    make_private_directory(&config.data)?;
    let store = Store::open(&config.data.join("claviger.db")).await?;
    let kind = match (&config.seal.key_file, &passphrase) {
        (Some(path), _) => {
            if !path.exists() {
                seal::create_key_file(path)?;
            }
            seal::initialise(&store, Opener::KeyFile(path)).await?;
            format!("key file {}", path.display())
        }
        (None, Some(passphrase)) => {
            seal::initialise(&store, Opener::Passphrase(passphrase)).await?;
            "passphrase".to_owned()
        }
        (None, None) => bail!("there is neither a key file nor a passphrase"),
    };
    let audit = Audit::open(&config.data.join("audit.jsonl"))?;
    audit.append(Event { event: "initialise".to_owned(), outcome: "sealed".to_owned(), ..Event::default() }).await?;
    output.result(&serde_json::json!({ "sealed": true, "by": kind }), || {
        format!("the store in {} is sealed with the {kind}", config.data.display())
    });
    Ok(ExitCode::SUCCESS)
}
