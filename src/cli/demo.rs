//! `claviger demo`: the whole job, all of it through a daemon over mutual TLS.

mod cards;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use claviger_client::{Client, ClientError, ImportKey, Key, NewKey, PurseResult};
use claviger_hsm_api::Algorithm;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::cards::Personalise;
use super::dev::{Directory, EMBEDDED, Settings};
use super::output::{Output, thousands};
use super::transactions::Verify;
use crate::audit;
use crate::daemon::{Daemon, load_schemes};
use crate::routing::Launcher;
use cards::Cards;

/// Show the whole job in a temporary directory, told step by step
///
/// Starts a daemon with an embedded backend, makes a tenant's keys, personalises cards, tops one up, and
/// verifies a clearing day, everything over mutual TLS. Nothing is left behind.
#[derive(Args)]
#[command(after_help = "Examples:\n  claviger demo\n  claviger demo --records 1000000\n  claviger demo --json")]
pub(super) struct Demo {
    /// Records of the clearing day
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    records: u32,
}

const TENANT: &str = "demo";
const SCHEME: &str = "cjt166";
/// Those of the scheme's key set, and the transport key.
const ROLES: [&str; 13] =
    ["DTK", "DLK", "DPK", "DAMK", "DCCK", "DCMK", "DACK", "DABK", "DPUK", "DRPK", "DULK", "DAUK", "TK"];
const CARDS: u32 = 1000;

/// Tells the steps.
struct Story<'a> {
    output: &'a Output,
    step: u32,
}

impl Story<'_> {
    fn tell(&mut self, title: &str, words: &str, facts: Value) {
        self.step += 1;
        if self.output.is_json() {
            self.output.result(&json!({ "step": self.step, "title": title, "facts": facts }), String::new);
        } else {
            self.output.say(format!("\n{}. {title}\n   {}", self.step, words.replace('\n', "\n   ")));
        }
    }
}

impl Demo {
    pub(super) async fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let folder = tempfile::tempdir()?;
        let directory = Directory::at(&folder.path().join("data"));
        let mut story = Story { output, step: 0 };

        let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), tenants: &[], backends: EMBEDDED, schemes: None };
        let path = directory.prepare(&settings).await?;
        let daemon = Daemon::start(&path, Arc::new(Launcher::of(&path))).await?;
        let url = directory.serves_at(&daemon)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(daemon.run(async {
            let _ = stopped.await;
        }));
        story.tell(
            "A daemon starts",
            &format!("It serves {url} over TLS 1.3 and lets in only clients with a certificate.\nIts keys are sealed under a storage key and live in locked memory."),
            json!({ "url": url }),
        );
        let told = self.tell_all(&mut story, &directory, folder.path()).await;
        let _ = stop.send(());
        serving.await?;
        told?;
        let records = audit::verify(&folder.path().join("data/audit.jsonl"))?.head.records();
        story.tell(
            "The auditor checks the log",
            &format!("Every decision and every batch left a record: {records} of them, chained by hash,\nand the chain is whole. None holds a secret."),
            json!({ "audit_records": records }),
        );
        if !output.is_json() {
            output.say("\nThat was the whole job. To try it yourself: claviger dev --data ./dev");
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn tell_all(&self, story: &mut Story<'_>, directory: &Directory, folder: &Path) -> anyhow::Result<()> {
        let officer = Client::new(&directory.connection("officer")?)?;
        let clearing = Client::new(&directory.connection("clearing")?)?;
        let card_management = Client::new(&directory.connection("card-management")?)?;
        let scheme = Arc::clone(load_schemes(None)?.find(SCHEME).context("the scheme is shipped")?);

        let cards = Cards::new(scheme)?;
        let made = make_keys(&officer, &cards).await?;
        let shown: Vec<String> = made
            .iter()
            .map(|key| {
                format!("{}/{} {} version {}  KCV {}", key.scheme, key.role, key.algorithm, key.version, key.kcv)
            })
            .collect();
        let some = format!("{}\n... {} in all", shown[..4].join("\n"), shown.len());
        story.tell("An officer makes the tenant's keys", &some, json!({ "keys": made.len() }));

        let refused = refusal(clearing.post::<Key>("/v1/keys", &new_key("DPK", "3des")).await)?;
        let also = refusal(card_management.get::<Value>("/v1/keys", &[("tenant", TENANT)]).await)?;
        story.tell(
            "Duties are separate",
            &format!("Clearing asks for a new key and is refused: {refused}.\nCard management asks for the key inventory and is refused: {also}."),
            json!({ "refused": [refused, also] }),
        );

        personalise(story, &card_management, &cards, folder).await?;
        top_up(story, &card_management, &cards).await?;

        let day = folder.join("day.csv");
        let expected = cards.write_day(self.records, &day)?;
        let verify = Verify {
            file: day,
            tenant: TENANT.to_owned(),
            scheme: SCHEME.to_owned(),
            out: folder.join("verdicts.csv"),
            format: None,
            resume: false,
        };
        let summary = verify.verify(&clearing, story.output).await?;
        if summary.counts != expected {
            bail!(
                "the verdicts are not those that the simulated cards call for: {:?} instead of {expected:?}",
                summary.counts
            );
        }
        story.tell(
            "Clearing verifies the day before it pays",
            &format!(
                "{}\n{} records were spoilt on purpose, and each was found.",
                summary.words().lines().take(6).collect::<Vec<_>>().join("\n"),
                thousands(spoilt(&expected))
            ),
            json!({ "records": summary.records, "counts": summary.counts }),
        );
        Ok(())
    }
}

/// Cards get their keys; whoever holds the transport key opens them.
async fn personalise(
    story: &mut Story<'_>,
    card_management: &Client,
    cards: &Cards,
    folder: &Path,
) -> anyhow::Result<()> {
    let (file, out) = (folder.join("cards.csv"), folder.join("keysets.csv"));
    cards.write_cards(CARDS, &file)?;
    let job = Personalise {
        file,
        tenant: TENANT.to_owned(),
        scheme: SCHEME.to_owned(),
        transport_key: "TK/01".to_owned(),
        version: "01".to_owned(),
        algorithm: vec!["3des".to_owned(), "sm4".to_owned()],
        key_set: None,
        out: out.clone(),
    };
    let summary = job.personalise(card_management, story.output).await?;
    let made = std::fs::read_to_string(&out)?;
    let first = made.lines().nth(1).context("the first card has its keys")?;
    if summary.counts.get("made") != Some(&u64::from(CARDS)) || !first.contains(&cards.wrapped_load_key()?) {
        bail!("a card did not get its keys");
    }
    story.tell(
        "Card management personalises cards",
        &format!("{} cards get 12 keys each for 3DES and for SM4, every one under the transport key and with\nits check value. The bureau opens the first card's load key: it is the right one.", thousands(summary.cards)),
        json!({ "cards": summary.cards, "keys": summary.cards * 24 }),
    );
    Ok(())
}

/// A card is topped up; the same request with another amount is not.
async fn top_up(story: &mut Story<'_>, card_management: &Client, cards: &Cards) -> anyhow::Result<()> {
    let asked = cards.ask_for_load(5000)?;
    let answer: PurseResult = card_management.post("/v1/purse", &asked).await?;
    let mac2 = answer.mac.context("MAC1 is right, so MAC2 is made")?;
    if !cards.accepts(&asked, &mac2)? {
        bail!("the card does not accept MAC2");
    }
    let mut forged = asked.clone();
    forged.fields.insert("amount".to_owned(), "50000".to_owned());
    let refused: PurseResult = card_management.post("/v1/purse", &forged).await?;
    if refused.valid || refused.mac.is_some() {
        bail!("a forged load was authorised");
    }
    story.tell(
        "Card management tops up a card",
        "The card sends MAC1; the daemon checks it and only then makes MAC2, which the card accepts.\nThe same request with ten times the amount gets no MAC2.",
        json!({ "mac2_accepted": true, "forged_refused": true }),
    );
    Ok(())
}

/// Keys that the simulated cards hold too come in two components; the others are made inside.
async fn make_keys(officer: &Client, cards: &Cards) -> anyhow::Result<Vec<Key>> {
    let mut made = Vec::new();
    for algorithm in [Algorithm::TripleDes, Algorithm::Sm4] {
        for role in ROLES {
            let key = new_key(role, algorithm.as_str());
            made.push(match cards.components(role, algorithm) {
                Some(components) => {
                    let components = components.map(Zeroizing::new).to_vec();
                    officer
                        .post("/v1/keys/import", &ImportKey { key, components, kcv: None, odd_parity: false })
                        .await?
                }
                None => officer.post("/v1/keys", &key).await?,
            });
        }
    }
    Ok(made)
}

fn new_key(role: &str, algorithm: &str) -> NewKey {
    NewKey {
        tenant: TENANT.to_owned(),
        scheme: SCHEME.to_owned(),
        role: role.to_owned(),
        version: "01".to_owned(),
        algorithm: algorithm.to_owned(),
        factors: Vec::new(),
        ceiling: None,
        protect_from: None,
        protect_until: None,
        verify_until: None,
        backends: Vec::new(),
        places: Vec::new(),
        movable: false,
        sensitive: false,
    }
}

/// The reason of a refusal that must come.
fn refusal<T>(result: Result<T, ClientError>) -> anyhow::Result<String> {
    match result {
        Err(ClientError::Problem(problem)) if problem.code == "denied" => Ok(problem.detail.clone()),
        Err(other) => Err(other.into()),
        Ok(_) => bail!("something was permitted that policy forbids"),
    }
}

fn spoilt(expected: &BTreeMap<String, u64>) -> u64 {
    expected.iter().filter(|(verdict, _)| *verdict != "valid").map(|(_, count)| count).sum()
}
