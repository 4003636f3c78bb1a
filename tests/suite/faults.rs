//! Ends of the process at any moment: what was acknowledged is there, and no terminal number comes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claviger_client::{Client, GenerateKey, Key, KeyFilter, KeyList, NewKey, PsamDebit, PsamResult};

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

/// Makes keys and purchases until the daemon is gone.
async fn work(officer: Client, terminals: Client, mut number: u32, acknowledged: Arc<Mutex<Acknowledged>>) -> u32 {
    loop {
        let generate = GenerateKey { key: key(number) };
        let made = officer.post::<Key>("/v1/keys", &generate);
        let debit = purchase();
        let bought = terminals.post::<PsamResult>("/v1/psam/debit", &debit);
        number += 1;
        let (made, bought) = tokio::join!(made, bought);
        let mut acknowledged = acknowledged.lock().unwrap();
        let over = made.is_err() && bought.is_err();
        if let Ok(key) = made {
            acknowledged.kcvs.insert(key.id, key.kcv);
        }
        if let Ok(result) = bought
            && !acknowledged.ttcs.insert(result.ttc.clone())
        {
            acknowledged.repeated.push(result.ttc);
        }
        if over {
            return number;
        }
    }
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
    let dpk = NewKey { scheme: "cjt166".to_owned(), role: "DPK".to_owned(), version: "01".to_owned(), ..key(0) };
    let _: Key = daemon.client("officer").post("/v1/keys", &GenerateKey { key: dpk }).await.unwrap();
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    let mut number = 0;
    for kill in 0..KILLS {
        let working =
            tokio::spawn(work(daemon.client("officer"), daemon.client("terminals"), number, Arc::clone(&acknowledged)));
        tokio::time::sleep(Duration::from_micros(random.below(60_000))).await;
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
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.kcvs.len() > 20 && acknowledged.ttcs.len() > 20, "the kills came before anything was done");
    let log = claviger::audit::verify(&daemon.data().join("audit.jsonl")).unwrap();
    assert!(log.records() >= (acknowledged.kcvs.len() + acknowledged.ttcs.len()) as u64, "every answer has its record");
}
