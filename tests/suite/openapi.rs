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

/// Whether a schema, or what it refers to, shows what a value looks like.
fn has_example(document: &Value, content: &Value) -> bool {
    fn shown(document: &Value, schema: &Value, depth: usize) -> bool {
        let target = schema["$ref"].as_str().and_then(|pointer| document.pointer(pointer.trim_start_matches('#')));
        let schema = target.unwrap_or(schema);
        let own = !schema["example"].is_null() || !schema["examples"].is_null() || schema["type"] == "boolean";
        let inner = schema["properties"].as_object().into_iter().flat_map(|members| members.values());
        let parts = ["allOf", "oneOf"].into_iter().filter_map(|name| schema[name].as_array()).flatten();
        let items = schema.get("items").into_iter();
        own || depth < 6 && inner.chain(parts).chain(items).any(|part| shown(document, part, depth + 1))
    }
    !content["example"].is_null() || shown(document, &content["schema"], 0)
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
                assert!(parameter["description"].is_string(), "{at}: {} is not described", parameter["name"]);
            }
            for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                let binary = !kind.ends_with("json");
                assert!(binary || has_example(&document, content), "{at}: {kind} has no example");
            }
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{at} never works");
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
    let mut found = BTreeSet::new();
    pointers(&document, &mut found);
    for pointer in found {
        assert!(document.pointer(pointer.trim_start_matches('#')).is_some(), "{pointer} leads nowhere");
    }
}
