//! `claviger unseal`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use claviger_client::{BringShare, Health, SharesBrought};
use claviger_hsm_api::Secret;
use claviger_key_ceremonies::{SHARE_LEN, Written};
use zeroize::Zeroizing;

use super::Global;
use super::connection::nobody_else_reads;
use super::output::Output;
use super::screen::{Screen, tidy_up_when_told_to_end};

/// Open the seal of a daemon that was sealed with a passphrase or with shares
#[derive(Args)]
#[command(
    after_help = "Examples:\n  claviger --url https://hsm1:8443 --ca ca.pem --cert officer.pem --key officer-key.pem unseal\n  claviger --url https://hsm1:8443 --ca ca.pem --cert officer.pem --key officer-key.pem --approval ID unseal   # once another has approved it\n  claviger --data ./dev --as custodian unseal --share"
)]
pub(super) struct Unseal {
    /// Read the passphrase from the first line of a file instead of the terminal
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Bring a custodian's share, typed at this terminal, to a daemon that was sealed with shares
    #[arg(long, conflicts_with = "passphrase_file")]
    share: bool,
}

impl Unseal {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let client = global.client()?;
        if self.share {
            tidy_up_when_told_to_end(None);
            let share = type_share("Unsealing: the share of a custodian")?;
            let brought: SharesBrought = client.post("/v1/unseal/shares", &BringShare { share }).await?;
            output.result(&brought, || match brought.unsealed {
                true => "the daemon is unsealed".to_owned(),
                false => format!("{} of {} shares are there", brought.found, brought.wanted),
            });
            return Ok(ExitCode::SUCCESS);
        }
        let passphrase = ask_passphrase(self.passphrase_file.as_deref(), false)?;
        let words =
            Zeroizing::new(std::str::from_utf8(passphrase.expose()).context("the passphrase is not UTF-8")?.to_owned());
        let health: Health = client.post("/v1/unseal", &claviger_client::Unseal { passphrase: words }).await?;
        output.result(&health, || "the daemon is unsealed".to_owned());
        Ok(ExitCode::SUCCESS)
    }
}

/// A share, typed at the terminal's other screen.
pub(super) fn type_share(heading: &str) -> anyhow::Result<Zeroizing<String>> {
    let typed = Screen::open()?.type_component(heading, "share", (Written::Letters, SHARE_LEN, false), None)?;
    typed.context("no share")
}

/// From a file, or from the terminal without showing it; twice if it is new.
pub(super) fn ask_passphrase(file: Option<&Path>, new: bool) -> anyhow::Result<Secret> {
    if let Some(path) = file {
        nobody_else_reads(path)?;
        let text = Zeroizing::new(std::fs::read_to_string(path).with_context(|| path.display().to_string())?);
        return Ok(Secret::copy_of(text.lines().next().unwrap_or_default().as_bytes()));
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map(|words| Secret::taking(words.into_bytes())).context("no passphrase")
    };
    let words = ask("passphrase: ")?;
    if new {
        let again = ask("the same again: ")?;
        if !bool::from(subtle::ConstantTimeEq::ct_eq(words.expose(), again.expose())) {
            bail!("the two passphrases differ");
        }
    }
    Ok(words)
}
