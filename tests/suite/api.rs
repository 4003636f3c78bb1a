//! The HTTP API as a client sees it.

use claviger_client::{Health, Key, KeyFilter, KeyList, RandomBytes, RandomRequest, VerifyRecords, VerifyResult};
use serde_json::{Value, json};

use crate::daemon::{Daemon, problem};
use crate::main_job::import_keys;

#[tokio::test(flavor = "multi_thread")]
async fn a_few_records_come_and_go_as_json() {
    let daemon = Daemon::start();
    import_keys(&daemon, "pboc-3des");
    let day = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/days/pboc-3des-day.csv")).unwrap();
    let truth =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/days/pboc-3des-truth.csv")).unwrap();
    let mut lines = day.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let record = |line: &str| {
        header.iter().zip(line.split(',')).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
    };
    let records = VerifyRecords { records: lines.map(record).collect() };
    let path = "/v1/transactions/verify?tenant=demo&scheme=pboc";
    let result: VerifyResult = daemon.client("clearing").post(path, &records).await.unwrap();
    let found: Vec<String> =
        result.verdicts.iter().map(|v| format!("{},{},{}", v.record_id, v.verdict, v.reason)).collect();
    assert_eq!(found, truth.lines().skip(1).collect::<Vec<_>>());
    assert_eq!(result.counts["valid"], 4860);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_checked_before_anything_else_and_never_told() {
    let daemon = Daemon::start();
    let officer = daemon.client("officer");
    let import = |components: Value| json!({ "key": { "tenant": "demo", "scheme": "pboc", "role": "DTK", "version": "01", "algorithm": "3des" }, "components": components });
    let refused = problem(officer.post::<Key>("/v1/keys/import", &import(json!([12345, "00"]))).await);
    assert_eq!(
        (refused.status, refused.code.as_str(), refused.field.as_deref()),
        (400, "bad_body", Some("components[0]"))
    );
    assert!(!refused.detail.contains("12345"), "{}", refused.detail);
    let refused = problem(officer.post::<Key>("/v1/keys", &json!({ "tenant": "demo" })).await);
    assert!(refused.code == "bad_body" && refused.detail.contains("missing field `scheme`"), "{}", refused.detail);
    assert_eq!(refused.field.as_deref(), Some("scheme"));
    let refused = problem(officer.post::<Key>("/v1/keys", &json!({ "tenant": "demo", "scheme": 5 })).await);
    assert_eq!(refused.field.as_deref(), Some("scheme"));
    assert!(refused.detail.ends_with("expected a string"), "{}", refused.detail);
    let refused = problem(officer.post::<Key>("/v1/keys", &json!({ "tenent": "demo" })).await);
    assert!(refused.detail.contains("unknown field `tenent`"), "{}", refused.detail);
    let clearing = daemon.client("clearing");
    let verify = async |record: Value| {
        let path = "/v1/transactions/verify?tenant=demo&scheme=pboc";
        problem(clearing.post::<VerifyResult>(path, &json!({ "records": [{ "tac": "00" }, record] })).await)
    };
    let refused = verify(json!({ "tac": 12345 })).await;
    assert_eq!((refused.status, refused.field.as_deref()), (400, Some("records[1].tac")));
    assert!(!refused.detail.contains("12345"), "{}", refused.detail);
    let refused = verify(json!({ "colour": "red" })).await;
    assert_eq!((refused.status, refused.field.as_deref()), (422, Some("records[].colour")));
    let refused = problem(officer.post::<Key>("/v1/keys", &json!({ "tenant": "x".repeat(5 << 20) })).await);
    assert_eq!((refused.status, refused.code.as_str()), (413, "body_too_large"));
    let refused = problem(officer.get::<Value>("/v1/nothing", &()).await);
    assert_eq!((refused.status, refused.code.as_str()), (404, "no_route"));
    let refused = problem(officer.get::<KeyList>("/v1/keys", &[("tenant", "demo"), ("colour", "red")]).await);
    assert_eq!(refused.code, "bad_query");
    let refused = problem(officer.post::<RandomBytes>("/v1/random", &RandomRequest { len: 0 }).await);
    assert_eq!((refused.status, refused.field.as_deref()), (422, Some("len")));
    let refused = problem(officer.get::<Key>("/v1/keys/0123", &()).await);
    assert_eq!(refused.code, "no_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_and_the_rest_is_served() {
    let daemon = Daemon::start();
    let auditor = daemon.client("auditor");
    let document: Value = auditor.get("/openapi.json", &()).await.unwrap();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    for path in [
        "/v1/keys",
        "/v1/keys/import",
        "/v1/keys/{id}",
        "/v1/keys/{id}/state",
        "/v1/transactions/verify",
        "/v1/random",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert!(paths.iter().any(|known| *known == path), "{path} is not described");
    }
    let health: Health = auditor.get("/readyz", &()).await.unwrap();
    assert_eq!(health.status, "ok");
    let keys: KeyList =
        auditor.get("/v1/keys", &KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() }).await.unwrap();
    assert!(keys.keys.is_empty());
    let random: RandomBytes = auditor.post("/v1/random", &RandomRequest { len: 32 }).await.unwrap();
    assert_eq!(random.bytes.len(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_survive_the_end_of_the_process() {
    let mut daemon = Daemon::start();
    import_keys(&daemon, "cjt166-mixed");
    let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
    let before: KeyList = daemon.client("officer").get("/v1/keys", &filter).await.unwrap();
    daemon.kill_and_restart();
    let after: KeyList = daemon.client("officer").get("/v1/keys", &filter).await.unwrap();
    assert_eq!(before, after);
    assert_eq!(after.keys.len(), 6);
}
