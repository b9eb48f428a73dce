//! What changes, as it happens: the stream of server-sent events of the real program.

use crate::data_centre::DataCentre;
use crate::server::{LIMIT, Server, program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

/// An event as it came over the wire.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    kind: String,
    id: u64,
    data: Value,
}

/// One open stream.
struct Stream(BufReader<UnixStream>);

impl Stream {
    /// Opens one, and waits until the controller has begun to answer it.
    fn open(server: &Server, query: &str, head: &str) -> (u16, Stream) {
        let mut stream = server.unix();
        let request = format!("GET /api/v1/events{query} HTTP/1.1\r\nhost: tandem\r\n{head}\r\n");
        stream.write_all(request.as_bytes()).expect("it listens");
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status).expect("an answer");
        let status = status.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        (status, Stream(reader))
    }

    /// The next event; panics when none comes within the limit. Other lines than an event's (of the
    /// head, lengths of chunks, comments) are passed over.
    fn next(&mut self) -> Seen {
        let (mut kind, mut id) = (String::new(), 0);
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("an event in time");
            assert!(read > 0, "the stream has ended");
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("event: ") {
                value.clone_into(&mut kind);
            } else if let Some(value) = line.strip_prefix("id: ") {
                id = value.parse().expect("a number");
            } else if let Some(value) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(value).expect("JSON");
                return Seen { kind, id, data };
            }
        }
    }

    /// The next event of that kind.
    fn next_of(&mut self, kind: &str) -> Seen {
        loop {
            let seen = self.next();
            assert_eq!((&seen.data["kind"], &seen.data["id"]), (&json!(seen.kind), &json!(seen.id)));
            if seen.kind == kind {
                return seen;
            }
        }
    }
}

#[test]
fn a_follower_sees_what_changes_and_goes_on_where_it_was() {
    let centre = DataCentre::start(Vec::new());
    let (status, mut stream) = Stream::open(&centre.server, "", "");
    assert_eq!(status, 200);
    let vm = centre.vm();
    let started = stream.next_of("vm_started");
    assert_eq!(started.data["vm"], json!(vm));
    assert!(started.data["server"].as_str().is_some_and(|s| s.starts_with("srv")), "{:?}", started.data);
    // What a client reads after an event shows what has happened.
    let (status, view) = centre.ask("GET", &format!("/api/v1/vms/{vm}"), None);
    assert_eq!((status, &view["state"]["state"]), (200, &json!("running")));
    let (status, answer) = centre.ask("PUT", "/api/v1/ports/edge1/1", Some(&json!({ "up": false })));
    assert_eq!(status, 204, "{answer}");
    let down = stream.next_of("link_down");
    assert!(down.id > started.id);
    let (_, links) = centre.ask("GET", "/api/v1/links", None);
    let names: Vec<&Value> = links.as_array().expect("links").iter().map(|l| &l["name"]).collect();
    assert!(names.contains(&&down.data["link"]), "{down:?} is one of {names:?}");
    // It comes back with the number of the last event that it has seen.
    drop(stream);
    let (status, answer) = centre.ask("DELETE", &format!("/api/v1/vms/{vm}"), None);
    assert_eq!(status, 204, "{answer}");
    let (_, mut again) = Stream::open(&centre.server, "", &format!("last-event-id: {}\r\n", started.id));
    let next = again.next();
    assert!(next.id > started.id && next.kind != "missed", "{next:?}");
    assert_eq!(again.next_of("vm_ended").data["vm"], json!(vm));
}

#[test]
fn a_client_that_has_missed_something_is_told() {
    let server = Server::start();
    let (_, mut stream) = Stream::open(&server, "?after=1", "");
    let missed = stream.next();
    assert_eq!((missed.kind.as_str(), missed.id > 1), ("missed", true), "{missed:?}");
    // With that number it has missed nothing more: what comes next is something else.
    let head = format!("last-event-id: {}\r\n", missed.id);
    let (_, again) = Stream::open(&server, "?follow=false", &head);
    let text: Vec<String> = again.0.lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
    assert!(text.iter().any(|l| l.contains("text/event-stream")), "{text:?}");
}

#[test]
fn streams_are_bounded_and_one_that_ends_makes_room() {
    let server = Server::start();
    let mut all: Vec<Stream> = Vec::new();
    let refused = loop {
        let (status, stream) = Stream::open(&server, "", "");
        if status != 200 {
            break status;
        }
        all.push(stream);
        assert!(all.len() <= 64, "they are not bounded");
    };
    assert_eq!((refused, all.len()), (503, 64));
    assert_eq!(server.ask("GET", "/api/v1/overview", None).status, 200, "others are served all the same");
    all.pop();
    let start = Instant::now();
    while Stream::open(&server, "", "").0 != 200 {
        assert!(start.elapsed() < LIMIT, "no room after one has ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// One that takes nothing holds nothing up: neither the core nor other streams.
#[test]
fn a_slow_follower_holds_up_nobody() {
    let centre = DataCentre::start(Vec::new());
    let (_, slow) = Stream::open(&centre.server, "", "");
    let (_, mut stream) = Stream::open(&centre.server, "", "");
    for n in 0..50 {
        for (up, kind) in [(false, "link_down"), (true, "link_up")] {
            let (status, answer) = centre.ask("PUT", "/api/v1/ports/edge1/1", Some(&json!({ "up": up })));
            assert_eq!(status, 204, "{n}: {answer}");
            stream.next_of(kind);
        }
    }
    drop(slow);
}

#[test]
fn the_command_prints_what_is_kept_and_ends_well_when_it_is_interrupted() {
    let centre = DataCentre::start(Vec::new());
    let vm = centre.vm();
    let output = centre.server.tandem(&["events", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let started = events.iter().find(|e| e["kind"] == "vm_started").expect("it has started");
    assert_eq!(started["vm"], json!(vm));
    let api = format!("unix:{}", centre.server.at("api.sock").display());
    let mut child = program()
        .args(["--api", &api, "events", "--follow", "--after", &started["id"].to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (status, answer) = centre.ask("DELETE", &format!("/api/v1/vms/{vm}"), None);
    assert_eq!(status, 204, "{answer}");
    let line = lines.by_ref().map_while(Result::ok).find(|l| l.contains("vm_ended")).expect("it ends");
    assert!(line.contains(&format!("vm{vm} on srv")), "{line}");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let ended = child.wait().expect("it ends");
    assert!(ended.success(), "{ended:?}");
}

/// The controller has not answered yet, and may never do: an interruption ends the command as well
/// as later.
#[test]
fn the_command_ends_well_also_before_the_controller_has_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.sock");
    let silent = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let mut child = program()
        .args(["--api", &format!("unix:{}", path.display()), "events", "--follow"])
        .spawn()
        .expect("the program");
    let (_connection, _) = silent.accept().expect("it connects");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let ended = child.wait().expect("it ends");
    assert!(ended.success(), "{ended:?}");
}
