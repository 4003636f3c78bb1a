//! `claviger policy`.

mod diff;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use claviger_client::{ChangePolicies, Client, Grant, GrantList, Policies, PolicyChange, PolicySet, WhoCan};
use serde_json::json;

use super::Global;
use super::keys::Selection;
use super::output::Output;
use crate::policy::{Authorizer, CASES, Case, Cases, PolicyRequest, PolicySource};

/// Check, test and question policies
#[derive(Subcommand)]
#[command(after_help = "Examples:
  claviger policy check
  claviger policy test ./policies
  claviger --data ./dev --as auditor policy who-can verify_transactions --tenant demo --role DTK")]
pub(super) enum Policy {
    /// Hold policies against the schema; without a daemon
    ///
    /// A set has at least one policy, and each policy an @id and a @reason. What the configuration calls networks and windows
    /// is not seen here: a name that it does not have is none that this finds. The roles that it prints are those that the
    /// policies speak of; one that is misspelt stands there as it is written.
    #[command(after_help = "Examples:\n  claviger policy check\n  claviger policy check /etc/claviger/policies")]
    Check(Source),
    /// Run the cases that say what policies decide; without a daemon. Exits 1 if one is decided otherwise
    #[command(after_help = "Examples:\n  claviger policy test\n  claviger policy test /etc/claviger/policies")]
    Test(Source),
    /// Say what a policy set decides about one request, and why; without a daemon
    #[command(after_help = "Example:
  cat > request.toml <<END
  who = \"claviger://service/clearing\"
  roles = [\"clearing\"]
  tenants = [\"demo\"]
  action = \"verify_transactions\"
  key = { tenant = \"demo\", scheme = \"cjt166\", role = \"DTK\" }
  END
  claviger policy explain request.toml")]
    Explain(Explain),
    /// Say which callers may do something with a key, by the policies that a daemon has in force
    ///
    /// Each is asked as if they came now: from the network that whoever asks is in, in the windows that are open, with one row,
    /// about the key in its state and in its backends. What is refused so is asked again with one to nine approvals.
    #[command(after_help = "Example:
  claviger --data ./dev --as auditor policy who-can verify_transactions --tenant demo --scheme cjt166 --role DTK")]
    WhoCan(WhoCanArguments),
    /// Say which policies a daemon goes by, and which wait
    ///
    /// A set that the configuration names takes the place of another only when that other permits it; until then it waits.
    #[command(after_help = "Example:\n  claviger --data ./dev --as auditor policy show")]
    Show,
    /// Have the policies that wait take the place of those in force
    #[command(after_help = "Examples:
  claviger --as officer policy change SHA256                   # refused: it is proposed as ID
  claviger --as officer-2 approvals approve ID
  claviger --as officer policy change SHA256 --approval ID     # once enough have approved")]
    Change(Change),
    /// Say what another policy set would grant and take away, over a daemon's callers and keys
    ///
    /// Each is asked without approvals and with one to nine, from no configured network (`elsewhere`), with no window open, with one
    /// row and, of jobs, as a stream, about each key in its state and in its backends: a change that shows in other circumstances only
    /// is not found.
    #[command(after_help = "Example:
  claviger --data ./dev --as auditor policy diff production ./policies-next/production --tenant demo")]
    Diff(diff::Diff),
}

#[derive(Args)]
pub(super) struct Source {
    /// A directory of *.cedar files, as the configuration's `policies` takes it, or one with `production/` and `dev/`; its cases
    /// stand in `tests/`. What Claviger is shipped with if none is named
    directory: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Explain {
    /// The request, a TOML file
    request: PathBuf,
    /// `production`, `dev`, or a directory of *.cedar files
    #[arg(long, value_name = "SET", default_value = "production")]
    policies: String,
}

#[derive(Args)]
pub(super) struct WhoCanArguments {
    /// As the policy schema names it; one that is done to keys
    action: String,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Args)]
pub(super) struct Change {
    /// Of the set that waits (see `policy show`), as `LC_ALL=C; sha256sum *.cedar | sha256sum` says in its directory
    sha256: String,
}

impl Policy {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(source) => source.check(output),
            Self::Test(source) => source.test(output),
            Self::Explain(explain) => explain.run(output),
            Self::WhoCan(who_can) => who_can.run(&global.client()?, output).await,
            Self::Show => {
                let policies: Policies = global.client()?.get("/v1/policies", &()).await?;
                output.result(&policies, || in_words(&policies));
                Ok(ExitCode::SUCCESS)
            }
            Self::Change(Change { sha256 }) => {
                let policies: Policies = global.client()?.post("/v1/policies", &ChangePolicies { sha256 }).await?;
                output.result(&policies, || in_words(&policies));
                Ok(ExitCode::SUCCESS)
            }
            Self::Diff(diff) => diff.run(&global.client()?, output).await,
        }
    }
}

/// As the set for production is called, and its directory.
const PRODUCTION: &str = "production";

impl Source {
    /// The sets, each by its name: the two of the shipped layout, or the one of a plain directory.
    fn sets(&self) -> anyhow::Result<Vec<(String, PolicySource)>> {
        let two = |production, dev| vec![(PRODUCTION.to_owned(), production), ("dev".to_owned(), dev)];
        let Some(root) = &self.directory else { return Ok(two(PolicySource::Production, PolicySource::Dev)) };
        let (production, plain) = (root.join(PRODUCTION), PolicySource::Directory(root.clone()));
        if !production.is_dir() {
            return Ok(vec![(plain.name(), plain)]);
        }
        if !plain.texts()?.is_empty() {
            bail!("{} has *.cedar files and a directory `production`: one or the other", root.display());
        }
        let development = root.join("dev");
        if !development.is_dir() {
            return Ok(vec![(PRODUCTION.to_owned(), PolicySource::Directory(production))]);
        }
        let development = PolicySource::Directories(vec![production.clone(), development]);
        Ok(two(PolicySource::Directory(production), development))
    }

    fn check(&self, output: &Output) -> anyhow::Result<ExitCode> {
        for (name, source) in self.sets()? {
            let authorizer = Authorizer::load(&source)?;
            // A daemon would refuse it, whomever it knows.
            if let Some(why) = authorizer.locks_out(&[]) {
                bail!("{name}: {why}");
            }
            let (policies, roles) = (authorizer.policies(), authorizer.roles());
            let object =
                json!({ "set": name, "policies": policies, "callers": roles.callers, "key_roles": roles.keys });
            output.result(&object, || {
                let mut lines = format!("{name}: {} policies fit the schema", policies.len());
                for (whose, roles) in [("callers", roles.callers), ("keys", roles.keys)] {
                    let listed = roles.into_iter().collect::<Vec<_>>().join(", ");
                    if !listed.is_empty() {
                        lines += &format!("\n  roles of {whose}: {listed}");
                    }
                }
                lines
            });
        }
        Ok(ExitCode::SUCCESS)
    }

    fn cases(&self) -> anyhow::Result<Vec<Case>> {
        let texts: Vec<(String, String)> = match &self.directory {
            None => CASES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            Some(root) => read_cases(&root.join("tests"))?,
        };
        let mut cases = Vec::new();
        for (name, text) in texts {
            let file: Cases = toml::from_str(&text).with_context(|| name.clone())?;
            cases.extend(file.cases);
        }
        Ok(cases)
    }

    fn test(&self, output: &Output) -> anyhow::Result<ExitCode> {
        let sets = self.sets()?;
        let loaded = sets.iter().map(|(name, source)| Ok((name.as_str(), Authorizer::load(source)?)));
        let loaded: Vec<(&str, Authorizer)> = loaded.collect::<anyhow::Result<_>>()?;
        let cases = self.cases()?;
        if cases.is_empty() {
            bail!("there are no cases");
        }
        let mut failed = 0;
        for case in &cases {
            let (set, authorizer) = set_of(case, &loaded)?;
            let wrong = case.fails(authorizer).with_context(|| format!("case `{}`", case.name))?;
            failed += usize::from(wrong.is_some());
            if wrong.is_some() || output.is_json() {
                output.result(&json!({ "case": case.name, "set": set, "ok": wrong.is_none(), "wrong": wrong }), || {
                    format!("FAILED {set}: {} ({})", case.name, wrong.as_deref().unwrap_or_default())
                });
            }
        }
        output.say(format!("{} cases, {failed} failed", cases.len()));
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// The set that a case is about, by its name.
fn set_of<'s>(case: &Case, sets: &'s [(&'s str, Authorizer)]) -> anyhow::Result<(&'s str, &'s Authorizer)> {
    let found = match (&case.set, sets) {
        // Laid out as the shipped sets are, there may be another.
        (None, [only]) if only.0 != PRODUCTION => only,
        (None, _) => bail!("case `{}` does not say of which set", case.name),
        (Some(of), _) => sets
            .iter()
            .find(|(name, _)| name == of)
            .with_context(|| format!("case `{}`: there is no set `{of}`", case.name))?,
    };
    Ok((found.0, &found.1))
}

fn read_cases(directory: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let shown = || directory.display().to_string();
    let entries = std::fs::read_dir(directory).with_context(|| {
        format!("{}: cases stand in a directory `tests` beside the sets; name the directory that has both", shown())
    })?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<PathBuf>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let name = file.display().to_string();
            Ok((name.clone(), std::fs::read_to_string(&file).context(name)?))
        })
        .collect()
}

/// A set by its name, or a directory.
fn source(name: &str) -> PolicySource {
    match name {
        "production" => PolicySource::Production,
        "dev" => PolicySource::Dev,
        directory => PolicySource::Directory(PathBuf::from(directory)),
    }
}

impl Explain {
    fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let shown = self.request.display().to_string();
        let text = std::fs::read_to_string(&self.request).with_context(|| shown.clone())?;
        let request: PolicyRequest = toml::from_str(&text).context(shown)?;
        let said = request.ask(&Authorizer::load(&source(&self.policies))?)?;
        let object = json!({ "allowed": said.allowed, "policies": said.policies, "reason": said.reason });
        output.result(&object, || {
            let by = said.policies.join(", ");
            if said.allowed { format!("allowed by {by}") } else { format!("refused by {by}: {}", said.reason) }
        });
        Ok(if said.allowed { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl WhoCanArguments {
    async fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let key = self.selection.find(client).await?;
        if key.state != "active" {
            output.say(format!("the key is {}: its state may forbid what policies permit", key.state));
        }
        let asked = WhoCan { action: self.action };
        let GrantList { grants } = client.get(&format!("/v1/keys/{}/who-can", key.id), &asked).await?;
        for grant in &grants {
            output.result(grant, || {
                let Grant { principal, allowed, approvals, policies, reason } = grant;
                let word = match approvals {
                    Some(1) => "only with the approval of another".to_owned(),
                    Some(needed) => format!("only with the approval of {needed} others"),
                    None => if *allowed { "may" } else { "may not" }.to_owned(),
                };
                let why = reason.as_deref().filter(|_| approvals.is_none());
                let why = why.map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("{:<36} {word:<7}  {}{why}", principal.uri, policies.join(", "))
            });
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn in_words(Policies { in_force, waiting, changes }: &Policies) -> String {
    // A directory may be called anything.
    let mut lines = vec![format!("in force  {}  {}", in_force.sha256, in_force.name.escape_debug())];
    lines.extend(
        waiting.iter().map(|PolicySet { name, sha256 }| format!("waiting   {sha256}  {}", name.escape_debug())),
    );
    for PolicyChange { policy, change, was, now } in changes {
        lines.push(format!("  {change:<8} {policy}"));
        lines.extend(was.iter().map(|text| format!("    - {text}")));
        lines.extend(now.iter().map(|text| format!("    + {text}")));
    }
    lines.join("\n")
}
