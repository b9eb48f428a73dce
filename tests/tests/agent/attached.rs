//! An agent with a controller: what it makes, what it says, and what it does when others interfere,
//! fail or fall silent.

use crate::host::{AGENTS, Host, Process, batch, rates};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use tandem_linux::link;
use tandem_linux::netlink::Netlink;
use tandem_tests::{can_emulate, program, wait};

#[test]
fn an_agent_is_taken_in_makes_what_the_controller_wants_and_says_what_is_there() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::new()?;
    host.start_controller("store.sqlite")?;
    let token = host.token()?;
    let (ok, text) = host.agent(&["enroll", "--token", &token])?;
    ensure!(ok && text.contains("mini1 is enrolled"), "{text}");
    let (ok, text) = host.agent(&["enroll", "--token", &token])?;
    ensure!(!ok && text.contains("was used already"), "a token is good once: {text}");
    host.said("tandem.log", "was used already")?;

    host.start_agent()?;
    host.applied()?;
    ensure!(host.vsctl(&["list-ports", "edge1"])? == "p1\np2\np3");
    let shown = rates(&host.classes("p2")?);
    ensure!(shown == ["7Mbit", "3Mbit", "10Mbit"], "{:?}", host.classes("p2")?);

    // Shares change while it runs.
    host.tandem(&["class", "set", "gold=60", "silver=40"])?;
    wait("the kernel has the new shares", || {
        let now = rates(&host.classes("p2")?);
        Ok((now.contains(&"6Mbit".to_owned()) && now.contains(&"4Mbit".to_owned())).then_some(()))
    })?;
    host.applied()?;

    // On the switch itself.
    let (ok, text) = host.agent(&["status"])?;
    ensure!(ok && text.contains("connected") && text.contains("0 faults"), "{text}");
    let (ok, text) = host.agent(&["counters", "--json"])?;
    let counters: Value = serde_json::from_str(&text)?;
    ensure!(ok && counters[0]["ports"][0]["classes"].as_array().map(Vec::len) == Some(2), "{text}");
    for verb in ["apply", "release"] {
        let more: &[&str] = if verb == "apply" { &["desired.toml"] } else { &[] };
        let (ok, text) = host.agent(&[&[verb], more].concat())?;
        ensure!(!ok && text.contains("an agent is running here"), "{verb}: {text}");
    }
    let (ok, text) = host.agent(&[])?;
    ensure!(!ok && text.contains("an agent is running already"), "{text}");

    // `counters --watch` goes on until it is ended.
    let config = host.path("agent.toml").display().to_string();
    let mut watching = Command::new(program("tandem-agent")?);
    watching.args(["--config", &config, "counters", "--watch"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut watching = Process(host.ns.run(|| watching.spawn())??);
    let lines = BufReader::new(watching.0.stdout.take().context("its output")?).lines();
    let headings = lines.map_while(|l| l.ok()).filter(|l| l.contains("packets out")).take(2).count();
    ensure!(headings == 2, "it printed once more");
    Ok(())
}

#[test]
fn what_others_change_or_break_is_said_and_put_right() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::attached()?;
    let as_wanted = host.classes("p2")?;
    ensure!(as_wanted.len() == 3, "{as_wanted:?}");
    let restored = |what: &str| {
        wait(what, || Ok((host.classes("p2")? == as_wanted).then_some(())))
            .with_context(|| host.log("agent.log"))
    };

    // 1. A queueing that somebody else has changed, a little and altogether.
    host.run(
        Path::new("tc"),
        &["class", "change", "dev", "p2", "parent", "1:fffe", "classid", "1:1", "htb", "rate", "1mbit"],
    )?;
    host.noticed("the queueing of p2 was changed by somebody else")?;
    restored("the class is put right")?;
    host.run(
        Path::new("tc"),
        &["qdisc", "replace", "dev", "p2", "root", "tbf", "rate", "1mbit", "burst", "10k", "latency", "50ms"],
    )?;
    restored("the whole queueing is put right")?;

    // 2. A bridge's port.
    host.vsctl(&["del-port", "edge1", "p2"])?;
    host.noticed("bridges were changed by somebody else")?;
    wait("the port is back", || Ok(host.vsctl(&["list-ports", "edge1"])?.contains("p2").then_some(())))?;
    wait(
        "with its number",
        || Ok((host.vsctl(&["get", "interface", "p2", "ofport"])? == "2").then_some(())),
    )?;

    // 3. An interface that vanishes, and one of its name that comes.
    batch(&host.ns, &[link::delete(11)])?;
    host.noticed("there is no interface p2")?;
    let veth = link::Veth::new(("p2", 31, &host.ns), ("right", 10, &host.right));
    Netlink::open()?.batch(&[veth.request()])?;
    host.noticed("p2 is back")?;
    restored("its classes are there again")?;
    wait("it is a port again", || {
        Ok((host.vsctl(&["get", "interface", "p2", "ofport"])? == "2").then_some(()))
    })?;

    Ok(())
}

#[test]
fn vswitchd_may_be_restarted_and_the_agent_killed() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::new()?;
    let file = host.desired(7)?;
    host.configure(&format!("tcp:{AGENTS}"), &format!("initial = {file:?}"))?;
    // 1. Killed as soon as it has begun: the next one finishes it, whatever there was of it.
    host.start_agent()?;
    wait("it has begun", || Ok(host.path("state/desired.toml").exists().then_some(())))?;
    host.agent.take().context("it runs")?.kill()?;
    std::fs::remove_file(&file)?;
    std::fs::write(&file, "")?;
    host.start_agent()?;
    let applied = |host: &Host| {
        wait("applied", || Ok(Some(host.ask("status")?).filter(|s| s["applied"] == true)))
            .with_context(|| host.log("agent.log"))
    };
    let status = applied(&host)?;
    ensure!(status["faults"].as_array().is_some_and(Vec::is_empty), "{status}");
    ensure!(host.vsctl(&["list-ports", "edge1"])? == "p1\np2\np3");
    let as_wanted = host.classes("p1")?;
    ensure!(as_wanted.len() == 3, "{as_wanted:?}");

    // 2. Killed when all is done: the next one writes nothing.
    let number = host.vsctl(&["get", "open_vswitch", ".", "next_cfg"])?;
    host.agent.take().context("it runs")?.kill()?;
    let mut listener = host.ns.run(tandem_linux::tc::Listener::open)??;
    host.start_agent()?;
    let status = applied(&host)?;
    ensure!(status["changes"] == 0, "{status}");
    ensure!(listener.changed()?.is_some_and(|c| c.is_empty()), "the kernel heard of no change");
    ensure!(host.vsctl(&["get", "open_vswitch", ".", "next_cfg"])? == number, "nor did the database");

    // 3. vswitchd ends and comes back: ports have their numbers, queues are there, its new socket
    //    has room.
    let Host { ovs, ns, .. } = &mut host;
    ns.run(|| ovs.restart_switchd())??;
    host.write_pid()?;
    for (port, number) in [("p1", "1"), ("p2", "2"), ("p3", "3")] {
        wait("the port's number", || {
            Ok((host.vsctl(&["get", "interface", port, "ofport"])? == number).then_some(()))
        })?;
        // A vswitchd that starts takes away the HTB that it finds on its ports: the agent notices
        // and makes it again.
        wait("its queues are there", || Ok((host.classes(port)? == as_wanted).then_some(())))
            .with_context(|| host.log("agent.log"))?;
    }
    let status = host.ask("status")?;
    ensure!(status["faults"].as_array().is_some_and(Vec::is_empty), "{status}");

    // 4. Given back: nothing of it is left.
    let mut agent = host.agent.take().context("it runs")?;
    agent.signal(nix::sys::signal::Signal::SIGTERM)?;
    let ended = wait("it has ended", || Ok(agent.0.try_wait()?))?;
    ensure!(ended.success() && !host.path("control.sock").exists(), "{ended}");
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok, "{text}");
    ensure!(host.vsctl(&["list-br"])?.is_empty() && host.classes("p1")?.is_empty());
    Ok(())
}

/// Resident memory, kB.
fn memory(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

#[test]
fn a_controller_that_does_not_read_costs_the_agent_nothing() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut host = Host::attached()?;
    let pid = host.agent.as_ref().context("it runs")?.0.id();
    for _ in 0..200 {
        host.ask("report")?;
    }
    let before = memory(pid)?;
    let controller = host.controller.take().context("it runs")?;
    controller.signal(nix::sys::signal::Signal::SIGSTOP)?;
    wait("the agent gives the silent controller up", || {
        Ok((host.ask("status")?["connected"] == false).then_some(()))
    })
    .with_context(|| host.log("agent.log"))?;
    for _ in 0..200 {
        host.ask("report")?;
    }
    let after = memory(pid)?;
    ensure!(after < before + 2048, "it grew from {before} to {after} kB");
    ensure!(host.classes("p2")?.len() == 3, "what was applied stays");
    controller.signal(nix::sys::signal::Signal::SIGCONT)?;
    host.controller = Some(controller);
    wait("it is back", || Ok((host.ask("status")?["connected"] == true).then_some(())))
        .with_context(|| host.log("agent.log"))?;
    Ok(())
}
