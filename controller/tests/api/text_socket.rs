//! The thesis' text protocol against the real program: a requester of the old kind, and peers that
//! send anything else.

use crate::data_centre::DataCentre;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

fn centre() -> DataCentre {
    DataCentre::start_with(Vec::new(), |folder| {
        vec!["--text-socket".to_owned(), folder.join("requests.sock").display().to_string()]
    })
}

fn open(centre: &DataCentre) -> UnixStream {
    let stream = UnixStream::connect(centre.server.at("requests.sock")).expect("it listens");
    stream.set_read_timeout(Some(crate::server::LIMIT)).expect("a stream");
    stream
}

/// What is answered to bytes that are followed by an end.
fn asked(centre: &DataCentre, bytes: &[u8]) -> String {
    let mut stream = open(centre);
    // It may have been closed already, with an answer.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// As the requester of 2013 was: a socket for each request, a text without a newline, one `recv`.
const REQUESTER: &str = r#"
import socket, sys

def ask(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(sys.argv[1])
    s.send(text.encode())
    answer = s.recv(1024).decode()
    s.close()
    return answer

ips = []
for i in range(3):
    ip = ask("1/1/512/1/1/1/0")
    print("vm", ip)
    ips.append(ip)
print("group", ask("%d/%s" % (len(ips), "/".join(ips))))
print("large", ask("1/1000/512/1/1/1/0"))
print("nobody", ask("2/%s/10.99.0.1" % ips[0]))
"#;

#[test]
fn a_requester_of_the_old_kind_gets_vms_and_a_group_of_them() {
    let centre = centre();
    let mut child = Command::new("python3")
        .args(["-", &centre.server.at("requests.sock").display().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is among the prerequisites");
    child.stdin.take().expect("a pipe").write_all(REQUESTER.as_bytes()).expect("it reads");
    let out = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}\n{}", centre.server.log());
    let (_, vms) = centre.ask("GET", "/api/v1/vms", None);
    let vms = vms.as_array().expect("a list").clone();
    assert_eq!(vms.len(), 3, "{text}");
    let mut expected: Vec<String> =
        vms.iter().map(|vm| format!("vm {}", vm["address"].as_str().unwrap_or(""))).collect();
    expected.extend(["group TRUE", "large FALSE", "nobody FALSE"].map(str::to_owned));
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    for vm in &vms {
        assert_eq!(vm["request"]["requester"], "text-socket");
        assert_eq!(vm["request"]["resources"]["ram"], 512 << 20);
        assert_eq!(vm["request"]["class"], 1);
    }
    let (_, groups) = centre.ask("GET", "/api/v1/groups", None);
    assert_eq!(groups[0]["members"].as_array().map(Vec::len), Some(3), "{groups}");
}

#[test]
fn requests_on_lines_are_answered_on_lines_in_their_order() {
    let centre = centre();
    let answers = asked(&centre, b"1/1/256/1/1/rest/60\r\nnonsense\n\n1/1/256/0/0//0");
    let lines: Vec<&str> = answers.split('\n').collect();
    assert_eq!(lines.len(), 3, "{answers:?}");
    assert!(lines[0].parse::<std::net::Ipv4Addr>().is_ok() && lines[2].parse::<std::net::Ipv4Addr>().is_ok());
    assert_eq!(lines[1], "FALSE");
    let (_, vms) = centre.ask("GET", "/api/v1/vms", None);
    assert_eq!(vms[0]["request"]["timeout"]["secs"], 60);
    // What was left at 0 is the site's default.
    assert_ne!(vms[1]["request"]["resources"]["net"], 0);
    assert!(centre.server.log().contains("column 1"), "{}", centre.server.log());
}

/// VMs of others are not this requester's to connect.
#[test]
fn only_vms_of_the_requester_are_grouped() {
    let centre = centre();
    let other = centre.vm();
    let (_, view) = centre.ask("GET", &format!("/api/v1/vms/{other}"), None);
    let other = view["address"].as_str().expect("an address").to_owned();
    let own = asked(&centre, b"1/1/256/1/1/1/0");
    assert!(own.parse::<std::net::Ipv4Addr>().is_ok(), "{own}");
    assert_eq!(asked(&centre, format!("2/{own}/{other}").as_bytes()), "FALSE");
    assert_eq!(asked(&centre, format!("2/{own}/{own}").as_bytes()), "FALSE");
}

#[test]
fn whatever_is_sent_ends_in_an_answer_or_a_closed_connection() {
    let centre = centre();
    let long = vec![b'1'; 100_000];
    let cases: [&[u8]; 8] = [
        b"",
        b"\n\n\n",
        b"\0\x01\xff\xfe\n",
        b"GET / HTTP/1.1\r\n",
        b"1/////////////////////////\n",
        b"256/1\n",
        b"1/-1/1/1/1/1/1\n",
        &long,
    ];
    for case in cases {
        let answer = asked(&centre, case);
        let good = answer.is_empty() || answer.lines().all(|line| line == "FALSE");
        assert!(good, "{:?}: {answer:?}", String::from_utf8_lossy(&case[..case.len().min(40)]));
    }
    // Many that say nothing do not keep one from being served that does, and go on being served.
    let silent: Vec<UnixStream> = (0..100).map(|_| open(&centre)).collect();
    assert!(asked(&centre, b"1/1/256/1/1/rest/0").parse::<std::net::Ipv4Addr>().is_ok());
    drop(silent);
    // One that begins and waits is answered after a pause, without a newline.
    let mut slow = open(&centre);
    slow.write_all(b"1/").expect("it reads");
    let mut answer = [0; 16];
    let n = slow.read(&mut answer).expect("an answer");
    assert_eq!(&answer[..n], b"FALSE");
    // The next one on the same connection stands for itself.
    slow.write_all(b"2/10.0.0.1\n").expect("it reads");
    slow.set_read_timeout(Some(Duration::from_secs(30))).expect("a stream");
    let n = slow.read(&mut answer).expect("an answer");
    assert_eq!(&answer[..n], b"FALSE\n");
    let (_, vms) = centre.ask("GET", "/api/v1/vms", None);
    assert_eq!(vms.as_array().map(Vec::len), Some(1));
}

/// The socket is its owner's, and goes with the controller's file of it.
#[test]
fn the_socket_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let centre = centre();
    let mode = std::fs::metadata(centre.server.at("requests.sock")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
