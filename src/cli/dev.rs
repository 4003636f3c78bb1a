//! `claviger dev`: an embedded daemon with certificates of its own.

mod certificates;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use claviger_client::Connection;
use serde::{Deserialize, Serialize};

use super::output::Output;
use super::{Global, serve};
use crate::audit::{Audit, Event};
use crate::confinement;
use crate::daemon::{Daemon, make_private_directory};
use crate::seal::{self, Opener};
use crate::store::Store;

/// Run an embedded daemon for development
///
/// The first start makes a directory with an authority, a server certificate, and client certificates for
/// card-management, clearing, three officers, five custodians, two witnesses, an auditor and terminals. Keys live in the embedded backend, sealed
/// under a key file in the same directory. There is a tenant `demo`, with no keys.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  claviger dev --data ./dev\n  claviger dev --data ./dev --listen 127.0.0.1:9443 --tenant shenzhen\n  claviger dev --data ./dev --backends tokens.toml\n  claviger dev --data ./dev --schemes ./our-schemes\n  claviger --data ./dev --as officer keys list --tenant demo"
)]
pub(super) struct Dev {
    /// Address to serve on; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Another tenant beside `demo`; may be given several times
    #[arg(long, value_name = "NAME")]
    tenant: Vec<String>,
    /// A TOML file with the [[backend]] tables to use in place of the embedded one
    #[arg(long, value_name = "FILE")]
    backends: Option<PathBuf>,
    /// A directory of scheme profiles that add to or replace the shipped ones
    #[arg(long, value_name = "DIR")]
    schemes: Option<PathBuf>,
}

/// The backend of a development daemon that was given none.
pub(super) const EMBEDDED: &str = "[[backend]]\nname = \"embedded\"\ndriver = \"software\"\n";

/// What is set of a development daemon; the rest is fixed.
pub(super) struct Settings<'a> {
    pub(super) listen: SocketAddr,
    /// Beside `demo`.
    pub(super) tenants: &'a [String],
    /// `[[backend]]` tables.
    pub(super) backends: &'a str,
    pub(super) schemes: Option<PathBuf>,
}

/// A development daemon's directory.
pub(super) struct Directory(PathBuf);

/// What a running daemon leaves in its directory for its clients.
#[derive(Serialize, Deserialize)]
struct Address {
    url: String,
}

/// Who gets a client certificate: name, sort and role.
const CLIENTS: &[(&str, &str, &str)] = &[
    ("card-management", "service", "card-management"),
    ("clearing", "service", "clearing"),
    ("terminals", "service", "terminals"),
    ("officer", "officer", "officer"),
    ("officer-2", "officer", "officer"),
    ("officer-3", "officer", "officer"),
    ("custodian", "officer", "custodian"),
    ("custodian-2", "officer", "custodian"),
    ("custodian-3", "officer", "custodian"),
    ("custodian-4", "officer", "custodian"),
    ("custodian-5", "officer", "custodian"),
    ("witness", "officer", "witness"),
    ("witness-2", "officer", "witness"),
    ("auditor", "auditor", "auditor"),
];

impl Dev {
    pub(super) fn run(self, global: &Global, output: &Output) -> ExitCode {
        serve::log_to_stderr();
        self.serve(global, output).map_or_else(|error| output.fail(&error), |()| ExitCode::SUCCESS)
    }

    fn serve(self, global: &Global, output: &Output) -> anyhow::Result<()> {
        confinement::private_files();
        let directory = Directory::at(global.data.as_deref().unwrap_or(Path::new("claviger-dev")));
        let backends = match &self.backends {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                with_absolute_paths(text, path).with_context(|| path.display().to_string())?
            }
            None => EMBEDDED.to_owned(),
        };
        let schemes = self.schemes.as_deref().map(std::path::absolute).transpose()?;
        let settings = Settings { listen: self.listen, tenants: &self.tenant, backends: &backends, schemes };
        // On this thread, so that none is left when the daemon is confined.
        let preparing = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let path = preparing.block_on(directory.prepare(&settings))?;
        drop(preparing);
        serve::confined(&path, false, async |daemon| {
            let url = directory.serves_at(daemon)?;
            let words = || {
                let data = directory.0.display();
                let sealed = match daemon.is_unsealed() {
                    true => String::new(),
                    false => format!(
                        "It is sealed: custodians bring their shares, each at a terminal of their own:\n  \
                         claviger --data {data} --as custodian unseal --share\n"
                    ),
                };
                format!(
                    "Claviger serves {url} from {data} (development; tenant demo).\n{sealed}\
                     Try, in another terminal:\n  claviger --data {data} --as officer keys list --tenant demo\n\
                     Stop with Ctrl-C."
                )
            };
            if output.is_json() {
                output.result(&serde_json::json!({ "url": url, "data": directory.0 }), String::new);
            } else {
                output.say(words());
            }
            Ok(())
        })
    }
}

/// Backends with their relative paths as they are meant, beside their own file: another is written of them.
fn with_absolute_paths(text: String, path: &Path) -> anyhow::Result<String> {
    let base = std::path::absolute(path)?.parent().map(Path::to_owned).unwrap_or_default();
    let mut tables: toml::Table = toml::from_str(&text)?;
    let mut relative = false;
    let mut join = |value: Option<&mut toml::Value>| {
        if let Some(toml::Value::String(path)) = value
            && Path::new(&*path).is_relative()
        {
            relative = true;
            *path = base.join(&*path).display().to_string();
        }
    };
    for backend in tables.get_mut("backend").and_then(toml::Value::as_array_mut).into_iter().flatten() {
        join(backend.get_mut("module"));
        join(backend.get_mut("pin").and_then(|pin| pin.get_mut("file")));
    }
    Ok(if relative { toml::to_string(&tables)? } else { text })
}

impl Directory {
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes what is missing; where its configuration is.
    pub(super) async fn prepare(&self, settings: &Settings<'_>) -> anyhow::Result<PathBuf> {
        make_private_directory(&self.0)?;
        if !self.0.join("ca.pem").exists() {
            certificates::make(&self.0, CLIENTS)?;
        }
        let key_file = self.0.join("storage.key");
        let is_new = !key_file.exists();
        let store = Store::open(&self.0.join("claviger.db")).await?;
        if is_new {
            seal::create_key_file(&key_file)?;
            seal::initialise(&store, Opener::KeyFile(&key_file)).await?;
            let audit = Audit::open(&self.0.join("audit.jsonl"))?;
            audit
                .append(Event { event: "initialise".to_owned(), outcome: "sealed".to_owned(), ..Event::default() })
                .await?;
        }
        // What custodians have sealed with shares no key file opens.
        let is_shared = seal::shares_of(&seal::text_of(&store).await?).is_some();
        self.put("claviger.toml", configuration(settings, is_shared).as_bytes())?;
        Ok(self.0.join("claviger.toml"))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves the daemon's address for clients.
    pub(super) fn serves_at(&self, daemon: &Daemon) -> anyhow::Result<String> {
        let address = Address { url: format!("https://{}", daemon.address()) };
        self.put("dev.json", &serde_json::to_vec(&address)?)?;
        Ok(address.url)
    }

    /// Puts a file there at once: who reads it while it is written finds the old one whole.
    fn put(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.0.join(name);
        let mut temporary = tempfile::NamedTempFile::new_in(&self.0).with_context(|| self.0.display().to_string())?;
        temporary.write_all(content)?;
        temporary.persist(&path).with_context(|| path.display().to_string())?;
        Ok(())
    }

    /// The address that the daemon left.
    pub(super) fn url(&self) -> anyhow::Result<String> {
        let path = self.0.join("dev.json");
        let text = std::fs::read(&path)
            .with_context(|| format!("{}: is `claviger dev --data {}` running?", path.display(), self.0.display()))?;
        Ok(serde_json::from_slice::<Address>(&text).with_context(|| path.display().to_string())?.url)
    }

    /// How the client of that name reaches the daemon.
    pub(super) fn connection(&self, name: &str) -> anyhow::Result<Connection> {
        let certificate = self.0.join("clients").join(format!("{name}.pem"));
        if name.contains(['/', '.']) || !certificate.exists() {
            let known: Vec<&str> = CLIENTS.iter().map(|(name, ..)| *name).collect();
            bail!(
                "there is no client certificate for `{name}` in {}; known are {}",
                self.0.display(),
                known.join(", ")
            );
        }
        Ok(Connection {
            url: self.url()?,
            ca: self.0.join("ca.pem"),
            certificate,
            key: self.0.join("clients").join(format!("{name}-key.pem")),
            passphrase: None,
            signer: None,
        })
    }
}

fn configuration(settings: &Settings<'_>, is_shared: bool) -> String {
    let Settings { listen, tenants, backends, schemes } = settings;
    let mut tenants: Vec<&str> = tenants.iter().map(String::as_str).collect();
    tenants.insert(0, "demo");
    let schemes = schemes
        .as_ref()
        .map_or_else(String::new, |path| format!("schemes = {}\n", toml::Value::from(path.display().to_string())));
    let seal = if is_shared { "" } else { "[seal]\nkey_file = \"storage.key\"\n\n" };
    let mut text = format!(
        "# Written by `claviger dev` at each start; for a real daemon see docs/configuration.md.\n\
         listen = \"{listen}\"\ndata = \".\"\npolicies = \"dev\"\n{schemes}\n\
         [tls]\ncertificate = \"server.pem\"\nkey = \"server-key.pem\"\nclient_ca = \"ca.pem\"\n\n\
         {seal}{backends}"
    );
    for (name, kind, role) in CLIENTS {
        text += &format!(
            "\n[[principal]]\nuri = \"claviger://{kind}/{name}\"\nroles = [\"{role}\"]\ntenants = {tenants:?}\n"
        );
    }
    text
}
