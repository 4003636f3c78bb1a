//! The command line: one sub-command a file.
//!
//! Exit codes: 0, all is well; 1, the answer is no (some records are not valid, a profile does not hold);
//! 2, it could not be done.

mod approvals;
mod audit;
mod backends;
mod backup;
mod cards;
mod ceremony;
mod connection;
mod demo;
mod dev;
mod doctor;
mod evidence;
mod generic;
mod init;
mod keys;
mod manual;
mod output;
mod policy;
mod schemes;
mod screen;
mod serve;
mod sheet;
mod token_key;
mod transactions;
mod unseal;
mod upload;
mod usage;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::{Args, CommandFactory, Parser, Subcommand};
use output::Output;
pub use transactions::ArrowRows;

/// Key management and HSM abstraction for transit-card operators.
#[derive(Parser)]
#[command(name = "claviger", version, max_term_width = 100)]
#[command(after_help = "Example:
  claviger demo")]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that stand before or after the sub-command.
#[derive(Args, Clone)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Print one JSON object a line on standard output, and nothing else there
    #[arg(id = "global-json", long = "json", global = true)]
    json: bool,
    /// A development daemon's directory: where `dev` keeps its data, and where clients find it
    #[arg(id = "global-data", long = "data", global = true, value_name = "DIR", env = "CLAVIGER_DATA")]
    data: Option<PathBuf>,
    /// Who to be to a development daemon: card-management, clearing, terminals, officer, officer-2, custodian, witness, auditor ...
    #[arg(id = "global-as", long = "as", global = true, value_name = "NAME", env = "CLAVIGER_AS")]
    name: Option<String>,
    /// Address of a daemon, as https://host:8443
    #[arg(id = "global-url", long = "url", global = true, value_name = "URL", env = "CLAVIGER_URL")]
    url: Option<String>,
    /// PEM of the authority that signed the daemon's certificate
    #[arg(id = "global-ca", long = "ca", global = true, value_name = "FILE", env = "CLAVIGER_CA")]
    ca: Option<PathBuf>,
    /// PEM of the client certificate
    #[arg(id = "global-cert", long = "cert", global = true, value_name = "FILE", env = "CLAVIGER_CERT")]
    cert: Option<PathBuf>,
    /// PEM of the client certificate's key, or where in a token it is: pkcs11:token=NAME;object=NAME?module-path=LIBRARY
    #[arg(id = "global-key", long = "key", global = true, value_name = "FILE|URI", env = "CLAVIGER_KEY")]
    key: Option<PathBuf>,
    /// A file with the passphrase of that key, if it is under one; asked for at the terminal otherwise
    #[arg(
        id = "global-passphrase",
        long = "key-passphrase-file",
        global = true,
        value_name = "FILE",
        env = "CLAVIGER_KEY_PASSPHRASE_FILE"
    )]
    passphrase_file: Option<PathBuf>,
    /// The passphrase, once it was given.
    #[arg(skip)]
    passphrase: OnceLock<Option<zeroize::Zeroizing<String>>>,
    /// The token that the key is in, once it is open.
    #[arg(skip)]
    token: OnceLock<Arc<token_key::TokenKey>>,
    /// The proposal under which others have approved this (see `claviger approvals`)
    #[arg(id = "global-approval", long = "approval", global = true, value_name = "ID")]
    approval: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Show the whole job in a temporary directory, told step by step
    Demo(demo::Demo),
    /// Run an embedded daemon for development
    Dev(dev::Dev),
    /// Seal a new store, before a daemon's first start
    Init(init::Init),
    /// Run the daemon
    Serve(serve::Serve),
    /// Say what each backend can do and what leaves it
    Doctor(doctor::Doctor),
    /// Say how the daemon's backends are
    Backends(backends::Backends),
    /// Open the seal of a daemon that was sealed with a passphrase or with shares
    Unseal(unseal::Unseal),
    Backup(backup::Backup),
    Restore(backup::Restore),
    #[command(subcommand)]
    Terminals(backup::Terminals),
    /// Make, bring in, list and end keys
    #[command(subcommand)]
    Keys(keys::Keys),
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    #[command(subcommand)]
    Ceremony(ceremony::Ceremony),
    /// Verify transaction records
    #[command(subcommand)]
    Transactions(transactions::Transactions),
    /// Personalise cards and send them commands
    #[command(subcommand)]
    Cards(cards::Cards),
    /// Make and verify MACs under generic keys
    #[command(subcommand)]
    Mac(generic::Mac),
    /// Encipher under a generic key
    Encrypt(generic::Encipher),
    /// Decipher under a generic key
    Decrypt(generic::Decipher),
    /// Sign with an SM2 key
    Sign(generic::SignMessage),
    /// Verify an SM2 signature
    VerifySignature(generic::VerifyMessage),
    /// Disperse a stored key to a child that stays inside
    Derive(generic::Derive),
    /// Random bytes of a backend's generator
    Random(generic::Random),
    /// Check the audit log, and pass it on
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Add up what each tenant used, by the audit log
    Usage(usage::Usage),
    /// Gather for an assessor what there is to show
    Evidence(evidence::Evidence),
    /// Check, test and question policies
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Look at card schemes and check profiles
    #[command(subcommand)]
    Schemes(schemes::Schemes),
    /// Print a shell's completions of this command
    Completions(manual::Completions),
    /// Write manual pages and completions, for a package
    #[command(hide = true)]
    Manual(manual::Manual),
    /// Start workers; the daemon runs this
    #[command(hide = true)]
    Launcher(worker::Launch),
    /// Run a backend's driver; the launcher runs this
    #[command(hide = true)]
    Worker(worker::Worker),
}

/// Parses the process's arguments, runs the command, and maps the result to an exit code.
pub fn main() -> ExitCode {
    let Arguments { global, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
    let output = Output::new(global.json);
    let command = match command {
        // These give up their capabilities, which threads started before would keep.
        Command::Launcher(launcher) => return launcher.run(&output),
        Command::Worker(worker) => return worker.run(&output),
        // These confine themselves before there are other threads.
        Command::Serve(serve) => return serve.run(&output),
        Command::Init(init) => return init.run(&output),
        Command::Restore(restore) => return restore.run(&output),
        Command::Dev(dev) => return dev.run(&global, &output),
        command => command,
    };
    let runtime = match serve::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return output.fail(&error.into()),
    };
    let result = runtime.block_on(async {
        match command {
            Command::Demo(demo) => demo.run(&output).await,
            Command::Doctor(doctor) => tokio::task::block_in_place(|| doctor.run(&output)),
            Command::Backends(backends) => backends.run(&global, &output).await,
            Command::Unseal(unseal) => unseal.run(&global, &output).await,
            Command::Backup(backup) => backup.run(&global, &output).await,
            Command::Terminals(terminals) => terminals.run(&global, &output).await,
            Command::Keys(keys) => keys.run(&global, &output).await,
            Command::Approvals(approvals) => approvals.run(&global, &output).await,
            Command::Ceremony(ceremony) => ceremony.run(&global, &output).await,
            Command::Transactions(transactions) => transactions.run(&global, &output).await,
            Command::Cards(cards) => cards.run(&global, &output).await,
            Command::Mac(mac) => mac.run(&global, &output).await,
            Command::Encrypt(encrypt) => encrypt.run(&global, &output).await,
            Command::Decrypt(decrypt) => decrypt.run(&global, &output).await,
            Command::Sign(sign) => sign.run(&global, &output).await,
            Command::VerifySignature(verify) => verify.run(&global, &output).await,
            Command::Derive(derive) => derive.run(&global, &output).await,
            Command::Random(random) => random.run(&global, &output).await,
            Command::Schemes(schemes) => schemes.run(&output),
            Command::Audit(audit) => audit.run(&global, &output).await,
            Command::Completions(completions) => Ok(completions.run(Arguments::command())),
            Command::Manual(manual) => manual.run(Arguments::command(), &output),
            Command::Usage(usage) => usage.run(&output),
            Command::Evidence(evidence) => evidence.run(&global, &output).await,
            Command::Policy(policy) => policy.run(&global, &output).await,
            Command::Launcher(_)
            | Command::Worker(_)
            | Command::Serve(_)
            | Command::Dev(_)
            | Command::Init(_)
            | Command::Restore(_) => Ok(ExitCode::SUCCESS),
        }
    });
    result.unwrap_or_else(|error| output.fail(&error))
}

/// Help, or what is wrong with the arguments; with `--json`, as an object too.
fn misused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let words = error.render().to_string();
        let detail = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Output::new(true).result(&serde_json::json!({ "error": { "code": "usage", "detail": detail } }), String::new);
    }
    // A closed pipe is the reader's wish.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Clap finds out only when a command runs that its option goes by a global one's name.
    #[test]
    fn no_command_takes_the_name_of_a_global_option() {
        fn check(command: &clap::Command, globals: &[(String, String)]) {
            for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
                let taken = globals
                    .iter()
                    .any(|(id, long)| argument.get_id().as_str() == id || argument.get_long() == Some(long.as_str()));
                assert!(!taken, "{} of {}", argument.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(|command| check(command, globals));
        }
        let command = Arguments::command();
        command.clone().debug_assert();
        let globals: Vec<_> = command
            .get_arguments()
            .filter(|argument| argument.is_global_set())
            .map(|argument| (argument.get_id().to_string(), argument.get_long().unwrap_or_default().to_owned()))
            .collect();
        assert_eq!(globals.len(), 9);
        check(&command, &globals);
    }
}
