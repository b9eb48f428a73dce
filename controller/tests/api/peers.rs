//! Slow, greedy and unknown peers.

use crate::server::{LIMIT, Server};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

#[test]
fn half_a_request_and_one_that_never_comes_are_cut() {
    let server = Server::start();
    let host = format!("host: 127.0.0.1:{}\r\n", server.port);
    let begin = [
        String::new(),
        "GET /api/v1/over".to_owned(),
        format!("GET /api/v1/overview HTTP/1.1\r\n{host}x-slow: "),
        // Asked and answered, and then nothing more: an idle connection.
        format!("GET /api/v1/overview HTTP/1.1\r\n{host}\r\n"),
    ];
    let mut streams: Vec<TcpStream> = begin.iter().map(|_| server.tcp().expect("it listens")).collect();
    for (stream, text) in streams.iter_mut().zip(&begin) {
        stream.write_all(text.as_bytes()).expect("it listens");
    }
    let mut body = server.unix();
    let head = "POST /api/v1/vms HTTP/1.1\r\nhost: tandem\r\nx-tandem-request: 1\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{\"cpu\"";
    body.write_all(head.as_bytes()).expect("it listens");
    for (mut stream, text) in streams.into_iter().zip(&begin) {
        // It ends by itself: without a time-out this would wait until the client's own.
        stream.read_to_end(&mut Vec::new()).unwrap_or_else(|e| panic!("{text:?} is not cut: {e}"));
    }
    let mut answer = [0; 64];
    let n = body.read(&mut answer).expect("it is answered");
    assert!(
        String::from_utf8_lossy(&answer[..n]).contains(" 408 "),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
}

#[test]
fn bodies_and_heads_that_are_too_large_are_refused() {
    let server = Server::start();
    let body = vec![b' '; 2 * 1024 * 1024];
    let reply = server.ask("POST", "/api/v1/groups", Some(&body));
    assert_eq!(reply.status, 413);
    reply.error();
    let long = vec![format!("x-long: {}", "y".repeat(100_000))];
    assert_eq!(server.over_unix("GET /api/v1/overview", &long).status, 431);
}

#[test]
fn a_crowd_of_api_clients_leaves_switches_their_descriptors() {
    // 300 descriptors, and 800 clients that never finish their requests.
    let server = Server::start_with(&[], Some(300));
    // It was started with half of what it may have, and has raised that.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("Linux");
    let files = limits.lines().find(|l| l.starts_with("Max open files")).expect("a limit");
    let files: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(files, ["300", "300"], "as many as it may have");
    let mut crowd = Vec::new();
    for _ in 0..800 {
        let Ok(mut stream) = server.tcp() else { continue };
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nx: ");
        crowd.push(stream);
    }
    for _ in 0..20 {
        // OpenFlow 1.3 HELLO; a controller that has a descriptor for it says HELLO too.
        let mut switch = UnixStream::connect(server.at("of.sock")).expect("it listens");
        switch.set_read_timeout(Some(Duration::from_secs(5))).expect("a stream");
        switch.write_all(&[4, 0, 0, 8, 0, 0, 0, 1]).expect("it listens");
        let mut hello = [0; 8];
        switch.read_exact(&mut hello).unwrap_or_else(|e| panic!("no switch gets in: {e}\n{}", server.log()));
        assert_eq!(hello[1], 0, "HELLO");
        std::mem::forget(switch);
    }
    // The Unix socket has its own share.
    assert_eq!(server.over_unix("GET /api/v1/overview", &["host: tandem".to_owned()]).status, 200);
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
    drop(crowd);
    let start = Instant::now();
    let host = vec![format!("host: localhost:{}", server.port)];
    while server.over_tcp("GET /api/v1/overview", &host).status != 200 {
        assert!(start.elapsed() < LIMIT, "it does not recover");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_unix_socket_is_its_owners_and_another_user_is_told_so() {
    let server = Server::start();
    let socket = server.at("api.sock");
    let mode = std::fs::metadata(&socket).expect("it").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    if !std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
        return;
    }
    // Even where the file's rights were lost, the kernel tells who asks.
    for (path, mode) in [(server.folder.path(), 0o755), (socket.as_path(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    }
    let copy = server.at("tandem");
    std::fs::copy(env!("CARGO_BIN_EXE_tandem"), &copy).expect("room");
    let api = format!("unix:{}", socket.display());
    let mut other = std::process::Command::new(copy);
    let output =
        other.args(["--api", &api, "vm", "list"]).uid(65534).gid(65534).output().expect("the program");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("user 65534 may not use"), "{text}");
}

/// Whoever is connected by the agents' socket or the switches' may say what it is, so the kernel
/// has to say that it is the controller's own user or root.
#[test]
fn the_sockets_of_agents_and_switches_are_their_owners_too() {
    let server = Server::start();
    // RFC 9113 section 3.4: the client's preface with empty settings; a server answers with its
    // own. OFPT_HELLO is answered with one.
    let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    preface.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let settings = |answer: &[u8]| answer[3] == 4;
    let hello = |answer: &[u8]| answer[1] == 0;
    type Is<'a> = &'a dyn Fn(&[u8]) -> bool;
    let cases: [(&str, Vec<u8>, Is<'_>); 2] =
        [("agents.sock", preface, &settings), ("of.sock", vec![4, 0, 0, 8, 0, 0, 0, 1], &hello)];
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    for (name, said, is_right) in cases {
        let socket = server.at(name);
        let mut own = UnixStream::connect(&socket).expect("it listens");
        own.set_read_timeout(Some(LIMIT)).expect("a stream");
        own.write_all(&said).expect("it listens");
        let mut answer = [0; 8];
        own.read_exact(&mut answer).expect("it answers");
        assert!(is_right(&answer), "{name}: {answer:?}");
        if !is_root {
            continue;
        }
        // Whatever its permissions are.
        for (path, mode) in [(server.folder.path(), 0o755), (socket.as_path(), 0o666)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
        }
        let script = "import contextlib, socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(60)\ns.connect(sys.argv[1])\n\
                      with contextlib.suppress(BrokenPipeError): s.sendall(bytes.fromhex(sys.argv[2]))\n\
                      with contextlib.suppress(ConnectionResetError): print(len(s.recv(9)))";
        let said: String = said.iter().map(|b| format!("{b:02x}")).collect();
        let mut other = std::process::Command::new("python3");
        other.arg("-c").arg(script).arg(&socket).arg(said).uid(65534).gid(65534);
        let output = other.output().expect("python3");
        let heard = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(["", "0"].contains(&heard.trim()), "{name} answers another user: {heard}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let refusals = server.log().matches("user 65534 may not use this service").count();
    assert!(!is_root || refusals == 2, "{}", server.log());
}

/// Another user who listens where a controller or a hypervisor service could be, and says how much
/// he has heard.
struct Squatter {
    child: std::process::Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Squatter {
    /// At a path, or at an abstract name with an `@`.
    fn at(place: &str) -> Squatter {
        let script = "import os, socket, sys\nat = sys.argv[1]\ns = socket.socket(socket.AF_UNIX)\n\
                      s.bind('\\0' + at[1:] if at[0] == '@' else at)\nif at[0] != '@': os.chmod(at, 0o666)\n\
                      s.listen()\nprint('listens', flush=True)\nprint(len(s.accept()[0].recv(9)), flush=True)";
        let mut command = std::process::Command::new("python3");
        command.arg("-c").arg(script).arg(place).uid(65534).gid(65534).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("python3");
        let said = BufReader::new(child.stdout.take().expect("its output"));
        let mut squatter = Squatter { child, said };
        assert_eq!(squatter.line(), "listens");
        squatter
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("its output");
        line.trim().to_owned()
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client checks who listens, too: a command says nothing to another user's API, nor a controller
/// to his hypervisor service.
#[test]
fn nothing_is_said_to_a_listener_of_another_user() {
    if !std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("ours");
    let socket = folder.path().join("api.sock").display().to_string();
    let mut squatter = Squatter::at(&socket);
    let mut command = crate::server::program();
    let output =
        command.args(["--api", &format!("unix:{socket}"), "vm", "list"]).output().expect("the program");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("user 65534's, not yours or root's"), "{text}");
    assert_eq!(squatter.line(), "0", "he has heard something");

    let world = format!("@tandem-lab/squat-{}/world", std::process::id());
    let mut squatter = Squatter::at(&world);
    let server = Server::start_with(&["--world", &world], None);
    assert_eq!(squatter.line(), "0", "he has heard something");
    let start = Instant::now();
    while !server.log().contains("user 65534's, not yours or root's") {
        assert!(start.elapsed() < LIMIT, "{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn members_of_the_group_that_was_named_may_use_the_unix_socket() {
    if !std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
        return;
    }
    let text = std::fs::read_to_string("/etc/group").expect("groups");
    let groups = text.lines().filter_map(|l| {
        let mut fields = l.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse::<u32>().ok()?))
    });
    let (group, id) = groups.into_iter().find(|(_, id)| *id > 0 && *id < 1000).expect("a group");
    let server = Server::start_with(&["--api-group", &group], None);
    let socket = server.at("api.sock");
    assert_eq!(std::fs::metadata(&socket).expect("it").permissions().mode() & 0o777, 0o660);
    std::fs::set_permissions(server.folder.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let copy = server.at("tandem");
    std::fs::copy(env!("CARGO_BIN_EXE_tandem"), &copy).expect("room");
    let api = format!("unix:{}", socket.display());
    let list = |gid: u32| {
        let mut other = std::process::Command::new(&copy);
        other
            .args(["--api", &api, "vm", "list"])
            .uid(65534)
            .gid(gid)
            .output()
            .expect("the program")
            .status
            .success()
    };
    assert!(list(id), "a member");
    assert!(!list(65533), "another user");
}
