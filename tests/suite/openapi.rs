//! The API's own description is complete: every operation says what it takes, gives and refuses.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::daemon::Daemon;

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

/// Whether content that is text or JSON shows what it looks like, by itself or by the parts of its schema, each
/// of which has an example (see below).
fn has_example(kind: &str, content: &Value) -> bool {
    let shown_by_its_parts = content["schema"]["$ref"].is_string();
    let binary = kind == "application/octet-stream" || kind == "application/vnd.apache.arrow.stream";
    binary || shown_by_its_parts || !content["example"].is_null()
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
            if schema["example"].is_null() && !refers(schema) {
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
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 10), "{at} says nothing of itself");
            assert!(!operation["tags"].as_array().unwrap().is_empty(), "{at} has no tag");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = &parameter["name"];
                assert!(parameter["description"].is_string(), "{at}: {name} is not described");
                assert!(!parameter["example"].is_null(), "{at}: {name} has no example");
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
                for status in ["400", "403", "404", "409", "422", "503"] {
                    let problem = &responses[status]["content"]["application/problem+json"];
                    assert_eq!(problem["example"]["status"].to_string(), status, "{at}");
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
