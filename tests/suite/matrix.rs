//! Every operation of the served description, asked by every duty, of keys in every state: who is let through, and nobody else.

use std::path::Path;

use claviger_client::{Key, KeyFilter, KeyList, SetKeyState};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::openapi::{keys_of_examples, query_of};
use crate::reload::{configuration, reload};

const DUTIES: [(&str, &str); 6] = [
    ("card-management", "card-management"),
    ("clearing", "clearing"),
    ("terminals", "terminals"),
    ("officer", "officer"),
    ("auditor", "auditor"),
    // A certificate and a tenant, and no duty.
    ("officer-3", "nobody"),
];
/// As a key may come to them one after another; none that the API makes is pre-active.
const STATES: [&str; 5] = ["active", "suspended", "deactivated", "compromised", "destroyed"];
const EVERYBODYS: [&str; 6] =
    ["GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json", "POST /v1/random", "GET /v1/schemes/{id}"];

/// Whom an operation is for, by address, written down a third time.
fn expected(operation: &str, duty: &str, state: &str) -> bool {
    let (managers, clearing, terminals) = (duty == "card-management", duty == "clearing", duty == "terminals");
    let (officers, auditors) = (duty == "officer", duty == "auditor");
    // A compromised key settles old records and does nothing else.
    let sound = state != "compromised";
    match operation {
        "POST /v1/cards/authenticate" | "POST /v1/cards/command" | "POST /v1/cards/write-key" => managers && sound,
        "POST /v1/cards/personalise" | "POST /v1/purse" => managers && sound,
        "POST /v1/encrypt" | "POST /v1/mac/generate" | "POST /v1/sign" => managers && sound,
        "POST /v1/decrypt" | "POST /v1/mac/verify" | "POST /v1/verify-signature" => (managers || clearing) && sound,
        "POST /v1/psam/debit" => terminals && sound,
        "POST /v1/transactions/verify" => clearing,
        "GET /v1/keys" | "GET /v1/keys/{id}" | "POST /v1/keys/{id}/kcv" | "GET /v1/keys/{id}/move" => {
            officers || auditors
        }
        "GET /v1/keys/{id}/public-key" => officers || auditors,
        // No other set waits: whoever may see that hears so.
        "GET /v1/policies" | "POST /v1/policies" => officers || auditors,
        "GET /v1/keys/{id}/who-can" | "GET /v1/backends" | "GET /v1/principals" | "GET /v1/approvals" => {
            officers || auditors
        }
        // There is no such proposal, and no such ceremony: everybody hears so.
        "GET /v1/approvals/{id}" | "POST /v1/approvals/{id}/votes" => true,
        name if name.contains("/v1/ceremonies/{id}") => true,
        "GET /v1/ceremonies" => officers || auditors,
        "POST /v1/ceremonies/check" | "POST /v1/backup" => officers,
        // Others approve them.
        "POST /v1/ceremonies" | "POST /v1/terminals" | "POST /v1/unseal" => false,
        "GET /v1/audit/jobs/{job}/blinding" => auditors,
        // Each officer alone, but for what takes two others: masters in the daemon's memory, copies, the end of a key.
        // The example of a dispersion is a city's key, which has cards below it.
        "POST /v1/keys/{id}/state" | "POST /v1/unseal/shares" => officers,
        "POST /v1/keys" | "POST /v1/keys/adopt" | "POST /v1/keys/import" | "POST /v1/keys/{id}/replicas" => false,
        "POST /v1/keys/unwrap" | "POST /v1/keys/{id}/export" | "POST /v1/keys/{id}/ceiling" => false,
        "POST /v1/keys/{id}/move" => false,
        "DELETE /v1/keys/{id}/ceiling" => officers,
        // A key that is destroyed has no place any more in which its child would be a master.
        "POST /v1/keys/disperse" => officers && state == "destroyed",
        other => panic!("{other} stands in no matrix"),
    }
}

/// Has every key that is not there yet follow to a state, by policies that let one officer do it.
async fn bring_to(daemon: &Daemon, production: &str, state: &str, except: &str) {
    let relaxed = production.replace("policies = \"own\"", "policies = \"dev\"");
    assert!(reload(daemon, &relaxed).await.contains("done"));
    let officer = daemon.client("officer");
    let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
    let KeyList { keys } = officer.get("/v1/keys", &filter).await.unwrap();
    for key in keys.iter().filter(|key| key.id != except && key.state != state) {
        let to = SetKeyState { state: state.to_owned() };
        let moved: Key = officer.post(&format!("/v1/keys/{}/state", key.id), &to).await.unwrap();
        assert_eq!(moved.state, state);
    }
    assert!(reload(daemon, production).await.contains("done"));
}

/// The production set, but for one thing that no caller sees: the configuration puts another in its place.
fn production_that_the_host_changes(own: &Path) {
    std::fs::create_dir(own).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/production");
    for file in std::fs::read_dir(shipped).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), own.join(file.file_name())).unwrap();
    }
    let host = "@id(\"own.host\") @reason(\"a test changes them\")\n\
        permit (principal == Claviger::Node::\"host\", action == Claviger::Action::\"change_policies\", resource);\n";
    std::fs::write(own.join("host.cedar"), host).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_every_duty_in_every_state_is_what_it_should_be() {
    let daemon = Daemon::start();
    let officer = daemon.client("officer");
    let id = keys_of_examples(&officer).await;
    let document: Value = officer.get("/openapi.json", &()).await.unwrap();
    // The first example makes a key that others speak of.
    let first = &document["paths"]["/v1/keys"]["post"]["requestBody"]["content"]["application/json"]["example"];
    let _: Key = officer.post("/v1/keys", first).await.unwrap();
    let tables: Vec<String> = configuration(&daemon)
        .replace("policies = \"dev\"", "policies = \"own\"")
        .split("[[principal]]")
        .map(|table| match table.contains("officer-3") {
            true => table.replace("roles = [\"officer\"]", "roles = []"),
            false => table.to_owned(),
        })
        .collect();
    let production = tables.join("[[principal]]");
    production_that_the_host_changes(&daemon.data().join("own"));
    let (mut cells, mut let_through) = (0, 0);
    for state in STATES {
        bring_to(&daemon, &production, state, &id).await;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let name = format!("{} {path}", method.to_uppercase());
                let example = &operation["requestBody"]["content"]["application/json"]["example"];
                let at = format!(
                    "{}?{}",
                    path.replace("{id}", &id).replace("{job}", "5f0c3a9d21e87b46"),
                    query_of(operation)
                );
                for (who, duty) in DUTIES {
                    let client = daemon.client(who);
                    let answer = match method.as_str() {
                        "get" => client.get::<Value>(&at, &()).await,
                        "delete" => client.delete::<Value>(&at).await,
                        _ => client.post::<Value>(&at, example).await,
                    };
                    // What is no JSON, as the metrics, is an answer all the same.
                    let code = match answer {
                        Err(claviger_client::ClientError::Problem(refused)) => refused.code,
                        _ => "done".to_owned(),
                    };
                    let cell = format!("{name} by {duty}, keys {state}: {code}");
                    let refused = ["denied", "approval_needed"].contains(&code.as_str());
                    if EVERYBODYS.contains(&name.as_str()) || expected(&name, duty, state) {
                        assert!(!refused, "{cell}");
                        let_through += 1;
                    } else {
                        // A key that nobody may use any more need not be there for those who may not use it.
                        let hidden = ["no_key", "no_role_key", "unknown_scheme"].contains(&code.as_str());
                        assert!(refused || (hidden && state != "active"), "{cell}");
                    }
                    cells += 1;
                }
            }
        }
    }
    assert!(cells > 1000 && let_through > 200, "{cells} cells, {let_through} let through");
}
