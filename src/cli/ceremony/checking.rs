//! Plans, bindings and transcripts, without a ceremony.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use claviger_client::{Health, OpenCeremony};
use claviger_key_ceremonies::{Binding, Ending, Event, PLANS, Plan, Signed, Transcript, digest, words};
use serde_json::json;

use super::party::{in_words, name_in};
use super::{leave, plan_text, read};
use crate::cli::Global;
use crate::cli::output::Output;

#[derive(Subcommand)]
pub(in crate::cli) enum PlanCommand {
    /// Print a plan's file
    #[command(after_help = "Example:\n  claviger ceremony plan show receive-components > our-plan.toml")]
    Show {
        /// A plan's file, or the id of a shipped one
        plan: String,
    },
    /// Say whether a plan holds together; with a binding, whether the daemon could hold it
    #[command(after_help = "Examples:
  claviger ceremony plan check our-plan.toml
  claviger --data ./dev --as officer ceremony plan check our-plan.toml --binding binding.toml")]
    Check {
        /// A plan's file, or the id of a shipped one
        plan: String,
        /// Whether this daemon could hold it with this binding
        #[arg(long, value_name = "FILE")]
        binding: Option<PathBuf>,
    },
    /// Say what is not wrong in a plan, and yet no good ceremony would have
    #[command(after_help = "Example:\n  claviger ceremony plan lint our-plan.toml")]
    Lint {
        /// A plan's file, or the id of a shipped one
        plan: String,
    },
}

#[derive(Args)]
pub(in crate::cli) struct MakeBinding {
    /// A plan's file, or the id of a shipped one
    plan: String,
    /// City or operator
    #[arg(long)]
    tenant: String,
    /// For a backend of the plan, what the daemon's configuration calls it
    #[arg(long, value_name = "NAME=BACKEND", value_parser = pair)]
    backend: Vec<(String, String)>,
    /// A value for a parameter of the plan
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Somebody who takes part: role, and PEM of their certificate
    #[arg(long, value_name = "ROLE=FILE", value_parser = pair)]
    person: Vec<(String, String)>,
}

#[derive(Args)]
pub(in crate::cli) struct Verify {
    /// The transcript
    transcript: PathBuf,
    /// The plan that it must be of: a file, or the id of a shipped one
    #[arg(long)]
    plan: Option<String>,
    /// The binding that it must be of
    #[arg(long, value_name = "FILE")]
    binding: Option<PathBuf>,
}

#[derive(Args)]
pub(in crate::cli) struct Report {
    /// The transcript
    transcript: PathBuf,
    /// The page, HTML; a file that is there is not written over
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn pair(text: &str) -> Result<(String, String), &'static str> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or("has the form NAME=VALUE")
}

pub(super) fn list(output: &Output) -> ExitCode {
    for (id, text) in PLANS {
        let title = Plan::parse(text).map(|plan| plan.title).unwrap_or_default();
        output.result(&json!({ "id": id, "title": title }), || format!("{id:<24} {title}"));
    }
    ExitCode::SUCCESS
}

impl PlanCommand {
    pub(in crate::cli) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Show { plan } => {
                let text = plan_text(&plan)?;
                output.result(&json!({ "text": text }), || text.trim_end().to_owned());
                Ok(ExitCode::SUCCESS)
            }
            Self::Check { plan, binding } => {
                let text = plan_text(&plan)?;
                let mut plan = Plan::parse(&text)?;
                let mut what_is_bound = Vec::new();
                let bound = binding.as_deref().map(read).transpose()?;
                if let Some(binding) = bound.clone() {
                    // What needs no daemon is said without one.
                    let parsed = Binding::parse(&binding)?;
                    plan = Plan::bound(&text, &parsed)?;
                    what_is_bound = bound_by(&plan, &parsed);
                    let client = global.client()?;
                    let asked = OpenCeremony { plan: text.clone(), binding };
                    let _: Health = client.post("/v1/ceremonies/check", &asked).await?;
                }
                let (hash, said) = (hex::encode(digest(&text)), words(&digest(&text)));
                let bound = bound.map(|binding| (hex::encode(digest(&binding)), words(&digest(&binding))));
                output.result(
                    &json!({ "plan": plan.id, "version": plan.version, "hash": hash, "words": said,
                        "binding": bound.as_ref().map(|(hash, said)| json!({ "hash": hash, "words": said })) }),
                    || {
                        let mut text =
                            format!("{} version {}: {}\n{}\n", plan.id, plan.version, plan.title, plan.purpose);
                        for (number, step) in (1..).zip(&plan.steps) {
                            let _ = writeln!(text, "  {number}. {}", step.words());
                        }
                        let _ = write!(text, "SHA-256 {hash}\nin words: {said}");
                        if let Some((hash, said)) = &bound {
                            let _ = write!(text, "\nbinding, SHA-256 {hash}\nin words: {said}");
                        }
                        for (name, value) in &what_is_bound {
                            let _ = write!(text, "\n  {name}: {value}");
                        }
                        text
                    },
                );
                Ok(ExitCode::SUCCESS)
            }
            Self::Lint { plan } => {
                let found = Plan::parse(&plan_text(&plan)?)?.lint();
                for finding in &found {
                    output.result(&json!({ "finding": finding }), || finding.clone());
                }
                Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
            }
        }
    }
}

/// Whose keys, which, where, and who the people are.
fn bound_by(plan: &Plan, binding: &Binding) -> Vec<(String, String)> {
    let mut bound = vec![("tenant".to_owned(), binding.tenant.clone())];
    bound.extend(plan.keys.iter().map(|key| {
        let name = format!("{}/{} {} {}", key.scheme, key.role, key.algorithm, key.version);
        let held = if key.factors.is_empty() { String::new() } else { format!(" [{}]", key.factors.join(" ")) };
        (format!("key {}", key.id), name + &held)
    }));
    bound.extend(binding.backends.iter().map(|(name, backend)| (format!("backend {name}"), backend.clone())));
    let people = binding.people.iter();
    bound.extend(people.map(|who| (who.role.clone(), format!("{}, certificate {}", who.name, who.certificate))));
    bound
}

impl MakeBinding {
    pub(in crate::cli) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let plan = plan_text(&self.plan)?;
        let mut people = Vec::new();
        for (role, path) in &self.person {
            let certificate = read(path.as_ref())?;
            let name = name_in(&certificate).with_context(|| path.clone())?;
            let signed = Signed { certificate, signature: String::new() };
            people.push((role.clone(), name, signed.fingerprint().context("no certificate")?));
        }
        let text = binding_text(&plan, &self.tenant, &self.set, &self.backend, &people)?;
        output.result(&json!({ "text": text }), || text.trim_end().to_owned());
        Ok(ExitCode::SUCCESS)
    }
}

/// A binding's file; people are role, name and certificate.
pub(super) fn binding_text(
    plan: &str,
    tenant: &str,
    parameters: &[(String, String)],
    backends: &[(String, String)],
    people: &[(String, String, String)],
) -> anyhow::Result<String> {
    let table = |pairs: &[(String, String)]| -> toml::Table {
        pairs.iter().map(|(name, value)| (name.clone(), toml::Value::from(value.clone()))).collect()
    };
    let person = |(role, name, certificate): &(String, String, String)| {
        let pairs = [("role", role), ("name", name), ("certificate", certificate)];
        toml::Value::Table(
            pairs.map(|(name, value)| (name.to_owned(), toml::Value::from(value.clone()))).into_iter().collect(),
        )
    };
    let mut text = toml::Table::new();
    text.insert("plan".to_owned(), hex::encode(digest(plan)).into());
    text.insert("tenant".to_owned(), tenant.into());
    text.insert("parameters".to_owned(), table(parameters).into());
    text.insert("backends".to_owned(), table(backends).into());
    text.insert("person".to_owned(), people.iter().map(person).collect::<Vec<_>>().into());
    let text = toml::to_string(&text)?;
    // A binding that does not fit says so here, and not on the day.
    Plan::bound(plan, &Binding::parse(&text)?)?;
    Ok(text)
}

impl Verify {
    pub(in crate::cli) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let text = read(&self.transcript)?;
        let transcript = Transcript::parse(&text).with_context(|| self.transcript.display().to_string())?;
        let opening = transcript.opening().context("the transcript has no beginning")?;
        if let Some(plan) = &self.plan
            && plan_text(plan)? != opening.plan
        {
            bail!(
                "the transcript is of another plan than `{plan}`: the plan in it has SHA-256 {}",
                hex::encode(digest(&opening.plan))
            );
        }
        if let Some(binding) = &self.binding
            && read(binding)? != opening.binding
        {
            bail!("the transcript is of another binding than {}", binding.display());
        }
        let (course, rehearsal) = (transcript.course(), transcript.is_rehearsal());
        let unsigned: Vec<&str> = course.unsigned().collect();
        let state = course.ending().map_or("open", Ending::as_str);
        let whole = course.ending() == Some(Ending::Finished) && unsigned.is_empty();
        let sha256 = hex::encode(digest(&text));
        let facts = json!({
            "ceremony": opening.ceremony, "plan": transcript.plan().id, "state": state, "rehearsal": rehearsal,
            "lines": transcript.entries().len(), "present": course.present().collect::<Vec<_>>(), "unsigned": unsigned,
            "sha256": sha256, "certificates": transcript.binding().people.iter()
                .map(|person| (person.name.clone(), person.certificate.clone())).collect::<BTreeMap<_, _>>(),
        });
        output.result(&facts, || {
            let mut said = format!(
                "{}{} lines hold: {} version {} is {state}\nceremony {} of daemon {}, SHA-256 {}\nin words: {}",
                if rehearsal { "REHEARSAL: its keys are for nothing else\n" } else { "" },
                transcript.entries().len(),
                transcript.plan().id,
                transcript.plan().version,
                opening.ceremony,
                opening.daemon,
                sha256,
                words(&digest(&text)),
            );
            for name in course.present() {
                let signed = if unsigned.contains(&name) { "was there and has NOT signed" } else { "signed" };
                let certificate = transcript.binding().person(name).map_or("", |person| person.certificate.as_str());
                let _ = write!(said, "\n{name} {signed}, by certificate {certificate}");
            }
            if self.binding.is_none() {
                said.push_str(
                    "\nWhose certificates these are the transcript does not show: compare them with the binding (--binding).",
                );
            }
            said
        });
        Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl Report {
    pub(in crate::cli) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let text = read(&self.transcript)?;
        let transcript = Transcript::parse(&text).with_context(|| self.transcript.display().to_string())?;
        leave(&self.out, &page(&transcript, &text))?;
        output.say(format!("{} is written", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// A page that is read and signed by hand: it stands by itself and fetches nothing.
fn page(transcript: &Transcript, text: &str) -> String {
    let plan = transcript.plan();
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<style>body{font:11pt serif;margin:2cm;max-width:50em}\
         table{border-collapse:collapse;width:100%}td,th{border:1px solid #888;padding:.3em;text-align:left;vertical-align:top}\
         code{font-size:90%;word-break:break-all}.rehearsal{font-size:24pt;color:#a00}</style>\n",
    );
    let title = escaped(&plan.title);
    let _ = writeln!(page, "<title>{title}</title>\n<h1>{title}</h1>");
    if transcript.is_rehearsal() {
        page.push_str("<p class=\"rehearsal\">REHEARSAL: these keys are for nothing else</p>\n");
    }
    let _ = writeln!(page, "<p>{}</p>\n<table>", escaped(&plan.purpose));
    let opening = transcript.opening();
    let plan_digest = opening.map(|opening| digest(&opening.plan)).unwrap_or_default();
    for (name, value) in [
        ("plan", format!("{} version {}", plan.id, plan.version)),
        ("SHA-256 of the plan", hex::encode(plan_digest)),
        ("in words", words(&plan_digest)),
        ("ceremony", opening.map(|opening| opening.ceremony.clone()).unwrap_or_default()),
        ("daemon", opening.map(|opening| opening.daemon.clone()).unwrap_or_default()),
        ("tenant", transcript.binding().tenant.clone()),
        ("ended", transcript.course().ending().map_or("not yet", Ending::as_str).to_owned()),
        ("SHA-256 of the transcript", hex::encode(digest(text))),
        ("in words", words(&digest(text))),
    ] {
        let _ = writeln!(page, "<tr><th>{name}<td><code>{}</code>", escaped(&value));
    }
    page.push_str("</table>\n<h2>People</h2>\n<table>\n");
    let unsigned: Vec<&str> = transcript.course().unsigned().collect();
    for person in &transcript.binding().people {
        let was_there = transcript.course().present().any(|name| name == person.name);
        let signed = match (was_there, unsigned.contains(&person.name.as_str())) {
            (false, _) => "was not there",
            (true, false) if transcript.course().ending().is_some() => "signed",
            (true, _) => "has not signed",
        };
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td><code>{}</code><td>{signed}",
            escaped(&person.role),
            escaped(&person.name),
            escaped(&person.certificate)
        );
    }
    page.push_str("</table>\n<h2>Steps</h2>\n<ol>\n");
    for step in &plan.steps {
        let _ = writeln!(page, "<li>{}", escaped(&step.words()));
    }
    page.push_str("</ol>\n<h2>What happened</h2>\n<table>\n");
    for entry in transcript.entries() {
        let what = match &entry.event {
            Event::Signed { by, signed } => format!("signed by {by}: {}", signed.signature),
            event => in_words(event),
        };
        let _ = writeln!(page, "<tr><td>{}<td>{:.0}<td>{}", entry.n, entry.at, escaped(&what));
    }
    page.push_str("</table>\n");
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
