//! The API's own description is complete: every operation says what it takes, gives and refuses.

use std::collections::BTreeSet;
use std::path::Path;

use claviger_client::{Client, ClientError};
use serde_json::{Value, json};

use crate::daemon::{Daemon, components};
use crate::exchange::KBPK;

fn pointers<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            if let Some(pointer) = members.get("$ref").and_then(Value::as_str) {
                found.insert(pointer);
            }
            members.values().for_each(|member| pointers(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| pointers(item, found)),
        _ => {}
    }
}

/// Whether content that is text or JSON shows what it looks like.
fn has_example(kind: &str, content: &Value) -> bool {
    let binary = kind == "application/octet-stream" || kind == "application/vnd.apache.arrow.stream";
    binary || !content["example"].is_null() || !content["examples"].is_null()
}

/// Members of objects that neither show an example nor are objects of their own.
fn without_example(schemas: &Value) -> Vec<String> {
    let refers = |schema: &Value| {
        let either = schema["oneOf"].as_array().into_iter().flatten().any(|schema| schema["$ref"].is_string());
        schema["$ref"].is_string() || schema["items"]["$ref"].is_string() || either
    };
    let mut found = Vec::new();
    for (name, schema) in schemas.as_object().unwrap() {
        for (member, schema) in schema["properties"].as_object().into_iter().flatten() {
            let optional = schema["type"].as_array().is_some_and(|types| types.contains(&"null".into()));
            if schema["example"].is_null() && !refers(schema) && !optional {
                found.push(format!("{name}.{member}"));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_says_what_it_takes_gives_and_refuses() {
    let daemon = Daemon::start();
    let document: Value = daemon.client("officer").get("/openapi.json", &()).await.unwrap();
    let (mut operations, mut ids) = (0, BTreeSet::new());
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 10), "{at} says nothing of itself");
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{at}: its id is another's");
            assert!(!operation["tags"].as_array().unwrap().is_empty(), "{at} has no tag");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = &parameter["name"];
                assert!(parameter["description"].is_string(), "{at}: {name} is not described");
                let optional = parameter["required"] == false;
                assert!(optional || !parameter["example"].is_null(), "{at}: {name} has no example");
            }
            for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                assert!(has_example(kind, content), "{at}: {kind} has no example");
            }
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{at} never works");
            for (status, response) in responses {
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{at}: {status}");
                for (kind, content) in response["content"].as_object().into_iter().flatten() {
                    assert!(has_example(kind, content), "{at}: {kind} of {status} has no example");
                }
            }
            if path.starts_with("/v1/") {
                operations += 1;
                for status in [400, 403, 404, 409, 422, 503] {
                    let problem = &responses[&status.to_string()]["content"]["application/problem+json"];
                    let examples = problem["examples"].as_object().unwrap();
                    assert!(examples.values().all(|example| example["value"]["status"] == status), "{at}");
                    assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{at}");
                }
            }
        }
    }
    assert!(operations >= 22, "{operations} operations");
    assert_eq!(without_example(&document["components"]["schemas"]), Vec::<String>::new());
    let mut found = BTreeSet::new();
    pointers(&document, &mut found);
    for pointer in found {
        assert!(document.pointer(pointer.trim_start_matches('#')).is_some(), "{pointer} leads nowhere");
    }
}

/// Problems that are told anywhere in the daemon, by their codes.
fn codes() -> BTreeSet<String> {
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut files = Vec::new();
    crate::architecture::rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut files);
    let api = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    let told = api.flat_map(|text| {
        let calls = text.split("Refusal::new(").skip(1).map(str::to_owned).collect::<Vec<_>>();
        calls.into_iter().filter_map(|call| Some(call.split_once('"')?.1.split_once('"')?.0.to_owned()))
    });
    let errors = read("src/service/error.rs");
    let errors = errors.split("pub fn code(&self)").nth(1).unwrap().split("pub fn status").next().unwrap();
    let of_errors = errors.split("=> \"").skip(1).map(|text| text.split_once('"').unwrap().0.to_owned());
    let approvals = read("src/service/approvals.rs");
    let approvals = approvals.split("fn code(&self)").nth(1).unwrap().split("/// A proposal").next().unwrap();
    let of_approvals = approvals.split("=> \"").skip(1).map(|text| text.split_once('"').unwrap().0.to_owned());
    told.chain(of_errors)
        .chain(of_approvals)
        .filter(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_is_in_the_document() {
    let daemon = Daemon::start();
    let document: Value = daemon.client("officer").get("/openapi.json", &()).await.unwrap();
    let responses = document["paths"]["/v1/keys"]["post"]["responses"].as_object().unwrap();
    let problems = responses
        .values()
        .filter_map(|response| response["content"]["application/problem+json"]["examples"].as_object());
    let known: BTreeSet<String> = problems.flat_map(|examples| examples.keys().cloned()).collect();
    let unknown: Vec<String> = codes().difference(&known).cloned().collect();
    assert!(unknown.is_empty() && known.len() > 30, "not in the document: {unknown:?}");
}

/// Makes the keys that the examples speak of; the id of one that none of them uses.
pub(crate) async fn keys_of_examples(officer: &Client) -> String {
    let roles = ["DCCK", "DCMK", "DACK", "DAMK", "DPK", "DLK", "DABK", "DPUK", "DRPK", "DULK", "DAUK", "IK", "TK"];
    let of_cards = roles.map(|role| ("cjt166", role, "01", "3des"));
    let others = [
        ("cjt166", "DPK", "02", "3des"),
        ("cjt166", "DUK", "01", "3des"),
        ("generic", "CMAC", "01", "sm4"),
        ("generic", "KEK", "01", "aes256"),
        ("generic", "DATA", "01", "aes128"),
        ("generic", "SIGN", "01", "sm2"),
    ];
    let mut id = String::new();
    // The key that protects the example's block.
    let kbpk = json!({"tenant": "demo", "scheme": "generic", "role": "KBPK", "version": "01", "algorithm": "aes256"});
    let import = json!({"key": kbpk, "components": components(KBPK)});
    let _: Value = officer.post("/v1/keys/import", &import).await.unwrap();
    for (scheme, role, version, algorithm) in of_cards.into_iter().chain(others) {
        let key =
            json!({ "tenant": "demo", "scheme": scheme, "role": role, "version": version, "algorithm": algorithm });
        let made: Value = officer.post("/v1/keys", &key).await.unwrap();
        if role == "DUK" {
            made["id"].as_str().unwrap().clone_into(&mut id);
        }
    }
    id
}

/// What an example asks: its query's parameters that have an example.
pub(crate) fn query_of(operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let pairs: Vec<String> = parameters
        .filter(|parameter| parameter["in"] == "query" && !parameter["example"].is_null())
        .map(|parameter| format!("{}={}", parameter["name"].as_str().unwrap(), parameter["example"].as_str().unwrap()))
        .filter(|pair| !pair.starts_with("layout="))
        .collect();
    pairs.join("&")
}

/// Every example of a JSON body works against a daemon that has the keys it speaks of.
#[tokio::test(flavor = "multi_thread")]
async fn examples_work() {
    let daemon = Daemon::start();
    let officer = daemon.client("officer");
    let document: Value = officer.get("/openapi.json", &()).await.unwrap();
    let id = keys_of_examples(&officer).await;
    let mut posted = 0;
    let mut paths: Vec<_> = document["paths"].as_object().unwrap().iter().collect();
    // The first example makes a key that others speak of.
    paths.sort_by_key(|(path, _)| *path != "/v1/keys");
    for (path, methods) in paths {
        // A backup is asked for without a body and is no JSON.
        let Some(operation) = methods.get("post").filter(|_| path != "/v1/backup") else { continue };
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        let at = format!("{}?{}", path.replace("{id}", &id), query_of(operation));
        let name = match path.as_str() {
            "/v1/transactions/verify" | "/v1/mac/verify" | "/v1/verify-signature" => "clearing",
            "/v1/psam/debit" => "terminals",
            path if ["/v1/keys", "/v1/policies", "/v1/approvals", "/v1/ceremonies", "/v1/unseal", "/v1/terminals"]
                .iter()
                .any(|at| path.starts_with(at)) =>
            {
                "officer"
            }
            _ => "card-management",
        };
        match daemon.client(name).post::<Value>(&at, example).await {
            Ok(_) => posted += 1,
            // The development daemon is open already.
            Err(ClientError::Problem(problem)) if path.starts_with("/v1/unseal") => {
                assert_eq!(problem.code, "seal_unusable");
            }
            // It has one backend, which holds the key already and no keys of its own.
            Err(ClientError::Problem(problem)) if path == "/v1/keys/adopt" => assert_eq!(problem.code, "unsupported"),
            Err(ClientError::Problem(problem)) if path == "/v1/keys/{id}/replicas" => {
                assert_eq!((problem.code.as_str(), problem.field.as_deref()), ("bad_field", Some("key")));
            }
            // Its policies are those that it started with.
            Err(ClientError::Problem(problem)) if path == "/v1/policies" => {
                assert_eq!(problem.field.as_deref(), Some("sha256"));
            }
            Err(ClientError::Problem(problem)) if path == "/v1/keys/{id}/ceiling" => {
                assert!(problem.detail.contains("which the key has anyway"), "{problem:?}");
            }
            Err(ClientError::Problem(problem)) if path == "/v1/keys/{id}/export" => {
                assert_eq!(problem.code, "refused", "the key may not leave: {problem:?}");
            }
            // Nobody can sign before there is something to sign.
            Err(ClientError::Problem(problem)) if path == "/v1/approvals/{id}/votes" => {
                assert_eq!(problem.code, "no_proposal");
            }
            Err(ClientError::Problem(problem)) if path.starts_with("/v1/ceremonies/{id}") => {
                assert_eq!(problem.code, "no_ceremony");
            }
            Err(ClientError::Problem(problem)) if path == "/v1/keys/{id}/move" => {
                assert_eq!(problem.code, "not_the_next_step");
            }
            Err(error) => panic!("{at}: {error}"),
        }
    }
    assert!(posted >= 19, "{posted} examples were sent");
}
