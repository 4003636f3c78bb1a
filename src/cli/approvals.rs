//! `claviger approvals`.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use claviger_client::{Client, Proposal, ProposalFilter, ProposalList, Vote as Said};
use claviger_key_ceremonies::{PersonalKey, Signed, Statement, Vote};

use super::Global;
use super::output::Output;

/// Approve or refuse what other officers ask for
///
/// What policy permits only with approvals is proposed by being asked for. Each officer reads its words, compares the
/// fingerprint with the others', and signs them with the key of their own certificate; once enough have approved, whoever asked
/// repeats the command with `--approval ID`, and it is done, once.
#[derive(Subcommand)]
#[command(after_help = "Examples:
  claviger --data ./dev --as officer-2 approvals list --tenant demo
  claviger --data ./dev --as officer-2 approvals approve 5f0c3a9d21e87b465f0c3a9d21e87b46
  claviger --data ./dev --as officer keys destroy ... --approval 5f0c3a9d21e87b465f0c3a9d21e87b46")]
pub(super) enum Approvals {
    /// What waits for approval, those asked for last first
    #[command(after_help = "Example:\n  claviger --data ./dev --as officer-2 approvals list --tenant demo")]
    List(List),
    /// The words of one, and what officers have said to it
    #[command(
        after_help = "Example:\n  claviger --data ./dev --as officer-2 approvals show 5f0c3a9d21e87b465f0c3a9d21e87b46"
    )]
    Show(Show),
    /// Sign that it may be done
    #[command(
        after_help = "Example:\n  claviger --data ./dev --as officer-2 approvals approve 5f0c3a9d21e87b465f0c3a9d21e87b46"
    )]
    Approve(Say),
    /// Sign that it may not be done, whoever has approved it
    #[command(
        after_help = "Example:\n  claviger --data ./dev --as officer-2 approvals refuse 5f0c3a9d21e87b465f0c3a9d21e87b46"
    )]
    Refuse(Say),
    /// Sign a proposal that came as a file, on a machine that reaches no daemon
    #[command(after_help = "Examples:
  claviger --json --data ./dev --as auditor approvals show ID > proposal.json
  claviger approvals sign proposal.json --vote approve --cert li.pem --key li-key.pem > vote.json
  claviger --data ./dev --as auditor approvals bring ID vote.json")]
    Sign(SignFile),
    /// Bring a vote that was signed elsewhere
    #[command(
        after_help = "Example:\n  claviger --data ./dev --as auditor approvals bring 5f0c3a9d21e87b465f0c3a9d21e87b46 vote.json"
    )]
    Bring(Bring),
}

#[derive(Args)]
pub(super) struct List {
    /// City or operator; what is about the daemon itself if none is named
    #[arg(long)]
    tenant: Option<String>,
    /// Those that were used or refused, have expired, or cannot be done any more because their key has changed, as well
    #[arg(long)]
    all: bool,
}

#[derive(Args)]
pub(super) struct Show {
    /// The proposal
    id: String,
}

#[derive(Args)]
pub(super) struct Say {
    /// The proposal
    id: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(super) struct SignFile {
    /// As `approvals show --json` prints it
    proposal: PathBuf,
    /// `approve` or `refuse`
    #[arg(long, value_parser = ["approve", "refuse"])]
    vote: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(super) struct Bring {
    /// The proposal
    id: String,
    /// As `approvals sign` prints it
    vote: PathBuf,
}

impl Approvals {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(list) => list.run(&global.client()?, output).await,
            Self::Show(Show { id }) => {
                let proposal = find(&global.client()?, &id).await?;
                output.result(&proposal, || details(&proposal));
                Ok(ExitCode::SUCCESS)
            }
            Self::Approve(say) => say.run(global, Vote::Approve, output).await,
            Self::Refuse(say) => say.run(global, Vote::Refuse, output).await,
            Self::Sign(sign) => sign.run(global, output),
            Self::Bring(Bring { id, vote }) => {
                let text = std::fs::read_to_string(&vote).with_context(|| vote.display().to_string())?;
                let said: Said = serde_json::from_str(&text).with_context(|| vote.display().to_string())?;
                bring(&global.client()?, &id, &said, output).await
            }
        }
    }
}

impl List {
    async fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let ProposalList { proposals } = client.get("/v1/approvals", &ProposalFilter { tenant: self.tenant }).await?;
        let mut shown = 0;
        for proposal in proposals.iter().filter(|proposal| self.all || proposal.state == "open") {
            shown += 1;
            output.result(proposal, || {
                let approved = proposal.votes.iter().filter(|vote| vote.vote == "approve").count();
                let what = proposal.lines.first().map(|line| line.value.as_str()).unwrap_or_default();
                format!(
                    "{}  {:<8} {approved} of {}  {:<16} {what}  by {}",
                    proposal.id, proposal.state, proposal.approvals, proposal.action, proposal.proposer
                )
            });
        }
        if shown == 0 {
            output.say("nothing waits for approval");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Say {
    async fn run(self, global: &Global, vote: Vote, output: &Output) -> anyhow::Result<ExitCode> {
        let (client, connection) = (global.client()?, global.connection()?);
        let key = global.personal_key(&connection.certificate, &connection.key)?;
        let said = say(&find(&client, &self.id).await?, &key, vote, self.yes, output)?;
        bring(&client, &self.id, &said, output).await
    }
}

impl SignFile {
    fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let (Some(certificate), Some(key)) = (&global.cert, &global.key) else {
            bail!("say with whose key: --cert and --key")
        };
        let text = std::fs::read_to_string(&self.proposal).with_context(|| self.proposal.display().to_string())?;
        let proposal: Proposal = serde_json::from_str(&text).with_context(|| self.proposal.display().to_string())?;
        let vote = if self.vote == Vote::Refuse.as_str() { Vote::Refuse } else { Vote::Approve };
        let said = say(&proposal, &global.personal_key(certificate, key)?, vote, self.yes, output)?;
        // A file for another machine, in words as well.
        output.result(&said, || serde_json::to_string(&said).unwrap_or_default());
        Ok(ExitCode::SUCCESS)
    }
}

/// Shows what is to be signed, asks, and signs.
fn say(proposal: &Proposal, key: &PersonalKey, vote: Vote, yes: bool, output: &Output) -> anyhow::Result<Said> {
    let statement = statement(proposal)?;
    output.say(format!("{}\nfingerprint {}\n", statement.text(), statement.fingerprint()));
    if !yes {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            bail!("there is nobody to ask: say --yes to {} it", vote.as_str());
        }
        eprint!("Type {} to sign that: ", vote.as_str());
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        if answer.trim() != vote.as_str() {
            bail!("nothing was signed");
        }
    }
    let Signed { certificate, signature } = key.sign(statement.signed_text(vote).as_bytes())?;
    Ok(Said { vote: vote.as_str().to_owned(), certificate, signature })
}

async fn find(client: &Client, id: &str) -> anyhow::Result<Proposal> {
    if id.is_empty() || !id.bytes().all(|c| c.is_ascii_hexdigit()) {
        bail!("`{id}` is not the id of a proposal");
    }
    Ok(client.get(&format!("/v1/approvals/{id}"), &()).await?)
}

async fn bring(client: &Client, id: &str, said: &Said, output: &Output) -> anyhow::Result<ExitCode> {
    let proposal: Proposal = client.post(&format!("/v1/approvals/{id}/votes"), said).await?;
    output.result(&proposal, || {
        let approved = proposal.votes.iter().filter(|vote| vote.vote == "approve").count();
        let ready = proposal.state == "open" && approved as u64 >= proposal.approvals;
        let state = if ready { "approved, and not used yet" } else { &proposal.state };
        format!("{} is {state}: {approved} of {} have approved it", proposal.id, proposal.approvals)
    });
    Ok(ExitCode::SUCCESS)
}

/// The words that are signed, made here and not taken from the daemon.
fn statement(proposal: &Proposal) -> anyhow::Result<Statement> {
    Ok(Statement {
        id: proposal.id.clone(),
        daemon: proposal.daemon.clone(),
        proposer: proposal.proposer.clone(),
        tenant: proposal.tenant.clone(),
        action: proposal.action.clone(),
        lines: proposal.lines.iter().map(|line| (line.name.clone(), line.value.clone())).collect(),
        approvals: proposal.approvals,
        expires: proposal.expires.parse().context("the proposal's `expires`")?,
    })
}

fn details(proposal: &Proposal) -> String {
    let words =
        statement(proposal).map(|statement| format!("{}fingerprint: {}", statement.text(), statement.fingerprint()));
    let mut text = words.unwrap_or_else(|error| format!("{error:#}"));
    text.push_str(&format!("\nstate: {}", proposal.state));
    for vote in &proposal.votes {
        text.push_str(&format!("\n{} says {}", vote.officer, vote.vote));
    }
    text
}
