//! The API's own description, made complete: every JSON body has an example of its own.

use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::SecurityScheme;
use utoipa::{Modify, ToSchema};

/// The bytes of a file, as the document describes them.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct Binary(#[expect(dead_code, reason = "a description has no value")] Vec<u8>);

/// Every call needs a client certificate.
pub(super) struct ClientCertificate;

impl Modify for ClientCertificate {
    fn modify(&self, document: &mut OpenApi) {
        let description = "A client certificate whose URI the configuration knows as a principal (TLS 1.3)".to_owned();
        let scheme = SecurityScheme::MutualTls { description: Some(description), deprecated: None, extensions: None };
        document.components.get_or_insert_default().add_security_scheme("clientCertificate", scheme);
    }
}

/// The document with an example of every JSON body, put together from those of its members where it has none.
pub(super) fn render(document: &OpenApi) -> String {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let schemas = document["components"]["schemas"].clone();
    let operations = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    for operation in operations.filter_map(Value::as_object_mut).flat_map(|methods| methods.values_mut()) {
        if let Some(body) = operation.get_mut("requestBody") {
            give_example(body, &schemas);
        }
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        responses
            .into_iter()
            .flat_map(|responses| responses.values_mut())
            .for_each(|body| give_example(body, &schemas));
    }
    document.to_string()
}

fn give_example(body: &mut Value, schemas: &Value) {
    let Some(content) = body.get_mut("content").and_then(|content| content.get_mut("application/json")) else { return };
    if content.get("example").is_none() {
        let example = content.get("schema").and_then(|schema| example_of(schema, schemas));
        if let (Some(example), Some(content)) = (example, content.as_object_mut()) {
            content.insert("example".to_owned(), example);
        }
    }
}

/// What a value of a schema looks like; `None` for a member that is better left away.
fn example_of(schema: &Value, schemas: &Value) -> Option<Value> {
    if let Some(example) = schema.get("example") {
        return Some(example.clone());
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|pointer| pointer.rsplit('/').next()) {
        return example_of(schemas.get(name)?, schemas);
    }
    if let Some(either) = schema.get("oneOf").and_then(Value::as_array) {
        return either.iter().find_map(|schema| example_of(schema, schemas));
    }
    if let Some(items) = schema.get("items") {
        return Some(Value::Array(vec![example_of(items, schemas)?]));
    }
    let members = schema.get("properties")?.as_object()?;
    let shown = members.iter().filter_map(|(name, schema)| Some((name.clone(), example_of(schema, schemas)?)));
    Some(Value::Object(shown.collect::<Map<_, _>>()))
}
