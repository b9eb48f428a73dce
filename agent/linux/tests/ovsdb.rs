//! Bridges in a real ovsdb-server and ovs-vswitchd, compared with the output of ovs-vsctl; each
//! test has its own, in its own namespace.

mod support;

use serde_json::json;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{LIMIT, Stream, inside, is_root, wait};
use tandem_linux::netlink::Netlink;
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::Ovs;
use tandem_linux::ovsdb::{
    Adopt, Change, Comparison, Error, Gap, Ovsdb, State, WantedBridge, WantedPort, Watch,
};
use tandem_linux::{ethtool, link};

fn can_run() -> bool {
    if !is_root() {
        return false;
    }
    let there = Path::new("/usr/sbin/ovs-vswitchd").exists();
    assert!(
        there || std::env::var_os("CI").is_none(),
        "in CI nothing is skipped; missing: openvswitch-switch"
    );
    if !there {
        eprintln!("skipped: missing openvswitch-switch");
    }
    there
}

/// A switch host with two links: `left` - p1, p2 - `right`. Fields are dropped in order: daemons
/// before their folder.
struct Host {
    ovs: Ovs,
    ns: NetNs,
    left: NetNs,
    right: NetNs,
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Host {
        let mut all = NetNs::many(3, link::disable_ipv6).expect("namespaces");
        let (right, left, ns) =
            (all.pop().expect("three"), all.pop().expect("three"), all.pop().expect("three"));
        let veths = [
            link::Veth::new(("p1", 10, &ns), ("left", 10, &left)),
            link::Veth::new(("p2", 11, &ns), ("right", 10, &right)),
        ];
        Netlink::open().and_then(|mut n| n.batch(&veths.map(|v| v.request()))).expect("cables");
        for (end, name, last) in [(&left, "left", 1), (&right, "right", 2)] {
            inside(end, |n| {
                n.batch(&[link::set_up(10, true), link::address(10, Ipv4Addr::new(10, 1, 0, last), 24)])
            });
            end.run(|| ethtool::tx_checksum_off([name]))
                .expect("a namespace")
                .expect("veth lets itself be told");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let ovs = ns.run(|| Ovs::start(folder.path())).expect("a namespace").expect("Open vSwitch");
        Host { ovs, ns, left, right, folder }
    }

    fn db(&self) -> Ovsdb {
        Ovsdb::connect(&self.ovs.socket()).expect("the database")
    }

    fn vsctl(&self, arguments: &[&str]) -> String {
        let db = format!("--db=unix:{}", self.ovs.socket().display());
        let output = Command::new("ovs-vsctl")
            .arg(db)
            .arg("--timeout=20")
            .args(arguments)
            .output()
            .expect("ovs-vsctl");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn ofctl(&self, verb: &str, bridge: &str, more: &[&str]) -> String {
        let target = format!("unix:{}", self.folder.path().join(format!("{bridge}.mgmt")).display());
        let output = Command::new("ovs-ofctl").args([verb, &target]).args(more).output().expect("ovs-ofctl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Creates a bridge by hand.
    fn by_hand(&self, controller: Option<&str>) {
        let kind = self.ovs.datapath().kind();
        self.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", &format!("datapath_type={kind}")]);
        self.vsctl(&["add-port", "br0", "p1", "--", "set", "interface", "p1", "ofport_request=1"]);
        self.vsctl(&["add-port", "br0", "p2", "--", "set", "interface", "p2", "ofport_request=2"]);
        if let Some(controller) = controller {
            self.vsctl(&["set-controller", "br0", controller]);
            self.vsctl(&["set-fail-mode", "br0", "secure"]);
            self.ofctl("add-flow", "br0", &["priority=5,actions=normal"]);
        }
    }

    fn wanted(&self, name: &str, ports: &[(&str, u32)]) -> WantedBridge {
        WantedBridge {
            name: name.into(),
            datapath_id: 0xab,
            datapath_type: self.ovs.datapath().kind().into(),
            protocols: vec!["OpenFlow10".into(), "OpenFlow13".into()],
            controllers: vec!["tcp:127.0.0.1:9".into()],
            secure: true,
            ports: ports
                .iter()
                .map(|(n, number)| WantedPort { name: (*n).into(), number: *number, takes_queueing: false })
                .collect(),
        }
    }

    /// All settings of a bridge and the rows below it, from ovs-vsctl.
    fn settings(&self) -> Vec<String> {
        [
            &["--columns=name,fail_mode,protocols,datapath_type,other_config,external_ids", "list", "bridge"]
                [..],
            &["--columns=name,external_ids", "list", "port"],
            &["--columns=name,ofport_request,external_ids", "list", "interface"],
            &["--columns=target,max_backoff,inactivity_probe", "list", "controller"],
        ]
        .map(|a| {
            let mut rows: Vec<String> = self.vsctl(a).split("\n\n").map(str::to_owned).collect();
            rows.sort();
            rows.join("\n\n")
        })
        .to_vec()
    }
}

#[test]
fn bridges_are_as_ovs_vsctl_shows_them_and_the_second_time_nothing_is_written() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let mut db = host.db();
    let mut wanted = vec![host.wanted("edge1", &[("p1", 7), ("p2", 3)])];
    let synced = db.sync_bridges("me", &wanted, &[], Adopt::WithoutGap, LIMIT).expect("made");
    assert!(synced.changed && synced.ports.iter().all(|(_, _, r)| r.is_ok()), "{synced:?}");
    assert_eq!(host.vsctl(&["list-ports", "edge1"]), "p1\np2");
    assert_eq!(host.vsctl(&["get", "interface", "p1", "ofport"]), "7");
    assert_eq!(host.vsctl(&["get", "bridge", "edge1", "datapath_id"]), "\"00000000000000ab\"");
    assert_eq!(host.vsctl(&["get-fail-mode", "edge1"]), "secure");
    assert_eq!(host.vsctl(&["get-controller", "edge1"]), "tcp:127.0.0.1:9");
    assert_eq!(host.vsctl(&["get", "bridge", "edge1", "external_ids:tandem"]), "me");

    let number = host.vsctl(&["get", "open_vswitch", ".", "next_cfg"]);
    let again = db.sync_bridges("me", &wanted, &[], Adopt::WithoutGap, LIMIT).expect("the same");
    assert!(!again.changed);
    assert_eq!(host.vsctl(&["get", "open_vswitch", ".", "next_cfg"]), number, "nothing was written");

    // Another datapath id and one port less: a spared bridge stays, a wanted one changes, others
    // are removed.
    let other = WantedBridge { datapath_id: 0xac, ..host.wanted("edge2", &[]) };
    db.sync_bridges("me", &[wanted[0].clone(), other], &[], Adopt::WithoutGap, LIMIT)
        .expect("a second bridge");
    wanted[0].ports = vec![WantedPort { name: "p1".into(), number: 9, takes_queueing: false }];
    db.sync_bridges("me", &wanted, &["edge2".into()], Adopt::WithoutGap, LIMIT).expect("changed");
    assert_eq!(
        (host.vsctl(&["list-br"]).as_str(), host.vsctl(&["list-ports", "edge1"]).as_str()),
        ("edge1\nedge2", "p1")
    );
    assert_eq!(host.vsctl(&["get", "interface", "p1", "ofport"]), "9");

    // A foreign port stays, whatever is wanted.
    host.vsctl(&["add-port", "edge1", "p2"]);
    db.release("me", LIMIT).expect("given back");
    assert_eq!(host.vsctl(&["list-br"]), "edge1", "it holds a port of somebody else");
    assert_eq!(
        (host.vsctl(&["list-ports", "edge1"]).as_str(), host.vsctl(&["get-controller", "edge1"]).as_str()),
        ("p2", "")
    );

    // A missing interface is reported, and attached when it appears.
    host.vsctl(&["del-br", "edge1"]);
    let late = [host.wanted("edge1", &[("late", 4)])];
    let synced = db.sync_bridges("me", &late, &[], Adopt::WithoutGap, LIMIT).expect("made");
    assert!(synced.ports[0].2.is_err(), "{synced:?}");
    let veth = link::Veth::new(("late", 20, &host.ns), ("etal", 21, &host.ns));
    inside(&host.ns, |n| n.batch(&[veth.request()]));
    wait("the late port has its number", || {
        let all = db.interfaces().expect("interfaces");
        all.iter().any(|i| i.name == "late" && i.ofport == Some(4)).then_some(())
    });
    inside(&host.ns, |n| n.batch(&[link::set_up(21, true)]));
    wait("vswitchd sees its carrier", || {
        let all = db.interfaces().expect("interfaces");
        all.iter().any(|i| i.name == "late" && i.link_state == Some(State::Up)).then_some(())
    });
    assert_eq!(host.vsctl(&["get", "interface", "late", "link_state"]), "up");
}

#[test]
fn a_bridge_with_a_controller_is_taken_over_and_given_back_without_a_lost_packet() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.by_hand(Some("tcp:127.0.0.1:8"));
    let before = host.settings();
    let stream = Stream::start(&host.left, &host.right, 9600, Duration::from_millis(1));
    stream.wait(100);
    let mut db = host.db();
    let wanted = [host.wanted("br0", &[("p1", 1), ("p2", 2)])];
    let synced = db.sync_bridges("me", &wanted, &[], Adopt::WithoutGap, LIMIT).expect("taken over");
    assert!(synced.changed && synced.ports.iter().all(|(_, _, r)| r.is_ok()), "{synced:?}");
    stream.wait(100);
    assert_eq!(host.vsctl(&["get-controller", "br0"]), "tcp:127.0.0.1:9");
    assert!(host.ofctl("dump-flows", "br0", &[]).contains("priority=5"), "its flows are still there");
    let bridges = db.read_bridges().expect("bridges");
    assert_eq!((bridges[0].adopted, bridges[0].owner.as_deref()), (true, Some("me")));
    db.release("me", LIMIT).expect("given back");
    stream.wait(100);
    let (sent, lost) = stream.end();
    assert_eq!(lost, 0, "of {sent}");
    assert_eq!(host.settings(), before);
}

#[test]
fn a_bridge_without_a_controller_is_taken_over_only_when_that_is_allowed() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.by_hand(None);
    let before = host.settings();
    let mut db = host.db();
    let wanted = [host.wanted("br0", &[("p1", 1), ("p2", 2)])];
    let refused =
        db.sync_bridges("me", &wanted, &[], Adopt::WithoutGap, LIMIT).expect_err("its flows would be lost");
    assert!(
        matches!(&refused, Error::WouldInterrupt { bridge, gap: Gap::FirstController } if bridge == "br0"),
        "{refused}"
    );
    let refusals = db.refusals("me", &wanted, Adopt::WithoutGap).expect("an answer");
    assert!(matches!(&refusals[..], [(name, Error::WouldInterrupt { .. })] if name == "br0"));
    assert_eq!(host.settings(), before, "nothing was changed");
    let renumbered = [WantedBridge { controllers: vec![], ..host.wanted("br0", &[("p1", 5)]) }];
    let refused = db
        .sync_bridges("me", &renumbered, &[], Adopt::WithoutGap, LIMIT)
        .expect_err("a port would go and come");
    assert!(matches!(&refused, Error::WouldInterrupt { gap: Gap::PortNumber { .. }, .. }), "{refused}");
    db.sync_bridges("me", &wanted, &[], Adopt::EvenWithGap, LIMIT).expect("it is allowed");
    db.release("me", LIMIT).expect("given back");
    assert_eq!(host.settings(), before);
}

#[test]
fn two_owners_do_not_touch_each_other_s() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let mut db = host.db();
    db.sync_bridges("one", &[host.wanted("a", &[("p1", 1)])], &[], Adopt::WithoutGap, LIMIT).expect("one's");
    let other = WantedBridge { datapath_id: 0xac, ..host.wanted("b", &[("p2", 1)]) };
    db.sync_bridges("two", &[other], &[], Adopt::WithoutGap, LIMIT).expect("two's");
    assert_eq!(host.vsctl(&["list-br"]), "a\nb");
    let taken = db
        .sync_bridges("two", &[host.wanted("a", &[])], &[], Adopt::EvenWithGap, LIMIT)
        .expect_err("it is one's");
    assert!(
        matches!(&taken, Error::OwnedByOther { bridge, owner } if bridge == "a" && owner == "one"),
        "{taken}"
    );
    let stolen = WantedBridge { datapath_id: 0xac, ..host.wanted("b", &[("p1", 2)]) };
    let taken =
        db.sync_bridges("two", &[stolen], &[], Adopt::EvenWithGap, LIMIT).expect_err("the port is one's");
    assert!(
        matches!(&taken, Error::PortElsewhere { port, bridge } if port == "p1" && bridge == "a"),
        "{taken}"
    );
    db.release("two", LIMIT).expect("given back");
    assert_eq!(host.vsctl(&["list-br"]), "a");
}

#[test]
fn transactions_monitors_and_signs_of_life() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let mut db = host.db();
    db.echo().expect("it is alive");
    assert_eq!(
        db.about().expect("an answer").version,
        None,
        "its start script writes it, which nobody ran here"
    );
    host.vsctl(&["set", "open_vswitch", ".", "ovs_version=3.1.0"]);
    let about = db.about().expect("an answer");
    assert_eq!(about.version.as_deref(), Some("3.1.0"));
    assert!(about.datapath_types.iter().any(|t| t == host.ovs.datapath().kind()), "{about:?}");

    let bad = db
        .transact(&[json!({ "op": "insert", "table": "Bridge", "row": { "name": 5 } })])
        .expect_err("a number");
    assert!(matches!(&bad, Error::Refused { operation, .. } if operation == "insert Bridge"), "{bad}");
    let none = db
        .transact(&[json!({ "op": "select", "table": "Nothing", "where": [] })])
        .expect_err("no such table");
    assert!(none.to_string().contains("Nothing"), "{none}");
    db.echo().expect("a refusal does not end the connection");

    let watch = Watch::new("Bridge", ["name", "fail_mode"]).when("name", Comparison::Equal, "seen");
    let mut monitor = host.db().into_monitor(&[watch]).expect("a monitor");
    host.vsctl(&["add-br", "unseen"]);
    host.vsctl(&["add-br", "seen"]);
    let next = monitor.next(LIMIT).expect("the connection").expect("a change");
    assert!(matches!(&next.change, Change::Inserted(row) if row.text("name") == Some("seen")), "{next:?}");
    host.vsctl(&["set-fail-mode", "seen", "secure"]);
    let next = monitor.next(LIMIT).expect("the connection").expect("a change");
    assert!(
        matches!(&next.change, Change::Changed { now, columns } if now.text("fail_mode") == Some("secure") && columns == &["fail_mode"]),
        "{next:?}"
    );
    host.vsctl(&["del-br", "unseen"]);
    host.vsctl(&["del-br", "seen"]);
    let next = monitor.next(LIMIT).expect("the connection").expect("a change");
    assert!(matches!(&next.change, Change::Deleted(row) if row.text("name") == Some("seen")), "{next:?}");
    assert_eq!(monitor.rows().len(), 0);

    // The server ends: a waiting call gets an error.
    drop(host.ovs);
    let gone = monitor.next(LIMIT).expect_err("the server has gone");
    assert!(matches!(gone, Error::Closed | Error::Io { .. }), "{gone}");
    assert!(db.echo().is_err());
    let gone = Ovsdb::connect(&host.folder.path().join("db.sock")).expect_err("nobody listens");
    assert!(gone.to_string().contains("is ovsdb-server running"), "{gone}");
}

/// A server that is not a database: sends these bytes, reads everything, closes.
fn fake(words: &'static [u8]) -> Error {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("db.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer);
        let _ = stream.write_all(words);
    });
    let error = {
        let mut db = Ovsdb::connect(&socket).expect("connected");
        db.set_answer_within(Duration::from_secs(20));
        db.transact(&[]).expect_err("no database")
    };
    server.join().expect("the server");
    error
}

#[test]
fn somebody_who_is_no_database_is_an_error_and_nothing_worse() {
    for (words, what) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "begins with byte 0x48"),
        (b"{\"id\":1,\"result\":", "ends within a message"),
        (b"{\"id\": nonsense}", "something else than RFC 7047"),
        (b"{\"id\":1,\"result\":{},\"error\":null}", "answered with {}"),
        (b"{\"id\":1,\"result\":null,\"error\":\"no\"}", "refused transact: no"),
        (b"{\"id\":99,\"result\":[],\"error\":null}", "closed the connection"),
        (b"", "closed the connection"),
    ] {
        let error = fake(words).to_string();
        assert!(error.contains(what), "{error} instead of {what}");
    }
}
