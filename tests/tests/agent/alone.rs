//! An agent without a controller: a file is applied and given back, bridges are taken over when
//! told, and the interface of its own connection is never touched.

use crate::host::{Host, batch, rates};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tandem_linux::link;
use tandem_tests::{can_emulate, program, wait};

#[test]
fn without_a_controller_a_file_is_applied_and_given_back_with_what_was_there_before() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    let qdisc = || -> Result<String> {
        let output = host.run(Path::new("tc"), &["qdisc", "show", "dev", "p1"])?;
        Ok(String::from_utf8(output.stdout)?)
    };
    host.run(
        Path::new("tc"),
        &[
            "qdisc", "add", "dev", "p1", "root", "handle", "5:", "tbf", "rate", "2mbit", "burst", "10k",
            "latency", "50ms",
        ],
    )?;
    let before = qdisc()?;
    ensure!(before.contains("tbf"), "{before}");
    let file = host.desired(7)?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok && text.contains("changes in"), "{text}");
    ensure!(rates(&host.classes("p1")?).len() == 3);
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok && text.starts_with("0 changes"), "{text}");
    let (ok, text) = host.agent(&["report"])?;
    ensure!(ok && text.contains("edge1.3"), "{text}");
    let (_, text) = host.agent(&["doctor"])?;
    for word in ["HTB", "u32 filters", "Open vSwitch", "2 classes in use, 62 free", "not enrolled"] {
        ensure!(text.contains(word), "{word} in {text}");
    }
    std::fs::write(host.path("wrong.toml"), "[[switch]]\nname = \"edge1\"\ndatapath_id = \"zz\"\n")?;
    let (ok, text) = host.agent(&["apply", &host.path("wrong.toml").display().to_string()])?;
    ensure!(!ok && text.contains("line 3"), "{text}");
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok, "{text}");
    ensure!(host.vsctl(&["list-br"])?.is_empty() && qdisc()? == before, "{}", qdisc()?);

    // Classes that somebody else has made by hand are not ours to replace.
    host.run(Path::new("tc"), &["qdisc", "replace", "dev", "p1", "root", "handle", "9:", "htb"])?;
    host.run(
        Path::new("tc"),
        &["class", "add", "dev", "p1", "parent", "9:", "classid", "9:1", "htb", "rate", "1mbit"],
    )?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok && text.contains("p1 has a htb queueing of somebody else"), "{text}");
    ensure!(qdisc()?.contains("htb 9:") && host.classes("p2")?.len() == 3);
    Ok(())
}

/// A card that nobody configured is down: it is set up when it becomes a port, once, and down again
/// when it is given back.
#[test]
fn interfaces_are_set_up_when_they_become_ports_and_given_back_as_they_were() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    let is_up = |name: &str| -> Result<bool> {
        let output = host.run(Path::new("ip"), &["-j", "link", "show", "dev", name])?;
        let shown: Value = serde_json::from_slice(&output.stdout)?;
        Ok(shown[0]["flags"].as_array().is_some_and(|f| f.iter().any(|f| f == "UP")))
    };
    let set = |name: &str, state: &str| host.run(Path::new("ip"), &["link", "set", name, state]).map(drop);
    set("p1", "down")?;
    set("p2", "down")?;
    let p3 = is_up("p3")?;
    let file = host.desired(7)?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok && is_up("p1")? && is_up("p2")? && is_up("p3")?, "{text}");
    // Switched off afterwards, as OFPT_PORT_MOD does it: that is somebody's wish.
    set("p2", "down")?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok && text.starts_with("0 changes") && !is_up("p2")?, "{text}");
    set("p2", "up")?;
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok && !is_up("p1")? && !is_up("p2")? && is_up("p3")? == p3, "{text}");
    Ok(())
}

/// Numbered packets from left to right until it is ended.
struct Stream(Arc<AtomicBool>, Arc<AtomicU64>, Vec<std::thread::JoinHandle<()>>);

impl Stream {
    fn start(host: &Host) -> Result<Stream> {
        let receiver = host.right.run(|| UdpSocket::bind("10.1.0.2:9000"))??;
        let sender = host.left.run(|| UdpSocket::bind("10.1.0.1:0"))??;
        receiver.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (sending, reading, count) = (stop.clone(), stop.clone(), received.clone());
        let feeder = std::thread::spawn(move || {
            while !sending.load(Ordering::Relaxed) {
                // While there is no way, ARP has no answer and the kernel says so.
                let _ = sender.send_to(b"x", "10.1.0.2:9000");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !reading.load(Ordering::Relaxed) {
                count.fetch_add(u64::from(receiver.recv(&mut buffer).is_ok()), Ordering::Relaxed);
            }
        });
        Ok(Stream(stop, received, vec![feeder, reader]))
    }

    fn wait(&self, more: u64) -> Result<()> {
        let from = self.1.load(Ordering::Relaxed);
        wait("packets arrive", || Ok((self.1.load(Ordering::Relaxed) >= from + more).then_some(())))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.2.drain(..).for_each(|t| drop(t.join()));
    }
}

#[test]
fn a_bridge_without_a_controller_is_taken_over_when_told_and_the_gap_is_measured() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    let kind = format!("datapath_type={}", host.ovs.datapath().kind());
    host.vsctl(&["add-br", "edge1", "--", "set", "bridge", "edge1", &kind])?;
    for (port, number) in [("p1", "1"), ("p2", "2")] {
        host.vsctl(&[
            "add-port",
            "edge1",
            port,
            "--",
            "set",
            "interface",
            port,
            &format!("ofport_request={number}"),
        ])?;
    }
    let stream = Stream::start(&host)?;
    stream.wait(20)?;
    let file = host.desired(7)?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok && text.contains("forwarding would stop") && text.contains("--adopt-with-gap"), "{text}");
    ensure!(host.vsctl(&["get-controller", "edge1"])?.is_empty(), "nothing was changed");
    stream.wait(20)?;

    // Somebody who plays the controller: flows come back as soon as the old ones are gone.
    let mgmt = format!("unix:{}", host.path("edge1.mgmt").display());
    let config = host.path("agent.toml").display().to_string();
    let mut applying = Command::new(program("tandem-agent")?);
    applying.args(["--config", &config, "apply", "--adopt-with-gap", &file]).stdin(Stdio::null());
    applying.stdout(Stdio::piped()).stderr(Stdio::piped());
    let applying = host.ns.run(|| applying.spawn())??;
    wait("its flows are gone", || {
        let output = host.run(Path::new("ovs-ofctl"), &["dump-flows", &mgmt])?;
        Ok((output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("actions"))
            .then_some(()))
    })?;
    host.run(Path::new("ovs-ofctl"), &["add-flow", &mgmt, "actions=normal"])?;
    let output = applying.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("taken over although its forwarding stops"), "{text}");
    let gap = text.split("then none for ").nth(1).and_then(|t| t.split(' ').next()?.parse::<u64>().ok());
    ensure!(gap.is_some_and(|ms| ms > 0), "{text}");
    stream.wait(20)?;
    Ok(())
}

#[test]
fn the_interface_of_its_own_connection_is_never_put_into_a_bridge() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    let file = host.desired(7)?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok, "{text}");
    // The controller is behind p2 from now on.
    batch(&host.ns, &[link::address(11, Ipv4Addr::new(10, 1, 0, 9), 24)])?;
    host.configure("tcp:10.1.0.2:6655", "")?;
    let classes = host.classes("p1")?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok && text.contains("p2 carries this agent's own connection to tcp:10.1.0.2:6655"), "{text}");
    ensure!(
        host.vsctl(&["list-ports", "edge1"])? == "p1\np2\np3" && host.classes("p1")? == classes,
        "what was there stays"
    );
    let (_, text) = host.agent(&["doctor"])?;
    ensure!(text.contains("p2 carries the connection to the controller"), "{text}");
    Ok(())
}
