//! Numbers, names and texts that make no sense, at every endpoint that the OpenAPI document has:
//! each is a 4xx with a reason in JSON.

use crate::document::{self, kind, resolved};
use crate::server::Server;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// One endpoint of the document.
struct Endpoint {
    method: String,
    path: String,
    /// Those in its path: their names and types.
    parameters: Vec<(String, String)>,
    schema: Option<Value>,
}

/// All endpoints, and the document that they are from.
fn endpoints(server: &Server) -> (Value, Vec<Endpoint>) {
    let document = document::served(server);
    let all = document::endpoints(&document);
    let read = |e: document::Endpoint| {
        let parameters = e.parameters().into_iter().filter(|p| p["in"] == "path").map(|p| {
            let name = p["name"].as_str().expect("a text").to_owned();
            (name, document::kind(&document, &p["schema"]))
        });
        let parameters = parameters.collect();
        let schema = e.body(&document);
        Endpoint { method: e.method, path: e.path, parameters, schema }
    };
    let all = all.into_iter().map(read).collect();
    (document, all)
}

/// A path with each parameter as something that is plausible, except one.
fn path(endpoint: &Endpoint, bad: Option<(&str, &str)>) -> String {
    let mut path = endpoint.path.clone();
    for (name, kind) in &endpoint.parameters {
        let plain = if kind == "integer" { "1" } else { "edge1" };
        let value = bad.filter(|(which, _)| which == name).map_or(plain, |(_, value)| value);
        path = path.replace(&format!("{{{name}}}"), value);
    }
    path
}

#[test]
fn wrong_ids_in_paths_and_queries_are_refused_with_a_reason_everywhere() {
    let server = Server::start();
    let integers = [
        "abc",
        "-1",
        "18446744073709551616",
        "1.5",
        "1e3",
        "0x1",
        "%00",
        "%ff",
        "%31%00",
        "%2e%2e",
        "vm-1",
        "%0a",
        "+1x",
    ];
    let strings = ["nope", "%ff%fe", "%0a%1b[2J", "%2e%2e%2f%2e%2e", "%00", "%f0%9f%92%a9", "'%20OR%201=1"];
    let mut count = 0;
    for endpoint in endpoints(&server).1 {
        let body = endpoint.schema.as_ref().map(|_| b"{}".to_vec());
        for (name, kind) in &endpoint.parameters {
            let bad: &[&str] = if kind == "integer" { &integers } else { &strings };
            for value in bad {
                let path = path(&endpoint, Some((name, value)));
                let reply = server.ask(&endpoint.method, &path, body.as_deref());
                assert!(
                    (400..500).contains(&reply.status),
                    "{} {path}: {} {}",
                    endpoint.method,
                    reply.status,
                    reply.body
                );
                let why = reply.error();
                assert!(!why.contains(['\n', '\u{1b}']), "{path}: {why:?}");
                count += 1;
            }
        }
    }
    for bad in ["abc", "-1", "18446744073709551616", "1.5", "%ff"] {
        let reply = server.ask("GET", &format!("/api/v1/links?after={bad}"), None);
        assert_eq!(reply.status, 400, "{bad}");
        reply.error();
    }
    assert!(count > 150, "{count}");
    assert_eq!(server.ask("GET", "/nowhere", None).status, 404);
    let reply = server.ask("PUT", "/api/v1/overview", None);
    assert_eq!(reply.status, 405);
    reply.error();
}

/// Values that no property of this type can have.
fn wrong(kind: &str) -> Vec<Value> {
    let any = [json!([[]]), json!({ "a": 1 })];
    let of_kind = match kind {
        "integer" => {
            vec![json!(-1), json!(1e18), json!(1e308), json!(1e-320), json!(1.5), json!("NaN"), json!("1")]
        }
        "number" => {
            vec![json!(-1), json!(0), json!(1e-320), json!(1e308), json!(-1e308), json!("NaN"), json!("inf")]
        }
        "boolean" => vec![json!(0), json!("yes")],
        _ => vec![json!(7), json!(true)],
    };
    of_kind.into_iter().chain(any).collect()
}

#[test]
fn bodies_that_make_no_sense_are_refused_with_a_reason_everywhere() {
    let server = Server::start();
    let mut count = 0;
    let (document, endpoints) = endpoints(&server);
    for endpoint in endpoints {
        let Some(schema) = &endpoint.schema else { continue };
        let path = path(&endpoint, None);
        let refused = |body: &[u8]| {
            let reply = server.ask(&endpoint.method, &path, Some(body));
            let shown = String::from_utf8_lossy(body);
            assert!(
                (400..500).contains(&reply.status),
                "{} {path} {shown}: {} {}",
                endpoint.method,
                reply.status,
                reply.body
            );
            reply.error();
        };
        for body in
            ["", "{", "nonsense", "null", "7", "\"x\"", "{\"no-such-key\": 1}", "[[[[", "{\"a\":\"\u{0}\"}"]
        {
            refused(body.as_bytes());
        }
        refused(b"{\"name\": \"\xff\xfe\"}");
        refused("[".repeat(5000).as_bytes());
        let is_list = schema["type"] == "array";
        let items = resolved(&document, &schema["items"]);
        let object = if is_list { &items } else { schema };
        // A body that is right but for one property.
        let good = |kind: &str| match kind {
            "integer" => json!(1),
            "number" => json!(40.0),
            "boolean" => json!(false),
            "array" => json!([]),
            _ => json!("edge1"),
        };
        let properties = document::properties(object);
        let required = document::required(object);
        for (name, property) in &properties {
            for value in wrong(&kind(&document, property)) {
                let mut body = json!({});
                for key in &required {
                    body[key] = good(&kind(&document, &properties[key]));
                }
                body[name] = value;
                let body = if is_list { json!([body]) } else { body };
                refused(body.to_string().as_bytes());
                count += 1;
            }
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn numbers_out_of_range_are_400_with_the_range() {
    let server = Server::start();
    let cases = [
        ("POST", "/api/v1/vms", json!({ "cpu": 0 })),
        ("POST", "/api/v1/vms", json!({ "ram": 0 })),
        ("POST", "/api/v1/vms", json!({ "ram": u64::MAX })),
        ("POST", "/api/v1/vms", json!({ "disk": u64::MAX })),
        ("POST", "/api/v1/vms", json!({ "net": u64::MAX })),
        ("POST", "/api/v1/vms", json!({ "net": 0 })),
        ("POST", "/api/v1/vms", json!({ "cpu": u32::MAX })),
        ("POST", "/api/v1/vms", json!({ "timeout": 0 })),
        ("POST", "/api/v1/vms", json!({ "timeout": -0.0 })),
        ("POST", "/api/v1/vms", json!({ "timeout": 1e-320 })),
        ("POST", "/api/v1/vms", json!({ "timeout": 1e300 })),
        ("POST", "/api/v1/vms", json!({ "timeout": 1e18 })),
        ("POST", "/api/v1/vms", json!({ "name": "" })),
        ("POST", "/api/v1/vms", json!({ "name": "n".repeat(64) })),
        ("POST", "/api/v1/vms", json!({ "name": "a\u{1b}[2Jb" })),
        ("POST", "/api/v1/vms", json!({ "name": "a\u{202e}b" })),
        ("POST", "/api/v1/vms", json!({ "image": "" })),
        ("POST", "/api/v1/vms", json!({ "image": "a\nb" })),
        ("PUT", "/api/v1/classes", json!([{ "name": "gold", "share": 1e-320 }])),
        ("PUT", "/api/v1/classes", json!([{ "name": "gold", "share": 0 }])),
        ("PUT", "/api/v1/classes", json!([{ "name": "gold", "share": 101 }])),
        ("PUT", "/api/v1/classes", json!([{ "name": "gold", "share": 10, "ceiling": -1 }])),
        ("POST", "/api/v1/agents/tokens", json!({ "name": "a", "address": "h:1", "minutes": 0 })),
        ("POST", "/api/v1/agents/tokens", json!({ "name": "a", "address": "h:1", "minutes": u32::MAX })),
        (
            "POST",
            "/api/v1/agents/tokens",
            json!({ "name": "a", "address": "h:1", "minutes": 1_000_000_000_000_000_000u64 }),
        ),
        ("POST", "/api/v1/agents/tokens", json!({ "name": "a", "address": "h:0" })),
        ("POST", "/api/v1/agents/tokens", json!({ "name": "a", "address": "h:99999" })),
        ("POST", "/api/v1/agents/tokens", json!({ "name": "a\nb", "address": "h:1" })),
        ("POST", "/api/v1/tokens", json!({ "name": "a", "minutes": 0 })),
        ("POST", "/api/v1/tokens", json!({ "name": "a", "minutes": u64::MAX })),
        ("POST", "/api/v1/tokens", json!({ "name": "a\u{7}" })),
        ("POST", "/api/v1/groups", json!({ "members": [] })),
        ("POST", "/api/v1/groups", json!({ "members": ["10.0.0.1"] })),
        ("POST", "/api/v1/groups", json!({ "members": ["10.0.0.1", "10.0.0.1"] })),
        ("PUT", "/api/v1/vms/1/pin", json!({ "switches": [] })),
        ("PUT", "/api/v1/vms/1/pin", json!({ "switches": vec!["edge1"; 65] })),
        ("POST", "/api/v1/plans", json!({ "aim": "evacuate" })),
        ("POST", "/api/v1/plans", json!({ "aim": "move" })),
    ];
    for (method, path, body) in cases {
        let reply = server.ask(method, path, Some(body.to_string().as_bytes()));
        assert_eq!(reply.status, 400, "{method} {path} {body}: {}", reply.body);
        reply.error();
    }
    // On the command line they do not get as far.
    for arguments in [
        &["vm", "request", "--timeout", "NaN"][..],
        &["vm", "request", "--timeout", "inf"],
        &["vm", "request", "--timeout", "1e-320"],
        &["vm", "request", "--cpu", "-1"],
        &["vm", "request", "--cpu", "0"],
        &["vm", "request", "--ram", "99999999999999999999 TiB"],
        &["vm", "request", "--ram", "NaN GiB"],
        &["class", "set", "gold=NaN"],
        &["class", "set", "gold=inf:50"],
        &["class", "set", "gold=50:NaN"],
        &["class", "set", "gold=1e-320"],
        &["agent", "token", "a", "--minutes", "0"],
        &["vm", "show", "-1"],
        &["rules", "../../vms"],
        &["agent", "revoke", "a/../b"],
    ] {
        let output = server.tandem(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !text.contains("panicked"), "{arguments:?}: {text}");
    }
}

/// JSON of any form, often with keys and words that mean something here.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "cpu", "ram", "disk", "net", "timeout", "name", "image", "class", "members", "switches", "up", "vm",
        "to", "aim", "move", "evacuate", "server", "share", "ceiling", "minutes", "address", "force",
        "manner", "live", "gold", "srv1", "edge1", "10.0.0.1",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,80}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, move |inner| {
        let key = prop_oneof![4 => word.clone().prop_map(str::to_owned), 1 => ".{0,10}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

#[test]
fn no_json_whatever_makes_an_endpoint_fail() {
    let server = Server::start();
    let all: Vec<Endpoint> = endpoints(&server).1.into_iter().filter(|e| e.schema.is_some()).collect();
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    runner
        .run(&any_json(), |body| {
            for endpoint in &all {
                let path = path(endpoint, None);
                let reply = server.ask(&endpoint.method, &path, Some(body.to_string().as_bytes()));
                // 503: it made sense, and there is no hypervisor here.
                let good =
                    reply.status < 500 || reply.status == 503 && reply.error().contains("no hypervisor");
                prop_assert!(
                    good && reply.status > 0,
                    "{} {path} {body}: {} {}",
                    endpoint.method,
                    reply.status,
                    reply.body
                );
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}
