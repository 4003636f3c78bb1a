//! Ceremonies on a machine without a network, and what they bring to a daemon.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use claviger_client::{
    Ceremony as View, Client, ClientError, Health, HeldElsewhere, Key, NewKey, OpenCeremony, Proposal, UnwrapKey,
    WrappedKey,
};
use claviger_key_ceremonies::{Bundle, Form, Sent, Step, Transcript, digest, words};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{is_free, leave, of_ceremony, planned, read};
use crate::cli::Global;
use crate::cli::keys::{line, reference};
use crate::cli::output::Output;
use crate::config::Config;
use crate::service::is_in_use;

/// How long a daemon may take until it serves.
const STARTING: Duration = Duration::from_secs(30);
/// Why there is nothing to take from it.
const REHEARSED: &str = "the ceremony was a rehearsal, by the policies of development: its keys are for nothing else";
/// How often somebody who waits for others looks again.
const LOOK: Duration = Duration::from_secs(1);

/// A daemon that lasts as long as a ceremony, on this machine only.
pub(super) struct Offline {
    daemon: Child,
    /// While this is open the daemon runs: it ends with this process, however that ends.
    _held: ChildStdin,
}

impl Offline {
    /// Starts it, and waits until it serves.
    pub(super) async fn start(config: &Path, url: &str, client: &Client, output: &Output) -> anyhow::Result<Self> {
        let settings = Config::load(config)?;
        if !settings.listen.ip().is_loopback() {
            bail!(
                "`listen` of {} is not this machine alone: an offline ceremony reaches nobody else",
                config.display()
            );
        }
        if settings.listen.port() == 0 {
            bail!("`listen` of {} has no port: an offline ceremony needs one that --url names", config.display());
        }
        // Who answers must be the daemon that is started here, and nobody else.
        if url.trim_end_matches('/') != format!("https://{}", settings.listen) {
            bail!("{url} is not where {} has the daemon listen: https://{}", config.display(), settings.listen);
        }
        if std::net::TcpStream::connect(settings.listen).is_ok() {
            bail!("something serves at {} already: end it first", settings.listen);
        }
        for name in reachable() {
            output.say(format!(
                "network interface {name} is up: unplug it before the witness confirms that this machine has no network"
            ));
        }
        let log = settings.data.join("offline.log");
        crate::daemon::make_private_directory(&settings.data)?;
        // The one before may still be about to end: whoever started it may have been killed.
        let begun = Instant::now();
        while is_in_use(&settings.data) && begun.elapsed() < STARTING {
            tokio::time::sleep(LOOK).await;
        }
        let file = std::fs::File::create(&log).with_context(|| log.display().to_string())?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--while-held", "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .context("the daemon cannot be started")?;
        let held = child.stdin.take().context("the daemon cannot be held")?;
        let mut daemon = Self { daemon: child, _held: held };
        let begun = Instant::now();
        while let Err(error) = client.get::<Health>("/healthz", &()).await {
            if daemon.daemon.try_wait()?.is_some() || begun.elapsed() > STARTING {
                bail!("the daemon does not serve ({error}); {} says why", log.display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(daemon)
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        // It ends as it does anywhere: what runs is finished, and its log is signed.
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let _ = self.daemon.wait();
    }
}

/// Network interfaces but the machine's own that are up.
fn reachable() -> Vec<String> {
    let interfaces = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let up = |name: &str| {
        let state = std::fs::read_to_string(format!("/sys/class/net/{name}/operstate")).unwrap_or_default();
        name != "lo" && state.trim() == "up"
    };
    interfaces.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| up(name)).collect()
}

/// Opens a ceremony as soon as the daemon is unsealed and others have approved it, by terminals of their own.
pub(super) async fn open(client: &Client, request: &OpenCeremony, output: &Output) -> anyhow::Result<View> {
    let mut said = String::new();
    let mut say = |text: String| {
        if said != text {
            output.say(&text);
            said = text;
        }
    };
    loop {
        match client.post::<Health>("/v1/ceremonies/check", request).await {
            Ok(_) => break,
            Err(ClientError::Problem(problem)) if problem.code == "sealed" => {
                say("the daemon is sealed: unseal it from another terminal (claviger ... unseal)".to_owned());
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK).await;
    }
    let proposal = match client.post::<View>("/v1/ceremonies", request).await {
        Ok(opened) => return Ok(opened),
        Err(ClientError::Problem(problem)) if problem.code == "approval_needed" => {
            problem.approval.clone().context("the daemon names no proposal")?
        }
        Err(error) => return Err(error.into()),
    };
    say(format!("others approve it from terminals of their own: claviger ... approvals approve {proposal}"));
    loop {
        let stands: Proposal = client.get(&format!("/v1/approvals/{proposal}"), &()).await?;
        if stands.state != "open" {
            bail!("proposal {proposal} is {}", stands.state);
        }
        if stands.votes.iter().filter(|said| said.vote == "approve").count() as u64 >= stands.approvals {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(client.clone().approved(Some(proposal)).post("/v1/ceremonies", request).await?)
}

/// Waits until a daemon is unsealed that has this ceremony.
pub(super) async fn find(client: &Client, id: &str, output: &Output) -> anyhow::Result<()> {
    let path = format!("/v1/ceremonies/{}", of_ceremony(id)?);
    let mut said = false;
    loop {
        match client.get::<View>(&path, &()).await {
            Err(ClientError::Problem(problem)) if problem.code == "sealed" => {
                if !said {
                    output.say("the daemon is sealed: unseal it from another terminal (claviger ... unseal)");
                }
                said = true;
            }
            other => return other.map(drop).map_err(Into::into),
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[derive(Args)]
pub(in crate::cli) struct MakeBundle {
    /// The transcript, which everybody has signed
    transcript: PathBuf,
    /// A file with a key as it went out; one for each step that sent one
    #[arg(long, value_name = "FILE", required = true)]
    sent: Vec<PathBuf>,
    /// The bundle; a file that is there is not written over
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl MakeBundle {
    pub(in crate::cli) fn run(&self, output: &Output) -> anyhow::Result<ExitCode> {
        is_free(Some(&self.out))?;
        let wrapped = self.sent.iter().map(|path| Ok(read(path)?.trim().to_owned()));
        let wrapped = wrapped.collect::<anyhow::Result<Vec<_>>>()?;
        let transcript = Transcript::parse(&read(&self.transcript)?)?;
        if transcript.is_rehearsal() {
            bail!("{REHEARSED}");
        }
        let bundle = Bundle::new(transcript, &wrapped)?;
        let text = bundle.text();
        leave(&self.out, &text)?;
        let (sha256, said) = (hex::encode(digest(&text)), words(&digest(&text)));
        output.result(&json!({ "keys": bundle.keys().len(), "sha256": sha256, "words": said }), || {
            format!("{} keys, SHA-256 {sha256}\nin words: {said}", bundle.keys().len())
        });
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args)]
pub(in crate::cli) struct TakeBundle {
    /// The bundle
    bundle: PathBuf,
    /// The binding that its ceremony was held by: whose signatures they are, the bundle itself does not show
    #[arg(long, value_name = "FILE")]
    binding: PathBuf,
    /// The backend that the keys are to live in; the preferred one that can hold them if none is named
    #[arg(long, value_name = "NAME")]
    backend: Vec<String>,
    /// The key that they are wrapped under, as SCHEME/ROLE/VERSION/ALGORITHM; the one of the plan if none is named
    #[arg(long, value_name = "KEY")]
    under: Option<String>,
}

impl TakeBundle {
    pub(in crate::cli) async fn run(&self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let bundle = Bundle::parse(&read(&self.bundle)?)?;
        let transcript = bundle.transcript();
        let opening = transcript.opening().context("the transcript has no beginning")?;
        if opening.binding != read(&self.binding)? {
            bail!("the bundle is of a ceremony with another binding than {}", self.binding.display());
        }
        if transcript.is_rehearsal() {
            bail!("{REHEARSED}");
        }
        let client = global.client()?;
        let mut waiting = false;
        for sent in bundle.keys() {
            let request = self.request(transcript, sent)?;
            match client.post::<Key>("/v1/keys/unwrap", &request).await {
                Ok(key) => output.result(&key, || line(&key)),
                Err(ClientError::Problem(problem)) if problem.code == "approval_needed" => {
                    let id = problem.approval.clone().unwrap_or_default();
                    output.say(format!("{}; when they have, come back with --approval {id}", problem.detail));
                    waiting = true;
                }
                Err(ClientError::Problem(problem)) if problem.code == "key_exists" => {
                    let key = &request.key;
                    let name = format!("{}/{} {} {}", key.scheme, key.role, key.algorithm, key.version);
                    output.say(format!("{name} is there already"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if waiting { ExitCode::from(2) } else { ExitCode::SUCCESS })
    }

    fn request(&self, transcript: &Transcript, sent: &Sent) -> anyhow::Result<UnwrapKey> {
        let (plan, tenant) = (transcript.plan(), &transcript.binding().tenant);
        let Some(Step::SendKey { key, under, form, .. }) = plan.steps.get(sent.step) else {
            bail!("the plan has no such step")
        };
        let key = plan.key(key).context("the plan has no such key")?;
        let under = match (&self.under, under.as_ref().and_then(|under| plan.key(under))) {
            (Some(named), _) => reference(tenant, named)?,
            (None, Some(key)) => planned::reference(tenant, key),
            (None, None) => bail!("give --under, the key that they are wrapped under"),
        };
        let wrapped = match form {
            Form::KeyBlock { version, .. } => {
                WrappedKey::KeyBlock { block: sent.wrapped.clone(), sm4_local: version == "D-SM4" }
            }
            _ => bail!("a bundle's keys are in key blocks: bring others by `claviger keys unwrap`"),
        };
        let new =
            NewKey { backends: self.backend.clone(), places: key.places.clone(), ..planned::new_key(tenant, key) };
        let ceremony = transcript.opening().map(|opening| opening.ceremony.clone()).unwrap_or_default();
        let held = HeldElsewhere { ceremony, transcript: hex::encode(digest(&transcript.text())) };
        Ok(UnwrapKey { key: new, under, wrapped, kcv: None, held: Some(held) })
    }
}
