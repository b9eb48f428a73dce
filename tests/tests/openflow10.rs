//! OpenFlow 1.0 end to end, and what an unknown peer on the switches' port is told: real switches that
//! speak nothing newer, real packets.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use tandem_tests::{DataCentre, LIMIT, can_emulate, wait};

/// Two edges, so that some traffic crosses the core and some does not.
const SITE: &str = r#"
name = "old"
[topology]
shape = "three-tier"
core = 1
aggregation = 1
edge = 2
servers_per_edge = 1
[bandwidth]
gateway = "100 Mbit/s"
core = "50 Mbit/s"
aggregation = "50 Mbit/s"
edge = "20 Mbit/s"
[servers]
cpu = 4
ram = "8 GiB"
disk = "100 GiB"
[vm]
net = "1 Mbit/s"
start_timeout = "20 s"
[statistics]
period = "500 ms"
[discovery]
lldp_period = "500 ms"
lldp_timeout = "5 s"
"#;

const GATEWAY: &str = "10.255.255.1";

fn flows(dc: &DataCentre, switch: &str) -> Result<String> {
    let command = ["env", "OVS_RUNDIR=/mnt", "ovs-ofctl", "-O", "OpenFlow10", "dump-flows", switch];
    dc.exec(switch, &command)
}

#[test]
fn a_data_centre_of_1_0_switches_carries_traffic_and_repairs_wiped_flows() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let dc = DataCentre::up_speaking(SITE, Some("OpenFlow10"))?;
    let topology = dc.json(&["topology"])?;
    let switches = topology["switches"].as_array().context("switches")?;
    ensure!(
        switches.len() == 4 && switches.iter().all(|s| s["version"] == "1.0"),
        "not all switches speak 1.0: {topology}"
    );
    let (id, _) = dc.request_vm()?;
    let vm = format!("vm{id}");
    dc.exec(&vm, &["ping", "-c", "2", "-W", "2", GATEWAY])?;
    let pings = dc.lab(&["ping-all", "--name", &dc.name])?;
    ensure!(pings.contains("0.0% loss"), "{pings}");

    // Everything is wiped, somebody else's flow comes: ours are put back, the other one stays. 1.0
    // cannot name cookies in a deletion.
    for switch in ["edge1", "edge2", "agg1", "core1"] {
        dc.exec(switch, &["env", "OVS_RUNDIR=/mnt", "ovs-ofctl", "-O", "OpenFlow10", "del-flows", switch])?;
    }
    let foreign = "cookie=0x99,priority=1,dl_type=0x9999,actions=drop";
    let add = ["env", "OVS_RUNDIR=/mnt", "ovs-ofctl", "-O", "OpenFlow10", "add-flow", "edge1", foreign];
    dc.exec("edge1", &add)?;
    wait("the repair", || Ok(dc.notice("rules-repaired")?.then_some(())))?;
    wait("traffic again", || Ok(dc.exec(&vm, &["ping", "-c", "2", "-W", "1", GATEWAY]).ok()))?;
    wait("rules in every switch again", || {
        for switch in ["edge1", "edge2", "agg1", "core1"] {
            if !flows(&dc, switch)?.contains("cookie=0x5464") {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    let pings = dc.lab(&["ping-all", "--name", &dc.name])?;
    ensure!(pings.contains("0.0% loss"), "{pings}");
    ensure!(flows(&dc, "edge1")?.contains("0x99"), "a flow of somebody else was touched");

    // A VM's rules go with it, the rest stays.
    dc.tandem(&["vm", "delete", &vm])?;
    wait("the VM gone", || {
        let vms = dc.json(&["vm", "list"])?;
        Ok(vms.as_array().is_none_or(|l| l.iter().all(|v| v["state"]["state"] != "running")).then_some(()))
    })?;
    ensure!(flows(&dc, "edge1")?.contains("0x99"), "a flow of somebody else went with a VM's rules");
    Ok(())
}

/// What an unknown peer gets back until its connection is closed.
fn said_to(dc: &DataCentre, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(dc.path("openflow.sock"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("the connection of an unknown peer is not closed")?;
    Ok(answer)
}

/// The messages in an answer: version, type, and what is behind the header.
fn messages(mut bytes: &[u8]) -> Vec<(u8, u8, &[u8])> {
    let mut list = Vec::new();
    while let [version, kind, high, low, ..] = *bytes {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((message, rest)) = bytes.split_at_checked(length.max(8)) else { break };
        list.push((version, kind, &message[8..]));
        bytes = rest;
    }
    list
}

#[test]
fn garbage_is_answered_with_an_openflow_error_and_the_log_says_what_to_do() -> Result<()> {
    let mut dc = DataCentre::prepare(SITE)?;
    dc.start_controller()?;
    let hello10 = [1, 0, 0, 8, 0, 0, 0, 1];
    let hello13 = [4, 0, 0, 8, 0, 0, 0, 1];
    // What is sent, the version of the answer, and its error type and code (OF 1.0 section 5.4.4,
    // OF 1.3.5 section 7.5.4).
    let cases: [(&str, Vec<u8>, u8, [u8; 4]); 6] = [
        ("a web browser", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 4, [0, 0, 0, 0]),
        ("a question before the HELLO", vec![1, 5, 0, 8, 0, 0, 0, 1], 1, [0, 0, 0, 0]),
        ("a message of three bytes", [&hello10[..], &[1, 0, 0, 3, 0, 0, 0, 9]].concat(), 1, [0, 1, 0, 6]),
        ("an unknown type of 1.0", [&hello10[..], &[1, 99, 0, 8, 0, 0, 0, 9]].concat(), 1, [0, 1, 0, 1]),
        ("an unknown type of 1.3", [&hello13[..], &[4, 99, 0, 8, 0, 0, 0, 9]].concat(), 4, [0, 1, 0, 1]),
        ("1.0 in a session of 1.3", [&hello13[..], &[1, 19, 0, 8, 0, 0, 0, 9]].concat(), 4, [0, 1, 0, 0]),
    ];
    for (what, bytes, version, error) in cases {
        let answer = said_to(&dc, &bytes)?;
        let found = messages(&answer);
        // What costs itself only is followed by echo requests, until the silence ends the
        // connection.
        let is_answer = |m: &(u8, u8, &[u8])| m.0 == version && m.1 == 1 && m.2.starts_with(&error);
        ensure!(
            found.iter().any(is_answer),
            "{what}: wanted version {version} and error {error:?}, got {found:?}"
        );
    }
    dc.json(&["topology"])?;
    let log = std::fs::read_to_string(dc.path("tandem.log"))?;
    ensure!(
        log.contains("refused: it does not begin with a HELLO but with type 69")
            && log.contains("let only switches do so"),
        "{log}"
    );
    Ok(())
}
