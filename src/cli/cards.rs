//! `claviger cards`: personalisation, and commands for cards in the field.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use claviger_client::{AuthenticateCard, CardApdu, CardCommand, Client, PersonaliseParameters, Valid, WriteKey};
use futures_util::StreamExt;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Global;
use super::output::{Output, thousands};
use super::upload::{Answers, Records, Upload, check_output};

/// Personalise cards and send them commands
#[derive(Subcommand)]
#[command(after_help = "Examples:
  claviger --data ./dev --as card-management cards personalise cards.csv \\
      --tenant demo --scheme jtt978 --transport-key TK/01 --out keysets.csv
  claviger --data ./dev --as card-management cards command unblock-pin \\
      --tenant demo --scheme cjt166 \\
      --field city_code=1150 --field asn=1150491934206620 --field key_version=01 --field alg_id=00 \\
      --challenge 11223344 --data-file pin.txt")]
pub(super) enum Cards {
    /// Make the key sets of a file of cards
    #[command(after_help = "Example:
  claviger --data ./dev --as card-management cards personalise cards.csv \\
      --tenant demo --scheme cjt166 --transport-key TK/01 --out keysets.csv")]
    Personalise(Personalise),
    /// Make a card command under secure messaging
    #[command(after_help = "Example:
  claviger --data ./dev --as card-management cards command unblock-pin --tenant demo --scheme cjt166 \\
      --field city_code=1150 --field asn=1150491934206620 \\
      --field key_version=01 --field alg_id=00 \\
      --challenge 11223344 --data-file pin.txt")]
    Command(Command),
    /// Make WRITE KEY: a card's new key under one that it holds
    #[command(after_help = "Example:
  claviger --data ./dev --as card-management cards write-key --tenant demo --scheme cjt166 \\
      --field city_code=1150 --field asn=1150491934206620 \\
      --field key_version=01 --field alg_id=00 \\
      --protector DACK --role DPK --version 02 --challenge 11223344")]
    WriteKey(NewCardKey),
    /// Verify a card's answer to INTERNAL AUTHENTICATE
    #[command(after_help = "Example:
  claviger --data ./dev --as card-management cards authenticate --tenant demo --scheme cjt166 \\
      --field city_code=1150 --field asn=1150491934206620 \\
      --field key_version=01 --field alg_id=00 \\
      --challenge 1122334455667788 --answer A84356DF5C390F8B")]
    Authenticate(Authenticate),
}

/// Make the key sets of a file of cards
///
/// The file is CSV with the columns `card_id` and those that the scheme's factors are made of (asn, city_code,
/// issuer_id). Writes `card_id,result,reason,key_set` for every card, in order: each key under the transport
/// key, with its check value behind it. Exits 0 if every card got its keys, 1 if some did not, 2 if the job
/// could not be done; then the old output, if any, is untouched.
#[derive(Args)]
pub(super) struct Personalise {
    /// The cards
    pub(super) file: PathBuf,
    /// City or operator
    #[arg(long)]
    pub(super) tenant: String,
    /// Card scheme
    #[arg(long)]
    pub(super) scheme: String,
    /// Role and version of the transport key
    #[arg(long, value_name = "ROLE/VERSION")]
    pub(super) transport_key: String,
    /// Version of the cards' keys
    #[arg(long, default_value = "01")]
    pub(super) version: String,
    /// One set for each algorithm, in this order
    #[arg(long, value_delimiter = ',', default_value = "3des")]
    pub(super) algorithm: Vec<String>,
    /// Layout of the key set; the scheme's first if not given
    #[arg(long)]
    pub(super) key_set: Option<String>,
    /// Where the key sets go; replaced when the job has ended
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

/// A card and whose keys it has.
#[derive(Args)]
struct Card {
    /// City or operator
    #[arg(long)]
    tenant: String,
    /// Card scheme
    #[arg(long)]
    scheme: String,
    /// A field of the card, as asn=1150491934206620: its number, key_version and alg_id
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = pair, required = true)]
    fields: Vec<(String, String)>,
}

#[derive(Args)]
pub(super) struct Command {
    /// As the scheme names it; see `claviger schemes show`
    command: String,
    #[command(flatten)]
    card: Card,
    /// P1 P2, where the command leaves them open
    #[arg(long, value_name = "HEX")]
    p1p2: Option<String>,
    /// What the card gave for GET CHALLENGE
    #[arg(long, value_name = "HEX", default_value = "")]
    challenge: String,
    /// What the command carries, hexadecimal; not for a PIN, which others could read here
    #[arg(long, value_name = "HEX", conflicts_with = "data_file")]
    data_hex: Option<String>,
    /// A file with what the command carries, hexadecimal: a PIN
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct NewCardKey {
    #[command(flatten)]
    card: Card,
    /// Role of the key that the card holds and that protects the new one
    #[arg(long)]
    protector: String,
    /// Role of the new key
    #[arg(long)]
    role: String,
    /// Version of the new key
    #[arg(long)]
    version: String,
    /// Algorithm id of the new key
    #[arg(long, value_name = "HEX", default_value = "00")]
    alg_id: String,
    /// What the card gave for GET CHALLENGE
    #[arg(long, value_name = "HEX")]
    challenge: String,
}

#[derive(Args)]
pub(super) struct Authenticate {
    #[command(flatten)]
    card: Card,
    /// What the card was sent
    #[arg(long, value_name = "HEX")]
    challenge: String,
    /// What it answered
    #[arg(long, value_name = "HEX")]
    answer: String,
}

/// What is told at the end.
#[derive(Serialize)]
pub(super) struct Summary {
    pub(super) cards: u64,
    pub(super) counts: BTreeMap<String, u64>,
    seconds: f64,
    cards_per_second: u64,
    out: PathBuf,
}

const RESULTS: &[&str] = &["made", "malformed"];

impl Cards {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let client = global.client()?;
        match self {
            Self::Personalise(personalise) => {
                let summary = personalise.personalise(&client, output).await?;
                output.result(&summary, || summary.words());
                let all = summary.counts.get("made").copied().unwrap_or(0) == summary.cards;
                Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
            }
            Self::Command(command) => {
                let made: CardApdu = client.post("/v1/cards/command", &command.body()?).await?;
                output.result(&made, || made.apdu.clone());
                Ok(ExitCode::SUCCESS)
            }
            Self::WriteKey(key) => {
                let made: CardApdu = client.post("/v1/cards/write-key", &key.body()).await?;
                output.result(&made, || made.apdu.clone());
                Ok(ExitCode::SUCCESS)
            }
            Self::Authenticate(answer) => {
                let found: Valid = client.post("/v1/cards/authenticate", &answer.body()).await?;
                let valid = found.valid == [true];
                output.result(&found, || if valid { "valid" } else { "invalid" }.to_owned());
                Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(1) })
            }
        }
    }
}

impl Personalise {
    pub(super) async fn personalise(self, client: &Client, output: &Output) -> anyhow::Result<Summary> {
        let file = File::open(&self.file).with_context(|| self.file.display().to_string())?;
        check_output(&self.out, &self.file)?;
        let begun = Instant::now();
        let bar = output.progress(file.metadata()?.len());
        let (upload, sent) = Upload::start(bar.clone(), move |upload| {
            upload.send_file(file, 0, Records::Lines)?;
            // The header is a line, too.
            upload.uncount();
            Ok(())
        });
        let parameters = PersonaliseParameters {
            tenant: self.tenant,
            scheme: self.scheme,
            key_set: self.key_set,
            algorithms: self.algorithm.join(","),
            version: self.version,
            transport_key: self.transport_key,
        };
        let answer = client.stream("/v1/cards/personalise", &parameters, "text/csv", upload).await;
        let answer = answer.map_err(|error| sent.blame(error))?;
        let folder = self.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Made for its owner alone, as temporary files are.
        let mut temporary = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
        let mut answers = Answers::new(2, RESULTS, true);
        let mut pieces = std::pin::pin!(answer.pieces);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| sent.blame(error))?;
            temporary.write_all(&piece)?;
            answers.take(&piece)?;
        }
        bar.finish_and_clear();
        answers.check(sent.records())?;
        temporary.as_file().sync_all()?;
        temporary.persist(&self.out).with_context(|| self.out.display().to_string())?;
        File::open(folder)?.sync_all()?;
        let (cards, seconds) = (answers.total(), begun.elapsed().as_secs_f64());
        let cards_per_second = (cards as f64 / seconds.max(1e-9)) as u64;
        Ok(Summary { cards, counts: answers.counts(), seconds, cards_per_second, out: self.out })
    }
}

impl Card {
    fn fields(self) -> BTreeMap<String, String> {
        self.fields.into_iter().collect()
    }
}

impl Command {
    fn body(self) -> anyhow::Result<CardCommand> {
        let data = match (self.data_hex, self.data_file) {
            (Some(data), _) => Zeroizing::new(data),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                Zeroizing::new(Zeroizing::new(text).trim().to_owned())
            }
            (None, None) => Zeroizing::default(),
        };
        let (tenant, scheme) = (self.card.tenant.clone(), self.card.scheme.clone());
        let (command, p1p2, challenge) = (self.command, self.p1p2, self.challenge);
        Ok(CardCommand { tenant, scheme, command, fields: self.card.fields(), p1p2, challenge, data })
    }
}

impl NewCardKey {
    fn body(self) -> WriteKey {
        WriteKey {
            tenant: self.card.tenant.clone(),
            scheme: self.card.scheme.clone(),
            fields: self.card.fields(),
            protector: self.protector,
            role: self.role,
            version: self.version,
            alg_id: self.alg_id,
            challenge: self.challenge,
        }
    }
}

impl Authenticate {
    fn body(self) -> AuthenticateCard {
        let (tenant, scheme) = (self.card.tenant.clone(), self.card.scheme.clone());
        let (challenge, answer) = (self.challenge, self.answer);
        AuthenticateCard { tenant, scheme, fields: self.card.fields(), challenge, answer }
    }
}

impl Summary {
    pub(super) fn words(&self) -> String {
        let mut text = format!(
            "{} cards in {:.2} s: {} a second\n",
            thousands(self.cards),
            self.seconds,
            thousands(self.cards_per_second)
        );
        for result in RESULTS {
            text += &format!("  {result:<13}{:>12}\n", thousands(self.counts.get(*result).copied().unwrap_or(0)));
        }
        text + &format!("key sets: {}", self.out.display())
    }
}

fn pair(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => bail!("`{text}` is not NAME=VALUE"),
    }
}
