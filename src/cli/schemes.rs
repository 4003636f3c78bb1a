//! `claviger schemes`: needs no daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use claviger_card_schemes::{CardScheme, ProfileError};
use serde_json::json;

use super::output::Output;
use crate::api::schemes::describe;
use crate::daemon::load_schemes;

/// Look at card schemes and check profiles
#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  claviger schemes list\n  claviger schemes show cjt166\n  claviger schemes check my-city.toml"
)]
pub(super) enum Schemes {
    /// List the card schemes that come with Claviger
    #[command(after_help = "Example:\n  claviger schemes list --json")]
    List,
    /// Show a scheme's levels, roles, transactions and known answers
    #[command(after_help = "Example:\n  claviger schemes show cjt166")]
    Show {
        /// Its id
        id: String,
    },
    /// Check a profile: is it well-formed, and does it reproduce its known answers?
    #[command(after_help = "Example:\n  claviger schemes check my-city.toml")]
    Check {
        /// The TOML file
        file: PathBuf,
    },
}

impl Schemes {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::List => {
                for scheme in load_schemes(None)?.iter() {
                    output.result(&describe(scheme), || format!("{:<10}{}", scheme.id(), scheme.title()));
                }
            }
            Self::Show { id } => {
                let schemes = load_schemes(None)?;
                let scheme = schemes
                    .find(&id)
                    .with_context(|| format!("there is no card scheme `{id}`; see `claviger schemes list`"))?;
                output.result(&describe(scheme), || words(scheme));
            }
            Self::Check { file } => {
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                return match CardScheme::load(&text) {
                    Ok(scheme) => {
                        let answers = scheme.known_answers().len();
                        output.result(&json!({ "holds": true, "id": scheme.id(), "known_answers": answers }), || {
                            format!("{} holds: all {answers} known answers are reproduced", scheme.id())
                        });
                        Ok(ExitCode::SUCCESS)
                    }
                    Err(error) => {
                        let case = match &error {
                            ProfileError::KnownAnswer(failed) => Some(failed.vector.clone()),
                            _ => None,
                        };
                        output.result(&json!({ "holds": false, "case": case, "reason": error.to_string() }), || {
                            format!("{}: {error}", file.display())
                        });
                        Ok(ExitCode::from(1))
                    }
                };
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn words(scheme: &CardScheme) -> String {
    let levels = scheme.levels().collect::<Vec<_>>().join(" -> ");
    let mut text = format!(
        "{}  {} (version {})\n\n{}\n\ndispersion: {levels}\n\nroles:\n",
        scheme.id(),
        scheme.title(),
        scheme.version(),
        scheme.basis().trim()
    );
    for role in scheme.roles() {
        text += &format!("  {:<12} usage {} mode {}  {}\n", role.name(), role.usage(), role.mode(), role.title());
    }
    text += "\ntransactions:\n";
    for kind in scheme.transactions() {
        text += &format!("  {:<10} {}  {}\n", kind.types().join(" "), kind.name(), kind.title());
    }
    for (what, items) in [
        ("commands", scheme.commands().collect::<Vec<_>>()),
        ("key sets", scheme.key_sets().collect()),
        ("layouts of clearing files", scheme.layouts().collect()),
    ] {
        if !items.is_empty() {
            text += &format!("\n{what}:\n");
        }
        for (name, title) in items {
            text += &format!("  {name:<28} {title}\n");
        }
    }
    text + &format!("\n{} known answers, all reproduced", scheme.known_answers().len())
}
