//! Ends of the process at any moment: what was acknowledged is there, and no terminal number comes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claviger_client::{
    Client, ClientError, Key, KeyFilter, KeyList, NewKey, PersonaliseParameters, PsamDebit, PsamResult,
};
use futures_util::StreamExt;

use crate::daemon::Daemon;

const KILLS: u32 = 100;

/// A small generator, so that a printed seed repeats a run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

/// What this process, which is not the one that is killed, was told.
#[derive(Default)]
struct Acknowledged {
    kcvs: BTreeMap<String, String>,
    ttcs: BTreeSet<String>,
    repeated: Vec<String>,
    /// What each card's keys are.
    cards: BTreeMap<String, String>,
    /// How often which work was cut off.
    cut: BTreeMap<Work, u32>,
}

fn key(number: u32) -> NewKey {
    let roles = ["DLK", "DTK", "DULK", "DUK", "DPUK", "DRPK", "DAMK", "DABK", "DAUK", "DCCK"];
    NewKey {
        tenant: "demo".to_owned(),
        scheme: "jtt978".to_owned(),
        role: roles[(number / 256) as usize % roles.len()].to_owned(),
        version: format!("{:02X}", number % 256),
        algorithm: if number >= 2560 { "sm4" } else { "3des" }.to_owned(),
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

fn purchase() -> PsamDebit {
    let fields = [
        ("city_code", "1150"),
        ("asn", "1150491934206620"),
        ("key_version", "01"),
        ("alg_id", "00"),
        ("rand", "11223344"),
        ("offline_sn", "0000"),
        ("amount", "4096"),
        ("txn_type", "06"),
        ("terminal_id", "001122334455"),
        ("date", "20120229"),
        ("time", "135100"),
    ];
    PsamDebit {
        tenant: "demo".to_owned(),
        scheme: "cjt166".to_owned(),
        transaction: "purchase".to_owned(),
        fields: fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    }
}

/// What is going on when the daemon is killed. Each is killed a third of the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Work {
    KeyCreation,
    Purchase,
    Personalisation,
}

const WORK: [Work; 3] = [Work::KeyCreation, Work::Purchase, Work::Personalisation];
const CARDS: u32 = 20_000;

/// Does one kind of work until the daemon is gone.
async fn work(work: Work, client: Client, mut number: u32, acknowledged: Arc<Mutex<Acknowledged>>) -> u32 {
    loop {
        let over = match work {
            Work::KeyCreation => {
                number += 1;
                let made = client.post::<Key>("/v1/keys", &key(number - 1)).await;
                made.map(|key| acknowledged.lock().unwrap().kcvs.insert(key.id, key.kcv)).is_err()
            }
            Work::Purchase => {
                let bought = client.post::<PsamResult>("/v1/psam/debit", &purchase()).await;
                let mut acknowledged = acknowledged.lock().unwrap();
                bought
                    .map(|result| {
                        if !acknowledged.ttcs.insert(result.ttc.clone()) {
                            acknowledged.repeated.push(result.ttc);
                        }
                    })
                    .is_err()
            }
            Work::Personalisation => personalise(&client, &acknowledged).await.is_err(),
        };
        if over {
            *acknowledged.lock().unwrap().cut.entry(work).or_insert(0) += 1;
            return number;
        }
    }
}

/// Personalises the same cards again, line by line as they come: a card that had its keys has the same again.
async fn personalise(client: &Client, acknowledged: &Mutex<Acknowledged>) -> Result<usize, ClientError> {
    let cards: String = (0..CARDS).map(|card| format!("C{card},1150,{card:016}\n")).collect();
    let body =
        futures_util::stream::once(async move { Ok(bytes::Bytes::from(format!("card_id,city_code,asn\n{cards}"))) });
    let parameters = PersonaliseParameters {
        tenant: "demo".to_owned(),
        scheme: "cjt166".to_owned(),
        key_set: None,
        algorithms: "3des".to_owned(),
        version: "01".to_owned(),
        transport_key: "TK/01".to_owned(),
    };
    let answer = client.stream("/v1/cards/personalise", &parameters, "text/csv", body).await?;
    let mut pieces = std::pin::pin!(answer.pieces);
    let mut carry = Vec::new();
    let mut cards = 0;
    while let Some(piece) = pieces.next().await {
        carry.extend_from_slice(&piece?);
        let whole = carry.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = String::from_utf8(carry.drain(..whole).collect()).unwrap();
        let mut acknowledged = acknowledged.lock().unwrap();
        for line in lines.lines().filter(|line| !line.starts_with("card_id")) {
            let (card, keys) = line.split_once(',').unwrap();
            assert!(keys.starts_with("made,,"), "{line}");
            let known = acknowledged.cards.entry(card.to_owned()).or_insert_with(|| keys.to_owned());
            assert_eq!(known, keys, "card {card} has other keys now");
            cards += 1;
        }
    }
    Ok(cards)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_nothing_and_repeat_nothing() {
    let seed = std::env::var("CLAVIGER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("CLAVIGER_SEED={seed}");
    let mut random = Seeded(seed);
    let mut daemon = Daemon::start();
    let roles = ["DCCK", "DCMK", "DACK", "DAMK", "DPK", "DLK", "DTK", "DABK", "DPUK", "DRPK", "DULK", "DAUK", "TK"];
    for role in roles {
        let key = NewKey { scheme: "cjt166".to_owned(), role: role.to_owned(), version: "01".to_owned(), ..key(0) };
        let _: Key = daemon.client("officer").post("/v1/keys", &key).await.unwrap();
    }
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    let mut number = 0;
    for kill in 0..KILLS {
        let kind = WORK[kill as usize % WORK.len()];
        let client = daemon.client(["officer", "terminals", "card-management"][kill as usize % WORK.len()]);
        let working = tokio::spawn(work(kind, client, number, Arc::clone(&acknowledged)));
        // A batch of cards takes longer than a purchase, so that its kills fall all over the job.
        let longest = if kind == Work::Personalisation { 600_000 } else { 60_000 };
        tokio::time::sleep(Duration::from_micros(random.below(longest))).await;
        daemon.kill_and_restart();
        number = working.await.unwrap();
        let keys: KeyList = daemon
            .client("officer")
            .get("/v1/keys", &KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() })
            .await
            .unwrap();
        let there: BTreeMap<&str, &str> = keys.keys.iter().map(|key| (key.id.as_str(), key.kcv.as_str())).collect();
        let acknowledged = acknowledged.lock().unwrap();
        for (id, kcv) in &acknowledged.kcvs {
            assert_eq!(there.get(id.as_str()), Some(&kcv.as_str()), "key {id} is lost after kill {kill} (seed {seed})");
        }
        assert!(
            acknowledged.repeated.is_empty(),
            "terminal numbers came twice: {:?} (seed {seed})",
            acknowledged.repeated
        );
    }
    let all = personalise(&daemon.client("card-management"), &acknowledged).await.unwrap();
    assert_eq!(all, CARDS as usize, "every card gets its keys in the end");
    let acknowledged = acknowledged.lock().unwrap();
    assert!(WORK.iter().all(|work| acknowledged.cut[work] >= KILLS / 4), "cut off: {:?}", acknowledged.cut);
    assert!(acknowledged.kcvs.len() > 20 && acknowledged.ttcs.len() > 20, "the kills came before anything was done");
    let log = claviger::audit::verify(&daemon.data().join("audit.jsonl")).unwrap();
    assert!(
        log.head.records() >= (acknowledged.kcvs.len() + acknowledged.ttcs.len()) as u64,
        "every answer has its record"
    );
    println!(
        "{} keys, {} transaction numbers, {} cards acknowledged; cut off: {:?}",
        acknowledged.kcvs.len(),
        acknowledged.ttcs.len(),
        acknowledged.cards.len(),
        acknowledged.cut
    );
}
