//! Ceilings that are raised for a time: the token is told each time, and the clock needs nobody.

use std::time::{Duration, Instant};

use claviger_client::{AdoptKey, ClientError, Key, NewKey, RaiseCeiling, RaisedCeiling, VerifyRecords, VerifyResult};

use crate::daemon::{Daemon, problem};
use crate::token_keys::{DTK, dtk, import, record, words};
use crate::tokens::Token;

const LABEL: &str = "demo/cjt166/DTK 3des 01 ceiling ";

async fn raise(daemon: &Daemon, key: &Key, lasting: &str) -> Result<Key, ClientError> {
    let raise = RaiseCeiling { ceiling: "card-key".to_owned(), lasting: lasting.to_owned() };
    daemon.client("officer").post(&format!("/v1/keys/{}/ceiling", key.id), &raise).await
}

async fn lower(daemon: &Daemon, key: &Key) -> Key {
    daemon.client("officer").delete(&format!("/v1/keys/{}/ceiling", key.id)).await.unwrap()
}

/// What clearing hears of a right record and a wrong one.
async fn verify(daemon: &Daemon) -> Result<Vec<String>, ClientError> {
    let fields = |right| serde_json::from_value(record(right)).unwrap();
    let records = VerifyRecords { records: vec![fields(true), fields(false)] };
    let at = "/v1/transactions/verify?tenant=demo&scheme=cjt166";
    let VerifyResult { verdicts, .. } = daemon.client("clearing").post(at, &records).await?;
    Ok(verdicts.into_iter().map(|verdict| verdict.verdict).collect())
}

async fn is_refused(daemon: &Daemon) {
    let refused = problem(verify(daemon).await);
    assert_eq!(refused.code, "exposure_above_ceiling", "{refused:?}");
}

/// Whether another daemon finds that the token itself lets the object do no more than a ceiling says.
async fn token_keeps_to(token: &Token, object: &str, ceiling: &str) -> Result<Key, ClientError> {
    let other = Daemon::with_backends(&token.backend("room", "on-prem", ""));
    let key = NewKey { backends: words(&["room"]), ceiling: Some(ceiling.to_owned()), ..dtk() };
    let adopt = AdoptKey { key, object: format!("{LABEL}{object}"), kcv: None, records: Vec::new() };
    other.client("officer").post("/v1/keys/adopt", &adopt).await
}

async fn a_ceiling_goes_up_and_comes_down(token: Token) {
    let daemon = Daemon::with_backends(&token.backend("room", "on-prem", ""));
    let key = import(&daemon, NewKey { ceiling: Some("nothing".to_owned()), ..dtk() }, DTK).await;
    is_refused(&daemon).await;

    for wrong in ["0s", "169h", "soon"] {
        assert_eq!(problem(raise(&daemon, &key, wrong).await).field.as_deref(), Some("lasting"), "{wrong}");
    }
    let raised = raise(&daemon, &key, "1h 30m").await.unwrap();
    let Some(RaisedCeiling { ceiling, until }) = &raised.raised else { panic!("{raised:?}") };
    assert_eq!((raised.ceiling.as_str(), ceiling.as_str(), raised.behind.len()), ("nothing", "card-key", 0));
    let left = until.parse::<jiff::Timestamp>().unwrap().duration_since(jiff::Timestamp::now()).as_secs();
    assert!((5300..=5400).contains(&left), "{left}");
    assert_eq!(verify(&daemon).await.unwrap(), ["valid", "invalid"]);
    let refused = problem(token_keeps_to(&token, "card-key", "nothing").await);
    assert!(refused.detail.contains("CKA_ENCRYPT"), "{refused:?}");

    // Before its time, and a second time.
    for _ in 0..2 {
        assert_eq!(lower(&daemon, &key).await.raised, None);
        is_refused(&daemon).await;
    }
    token_keeps_to(&token, "nothing", "nothing").await.unwrap();

    // By the clock, whoever is there to see it.
    raise(&daemon, &key, "2s").await.unwrap();
    assert_eq!(verify(&daemon).await.unwrap(), ["valid", "invalid"]);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    is_refused(&daemon).await;
    let begun = Instant::now();
    while !std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap().contains("\"ceiling_over\"") {
        assert!(begun.elapsed() < Duration::from_secs(40), "nobody takes it back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    token_keeps_to(&token, "nothing", "nothing").await.unwrap();
    is_refused(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_goes_up_and_comes_down_on_softhsm() {
    a_ceiling_goes_up_and_comes_down(Token::softhsm()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_goes_up_and_comes_down_on_nss() {
    a_ceiling_goes_up_and_comes_down(Token::nss()).await;
}

/// A daemon that was not there when the time was over takes it back when it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_is_over_while_nobody_is_there() {
    let token = Token::softhsm();
    let mut daemon = Daemon::with_backends(&token.backend("room", "on-prem", ""));
    let key = import(&daemon, NewKey { ceiling: Some("nothing".to_owned()), ..dtk() }, DTK).await;
    raise(&daemon, &key, "1s").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    daemon.kill_and_restart();
    is_refused(&daemon).await;
    token_keeps_to(&token, "nothing", "nothing").await.unwrap();
    // A key that ends is not raised.
    let end = |state: &str| serde_json::json!({ "state": state });
    let at = format!("/v1/keys/{}/state", key.id);
    let _: Key = daemon.client("officer").post(&at, &end("compromised")).await.unwrap();
    assert_eq!(problem(raise(&daemon, &key, "1h").await).field.as_deref(), Some("key"));
}
