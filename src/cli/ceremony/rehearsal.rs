//! A rehearsal: the same plan, a daemon that lasts as long as it, and keys that are thrown away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use claviger_client::{
    Ceremony, Client, EnvelopeForm, ExportKey, ExportedKey, ImportKey, Key, NewKey, OpenCeremony, PublicKey,
};
use claviger_hsm_api::Algorithm;
use claviger_key_ceremonies::{Form, PersonalKey, Plan, PlannedKey, Signed, Step};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::checking::binding_text;
use super::party::{Participant, Party};
use super::{is_free, plan_text, planned, read};
use crate::cli::dev::{Directory, Settings};
use crate::cli::output::Output;
use crate::cli::screen::{Left, tidy_up_when_told_to_end};
use crate::daemon::Daemon;
use crate::routing::Launcher;

/// Whose keys a rehearsal makes.
const TENANT: &str = "demo";
/// The other party, where one sends or gets something.
const PARTNER: &str = "partner";
/// In hexadecimal.
type Components = Vec<Zeroizing<String>>;
/// How often what a rehearsal leaves is tried to be thrown away, and after what time again.
const TRIES: usize = 40;
const LOOK: Duration = Duration::from_millis(50);
/// Rehearsals whose parameters nobody gave take the plan's examples.
const OPENER: &str = "officer";
/// Who plays roles that a rehearsal's directory has nobody for.
const SPARE: [&str; 2] = ["officer-3", "officer-2"];

#[derive(Args)]
pub(in crate::cli) struct Rehearse {
    /// A plan's file, or the id of a shipped one
    plan: String,
    /// A value for a parameter of the plan, in place of its example
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::checking::pair)]
    set: Vec<(String, String)>,
    /// Play everybody's part in this terminal; otherwise each joins from one of their own
    #[arg(long)]
    alone: bool,
    /// Where the daemon of the rehearsal keeps its data; a temporary directory if not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the transcript is left; a file that is there is not written over
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Rehearse {
    pub(in crate::cli) async fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        is_free(self.out.as_deref())?;
        let text = plan_text(&self.plan)?;
        let plan = Plan::parse(&text)?;
        let folder = tempfile::tempdir()?;
        // Thrown away even by whoever leaves in the middle.
        tidy_up_when_told_to_end(Some(folder.path().to_owned()));
        let directory = Directory::at(&self.dir.clone().unwrap_or_else(|| folder.path().join("rehearsal")));
        // A backend for each that the plan names, so that what is copied is copied.
        let names: BTreeSet<&str> = plan.backend_names().collect();
        let backends: Vec<(String, String)> =
            (1..).zip(&names).map(|(number, name)| ((*name).to_owned(), format!("rehearsal-{number}"))).collect();
        let here = if backends.is_empty() {
            vec!["rehearsal-1"]
        } else {
            backends.iter().map(|(_, name)| name.as_str()).collect()
        };
        // Keys that are there are in a backend of their own, unless the plan says where.
        let tables: String = ["rehearsal-0"]
            .iter()
            .chain(&here)
            .map(|name| format!("[[backend]]\nname = \"{name}\"\ndriver = \"software\"\nplays_device = true\n"))
            .collect();
        let others = [PARTNER.to_owned()];
        let settings =
            Settings { listen: ([127, 0, 0, 1], 0).into(), tenants: &others, backends: &tables, schemes: None };
        let path = directory.prepare(&settings).await?;
        let daemon = Daemon::start(&path, Arc::new(Launcher::of(&path))).await?;
        directory.serves_at(&daemon)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(daemon.run(async {
            let _ = stopped.await;
        }));
        let held = self.hold(&directory, &text, &plan, &backends, output).await;
        let _ = stop.send(());
        serving.await?;
        // The log's writer may be at its last line still, and put it back.
        for _ in 0..TRIES {
            if std::fs::remove_dir_all(folder.path()).is_ok() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        held.map_err(|error| if error.is::<Left>() { anyhow::anyhow!("left: the rehearsal is over") } else { error })
    }

    async fn hold(
        &self,
        directory: &Directory,
        text: &str,
        plan: &Plan,
        backends: &[(String, String)],
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let given: BTreeMap<&str, &str> =
            self.set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let parameters: Vec<(String, String)> = plan
            .parameters
            .iter()
            .map(|asked| {
                (asked.name.clone(), (*given.get(asked.name.as_str()).unwrap_or(&asked.example.as_str())).to_owned())
            })
            .collect();
        if let Some(unknown) = given.keys().find(|name| !parameters.iter().any(|(known, _)| known == *name)) {
            bail!("the plan has no parameter `{unknown}`");
        }
        let (mut people, mut cast) = (Vec::new(), Vec::<(String, claviger_client::Connection)>::new());
        for role in &plan.roles {
            for number in 1..=role.count {
                let named = if number == 1 { role.name.clone() } else { format!("{}-{number}", role.name) };
                // Whoever is new is played by an officer who has no other part.
                let spare = || SPARE.iter().find(|spare| !cast.iter().any(|(client, _)| client == *spare));
                let client = match spare() {
                    Some(spare) if directory.connection(&named).is_err() => (*spare).to_owned(),
                    _ => named,
                };
                let connection = directory.connection(&client).with_context(|| {
                    format!("a rehearsal has three officers, five custodians, two witnesses and an auditor, and no `{client}`")
                })?;
                let certificate = read(&connection.certificate)?;
                let name = super::party::name_in(&certificate)?;
                let print = Signed { certificate, signature: String::new() }.fingerprint().context("no certificate")?;
                people.push((role.name.clone(), name, print));
                cast.push((client, connection));
            }
        }
        let binding = binding_text(text, TENANT, &parameters, backends, &people)?;
        let opener = Client::new(&directory.connection(OPENER)?)?;
        let bound = Plan::bound(text, &claviger_key_ceremonies::Binding::parse(&binding)?)?;
        let there = make_what_is_there(&opener, &bound, backends).await?;
        for (id, (key, _)) in &there {
            output.say(format!("key {id} is there, check value {}", key.kcv));
        }
        for (file, kcv) in send_what_comes(&opener, &bound, &there, directory.path()).await? {
            output.say(format!("what the other party sends is in {}, and its letter says {kcv}", file.display()));
        }
        let opened: Ceremony = opener.post("/v1/ceremonies", &OpenCeremony { plan: text.to_owned(), binding }).await?;
        if !self.alone {
            output.say("each takes part in a terminal of their own:");
            for (client, _) in &cast {
                output.say(format!(
                    "  claviger --data {} --as {client} ceremony join {}",
                    directory.path().display(),
                    opened.id
                ));
            }
        }
        let here = cast
            .iter()
            .filter(|_| self.alone)
            .map(|(_, connection)| {
                Participant::new(Client::new(connection)?, PersonalKey::load(&connection.certificate, &connection.key)?)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let party = if self.alone { Party::all(here, opener, output) } else { Party::watching(opener, output) };
        party.hold(&opened.id, self.out.as_deref()).await
    }
}

/// Makes the keys that the plan takes to be there before: of nothing but chance. For each its id and its components.
async fn make_what_is_there(
    officer: &Client,
    plan: &Plan,
    backends: &[(String, String)],
) -> anyhow::Result<BTreeMap<String, (Key, Components)>> {
    let mut made = BTreeMap::new();
    // What wraps others is wherever they are; what moves by a plan of its own has its copy already.
    let wraps = |key: &PlannedKey| {
        plan.steps.iter().any(|step| match step {
            Step::ReplicateKey { under, .. } | Step::ReplicateTenant { under, .. } | Step::ReceiveKey { under, .. } => {
                *under == key.id
            }
            _ => false,
        })
    };
    for key in plan.keys.iter().filter(|key| key.exists) {
        let algorithm: Algorithm = key.algorithm.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        let components = by_chance(algorithm)?;
        let mut there = vec!["rehearsal-0".to_owned()];
        if wraps(key) {
            there.extend(backends.iter().map(|(_, backend)| backend.clone()));
        }
        let new = NewKey { backends: there, ..new_key(TENANT, key) };
        let import = ImportKey { key: new, components: components.clone(), kcv: None, odd_parity: false };
        made.insert(key.id.clone(), (officer.post("/v1/keys/import", &import).await?, components));
    }
    Ok(made)
}

/// As in the plan, but that it is there today, whatever the plan says of its time.
fn new_key(tenant: &str, key: &PlannedKey) -> NewKey {
    NewKey {
        protect_from: None,
        protect_until: None,
        verify_until: None,
        movable: key.movable,
        sensitive: key.sensitive,
        ..planned::new_key(tenant, key)
    }
}

/// The two components of a key of nothing but chance.
fn by_chance(algorithm: Algorithm) -> anyhow::Result<Components> {
    let mut components = Components::new();
    for _ in 0..2 {
        let mut component = Zeroizing::new(vec![0; algorithm.key_len()]);
        claviger_hsm_engine::fill_random(&mut component)?;
        // Below the order of SM2's group, together as well.
        if algorithm == Algorithm::Sm2 {
            component[0] &= 0x3F;
        }
        components.push(Zeroizing::new(hex::encode(&component)));
    }
    Ok(components)
}

/// Has the other party, another tenant of the same daemon, send what the plan receives. Each file that it is in, and the check
/// value that a letter would say.
async fn send_what_comes(
    officer: &Client,
    plan: &Plan,
    there: &BTreeMap<String, (Key, Components)>,
    folder: &Path,
) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for step in &plan.steps {
        let Step::ReceiveKey { key, under, form, .. } = step else { continue };
        let (Some(key), Some(protection)) = (plan.key(key), plan.key(under)) else { continue };
        let (ours, components) = there.get(under).with_context(|| format!("key `{under}` is not there before"))?;
        let theirs = NewKey { sensitive: true, ..new_key(PARTNER, key) };
        let sent: Key = officer.post("/v1/keys", &theirs).await?;
        let under = planned::reference(PARTNER, protection);
        if !matches!(form, Form::Sm2Envelope { .. }) {
            let (key, components) = (new_key(PARTNER, protection), components.clone());
            let import = ImportKey { key, components, kcv: None, odd_parity: false };
            let _: Key = officer.post("/v1/keys/import", &import).await?;
        }
        let form = match form {
            Form::KeyBlock { version, .. } => {
                ExportKey::KeyBlock { under, version: version.clone(), mode: None, exportability: "S".to_owned() }
            }
            Form::Ecb { padding } => ExportKey::Ecb { under, padding: padding.clone() },
            Form::Sm2Envelope { layout, .. } => {
                let public: PublicKey = officer.get(&format!("/v1/keys/{}/public-key", ours.id), &()).await?;
                let layout = EnvelopeForm { name: layout.clone(), big_endian: false, first: 1 };
                ExportKey::Sm2Envelope { recipient: public.public_key, layout }
            }
        };
        let exported: ExportedKey = officer.post(&format!("/v1/keys/{}/export", sent.id), &form).await?;
        let file = folder.join(format!("{}.key", key.id));
        std::fs::write(&file, format!("{}\n", exported.wrapped))?;
        files.push((file, exported.kcv));
    }
    Ok(files)
}
