//! `claviger keys`.

mod ceilings;
mod exchange;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use claviger_client::{
    AdoptKey, Client, ImportKey, Key, KeyFilter, KeyList, KeyMove, KeyReference, MoveKey, NewKey, ReplicateKey,
    SetKeyState,
};
use zeroize::Zeroizing;

use super::Global;
use super::output::Output;
pub(super) use exchange::read as read_wrapped;
pub(super) use words::line;
use words::{details, move_line};

/// Make, bring in, list and end keys
#[derive(Subcommand)]
#[command(after_help = "Examples:
  claviger --data ./dev --as officer keys generate --tenant demo --scheme cjt166 \\
      --role DLK --version 01 --algorithm 3des
  claviger --data ./dev --as officer keys import --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des \\
      --component-file a.txt --component-file b.txt --kcv B8743B
  claviger --data ./dev --as officer keys list --tenant demo
  claviger --data ./dev --as officer keys suspend --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des --level 0")]
pub(super) enum Keys {
    /// Make a key inside a backend
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys generate --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des")]
    Generate(Description),
    /// Join a key from components (one officer alone: in development only)
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys import --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des \\
      --component-file a.txt --component-file b.txt --kcv B8743B")]
    Import(Import),
    /// Register a key that a backend's device holds already
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys adopt --backend room-1 --object DTK-01 --tenant demo \\
      --scheme cjt166 --role DTK --version 01 --algorithm 3des --kcv B8743B")]
    Adopt(Adopt),
    /// Make another backend a copy of a key that may move
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys replicate --to room-2 --under generic/KEK/01/aes256 --tenant demo \\
      --scheme cjt166 --role DTK --version 01 --algorithm 3des")]
    Replicate(Replicate),
    /// Take in a key that another party has wrapped
    #[command(after_help = "Examples:
  claviger --data ./dev --as officer keys unwrap --under generic/KBPK/01/aes256 --file from-bureau.txt \\
      --tenant demo --scheme generic --role CMAC --version 01 --algorithm aes128
  claviger --data ./dev --as officer keys unwrap --form sm2-envelope --under generic/EXCHANGE/01/sm2 \\
      --file envelope.hex --tenant demo --scheme cjt166 --role DTK --version 02 --algorithm sm4")]
    Unwrap(exchange::Unwrap),
    /// Give a key out to another party, wrapped
    #[command(after_help = "Examples:
  claviger --data ./dev --as officer keys export --under generic/KBPK/01/aes256 --out to-bureau.txt \\
      --tenant demo --scheme generic --role CMAC --version 01 --algorithm aes128
  claviger --data ./dev --as officer keys export --form sm2-envelope --recipient 04... \\
      --tenant demo --scheme cjt166 --role DTK --version 02 --algorithm sm4")]
    Export(exchange::Export),
    /// Show the public half of an SM2 key
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys public-key --tenant demo --scheme generic \\
      --role EXCHANGE --version 01 --algorithm sm2")]
    PublicKey(Selection),
    /// Move a key to another backend that holds it: both answer, then the other one answers callers
    #[command(after_help = "Examples:
  claviger --data ./dev --as officer keys move begin --to room-2 --tenant demo \\
      --scheme cjt166 --role DTK --version 01 --algorithm 3des
  claviger --data ./dev --as officer keys move cut-over e032f0e228e9077e2d7baac0902af7d9
  claviger --data ./dev --as officer keys move roll-back e032f0e228e9077e2d7baac0902af7d9")]
    #[command(subcommand)]
    Move(Move),
    /// Let more leave an HSM on account of a key, for a time
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys raise-ceiling --to card-key --for 8h --tenant demo \\
      --scheme cjt166 --role DTK --version 01 --algorithm 3des")]
    RaiseCeiling(ceilings::Raise),
    /// Take a raised ceiling back before its time
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys lower-ceiling --tenant demo \\
      --scheme cjt166 --role DTK --version 01 --algorithm 3des")]
    LowerCeiling(Selection),
    /// List a tenant's keys
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys list --tenant demo --scheme cjt166 --role DTK")]
    List(List),
    /// Show one key
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys show --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des")]
    Show(Selection),
    /// Let a key do nothing until it is resumed
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys suspend --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des")]
    Suspend(Selection),
    /// Make a suspended key active again
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys resume --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des")]
    Resume(Selection),
    /// Let a key check what was made before, and make nothing new
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys deactivate --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des")]
    Deactivate(Selection),
    /// Mark a key as known to others
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys compromise --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des")]
    Compromise(Selection),
    /// End a key for ever
    #[command(after_help = "Example:
  claviger --data ./dev --as officer keys destroy --yes --tenant demo --scheme cjt166 \\
      --role DTK --version 01 --algorithm 3des")]
    Destroy(Destroy),
}

/// What a key is named and made by.
#[derive(Args, Clone)]
pub(super) struct Description {
    /// City or operator
    #[arg(long)]
    tenant: String,
    /// Card scheme (see `claviger schemes list`), or `generic`
    #[arg(long)]
    scheme: String,
    /// What the scheme calls the key, as DTK
    #[arg(long)]
    role: String,
    /// Two hexadecimal digits, as records write it
    #[arg(long)]
    version: String,
    /// 3des, sm4, aes128 ...
    #[arg(long)]
    algorithm: String,
    /// How many dispersion steps are already in the key
    #[arg(long, value_name = "N")]
    level: Option<usize>,
    /// A dispersion factor already in the key, root first; one for each level
    #[arg(long = "factor", value_name = "HEX")]
    factors: Vec<String>,
    /// Lower the most that may leave a backend: nothing, session-key, card-key, master-key
    #[arg(long)]
    ceiling: Option<String>,
    /// From when it may make something new (RFC 3339)
    #[arg(long, value_name = "TIME")]
    protect_from: Option<String>,
    /// Until when it may make something new
    #[arg(long, value_name = "TIME")]
    protect_until: Option<String>,
    /// Until when it may check what was made before
    #[arg(long, value_name = "TIME")]
    verify_until: Option<String>,
    /// A backend to make it in; several for a key from components. The preferred one that can hold it if none is named
    #[arg(long = "backend", value_name = "NAME")]
    backends: Vec<String>,
    /// Where it may ever live: on-prem, hosted or cloud; may be given several times. Where it is made if none is named
    #[arg(long = "place", value_name = "PLACE")]
    places: Vec<String>,
    /// Let it move to another backend later, or leave in a key block; this cannot be said afterwards
    #[arg(long)]
    movable: bool,
    /// Let it also leave in forms that do not carry what it is, ECB and SM2 envelopes; this cannot be said afterwards
    #[arg(long)]
    sensitive: bool,
}

#[derive(Args)]
pub(super) struct Adopt {
    #[command(flatten)]
    description: Description,
    /// The device's label of the key, or its id in hexadecimal
    #[arg(long, value_name = "LABEL|ID")]
    object: String,
    /// The check value that the key must show
    #[arg(long, value_name = "HEX")]
    kcv: Option<String>,
    /// For a key of TACs: a CSV file of records of the past, as `transactions verify` takes it, that must all be right
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Replicate {
    #[command(flatten)]
    selection: Selection,
    /// The backend that gets the copy
    #[arg(long, value_name = "NAME")]
    to: String,
    /// The wrapping key that both backends hold, as SCHEME/ROLE/VERSION/ALGORITHM
    #[arg(long, value_name = "KEY")]
    under: String,
}

#[derive(Subcommand)]
pub(super) enum Move {
    /// Say how the move stands
    Show(Selection),
    /// Have another backend answer beside the one that callers hear, and compare
    Begin {
        #[command(flatten)]
        selection: Selection,
        /// The backend that the key moves to; it holds the key already (see `keys replicate`)
        #[arg(long, value_name = "NAME")]
        to: String,
    },
    /// Have callers hear the other one
    CutOver(Selection),
    /// Take one step back
    RollBack(Selection),
    /// Ask the former one no more
    Finish(Selection),
}

#[derive(Args)]
pub(super) struct Import {
    #[command(flatten)]
    description: Description,
    /// A file with one component in hexadecimal; give at least two. Spaces, line breaks and # comments do not count
    #[arg(long = "component-file", value_name = "FILE", required = true)]
    component_files: Vec<PathBuf>,
    /// The check value that the key must show
    #[arg(long, value_name = "HEX")]
    kcv: Option<String>,
    /// Refuse components with a byte of even parity
    #[arg(long)]
    odd_parity: bool,
}

#[derive(Args)]
pub(super) struct List {
    /// City or operator
    #[arg(long)]
    tenant: String,
    /// Of one scheme only
    #[arg(long)]
    scheme: Option<String>,
    /// Of one role only
    #[arg(long)]
    role: Option<String>,
}

/// One key: by its id, or by enough of its name that no other fits.
#[derive(Args)]
pub(super) struct Selection {
    /// The key's id
    #[arg(conflicts_with_all = ["tenant", "scheme", "role", "version", "algorithm", "level", "factors"])]
    id: Option<String>,
    /// City or operator
    #[arg(long)]
    tenant: Option<String>,
    /// Card scheme
    #[arg(long)]
    scheme: Option<String>,
    /// What the scheme calls the key
    #[arg(long)]
    role: Option<String>,
    /// As records write it
    #[arg(long)]
    version: Option<String>,
    /// 3des, sm4, aes128 ...
    #[arg(long)]
    algorithm: Option<String>,
    /// Dispersion steps that are in the key: 0 for the root
    #[arg(long)]
    level: Option<usize>,
    /// A dispersion factor in the key
    #[arg(long = "factor", value_name = "HEX")]
    factors: Vec<String>,
}

#[derive(Args)]
pub(super) struct Destroy {
    #[command(flatten)]
    selection: Selection,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Keys {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let client = global.client()?;
        let key = match self {
            Self::List(list) => return list.run(&client, output).await,
            Self::Move(step) => return step.run(&client, output).await,
            Self::Generate(description) => client.post("/v1/keys", &description.body()?).await?,
            Self::Import(import) => client.post("/v1/keys/import", &import.body()?).await?,
            Self::Adopt(adopt) => client.post("/v1/keys/adopt", &adopt.body()?).await?,
            Self::Replicate(replicate) => replicate.run(&client).await?,
            Self::Unwrap(unwrap) => unwrap.run(&client).await?,
            Self::Export(export) => return export.run(&client, output).await.map(|()| ExitCode::SUCCESS),
            Self::PublicKey(selection) => {
                return exchange::public_key(selection, &client, output).await.map(|()| ExitCode::SUCCESS);
            }
            Self::Show(selection) => {
                let key = selection.find(&client).await?;
                output.result(&key, || details(&key));
                return Ok(ExitCode::SUCCESS);
            }
            Self::RaiseCeiling(raise) => raise.run(&client).await?,
            Self::LowerCeiling(selection) => ceilings::lower(selection, &client).await?,
            Self::Suspend(selection) => set_state(&client, selection, "suspended").await?,
            Self::Resume(selection) => set_state(&client, selection, "active").await?,
            Self::Deactivate(selection) => set_state(&client, selection, "deactivated").await?,
            Self::Compromise(selection) => set_state(&client, selection, "compromised").await?,
            Self::Destroy(Destroy { selection, yes }) => {
                let key = selection.find(&client).await?;
                confirm(&key, yes)?;
                set_state_of(&client, &key.id, "destroyed").await?
            }
        };
        output.result(&key, || line(&key));
        Ok(ExitCode::SUCCESS)
    }
}

impl Description {
    fn body(self) -> anyhow::Result<NewKey> {
        if let Some(level) = self.level.filter(|level| *level != self.factors.len()) {
            bail!(
                "--level {level} needs {level} --factor, one for each dispersion step in the key; there are {}",
                self.factors.len()
            );
        }
        Ok(NewKey {
            tenant: self.tenant,
            scheme: self.scheme,
            role: self.role,
            version: self.version,
            algorithm: self.algorithm,
            factors: self.factors,
            ceiling: self.ceiling,
            protect_from: self.protect_from,
            protect_until: self.protect_until,
            verify_until: self.verify_until,
            backends: self.backends,
            places: self.places,
            movable: self.movable,
            sensitive: self.sensitive,
        })
    }
}

impl Adopt {
    fn body(self) -> anyhow::Result<AdoptKey> {
        if self.description.backends.len() != 1 {
            bail!("give --backend, the one that holds the key");
        }
        let records = self.records.as_deref().map(read_records).transpose()?.unwrap_or_default();
        Ok(AdoptKey { key: self.description.body()?, object: self.object, kcv: self.kcv, records })
    }
}

/// A key that others are wrapped under.
pub(super) fn reference(tenant: &str, under: &str) -> anyhow::Result<KeyReference> {
    let [scheme, role, version, algorithm] = under.split('/').collect::<Vec<_>>()[..] else {
        bail!("--under is SCHEME/ROLE/VERSION/ALGORITHM, as generic/KEK/01/aes256");
    };
    let [tenant, scheme, role, version, algorithm] = [tenant, scheme, role, version, algorithm].map(str::to_owned);
    Ok(KeyReference { tenant, scheme, role, version, algorithm, factors: Vec::new() })
}

impl Replicate {
    async fn run(self, client: &Client) -> anyhow::Result<Key> {
        let key = self.selection.find(client).await?;
        let under = reference(&key.tenant, &self.under)?;
        Ok(client.post(&format!("/v1/keys/{}/replicas", key.id), &ReplicateKey { to: self.to, under }).await?)
    }
}

impl Move {
    async fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let (selection, step, to) = match self {
            Self::Show(selection) => (selection, None, None),
            Self::Begin { selection, to } => (selection, Some("begin"), Some(to)),
            Self::CutOver(selection) => (selection, Some("cut-over"), None),
            Self::RollBack(selection) => (selection, Some("roll-back"), None),
            Self::Finish(selection) => (selection, Some("finish"), None),
        };
        let key = selection.find(client).await?;
        let at = format!("/v1/keys/{}/move", key.id);
        let stands: KeyMove = match step {
            None => client.get(&at, &()).await?,
            Some(step) => client.post(&at, &MoveKey { step: step.to_owned(), to }).await?,
        };
        output.result(&stands, || move_line(&stands));
        Ok(ExitCode::SUCCESS)
    }
}

impl Import {
    fn body(self) -> anyhow::Result<ImportKey> {
        let components = self.component_files.iter().map(|path| read_component(path)).collect::<anyhow::Result<_>>()?;
        Ok(ImportKey { key: self.description.body()?, components, kcv: self.kcv, odd_parity: self.odd_parity })
    }
}

impl List {
    async fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let filter = KeyFilter { tenant: self.tenant, scheme: self.scheme, role: self.role };
        let KeyList { keys } = client.get("/v1/keys", &filter).await?;
        for key in &keys {
            output.result(key, || line(key));
        }
        if keys.is_empty() {
            output.say(format!("tenant {} has no such keys", filter.tenant));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Selection {
    pub(super) async fn find(self, client: &Client) -> anyhow::Result<Key> {
        if let Some(id) = self.id {
            return Ok(client.get(&format!("/v1/keys/{id}"), &()).await?);
        }
        let filter = KeyFilter {
            tenant: self
                .tenant
                .context("give the key's id, or --tenant and as much of its name as no other key has")?,
            scheme: self.scheme,
            role: self.role,
        };
        let KeyList { mut keys } = client.get("/v1/keys", &filter).await?;
        keys.retain(|key| {
            self.version.as_ref().is_none_or(|version| *version == key.version)
                && self.algorithm.as_ref().is_none_or(|algorithm| *algorithm == key.algorithm)
                && self.level.is_none_or(|level| level == key.level)
                && (self.factors.is_empty() || self.factors == key.factors)
        });
        match keys.as_slice() {
            [] => bail!("no key fits"),
            [_] => Ok(keys.remove(0)),
            several => {
                let lines: Vec<String> = several.iter().map(|key| format!("\n  {}", line(key))).collect();
                bail!("{} keys fit; say more, or give the id:{}", several.len(), lines.concat())
            }
        }
    }
}

async fn set_state(client: &Client, selection: Selection, state: &str) -> anyhow::Result<Key> {
    let key = selection.find(client).await?;
    set_state_of(client, &key.id, state).await
}

async fn set_state_of(client: &Client, id: &str, state: &str) -> anyhow::Result<Key> {
    Ok(client.post(&format!("/v1/keys/{id}/state"), &SetKeyState { state: state.to_owned() }).await?)
}

fn confirm(key: &Key, yes: bool) -> anyhow::Result<()> {
    use std::io::{BufRead, IsTerminal};
    let stdin = std::io::stdin();
    if yes {
        return Ok(());
    }
    if !stdin.is_terminal() {
        bail!("there is nobody to ask: say --yes to destroy {} for ever", line(key));
    }
    eprint!("Destroy {} for ever? Type yes: ", line(key));
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { bail!("not destroyed") }
}

/// Records of a CSV file, each cell by the name of its column.
fn read_records(path: &Path) -> anyhow::Result<Vec<BTreeMap<String, String>>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().context("the file of records is empty")?.split(',').collect();
    let record =
        |line: &str| names.iter().zip(line.split(',')).map(|(name, cell)| ((*name).into(), cell.into())).collect();
    Ok(lines.map(record).collect())
}

fn read_component(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = Zeroizing::new(std::fs::read_to_string(path).with_context(|| path.display().to_string())?);
    let digits = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace());
    Ok(Zeroizing::new(digits.collect()))
}
