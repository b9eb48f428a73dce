//! `/api/v1` stays what it was: whatever the document and the answers of its first release had,
//! today's have too. More may come to it.
//!
//! `data/openapi.json` is the document and `data/answers.json` an answer of each endpoint, as they
//! were then. They are never made anew: a client that was written for them must go on working.

use crate::data_centre::{DataCentre, data, stray};
use crate::document::{endpoints, kind as kind_of, properties, required, resolved, served};
use crate::server::Server;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn stored(name: &str) -> Value {
    let text = std::fs::read_to_string(data(name)).expect("it is there");
    serde_json::from_str(&text).expect("JSON")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What `old` has and `new` has not, or has as something else. Of a list the first elements are
/// compared; `null` may become a value and a value `null`.
fn lost(old: &Value, new: &Value, at: &str, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                match new.get(key) {
                    Some(other) => lost(value, other, &format!("{at}.{key}"), found),
                    None => found.push(format!("{at}.{key} is gone")),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            if let (Some(old), Some(new)) = (old.first(), new.first()) {
                lost(old, new, &format!("{at}[0]"), found);
            } else if !old.is_empty() {
                found.push(format!("{at} is empty"));
            }
        }
        (old, new) if kind(old) != kind(new) => {
            found.push(format!("{at} was {} and is {}", kind(old), kind(new)));
        }
        _ => {}
    }
}

/// An answer of every endpoint that reads or makes something, by its method and path.
fn answers() -> BTreeMap<String, Value> {
    let centre = DataCentre::start(vec![stray(77, 3)]);
    let mut all = BTreeMap::new();
    let mut ask = |status: u16, method: &str, path: &str, body: Value| {
        let (got, answer) = centre.ask(method, path, (!body.is_null()).then_some(&body));
        assert_eq!(got, status, "{method} {path}: {answer}");
        all.insert(format!("{method} {path}"), answer.clone());
        answer
    };
    let first = ask(201, "POST", "/api/v1/vms", json!({ "name": "one", "timeout": 3600 }));
    let second = ask(201, "POST", "/api/v1/vms", json!({}));
    let members = json!({ "members": [first["address"], second["address"]] });
    let vm = first["id"].as_u64().expect("an id");
    ask(201, "POST", "/api/v1/groups", members);
    ask(204, "PATCH", &format!("/api/v1/vms/{vm}"), json!({ "ram": 1_073_741_824u64 }));
    ask(204, "PUT", &format!("/api/v1/vms/{vm}/pin"), json!({ "switches": ["edge1"] }));
    ask(204, "PUT", "/api/v1/ports/edge2/1", json!({ "up": false }));
    ask(200, "POST", "/api/v1/plans", json!({ "aim": "move", "vm": vm, "to": "srv2" }));
    // An answer may come before the snapshot that shows it.
    centre.until("the plan is shown", "/api/v1/plans/1", |plan| !plan["id"].is_null());
    ask(200, "GET", "/api/v1/plans/1", Value::Null);
    ask(409, "POST", "/api/v1/vms", json!({ "cpu": 60_000 }));
    ask(404, "GET", "/api/v1/vms/999", Value::Null);
    let moved = second["id"].as_u64().expect("an id");
    let place = centre.until("the VM is there", "/api/v1/vms", |vms| vms[1]["server_name"].is_string());
    let to = if place[1]["server_name"] == "srv1" { "srv2" } else { "srv1" };
    ask(202, "POST", "/api/v1/migrations", json!({ "vm": moved, "to": to }));
    centre.until("it has moved", "/api/v1/migrations/1", |m| !m["ended"].is_null());
    ask(200, "GET", "/api/v1/migrations/1", Value::Null);
    ask(200, "PUT", "/api/v1/servers/srv4/evacuation", json!({}));
    ask(201, "POST", "/api/v1/tokens", json!({ "name": "grafana", "minutes": 60 }));
    ask(201, "POST", "/api/v1/agents/tokens", json!({ "name": "edge1", "address": "127.0.0.1:6655" }));
    ask(200, "GET", &format!("/api/v1/vms/{vm}"), Value::Null);
    for list in [
        "overview",
        "switches",
        "classes",
        "links",
        "surprises",
        "servers",
        "hosts",
        "notices",
        "vms",
        "overrides",
        "strays",
        "groups",
        "rules/edge1",
        "migrations",
        "plans",
        "hotspots",
        "agents",
        "tokens",
    ] {
        ask(200, "GET", &format!("/api/v1/{list}"), Value::Null);
    }
    all
}

#[test]
fn no_answer_has_lost_anything_that_it_had_in_the_first_release() {
    let (old, new) = (stored("answers.json"), answers());
    let mut found = Vec::new();
    for (asked, answer) in old.as_object().expect("answers") {
        match new.get(asked) {
            Some(other) => lost(answer, other, asked, &mut found),
            None => found.push(format!("{asked} is not asked any more")),
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Statuses that the first release's document had and that were never given, and why they are not
/// given now either.
const NEVER_GIVEN: &[(&str, &str)] = &[
    // A server that is out of service is planned for again: VMs that found no room may have some
    // now.
    ("PUT /api/v1/servers/{server}/evacuation", "409"),
];

/// The parts of a body's schema that a client relies on: which properties it may send, of which
/// type, and that no more must be there.
fn narrower(at: &str, documents: [&Value; 2], schemas: [Value; 2], found: &mut Vec<String>) {
    let [old, new] = schemas;
    let kinds = [kind_of(documents[0], &old), kind_of(documents[1], &new)];
    if kinds[0] != kinds[1] {
        found.push(format!("{at} was {} and is {}", kinds[0], kinds[1]));
    }
    if kinds[0] == "array" {
        let items = [resolved(documents[0], &old["items"]), resolved(documents[1], &new["items"])];
        // What a list of texts has is a text.
        if items[0]["properties"].is_object() {
            narrower(&format!("{at}[]"), documents, items, found);
        }
        return;
    }
    let there = properties(&new);
    for (name, property) in properties(&old) {
        match there.get(&name) {
            None => found.push(format!("{at}.{name} is gone")),
            Some(other) => {
                let (was, is) = (kind_of(documents[0], &property), kind_of(documents[1], other));
                if was != is {
                    found.push(format!("{at}.{name} was {was} and is {is}"));
                }
            }
        }
    }
    let more: Vec<String> = required(&new).difference(&required(&old)).cloned().collect();
    if !more.is_empty() {
        found.push(format!("{at} now needs {}", more.join(", ")));
    }
}

/// True when a parameter is of this type, or of several among which it is.
fn takes(document: &Value, schema: &Value, wanted: &str) -> bool {
    let typed = parts(document, schema).into_iter().filter(|part| !part["type"].is_null());
    typed.into_iter().any(|part| kind_of(document, &part) == wanted)
}

#[test]
fn the_document_still_has_every_path_parameter_property_and_status_of_the_first_release() {
    let server = Server::start();
    let (old, new) = (stored("openapi.json"), served(&server));
    let mut found = Vec::new();
    let there = endpoints(&new);
    for endpoint in endpoints(&old) {
        let name = endpoint.name();
        let Some(now) = there.iter().find(|e| e.name() == name) else {
            found.push(format!("{name} is gone"));
            continue;
        };
        for status in endpoint.statuses().difference(&now.statuses()) {
            if !NEVER_GIVEN.contains(&(name.as_str(), status.as_str())) {
                found.push(format!("{name} no longer gives {status}"));
            }
        }
        let parameters = now.parameters();
        for was in endpoint.parameters() {
            let same = |p: &&Value| p["name"] == was["name"] && p["in"] == was["in"];
            match parameters.iter().find(same) {
                None => found.push(format!("{name} no longer takes {}", was["name"])),
                Some(is) if !takes(&new, &is["schema"], &kind_of(&old, &was["schema"])) => {
                    found.push(format!("{name}: {} is of another type", was["name"]));
                }
                Some(_) => {}
            }
        }
        match (endpoint.body(&old), now.body(&new)) {
            (Some(was), Some(is)) => narrower(&name, [&old, &new], [was, is], &mut found),
            (Some(_), None) => found.push(format!("{name} no longer takes a body")),
            (None, Some(_)) => found.push(format!("{name} now takes a body")),
            (None, None) => {}
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// All plain schemas that a schema consists of, whatever it refers to, joins or lets choose.
fn parts(document: &Value, schema: &Value) -> Vec<Value> {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return parts(document, &document["components"]["schemas"][name]);
    }
    let joined = ["allOf", "oneOf", "anyOf"].into_iter().filter_map(|of| schema[of].as_array()).flatten();
    let mut all: Vec<Value> = joined.flat_map(|s| parts(document, s)).collect();
    all.push(schema.clone());
    all
}

/// The properties and elements of a value that its schema says nothing of.
fn undescribed(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let all = parts(document, schema);
    // One of them is enough.
    let inside = |schemas: Vec<Value>, value: &Value, at: String| {
        let missing = schemas.iter().map(|s| undescribed(document, s, value, &at));
        missing.min_by_key(Vec::len).unwrap_or_else(|| vec![at.clone()])
    };
    match value {
        Value::Object(object) => {
            let of_key = |key: &String| {
                let named = all.iter().map(|s| s["properties"][key].clone());
                let other = all.iter().map(|s| s["additionalProperties"].clone());
                named.chain(other).filter(Value::is_object).collect::<Vec<Value>>()
            };
            object.iter().flat_map(|(key, v)| inside(of_key(key), v, format!("{at}.{key}"))).collect()
        }
        Value::Array(list) => {
            let of_place = |n: usize| {
                let each = all.iter().map(|s| s["items"].clone());
                let tuple = all.iter().map(|s| s["prefixItems"][n].clone());
                each.chain(tuple).filter(Value::is_object).collect::<Vec<Value>>()
            };
            let elements = list.iter().enumerate();
            elements.flat_map(|(n, v)| inside(of_place(n), v, format!("{at}[]"))).collect()
        }
        _ if all.iter().any(|s| !s["type"].is_null() || !s["enum"].is_null()) => Vec::new(),
        _ => vec![at.to_owned()],
    }
}

/// Whether a path is one of a template's: `/vms/7` of `/vms/{vm}`.
fn is_of(path: &str, template: &str) -> bool {
    let (path, template): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), template.split('/').collect());
    path.len() == template.len() && path.iter().zip(template).all(|(p, t)| *p == t || t.starts_with('{'))
}

#[test]
fn the_document_describes_every_property_of_every_answer() {
    let server = Server::start();
    let document = served(&server);
    let all = endpoints(&document);
    let mut found = Vec::new();
    for (asked, answer) in answers() {
        let (method, path) = asked.split_once(' ').expect("METHOD /path");
        let endpoint = all
            .iter()
            .filter(|e| e.method == method && is_of(path, &e.path))
            .min_by_key(|e| e.path.matches('{').count())
            .unwrap_or_else(|| panic!("no {asked}"));
        let is_error = answer["error"].is_string() && answer["code"].is_string();
        let responses = endpoint.operation["responses"].as_object().expect("responses");
        let (_, response) = responses
            .iter()
            .find(|(status, _)| status.starts_with('2') != is_error)
            .unwrap_or_else(|| panic!("no such status: {asked}"));
        let schema = &response["content"]["application/json"]["schema"];
        if !answer.is_null() {
            found.extend(undescribed(&document, schema, &answer, &asked));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
