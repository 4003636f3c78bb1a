//! `claviger completions` and `claviger manual`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

use super::output::Output;

/// Print a shell's completions of this command
#[derive(Args)]
#[command(
    after_help = "Examples:\n  claviger completions bash > /usr/share/bash-completion/completions/claviger\n  claviger completions fish > ~/.config/fish/completions/claviger.fish"
)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, mut command: Command) -> ExitCode {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, "claviger", &mut text);
        // A closed pipe is the reader's wish.
        let _ = std::io::Write::write_all(&mut std::io::stdout(), &text);
        ExitCode::SUCCESS
    }
}

/// Write manual pages and completions, for a package
#[derive(Args)]
pub(super) struct Manual {
    /// A directory: `man` and `completions` are made in it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Manual {
    pub(super) fn run(&self, mut command: Command, output: &Output) -> anyhow::Result<ExitCode> {
        let (pages, completions) = (self.out.join("man"), self.out.join("completions"));
        for folder in [&pages, &completions] {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        // Before completions build the command, and with it its `help`.
        clap_mangen::generate_to(without_help(command.clone()), &pages)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command, "claviger", &completions)?;
        }
        output.say(format!("manual pages and completions are in {}", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// Pages of `help` would say again what the others do.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}
