//! `claviger backup`, `claviger restore` and `claviger terminals`.

use std::fs::File;
use std::io::{BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use claviger_client::{Health, SetTerminal};
use claviger_hsm_api::Secret;
use claviger_key_ceremonies::{
    Commitments, Ending, Event as Happened, SHARE_LEN, Share, Transcript, Written, read_component,
};
use futures_util::StreamExt;
use jiff::Timestamp;

use super::output::Output;
use super::screen::tidy_up_when_told_to_end;
use super::unseal::{ask_passphrase, type_share};
use super::{Global, serve};
use crate::audit::{Audit, Event};
use crate::backup::{BackupKey, NAMES, Opened, restored};
use crate::config::Config;
use crate::confinement;
use crate::daemon::make_private_directory;
use crate::seal::{self, Opener};
use crate::store::Store;

/// Make a backup of a running daemon
///
/// The backup holds the store and the audit log as they are in one moment. It is encrypted and authenticated; whoever has what
/// opens the daemon's seal (its key file, or the passphrase) can restore it, and nobody else can. Keep the two apart.
#[derive(Args)]
#[command(after_help = "Example:\n  claviger --data ./dev --as officer backup --out claviger-2026-11-27.backup")]
pub(super) struct Backup {
    /// Where it goes; a file that is there is not written over
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Restore a backup on an empty machine
///
/// Opens the seal by the configuration's key file, by the passphrase, or by the shares of several custodians, and makes the configuration's data directory. A
/// restored daemon gives no terminal a transaction number before it is told the last one used (`claviger terminals set`), and
/// what was approved or begun before is approved and begun again.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  claviger restore claviger-2026-11-27.backup --config /etc/claviger/claviger.toml\n  claviger restore latest.backup --config claviger.toml --passphrase-file words.txt"
)]
pub(super) struct Restore {
    /// The backup
    backup: PathBuf,
    /// The configuration of the daemon that will be, one TOML file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read the passphrase from the first line of a file instead of the terminal
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Say where terminals are whose PSAM is the daemon
#[derive(Subcommand)]
#[command(
    after_help = "Example:\n  claviger --data ./dev --as officer terminals set --tenant demo --terminal 001122334455 --last 4711"
)]
pub(super) enum Terminals {
    /// Say the last transaction number that a terminal has used; never one below what is known
    #[command(
        after_help = "Example:\n  claviger --data ./dev --as officer terminals set --tenant demo --terminal 001122334455 --last 4711"
    )]
    Set {
        /// City or operator
        #[arg(long)]
        tenant: String,
        /// The terminal's id, 12 hexadecimal digits
        #[arg(long)]
        terminal: String,
        /// The number, decimal: 4711 if the last ttc was 00001267
        #[arg(long)]
        last: u32,
    },
}

impl Backup {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let client = global.client()?;
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.out)
            .with_context(|| self.out.display().to_string())?;
        let written = async {
            let nothing = futures_util::stream::empty();
            let answer = client.stream("/v1/backup", &(), "application/octet-stream", nothing).await?;
            let mut pieces = std::pin::pin!(answer.pieces);
            let mut size = 0;
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                size += piece.len() as u64;
                file.write_all(&piece).with_context(|| self.out.display().to_string())?;
            }
            file.sync_all().with_context(|| self.out.display().to_string())?;
            Ok::<_, anyhow::Error>(size)
        };
        let size = match written.await {
            Ok(size) => size,
            Err(error) => {
                // Half a backup is none.
                let _ = std::fs::remove_file(&self.out);
                return Err(error);
            }
        };
        output.result(&serde_json::json!({ "backup": self.out, "bytes": size }), || {
            format!("{}: {size} bytes", self.out.display())
        });
        Ok(ExitCode::SUCCESS)
    }
}

impl Restore {
    pub(super) fn run(self, output: &Output) -> ExitCode {
        self.start(output).unwrap_or_else(|error| output.fail(&error))
    }

    /// Becomes the user that the daemon will be, before there are other threads: the store is that user's.
    fn start(self, output: &Output) -> anyhow::Result<ExitCode> {
        confinement::private_files();
        let config = Config::load(&self.config)?;
        let backup = File::open(&self.backup).with_context(|| self.backup.display().to_string())?;
        // A file of root's is read by root.
        let passphrase = self.passphrase_file.as_deref().map(|file| ask_passphrase(Some(file), false)).transpose()?;
        confinement::become_user(&config)?;
        let named = || self.backup.display().to_string();
        serve::runtime()?.block_on(async { restore(&config, backup, passphrase, output).await.with_context(named) })
    }
}

async fn restore(
    config: &Config,
    backup: File,
    passphrase: Option<Secret>,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    make_private_directory(&config.data)?;
    if std::fs::read_dir(&config.data)?.any(|entry| entry.is_ok_and(|entry| is_of_a_daemon(&entry.path()))) {
        bail!("{} has a store already: a backup is restored on an empty machine", config.data.display());
    }
    let opened = Opened::read(BufReader::new(backup))?;
    let header = opened.header.clone();
    let shares = match seal::shares_of(&header.seal) {
        Some(commitments) => ask_shares(&commitments, output)?,
        None => Vec::new(),
    };
    let passphrase = match (&config.seal.key_file, &config.seal.systemd_credential) {
        (None, None) if shares.is_empty() && passphrase.is_none() => Some(ask_passphrase(None, false)?),
        (None, None) => passphrase,
        _ => None,
    };
    let opener = match (&passphrase, &config.seal.key_file, &config.seal.systemd_credential) {
        _ if !shares.is_empty() => Opener::Shares(&shares),
        (Some(passphrase), ..) => Opener::Passphrase(passphrase),
        (None, Some(path), _) => Opener::KeyFile(path),
        _ => bail!("restore with key_file or passphrase first, then name the credential"),
    };
    let storage_key = seal::open(&header.seal, &opener)?;
    BackupKey::of(&storage_key)?.unpack(opened, &config.data)?;
    for name in NAMES.iter().filter(|name| restored(&config.data, name).exists()) {
        std::fs::rename(restored(&config.data, name), config.data.join(name))?;
    }
    let created = header.created.to_string();
    let store = Store::open(&config.data.join("claviger.db")).await?;
    store.go_on_from_backup(&created).await?;
    let cancelled = cancel_what_was_begun(&store, &created).await?;
    // The log is checked when it is opened, and goes on with what has become of it.
    let audit = Audit::open(&config.data.join("audit.jsonl"))?;
    let statement = format!("backup of {created} of daemon {}", header.daemon);
    let (event, outcome) = ("restore".to_owned(), "sealed".to_owned());
    audit.append(Event { event, outcome, statement, ..Event::default() }).await?;
    let facts = serde_json::json!({
        "data": config.data, "created": created, "daemon": header.daemon, "ceremonies_cancelled": cancelled,
    });
    output.result(&facts, || {
        format!(
            "{} holds the daemon {} as it was at {created}.\nKeys that were suspended, ended or made since are as they were \
             then: compare with the log of the machine that is lost, if there is one.\nTerminals get no number before \
             `claviger terminals set` says the last one that they used.",
            config.data.display(),
            header.daemon
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// One custodian after the other types a share at this terminal; nothing of one is there when the next comes.
fn ask_shares(commitments: &Commitments, output: &Output) -> anyhow::Result<Vec<Share>> {
    tidy_up_when_told_to_end(None);
    let mut shares: Vec<Share> = Vec::new();
    // It stands above the next screen's question too: whoever types sees no other.
    let mut refused = String::new();
    while shares.len() < usize::from(commitments.threshold) {
        let (next, all) = (shares.len() + 1, commitments.threshold);
        let heading = format!("{}Restoring: share {next} of the {all} that it takes", std::mem::take(&mut refused));
        let typed = read_component(&type_share(&heading)?, Written::Letters, SHARE_LEN, false)?;
        let share = Share::from_bytes(typed)?;
        let is_there = shares.iter().any(|known| known.number() == share.number());
        let said = match commitments.check(&share) {
            Ok(()) if is_there => format!("share {} is there already", share.number()),
            Ok(()) => {
                output.say(format!("share {} is a good one", share.number()));
                shares.push(share);
                continue;
            }
            Err(error) => error.to_string(),
        };
        output.say(&said);
        refused = format!("REFUSED: {said}\n");
    }
    Ok(shares)
}

fn is_of_a_daemon(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    NAMES.contains(&name) || name.ends_with(".restored") || name.starts_with("claviger.db")
}

/// Ceremonies that were open then may have ended since: their people would be asked for what they have done.
async fn cancel_what_was_begun(store: &Store, created: &str) -> anyhow::Result<usize> {
    let mut cancelled = 0;
    for id in store.all_ceremonies().await? {
        let mut transcript = Transcript::parse(&store.transcript(&id).await?)?;
        if transcript.course().ending().is_none() {
            let reason = format!("the daemon was restored from a backup of {created}");
            let ended = Happened::Ended { how: Ending::Cancelled, by: String::new(), reason };
            let line = transcript.add(Timestamp::now(), ended)?.to_owned();
            store.add_ceremony_line(&id, transcript.entries().len() as u64, &line).await?;
            cancelled += 1;
        }
    }
    Ok(cancelled)
}

impl Terminals {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let Self::Set { tenant, terminal, last } = self;
        let set = SetTerminal { tenant, terminal_id: terminal.clone(), last };
        let health: Health = global.client()?.post("/v1/terminals", &set).await?;
        output.result(&health, || format!("terminal {terminal} goes on after {last}"));
        Ok(ExitCode::SUCCESS)
    }
}
