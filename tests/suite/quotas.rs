//! Limits of callers and tenants, and what was used.

use std::time::Duration;

use claviger_client::{Client, ClientError, MacGenerate, MacResult};

use crate::daemon::{Daemon, cli, problem, words};
use crate::load::{CMAC, MESSAGE, generic, into, reference};
use crate::reload::{configuration, reload};

async fn macs(client: &Client, count: usize) -> Result<MacResult, ClientError> {
    let messages = vec![MESSAGE.to_owned(); count];
    let request = MacGenerate { key: reference(), padding: "none".to_owned(), length: None, messages };
    client.post("/v1/mac/generate", &request).await
}

/// The configuration with a line more in the caller's table.
fn limited(whole: &str, line: &str) -> String {
    let uri = "uri = \"claviger://service/card-management\"\n";
    assert!(whole.contains(uri));
    whole.replacen(uri, &format!("{uri}{line}\n"), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_ask_too_much_are_told_when_to_come_again() {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let whole = configuration(&daemon);
    let client = daemon.client("card-management");
    assert!(reload(&daemon, &limited(&whole, "calls_per_second = 5")).await.contains("done"));
    let mut refused = 0;
    for _ in 0..40 {
        if let Err(ClientError::Problem(told)) = macs(&client, 1).await {
            assert_eq!((told.code.as_str(), told.status), ("too_many", 429));
            refused += 1;
        }
    }
    assert!(refused >= 20, "{refused} of 40 were refused");
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    let told = log.lines().filter(|line| line.contains("\"outcome\":\"too_many\"")).count();
    assert!((1..=refused / 2).contains(&told), "{told} records of {refused} refusals");
    // Others are not its concern, and after a while it is heard again.
    let filter = claviger_client::KeyFilter { tenant: "demo".to_owned(), scheme: None, role: None };
    daemon.client("officer").get::<claviger_client::KeyList>("/v1/keys", &filter).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    macs(&client, 1).await.unwrap();

    assert!(reload(&daemon, &limited(&whole, "calls_at_once = 2")).await.contains("done"));
    let calls = (0..24).map(|_| {
        let client = daemon.client("card-management");
        tokio::spawn(async move { macs(&client, 4000).await.map(drop) })
    });
    let mut codes = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        if let Err(ClientError::Problem(told)) = call.await.unwrap() {
            codes.push(told.code);
        }
    }
    assert!(codes.iter().all(|code| code == "too_many") && !codes.is_empty(), "{codes:?}");
    macs(&client, 1).await.unwrap();
}

/// Whatever is asked counts, and from the header on.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_nothing_count_and_so_do_those_that_have_not_come_whole() {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let whole = configuration(&daemon);
    let client = daemon.client("card-management");
    assert!(reload(&daemon, &limited(&whole, "calls_per_second = 2")).await.contains("done"));
    let wrong = serde_json::json!({ "no": "body" });
    let mut codes = std::collections::BTreeMap::<String, u32>::new();
    let begun = std::time::Instant::now();
    for number in 0..30 {
        let path = ["/v1/nothing", "/v1/keys/import", "/v1/mac/generate"][number % 3];
        let told = problem(client.post::<serde_json::Value>(path, &wrong).await);
        *codes.entry(told.code).or_default() += 1;
    }
    // Two at once, and two for each second since.
    let most = 3 + 2 * begun.elapsed().as_secs() as u32;
    let let_in = 30 - codes.get("too_many").copied().unwrap_or_default();
    assert!((2..=most).contains(&let_in), "{codes:?} in {:?}", begun.elapsed());

    assert!(reload(&daemon, &limited(&whole, "calls_at_once = 1")).await.contains("done"));
    let begun = daemon.client("card-management");
    let (more, pieces) = tokio::sync::mpsc::unbounded_channel::<Result<bytes::Bytes, std::io::Error>>();
    more.send(Ok(bytes::Bytes::from_static(b"{"))).unwrap();
    let pieces = futures_util::stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) });
    let held = tokio::spawn(async move {
        begun.stream("/v1/mac/generate", &(), "application/json", Box::pin(pieces)).await.map(drop)
    });
    // Nothing else is asked before it has come, or that might be refused in its place.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(problem(macs(&client, 1).await).code, "too_many", "a body that is still to come counts for nothing");
    drop(more);
    assert!(held.await.unwrap().is_err());
    macs(&client, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_its_items_and_no_more_and_the_log_says_what_it_used() {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let client = daemon.client("card-management");
    macs(&client, 30).await.unwrap();
    // Also what was used before the daemon started anew without a quota counts, once there is one.
    let whole = configuration(&daemon);
    let daemon = daemon.serve(&whole);
    let client = daemon.client("card-management");
    let limited = format!("{whole}\n[[quota]]\ntenant = \"demo\"\nitems_per_day = 100\n");
    assert!(reload(&daemon, &limited).await.contains("done"));
    macs(&client, 60).await.unwrap();
    let refused = problem(macs(&client, 11).await);
    assert_eq!((refused.code.as_str(), refused.status), ("quota", 429));
    macs(&client, 10).await.unwrap();
    assert_eq!(problem(macs(&client, 1).await).code, "quota");
    // What is no use of a key goes on: an officer still suspends one, and resumes it.
    let officer = daemon.client("officer");
    let filter = claviger_client::KeyFilter { tenant: "demo".to_owned(), scheme: None, role: None };
    let keys: claviger_client::KeyList = officer.get("/v1/keys", &filter).await.unwrap();
    for state in ["suspended", "active"] {
        let change = claviger_client::SetKeyState { state: state.to_owned() };
        let key: claviger_client::Key =
            officer.post(&format!("/v1/keys/{}/state", keys.keys[0].id), &change).await.unwrap();
        assert_eq!(key.state, state);
    }
    // A daemon that starts again knows what was used today.
    let daemon = daemon.serve(&limited);
    assert_eq!(problem(macs(&daemon.client("card-management"), 1).await).code, "quota");

    let log = daemon.data().join("audit.jsonl");
    let output = cli(&["usage", log.to_str().unwrap(), "--tenant", "demo", "--json"]);
    let used: Vec<serde_json::Value> = String::from_utf8(output.stdout.clone())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let macs =
        used.iter().find(|used| used["action"] == "generate_mac").unwrap_or_else(|| panic!("{}", words(&output)));
    assert_eq!((&macs["calls"], &macs["items"]), (&3.into(), &100.into()));
    let none = cli(&["usage", log.to_str().unwrap(), "--until", "2020-01-01"]);
    assert!(words(&none).contains("nothing was used"), "{}", words(&none));
    std::fs::write(&log, std::fs::read_to_string(&log).unwrap().replacen("generate_mac", "verify_mac", 1)).unwrap();
    assert!(words(&cli(&["usage", log.to_str().unwrap()])).contains("nothing is billed"));
}
