//! Reads the OpenAPI document: which endpoints there are, what they take and what they may answer.

use crate::server::Server;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The document that the program serves.
pub(crate) fn served(server: &Server) -> Value {
    let reply = server.ask("GET", "/api/v1/openapi.json", None);
    serde_json::from_str(&reply.body).expect("JSON")
}

/// One endpoint of a document.
pub(crate) struct Endpoint {
    /// In capitals.
    pub(crate) method: String,
    /// With parameters in braces.
    pub(crate) path: String,
    /// All that is said of it.
    pub(crate) operation: Value,
}

impl Endpoint {
    /// `GET /api/v1/vms`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Its parameters' objects.
    pub(crate) fn parameters(&self) -> Vec<Value> {
        self.operation["parameters"].as_array().cloned().unwrap_or_default()
    }

    /// The schema of its body.
    pub(crate) fn body(&self, document: &Value) -> Option<Value> {
        let schema = &self.operation["requestBody"]["content"]["application/json"]["schema"];
        (!schema.is_null()).then(|| resolved(document, schema))
    }

    /// The statuses that it may answer.
    pub(crate) fn statuses(&self) -> BTreeSet<String> {
        self.operation["responses"].as_object().expect("responses").keys().cloned().collect()
    }
}

/// All endpoints of a document.
pub(crate) fn endpoints(document: &Value) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            all.push(Endpoint {
                method: method.to_uppercase(),
                path: path.clone(),
                operation: operation.clone(),
            });
        }
    }
    assert!(all.len() > 30, "the document has all endpoints");
    all
}

/// The schema that is meant: what a reference names, and what may be left out without its `null`.
pub(crate) fn resolved(document: &Value, schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return resolved(document, &document["components"]["schemas"][name]);
    }
    match schema["oneOf"].as_array() {
        Some(of) => {
            let meant = of.iter().find(|s| s["type"] != "null").expect("something");
            resolved(document, meant)
        }
        None => schema.clone(),
    }
}

/// The type of a schema's values that are not `null`.
pub(crate) fn kind(document: &Value, schema: &Value) -> String {
    let schema = resolved(document, schema);
    match &schema["type"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).find(|t| *t != "null"),
        one => one.as_str(),
    }
    .unwrap_or_else(|| panic!("no type: {schema}"))
    .to_owned()
}

/// An object's properties.
pub(crate) fn properties(schema: &Value) -> Map<String, Value> {
    schema["properties"].as_object().cloned().unwrap_or_default()
}

/// An object's properties that must be there.
pub(crate) fn required(schema: &Value) -> BTreeSet<String> {
    let all = schema["required"].as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}
