//! Every status of every endpoint that the document has, provoked from the real program: whatever
//! the document promises, this has seen.
//!
//! Each story asks a data centre in memory and says which status it expects. At the end the
//! statuses of the document that no story has provoked are named, and so are those that were
//! provoked and are not in the document.

use crate::data_centre::{DataCentre, SITE};
use crate::document::{endpoints, served};
use crate::server::Server;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};

/// What was seen of the endpoints: their names and statuses.
type Seen = BTreeSet<(String, String)>;

/// Asks endpoints, and notes what was answered.
struct Prober<'a> {
    centre: &'a DataCentre,
    seen: Seen,
}

impl<'a> Prober<'a> {
    fn of(centre: &'a DataCentre) -> Prober<'a> {
        Prober { centre, seen: Seen::new() }
    }

    /// Asks an endpoint, which is named as in the document, with values for its parameters, and
    /// expects this status.
    fn ask(&mut self, status: u16, endpoint: &str, parameters: &[&str], body: Value) -> Value {
        let (method, path) = endpoint.split_once(' ').expect("METHOD /path");
        let path = filled(path, parameters);
        let (got, answer) = self.centre.ask(method, &path, (!body.is_null()).then_some(&body));
        assert_eq!(got, status, "{method} {path} {body}: {answer}\n{}", self.centre.server.log());
        self.note(status, endpoint, &answer);
        answer
    }

    /// An error has a code whose status it is.
    fn note(&mut self, status: u16, endpoint: &str, answer: &Value) {
        if status >= 400 {
            let error: tandem_api::ApiError = serde_json::from_value(answer.clone()).expect("an error");
            assert_eq!(error.status().as_u16(), status, "{endpoint}: {answer}");
            assert!(!error.error.is_empty());
        }
        self.seen.insert((endpoint.to_owned(), status.to_string()));
    }

    /// The same while the store cannot be written.
    fn without_store(&mut self, endpoint: &str, parameters: &[&str], body: Value) {
        self.centre.server.freeze_store(true);
        self.ask(503, endpoint, parameters, body);
        self.centre.server.freeze_store(false);
    }
}

/// A path with values for its parameters.
fn filled(path: &str, parameters: &[&str]) -> String {
    let mut values = parameters.iter();
    let part = |part: &str| match part.split_once('{') {
        Some((before, _)) => format!("{before}{}", values.next().expect("a value for each parameter")),
        None => part.to_owned(),
    };
    path.split_inclusive('}').map(part).collect()
}

const NOTHING: Value = Value::Null;

fn reading() -> Seen {
    let centre = DataCentre::start(Vec::new());
    let mut t = Prober::of(&centre);
    for part in [
        "overview",
        "switches",
        "links",
        "surprises",
        "servers",
        "hosts",
        "notices",
        "vms",
        "strays",
        "groups",
        "classes",
        "overrides",
        "migrations",
        "plans",
        "hotspots",
        "agents",
        "tokens",
        "openapi.json",
    ] {
        t.ask(200, &format!("GET /api/v1/{part}"), &[], NOTHING);
    }
    t.ask(200, "GET /api/v1/rules/{switch}", &["edge1"], NOTHING);
    t.ask(404, "GET /api/v1/rules/{switch}", &["nope"], NOTHING);
    t.ask(200, "GET /api/v1/rules/{switch}/counters", &["edge1"], NOTHING);
    t.ask(404, "GET /api/v1/rules/{switch}/counters", &["nope"], NOTHING);
    t.ask(204, "POST /api/v1/poll", &[], NOTHING);
    events(&mut t);
    t.ask(200, "GET /metrics", &[], NOTHING);
    let folder = tempfile::tempdir().expect("a folder");
    let site = SITE.replace("[modules]\n", "[modules]\nmetrics = false\n");
    let silent = Server::start_in(folder, &site, &[]);
    assert_eq!(silent.ask("GET", "/metrics", None).status, 404);
    t.seen.insert(("GET /metrics".to_owned(), "404".to_owned()));
    t.seen
}

/// A stream never ends by itself, so these are asked for otherwise.
fn events(t: &mut Prober<'_>) {
    let (server, events) = (&t.centre.server, "GET /api/v1/events");
    let kept = server.ask("GET", "/api/v1/events?after=0&follow=false", None);
    assert_eq!(kept.status, 200, "{}", kept.body);
    let lines = ["host: tandem".to_owned(), "last-event-id: yesterday".to_owned()];
    let invalid = server.over_unix("GET /api/v1/events", &lines);
    let open = || {
        let mut stream = server.unix();
        stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: tandem\r\n\r\n").expect("it listens");
        let mut first = [0; 12];
        stream.read_exact(&mut first).expect("a status");
        (stream, first)
    };
    let streams: Vec<_> = std::iter::from_fn(|| Some(open()).filter(|(_, s)| s.ends_with(b"200"))).collect();
    let full = server.ask("GET", "/api/v1/events", None);
    drop(streams);
    t.note(200, events, &NOTHING);
    for (status, reply) in [(400, invalid), (503, full)] {
        assert_eq!(reply.status, status, "{}", reply.body);
        t.note(status, events, &serde_json::from_str(&reply.body).expect("JSON"));
    }
}

fn vms() -> Seen {
    let centre = DataCentre::start(Vec::new());
    let mut t = Prober::of(&centre);
    let request = "POST /api/v1/vms";
    let vm = t.ask(201, request, &[], json!({}))["id"].to_string();
    t.ask(400, request, &[], json!({ "cpu": 0 }));
    t.ask(404, request, &[], json!({ "class": "nope" }));
    t.ask(409, request, &[], json!({ "cpu": 60_000 }));
    centre.world.orders().fails = Some("out of memory".into());
    t.ask(503, request, &[], json!({}));
    let web = json!({ "name": "web", "members": [{}, {}], "rate": 1_000_000, "spread": "server" });
    let group = "POST /api/v1/vms/group";
    t.ask(503, group, &[], web.clone());
    centre.world.orders().fails = None;
    let made = t.ask(201, group, &[], web.clone());
    assert_eq!(made["vms"].as_array().map(Vec::len), Some(2), "{made}");
    assert_eq!(t.ask(201, group, &[], web)["group"], made["group"], "the same again is the same group");
    t.ask(400, group, &[], json!({ "name": "one", "members": [{}] }));
    t.ask(400, group, &[], json!({ "members": [{}, {}] }));
    t.ask(404, group, &[], json!({ "name": "x", "members": [{ "on": "srv99" }, {}] }));
    t.ask(409, group, &[], json!({ "name": "y", "members": [{}, { "cpu": 60_000 }] }));
    let dry = "POST /api/v1/vms/dry-run";
    let said = t.ask(200, dry, &[], json!({ "members": [{ "cpu": 60_000 }] }));
    assert!(said["rejection"]["summary"].as_str().is_some_and(|s| s.contains("short of CPU")), "{said}");
    assert_eq!(said["changes"][0]["change"], "ask-for-less", "{said}");
    t.ask(400, dry, &[], json!({ "members": [] }));
    t.ask(400, dry, &[], json!({ "members": [{ "spread": "edge" }] }));
    t.ask(404, dry, &[], json!({ "members": [{ "class": "nope" }] }));
    t.ask(404, dry, &[], json!({ "members": [{ "on": "nowhere" }] }));
    centre.world.orders().fails = Some("out of memory".into());
    let one = "/api/v1/vms/{vm}";
    t.ask(503, &format!("PATCH {one}"), &[&vm], json!({ "cpu": 2 }));
    centre.world.orders().fails = None;
    t.ask(204, &format!("PATCH {one}"), &[&vm], json!({ "cpu": 2 }));
    t.ask(400, &format!("PATCH {one}"), &[&vm], json!({ "cpu": 0 }));
    t.ask(404, &format!("PATCH {one}"), &["999"], json!({ "cpu": 2 }));
    t.ask(409, &format!("PATCH {one}"), &[&vm], json!({ "cpu": 60_000 }));
    t.ask(200, &format!("GET {one}"), &[&vm], NOTHING);
    t.ask(404, &format!("GET {one}"), &["999"], NOTHING);
    let pin = "PUT /api/v1/vms/{vm}/pin";
    t.ask(400, pin, &[&vm], json!({ "switches": [] }));
    t.ask(404, pin, &["999"], json!({ "switches": ["edge1"] }));
    t.ask(409, pin, &[&vm], json!({ "switches": ["edge1", "edge1"] }));
    t.without_store(pin, &[&vm], json!({ "switches": ["edge1"] }));
    t.ask(204, pin, &[&vm], json!({ "switches": ["edge1"] }));
    let unpin = "DELETE /api/v1/vms/{vm}/pin";
    t.without_store(unpin, &[&vm], NOTHING);
    t.ask(204, unpin, &[&vm], NOTHING);
    t.ask(404, unpin, &["999"], NOTHING);
    t.ask(409, unpin, &[&vm], NOTHING);
    t.ask(404, &format!("DELETE {one}"), &["999"], NOTHING);
    t.without_store(&format!("DELETE {one}"), &[&vm], NOTHING);
    t.ask(204, &format!("DELETE {one}"), &[&vm], NOTHING);
    t.seen
}

fn strays() -> Seen {
    // What one controller has made is a stray to another one with an empty store.
    let before = DataCentre::start(Vec::new());
    (0..3).for_each(|_| assert!(before.vm() > 0));
    let mut running = before.world.running();
    drop(before);
    let twice = running[2].clone();
    let other = (0..4).find(|s| *s != twice.server).expect("another server");
    running.push(tandem_agent_protocol::hypervisor::Allocate { server: other, ..twice.clone() });
    let centre = DataCentre::start(running.clone());
    let adopted = running[0].vm.to_string();
    let unwritten = running[1].vm.to_string();
    let twice = twice.vm.to_string();
    let mut t = Prober::of(&centre);
    let adopt = "POST /api/v1/strays/{vm}/adopt";
    t.ask(400, adopt, &[&adopted], json!({ "cpu": 0 }));
    t.ask(404, adopt, &["999"], json!({}));
    t.ask(409, adopt, &[&twice], json!({}));
    t.ask(201, adopt, &[&adopted], json!({}));
    t.without_store(adopt, &[&unwritten], json!({}));
    let stop = "DELETE /api/v1/strays/{vm}";
    t.ask(404, stop, &["999"], NOTHING);
    t.ask(409, stop, &[&twice], NOTHING);
    let (status, answer) =
        centre.ask("DELETE", &format!("/api/v1/strays/{twice}?server=srv{}", other + 1), None);
    assert_eq!(status, 204, "{answer}");
    t.note(204, stop, &answer);
    centre.world.leave();
    centre.until("the world is gone", "/api/v1/overview", |overview| overview["world"].is_null());
    t.ask(503, stop, &[&twice], NOTHING);
    t.seen
}

fn groups() -> Seen {
    let centre = DataCentre::start(Vec::new());
    let mut t = Prober::of(&centre);
    let create = "POST /api/v1/groups";
    let made: Vec<Value> = (0..2).map(|_| centre.ask("POST", "/api/v1/vms", Some(&json!({}))).1).collect();
    let members = json!({ "members": [made[0]["address"], made[1]["address"]] });
    t.ask(400, create, &[], json!({ "members": [made[0]["address"]] }));
    t.ask(404, create, &[], json!({ "members": ["10.99.0.1", "10.99.0.2"] }));
    t.without_store(create, &[], members.clone());
    let group = t.ask(201, create, &[], members.clone())["id"].to_string();
    let delete = "DELETE /api/v1/groups/{group}";
    t.ask(404, delete, &["999"], NOTHING);
    t.without_store(delete, &[&group], NOTHING);
    t.ask(204, delete, &[&group], NOTHING);
    // Both of them are being moved, each at its own switch: a transfer takes what its links have.
    let begin = |vm: &Value, to: &str| {
        let body = json!({ "vm": vm["id"], "to": to });
        let (status, answer) = centre.ask("POST", "/api/v1/migrations", Some(&body));
        assert_eq!(status, 202, "{answer}");
    };
    begin(&made[1], "srv3");
    idle(&centre);
    centre.world.orders().holds_migrations = true;
    begin(&made[0], "srv2");
    begin(&made[1], "srv4");
    t.ask(409, create, &[], members);
    t.seen
}

fn classes_and_ports() -> Seen {
    let centre = DataCentre::start(Vec::new());
    let mut t = Prober::of(&centre);
    let set = "PUT /api/v1/classes";
    t.ask(400, set, &[], json!([{ "name": "gold", "share": 0 }]));
    t.ask(404, set, &[], json!([{ "name": "nope", "share": 10 }]));
    t.ask(409, set, &[], json!([{ "name": "gold", "share": 90 }]));
    t.ask(204, set, &[], json!([{ "name": "gold", "share": 50 }]));
    t.without_store(set, &[], json!([{ "name": "gold", "share": 40 }]));
    let port = "PUT /api/v1/ports/{switch}/{port}";
    t.ask(404, port, &["edge1", "999"], json!({ "up": false }));
    t.ask(409, port, &["edge1", "1"], json!({ "up": true }));
    t.without_store(port, &["edge1", "1"], json!({ "up": false }));
    t.ask(204, port, &["edge1", "1"], json!({ "up": false }));
    t.seen
}

/// Another server than the one that a VM is on.
fn elsewhere(centre: &DataCentre, vm: &str) -> &'static str {
    let (_, view) = centre.ask("GET", &format!("/api/v1/vms/{vm}"), None);
    if view["server_name"] == "srv1" { "srv2" } else { "srv1" }
}

/// Waits until no migration is under way.
fn idle(centre: &DataCentre) {
    centre.until("nothing moves", "/api/v1/migrations", |all| {
        all.as_array().expect("a list").iter().all(|m| !m["ended"].is_null())
    });
}

fn migrations() -> Seen {
    let centre = DataCentre::start(Vec::new());
    let mut t = Prober::of(&centre);
    let vm = centre.vm().to_string();
    let number: u64 = vm.parse().expect("a number");
    let begin = "POST /api/v1/migrations";
    t.ask(400, begin, &[], json!({ "vm": number, "manner": "by bicycle" }));
    t.ask(404, begin, &[], json!({ "vm": number, "to": "nope" }));
    let here = centre.ask("GET", &format!("/api/v1/vms/{vm}"), None).1["server_name"].clone();
    t.ask(409, begin, &[], json!({ "vm": number, "to": here }));
    let to = elsewhere(&centre, &vm);
    t.without_store(begin, &[], json!({ "vm": number, "to": to }));
    idle(&centre);
    let one = "/api/v1/migrations/{migration}";
    t.ask(404, &format!("GET {one}"), &["999"], NOTHING);
    t.ask(404, &format!("DELETE {one}"), &["999"], NOTHING);
    // One that waits at its hypervisor is cancelled; one whose VM is lost thereby is not; one that
    // has ended is too late.
    centre.world.orders().holds_migrations = true;
    for (loses, status) in [(false, 204), (true, 503)] {
        centre.world.orders().loses_cancelled = loses;
        let id = t.ask(202, begin, &[], json!({ "vm": number, "to": to }))["id"].to_string();
        t.ask(200, &format!("GET {one}"), &[&id], NOTHING);
        // Before it is ordered, cancelling it is nothing to its hypervisor.
        let waiting: u64 = id.parse().expect("a number");
        centre.until("it waits", &format!("/api/v1/migrations/{id}"), |_| {
            centre.world.orders().held.contains(&waiting)
        });
        t.ask(status, &format!("DELETE {one}"), &[&id], NOTHING);
        t.ask(409, &format!("DELETE {one}"), &[&id], NOTHING);
    }
    t.seen
}

fn plans() -> Seen {
    let centre = DataCentre::start(Vec::new());
    let mut t = Prober::of(&centre);
    let vm = centre.vm();
    let to = elsewhere(&centre, &vm.to_string());
    let make = "POST /api/v1/plans";
    t.ask(400, make, &[], json!({ "aim": "evacuate" }));
    t.ask(404, make, &[], json!({ "aim": "evacuate", "server": "nope" }));
    let id = t.ask(200, make, &[], json!({ "aim": "move", "vm": vm, "to": to }))["id"].to_string();
    t.ask(200, "GET /api/v1/plans/{plan}", &[&id], NOTHING);
    t.ask(404, "GET /api/v1/plans/{plan}", &["999"], NOTHING);
    let stop = "POST /api/v1/plans/{plan}/stop";
    t.ask(404, stop, &["999"], NOTHING);
    t.ask(409, stop, &[&id], NOTHING);
    let apply = "POST /api/v1/plans/{plan}/apply";
    t.ask(404, apply, &["999"], NOTHING);
    t.ask(200, apply, &[&id], NOTHING);
    t.ask(409, apply, &[&id], NOTHING);
    t.ask(204, stop, &[&id], NOTHING);
    let out = "PUT /api/v1/servers/{server}/evacuation";
    t.ask(404, out, &["nope"], json!({}));
    t.without_store(out, &["srv4"], json!({}));
    t.ask(200, out, &["srv4"], json!({}));
    let back = "DELETE /api/v1/servers/{server}/evacuation";
    t.ask(404, back, &["nope"], NOTHING);
    t.ask(409, back, &["srv3"], NOTHING);
    t.without_store(back, &["srv4"], NOTHING);
    t.ask(204, back, &["srv4"], NOTHING);
    t.seen
}

fn agents() -> Seen {
    let centre = DataCentre::start(Vec::new());
    let mut t = Prober::of(&centre);
    // One that was taken in, without an agent that would have to come for it.
    let registry =
        rusqlite::Connection::open(centre.server.at("agents/registry.sqlite")).expect("it is there");
    let row = "INSERT INTO agent (name, serial, expires, enrolled, revoked, switches) VALUES (?1, '01', 4000000000, 0, 0, ?2)";
    for (name, switches) in [("one", "[\"edge1\"]"), ("two", "[\"edge2\"]")] {
        registry.execute(row, [name, switches]).expect("room");
    }
    let token = "POST /api/v1/agents/tokens";
    let address = "127.0.0.1:6655";
    t.ask(201, token, &[], json!({ "name": "new", "address": address }));
    t.ask(400, token, &[], json!({ "name": "new" }));
    t.ask(409, token, &[], json!({ "name": "new", "address": address, "switches": ["edge1"] }));
    let allow = "PUT /api/v1/agents/{name}/switches";
    t.ask(204, allow, &["one"], json!({ "switches": ["edge1"] }));
    t.ask(400, allow, &["one"], json!({ "switches": ["\n"] }));
    t.ask(404, allow, &["nope"], json!({ "switches": ["core1"] }));
    t.ask(409, allow, &["one"], json!({ "switches": ["edge2"] }));
    let revoke = "DELETE /api/v1/agents/{name}";
    t.ask(204, revoke, &["two"], NOTHING);
    t.ask(404, revoke, &["nope"], NOTHING);
    // A registry that cannot be used.
    registry.execute_batch("DROP TABLE agent; DROP TABLE token;").expect("nobody holds it");
    t.ask(503, "GET /api/v1/agents", &[], NOTHING);
    t.ask(503, token, &[], json!({ "name": "new", "address": address }));
    t.ask(503, allow, &["one"], json!({ "switches": ["edge1"] }));
    t.ask(503, revoke, &["one"], NOTHING);
    t.seen
}

fn tokens() -> Seen {
    let centre = DataCentre::start(Vec::new());
    let mut t = Prober::of(&centre);
    let create = "POST /api/v1/tokens";
    let secret = t.ask(201, create, &[], json!({ "name": "ci" }))["token"].as_str().expect("it").to_owned();
    t.ask(400, create, &[], json!({ "name": "other", "minutes": 0 }));
    t.ask(409, create, &[], json!({ "name": "ci" }));
    let revoke = "DELETE /api/v1/tokens/{name}";
    t.ask(404, revoke, &["nope"], NOTHING);
    // A token makes no tokens.
    let host = format!("host: 127.0.0.1:{}", centre.server.port);
    let lines = [
        host,
        "x-tandem-request: 1".to_owned(),
        format!("authorization: Bearer {secret}"),
        "content-type: application/json".to_owned(),
        "content-length: 12".to_owned(),
    ];
    for (endpoint, request) in [
        ("GET /api/v1/tokens", "GET /api/v1/tokens"),
        (create, "POST /api/v1/tokens"),
        (revoke, "DELETE /api/v1/tokens/ci"),
    ] {
        let mut lines = lines.to_vec();
        // The body comes behind the empty line that ends the head.
        lines.push("\r\n{\"name\":\"x\"}".to_owned());
        let reply = centre.server.over_tcp(request, &lines);
        assert_eq!(reply.status, 403, "{request}: {}", reply.body);
        t.note(403, endpoint, &serde_json::from_str(&reply.body).expect("JSON"));
    }
    // A list that cannot be written: where its next version would be is a folder with something in
    // it.
    let next = centre.server.at("store.sqlite-tokens.new");
    std::fs::create_dir_all(next.join("in the way")).expect("room");
    t.ask(503, create, &[], json!({ "name": "other" }));
    t.ask(503, revoke, &["ci"], NOTHING);
    std::fs::remove_dir_all(&next).expect("it is there");
    t.ask(204, revoke, &["ci"], NOTHING);
    t.seen
}

#[test]
fn every_status_that_the_document_has_is_given_and_no_other() {
    let stories: [fn() -> Seen; 9] =
        [reading, vms, strays, groups, classes_and_ports, migrations, plans, agents, tokens];
    let told: Vec<_> = stories.into_iter().map(std::thread::spawn).collect();
    let mut seen = Seen::new();
    for story in told {
        match story.join() {
            Ok(of_story) => seen.extend(of_story),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    let server = Server::start();
    let document = served(&server);
    let promised: Seen = endpoints(&document)
        .iter()
        .flat_map(|e| e.statuses().into_iter().map(|status| (e.name(), status)))
        .collect();
    let never: Vec<_> = promised.difference(&seen).collect();
    assert!(never.is_empty(), "promised, and provoked by no story: {never:#?}");
    let more: Vec<_> = seen.difference(&promised).collect();
    assert!(more.is_empty(), "given, and not in the document: {more:#?}");
    assert!(promised.len() > 100, "{}", promised.len());
}
