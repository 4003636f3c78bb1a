//! `claviger ceremony`.

mod checking;
mod offline;
mod party;
mod planned;
mod rehearsal;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use claviger_client::{Ceremony as View, CeremonyFilter, CeremonyList, Client, Health, OpenCeremony};
use claviger_key_ceremonies::shipped;

use super::Global;
use super::output::Output;
use super::screen::tidy_up_when_told_to_end;
use super::sheet::Printer;
use party::{Participant, Party};

/// Hold key ceremonies, and check what was held
///
/// A plan says who does what and which keys come of it; a binding says for which tenant, with which backends and which people.
/// The daemon says whose turn it is, and writes a transcript that everybody who was there signs at the end.
#[derive(Subcommand)]
#[command(after_help = "Examples:
  claviger ceremony plans
  claviger ceremony rehearse hand-out-root --alone
  claviger --data ./dev --as officer ceremony run receive-components --binding binding.toml
  claviger --data ./dev --as custodian ceremony join 5f0c3a9d21e87b465f0c3a9d21e87b46
  claviger ceremony verify transcript.jsonl --plan receive-components")]
pub(super) enum Ceremony {
    /// The plans that come with Claviger
    #[command(after_help = "Example:\n  claviger ceremony plans")]
    Plans,
    /// Look at a plan, or check one
    #[command(subcommand)]
    Plan(checking::PlanCommand),
    /// Print a binding for a plan, with the people of these certificates
    #[command(after_help = "Example:
  claviger ceremony binding generate-root --tenant shenzhen --backend home=room-1 --set scheme=cjt166 --set role=DTK \\
      --set algorithm=3des --set version=02 \\
      --person officer=li.pem --person witness=zhou.pem > binding.toml")]
    Binding(checking::MakeBinding),
    /// Open a ceremony and take part in it
    #[command(after_help = "Examples:
  claviger --data ./dev --as officer ceremony run generate-root --binding binding.toml
  claviger --data ./dev --as officer ceremony run generate-root --binding binding.toml --approval ID
  claviger --data ./dev --as officer ceremony run offline-root --binding binding.toml --offline claviger.toml")]
    Run(Run),
    /// Put the transcript of an offline ceremony and the keys that went out in it together
    #[command(after_help = "Example:\n  claviger ceremony bundle transcript.jsonl --sent root.txt --out root.bundle")]
    Bundle(offline::MakeBundle),
    /// Take the keys of a bundle in; others approve each
    #[command(after_help = "Examples:
  claviger --data ./dev --as officer ceremony take-bundle root.bundle --binding binding.toml
  claviger --data ./dev --as officer ceremony take-bundle root.bundle --binding binding.toml --approval ID")]
    TakeBundle(offline::TakeBundle),
    /// Take part in a ceremony, or take it up again
    #[command(
        visible_alias = "resume",
        after_help = "Examples:
  claviger --data ./dev --as custodian ceremony join 5f0c3a9d21e87b465f0c3a9d21e87b46
  claviger --data ./dev --as custodian ceremony join 5f0c3a9d21e87b465f0c3a9d21e87b46 --print /dev/usb/lp0"
    )]
    Join(Join),
    /// The ceremonies of a tenant, those opened last first
    #[command(after_help = "Example:\n  claviger --data ./dev --as auditor ceremony list --tenant demo")]
    List(List),
    /// How a ceremony stands, or its transcript
    #[command(after_help = "Examples:
  claviger --data ./dev --as auditor ceremony show 5f0c3a9d21e87b465f0c3a9d21e87b46
  claviger --data ./dev --as auditor ceremony show 5f0c3a9d21e87b465f0c3a9d21e87b46 --transcript transcript.jsonl")]
    Show(Show),
    /// End a ceremony before its end; what it has made stays
    #[command(
        after_help = "Example:\n  claviger --data ./dev --as officer ceremony cancel 5f0c3a9d21e87b465f0c3a9d21e87b46 --reason \"a custodian is ill\""
    )]
    Cancel(Cancel),
    /// Hold a ceremony with keys that are thrown away, by the same plan
    #[command(after_help = "Examples:
  claviger ceremony rehearse hand-out-root --alone
  claviger ceremony rehearse receive-components --dir ./rehearsal --out transcript.jsonl")]
    Rehearse(rehearsal::Rehearse),
    /// Check a transcript: needs nothing else, and no daemon
    #[command(after_help = "Examples:
  claviger ceremony verify transcript.jsonl
  claviger ceremony verify transcript.jsonl --plan our-plan.toml --binding binding.toml")]
    Verify(checking::Verify),
    /// Write a transcript as a page to print
    #[command(after_help = "Example:\n  claviger ceremony report transcript.jsonl --out report.html")]
    Report(checking::Report),
}

#[derive(Args)]
pub(super) struct Run {
    /// A plan's file, or the id of a shipped one
    plan: String,
    /// The binding
    #[arg(long, value_name = "FILE")]
    binding: PathBuf,
    /// Where the transcript is left at the end; a file that is there is not written over
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print components and shares, with a QR code, on this device or into this new file, and show them nowhere
    #[arg(long, value_name = "DEVICE|FILE")]
    print: Option<PathBuf>,
    /// Start a daemon with this configuration that lasts as long as the ceremony: on a machine without a network
    #[arg(long, value_name = "CONFIG")]
    offline: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Join {
    /// The ceremony
    id: String,
    /// Where the transcript is left at the end; a file that is there is not written over
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print components and shares, with a QR code, on this device or into this new file, and show them nowhere
    #[arg(long, value_name = "DEVICE|FILE")]
    print: Option<PathBuf>,
    /// Start a daemon with this configuration for as long: to take up a ceremony on a machine without a network
    #[arg(long, value_name = "CONFIG")]
    offline: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct List {
    /// City or operator
    #[arg(long)]
    tenant: String,
}

#[derive(Args)]
pub(super) struct Show {
    /// The ceremony
    id: String,
    /// Write its transcript to a file; one that is there is not written over
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Cancel {
    /// The ceremony
    id: String,
    /// Why, for the transcript
    #[arg(long)]
    reason: String,
}

impl Ceremony {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Plans => Ok(checking::list(output)),
            Self::Plan(plan) => plan.run(global, output).await,
            Self::Binding(binding) => binding.run(output),
            Self::Run(run) => run.run(global, output).await,
            Self::Bundle(bundle) => bundle.run(output),
            Self::TakeBundle(bundle) => bundle.run(global, output).await,
            Self::Join(join) => {
                is_kept(&join.offline, &join.out)?;
                let client = global.client()?;
                let _daemon = match &join.offline {
                    Some(config) => {
                        let daemon =
                            offline::Offline::start(config, &global.connection()?.url, &client, output).await?;
                        offline::find(&client, &join.id, output).await?;
                        Some(daemon)
                    }
                    None => None,
                };
                let participant = participant(global, client)?;
                let printer = join.print.as_deref().map(Printer::open).transpose()?;
                tidy_up_when_told_to_end(None);
                Party::one(participant, output).printing_to(printer).hold(&join.id, join.out.as_deref()).await
            }
            Self::List(list) => list.run(&global.client()?, output).await,
            Self::Show(show) => show.run(&global.client()?, output).await,
            Self::Cancel(Cancel { id, reason }) => {
                let path = format!("/v1/ceremonies/{}/cancel", of_ceremony(&id)?);
                let view: View = global.client()?.post(&path, &claviger_client::CancelCeremony { reason }).await?;
                output.result(&view, || format!("ceremony {} is {}", view.id, view.state));
                Ok(ExitCode::SUCCESS)
            }
            Self::Rehearse(rehearse) => rehearse.run(output).await,
            Self::Verify(verify) => verify.run(output),
            Self::Report(report) => report.run(output),
        }
    }
}

impl Run {
    async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        is_kept(&self.offline, &self.out)?;
        let (plan, binding) = (plan_text(&self.plan)?, read(&self.binding)?);
        let client = global.client()?;
        if !std::io::stdin().is_terminal() {
            bail!("whoever opens a ceremony takes part in it, at a terminal");
        }
        let printer = self.print.as_deref().map(Printer::open).transpose()?;
        let request = OpenCeremony { plan, binding };
        let (_daemon, opened) = match &self.offline {
            Some(config) => {
                let daemon = offline::Offline::start(config, &global.connection()?.url, &client, output).await?;
                (Some(daemon), offline::open(&client, &request, output).await?)
            }
            None => {
                // What cannot be held is not proposed to others.
                let _: Health = client.post("/v1/ceremonies/check", &request).await?;
                (None, client.post::<View>("/v1/ceremonies", &request).await?)
            }
        };
        output.say(format!(
            "ceremony {} is open; everybody joins with `claviger ... ceremony join {}`",
            opened.id, opened.id
        ));
        tidy_up_when_told_to_end(None);
        // What follows is nothing that was approved by itself.
        let participant = participant(global, client.approved(None))?;
        Party::one(participant, output).printing_to(printer).hold(&opened.id, self.out.as_deref()).await
    }
}

impl List {
    async fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let list: CeremonyList = client.get("/v1/ceremonies", &CeremonyFilter { tenant: self.tenant }).await?;
        for ceremony in &list.ceremonies {
            output.result(ceremony, || summary(ceremony));
        }
        if list.ceremonies.is_empty() {
            output.say("there was no ceremony");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    async fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let view: View = client.get(&format!("/v1/ceremonies/{}", of_ceremony(&self.id)?), &()).await?;
        if let Some(path) = &self.transcript {
            leave(path, &view.transcript)?;
        }
        output.result(&view, || {
            let mut text = summary(&view);
            if let Some(next) = &view.next {
                text.push_str(&format!("\nnext: turn {}, {} ({})", next.turn, next.words, next.people.join(", ")));
            }
            for name in &view.unsigned {
                text.push_str(&format!("\n{name} has not signed"));
            }
            text
        });
        Ok(ExitCode::SUCCESS)
    }
}

fn summary(ceremony: &View) -> String {
    let rehearsal = if ceremony.rehearsal { "  REHEARSAL" } else { "" };
    let next = ceremony.next.as_ref().map_or_else(String::new, |next| format!("  turn {}", next.turn));
    format!("{}  {:<9}  {}  {}{next}{rehearsal}", ceremony.id, ceremony.state, ceremony.plan, ceremony.title)
}

/// Whether the transcript of an offline ceremony has a place.
fn is_kept(offline: &Option<PathBuf>, out: &Option<PathBuf>) -> anyhow::Result<()> {
    if offline.is_some() && out.is_none() {
        bail!("give --out: the daemon ends with the ceremony, and the transcript is what leaves this machine");
    }
    is_free(out.as_deref())
}

/// Whoever sits here.
fn participant(global: &Global, client: Client) -> anyhow::Result<Participant> {
    let connection = global.connection()?;
    Participant::new(client, global.personal_key(&connection.certificate, &connection.key)?)
}

/// An id that is one, for a path.
fn of_ceremony(id: &str) -> anyhow::Result<&str> {
    if id.is_empty() || !id.bytes().all(|c| c.is_ascii_hexdigit()) {
        bail!("`{id}` is not the id of a ceremony");
    }
    Ok(id)
}

/// The text of a plan: of a file, or of a shipped one.
fn plan_text(plan: &str) -> anyhow::Result<String> {
    match shipped(plan) {
        Some(text) => Ok(text.to_owned()),
        None if !plan.contains(['/', '.']) => bail!("there is no shipped plan `{plan}`: see `claviger ceremony plans`"),
        None => read(Path::new(plan)),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Whether a file that is to be left at the end may be: a ceremony is not held for a transcript that has no place.
fn is_free(out: Option<&Path>) -> anyhow::Result<()> {
    let Some(out) = out else { return Ok(()) };
    if out.exists() {
        bail!("{} is there already, and is not written over", out.display());
    }
    let folder = std::path::absolute(out)?.parent().map(Path::to_owned).unwrap_or_default();
    if folder.is_dir() { Ok(()) } else { bail!("there is no folder {} to leave it in", folder.display()) }
}

/// Leaves a text in a file that is not there yet.
fn leave(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let file = std::fs::File::create_new(path).with_context(|| path.display().to_string())?;
    (&file).write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(|| path.display().to_string())
}
