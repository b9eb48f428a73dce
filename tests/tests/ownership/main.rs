//! The agent with bridges, queueing and interfaces that others own, on a real Open vSwitch: what it
//! did not record before it changed it is not its own, it restores exactly what it took over, and
//! this holds also when it is killed between any two of its steps.

mod host;

use anyhow::{Context, Result, ensure};
use host::Host;
use std::path::Path;
use tandem_tests::{can_emulate, program, wait};

#[test]
fn a_bridge_of_somebody_else_is_refused_and_nothing_of_it_is_touched_or_written_down() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    host.foreign_bridge("edge1", &["p1", "p2"])?;
    host.linux_htb("p1")?;
    let before = host.everything()?;
    let file = host.desired("edge1", &[1, 2])?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok && text.contains("was not made by this agent") && text.contains("--adopt"), "{text}");
    ensure!(host.everything()? == before, "{}", host.everything()?);
    ensure!(!host.records().contains("p1"), "what was refused leaves no record: {}", host.records());
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok && host.everything()? == before, "{text}{}", host.everything()?);

    // A port that is in another bridge, which refuses the switch when it is about to be made.
    host.configure("edge2", "adopt_with_gap = true")?;
    let file = host.desired("edge2", &[1, 3])?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok && text.contains("port p1 is in bridge edge1"), "{text}");
    ensure!(host.everything()? == before && !host.records().contains("\"p"), "{}", host.records());
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok && host.everything()? == before, "{text}{}", host.everything()?);
    let (_, text) = host.agent(&["doctor"])?;
    for words in ["bridge edge1", "linux-htb"] {
        ensure!(text.contains(words), "the doctor names {words}: {text}");
    }
    Ok(())
}

#[test]
fn open_vswitch_s_own_queueing_is_kept_in_mind_and_given_back() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    host.foreign_bridge("edge1", &["p1", "p2"])?;
    host.linux_htb("p1")?;
    host.text(
        "tc",
        &[
            "qdisc", "add", "dev", "p2", "root", "handle", "5:", "tbf", "rate", "2mbit", "burst", "10k",
            "latency", "50ms",
        ],
    )?;
    let before = host.everything()?;
    let file = host.desired("edge1", &[1, 2, 3])?;
    let (ok, text) = host.agent(&["apply", "--adopt", &file])?;
    ensure!(ok, "{text}");
    for port in ["p1", "p2", "p3"] {
        let tc = host.tc(port)?;
        ensure!(tc.contains("12Mbit") && !tc.contains("7Mbit") && !tc.contains("tbf"), "{tc}");
    }
    ensure!(host.vsctl(&["get", "port", "p1", "qos"])? == "[]");
    let (ok, text) = host.agent(&["apply", "--adopt", &file])?;
    ensure!(ok && text.starts_with("0 changes"), "{text}");
    // A port that is no longer wanted gets its queueing back at once, the others stay.
    let less = host.desired("edge1", &[2, 3])?;
    let (ok, text) = host.agent(&["apply", "--adopt", &less])?;
    ensure!(ok, "{text}");
    wait("p1 has its own again", || Ok(host.tc("p1")?.contains("7Mbit").then_some(())))?;
    ensure!(host.tc("p2")?.contains("12Mbit"));
    let file = host.desired("edge1", &[1, 2, 3])?;
    let (ok, text) = host.agent(&["apply", "--adopt", &file])?;
    ensure!(ok, "{text}");
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok && !text.contains("others have changed"), "{text}");
    host.is_again(&before, "all is as it was found")?;

    // Somebody removes the rows meanwhile: like ones are made.
    let (ok, text) = host.agent(&["apply", "--adopt", &file])?;
    ensure!(ok, "{text}");
    host.vsctl(&["--all", "destroy", "qos", "--", "--all", "destroy", "queue"])?;
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok, "{text}");
    wait("classes are made by like rows", || Ok(host.tc("p1")?.contains("7Mbit").then_some(())))?;
    ensure!(
        host.vsctl(&["get", "qos", ".", "external_ids:whose"]).is_ok()
            || host.vsctl(&["list", "qos"])?.contains("whose=theirs")
    );
    Ok(())
}

#[test]
fn what_others_have_changed_since_is_left_to_them_and_said() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    host.foreign_bridge("edge1", &["p1", "p2"])?;
    host.linux_htb("p1")?;
    host.text(
        "tc",
        &[
            "qdisc", "add", "dev", "p2", "root", "handle", "5:", "tbf", "rate", "2mbit", "burst", "10k",
            "latency", "50ms",
        ],
    )?;
    let file = host.desired("edge1", &[1, 2])?;
    let (ok, text) = host.agent(&["apply", "--adopt", &file])?;
    ensure!(ok, "{text}");
    host.text(
        "tc",
        &["class", "change", "dev", "p2", "parent", "1:fffe", "classid", "1:1", "htb", "rate", "1mbit"],
    )?;
    host.vsctl(&["set-controller", "edge1", "tcp:127.0.0.1:7"])?;
    host.vsctl(&[
        "set",
        "port",
        "p1",
        "qos=@q",
        "--",
        "--id=@q",
        "create",
        "qos",
        "type=linux-htb",
        "other-config:max-rate=5000000",
    ])?;
    let theirs = host.tc("p2")?;
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok, "{text}");
    for words in [
        "queueing of p2 was changed by somebody else",
        "port p1 has got another queueing",
        "controller was changed",
    ] {
        ensure!(text.contains(words), "{words} in {text}");
    }
    ensure!(host.tc("p2")? == theirs, "{}", host.tc("p2")?);
    ensure!(host.vsctl(&["get-controller", "edge1"])? == "tcp:127.0.0.1:7");
    ensure!(
        host.vsctl(&["get", "qos", &host.vsctl(&["get", "port", "p1", "qos"])?, "other_config:max-rate"])?
            .contains("5000000")
    );
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok && host.tc("p2")? == theirs, "it is somebody else's now: {text}");
    Ok(())
}

#[test]
fn interfaces_and_queueing_that_could_not_be_given_back_do_not_become_ports() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    let shown = |text: &str, words: &str| -> Result<()> {
        ensure!(text.contains(words), "{words} in {text}");
        Ok(())
    };
    // 1. An HTB of Open vSwitch's form that nobody has written down, an ingress, a tree of another
    //    handle.
    host.text("tc", &["qdisc", "add", "dev", "p1", "root", "handle", "1:", "htb", "default", "1"])?;
    host.text(
        "tc",
        &["class", "add", "dev", "p1", "parent", "1:", "classid", "1:fffe", "htb", "rate", "10mbit"],
    )?;
    host.text(
        "tc",
        &["class", "add", "dev", "p1", "parent", "1:fffe", "classid", "1:1", "htb", "rate", "7mbit"],
    )?;
    host.text("tc", &["qdisc", "add", "dev", "p2", "ingress"])?;
    host.text("tc", &["qdisc", "add", "dev", "p3", "root", "handle", "9:", "htb"])?;
    host.text(
        "tc",
        &["class", "add", "dev", "p3", "parent", "9:", "classid", "9:1", "htb", "rate", "1mbit"],
    )?;
    let before = host.everything()?;
    let file = host.desired("edge1", &[1, 2, 3])?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok, "{text}");
    for words in
        ["p1 has a htb queueing of somebody else", "p2 has an ingress queueing", "p3 has a htb queueing"]
    {
        shown(&text, words)?;
    }
    for port in ["p1", "p2", "p3"] {
        ensure!(before.contains(&host.tc(port)?), "{}", host.tc(port)?);
    }
    ensure!(host.vsctl(&["list-ports", "edge1"])?.is_empty());
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok, "{text}");
    host.is_again(&before, "all is as it was")?;

    // 2. A port of a bridge of the kernel's, and one that is in a bond of Open vSwitch.
    for port in ["p1", "p2", "p3"] {
        let _ = host.run("tc", &["qdisc", "del", "dev", port, "root"])?;
        let _ = host.run("tc", &["qdisc", "del", "dev", port, "ingress"])?;
    }
    host.text("ip", &["link", "add", "virbr9", "type", "bridge"])?;
    host.text("ip", &["link", "set", "p1", "master", "virbr9"])?;
    let file = host.desired("edge1", &[1])?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok, "{text}");
    shown(&text, "port of the kernel's bridge virbr9")?;
    let (_, text) = host.agent(&["doctor"])?;
    shown(&text, "port of the kernel's bridge virbr9")?;
    ensure!(host.text("ip", &["link", "show", "p1"])?.contains("master virbr9"));
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok, "{text}");

    host.foreign_bridge("br9", &[])?;
    host.vsctl(&["add-bond", "br9", "bond9", "p2", "p3"])?;
    let file = host.desired("edge1", &[2])?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(!ok, "{text}");
    shown(&text, "part of the bond bond9")?;
    let (_, said) = host.agent(&["doctor"])?;
    shown(&said, "bond9")?;
    // The hint works.
    let hint = text.split("(ovs-vsctl ").nth(1).and_then(|t| t.split(')').next()).context("a hint")?;
    host.vsctl(&hint.split(' ').collect::<Vec<_>>())?;
    let (ok, text) = host.agent(&["apply", &file])?;
    ensure!(ok && host.vsctl(&["list-ports", "edge1"])? == "p2", "{text}");
    Ok(())
}

#[test]
fn damaged_records_stop_everything_with_a_clear_word() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let host = Host::new()?;
    host.foreign_bridge("edge1", &["p1", "p2"])?;
    host.linux_htb("p1")?;
    let found = host.everything()?;
    let file = host.desired("edge1", &[1, 2])?;
    let (ok, text) = host.agent(&["apply", "--adopt", &file])?;
    ensure!(ok, "{text}");
    let applied = host.everything()?;
    for name in ["queueing.json", "interfaces.json"] {
        let record = host.path("state").join(name);
        let whole = std::fs::read(&record)?;
        for bad in [&whole[..whole.len() / 2], &b""[..], &b"[]"[..]] {
            std::fs::write(&record, bad)?;
            for verb in [&["release"][..], &["apply", &file]] {
                let (ok, text) = host.agent(verb)?;
                ensure!(!ok && text.contains(name) && text.contains("damaged"), "{verb:?}: {text}");
                ensure!(
                    host.everything()? == applied && std::fs::read(&record)? == bad,
                    "{verb:?} touched something"
                );
            }
        }
        std::fs::write(&record, whole)?;
    }
    // The record that is in the database.
    let mark = host.vsctl(&["get", "port", "p1", "external_ids:tandem-qos"])?;
    host.vsctl(&["set", "port", "p1", "external_ids:tandem-qos=half"])?;
    let spoilt = host.everything()?;
    let (ok, text) = host.agent(&["release"])?;
    ensure!(!ok && text.contains("tandem-qos") && host.everything()? == spoilt, "{text}");
    host.vsctl(&["set", "port", "p1", &format!("external_ids:tandem-qos={mark}")])?;
    let (ok, text) = host.agent(&["release"])?;
    ensure!(ok, "{text}");
    host.is_again(&found, "all is as it was found")
}

/// The agent is killed at its n-th step, for every n until there are no more: each system call by
/// which it changes something or writes something down. strace(1) makes the kernel kill it on the
/// way into the call.
fn killed_at(host: &Host, n: u32, arguments: &[&str]) -> Result<bool> {
    let agent = program("tandem-agent")?.display().to_string();
    let config = host.path("agent.toml").display().to_string();
    let log = host.path("strace.log").display().to_string();
    let inject = format!("inject=sendto,sendmsg,rename,fsync,write:signal=KILL:when={n}");
    let mut all =
        vec!["-f", "-qq", "-o", &log, "-e", "trace=sendto,sendmsg,rename,fsync,write", "-e", &inject, &agent];
    all.extend(["--config", &config]);
    all.extend(arguments);
    let output = host.run("strace", &all)?;
    Ok(!output.status.success())
}

#[test]
fn a_kill_between_any_two_steps_is_finished_or_given_back() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    if !Path::new("/usr/bin/strace").exists() {
        ensure!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: strace");
        eprintln!("skipped: missing strace");
        return Ok(());
    }
    let host = Host::new()?;
    host.foreign_bridge("edge1", &["p1", "p2"])?;
    host.linux_htb("p1")?;
    host.text(
        "tc",
        &[
            "qdisc", "add", "dev", "p2", "root", "handle", "5:", "tbf", "rate", "2mbit", "burst", "10k",
            "latency", "50ms",
        ],
    )?;
    host.text("ip", &["link", "set", "p3", "down"])?;
    let before = host.everything()?;
    let file = host.desired("edge1", &[1, 2, 3])?;
    let mut kills = 0;
    for n in 1.. {
        // 1. Killed while it takes: given back whole, or finished whole and then given back.
        let killed = killed_at(&host, n, &["apply", "--adopt", &file])?;
        if n % 2 == 0 {
            let (ok, text) = host.agent(&["apply", "--adopt", &file])?;
            ensure!(ok && host.tc("p1")?.contains("12Mbit"), "finished after kill {n}: {text}");
        }
        // 2. Killed while it gives back, at the same step.
        let again = killed_at(&host, n, &["release"])?;
        let (ok, text) = host.agent(&["release"])?;
        ensure!(ok && !text.contains("left as it is"), "after kill {n}: {text}");
        host.is_again(&before, &format!("all is as it was after kill {n}"))?;
        ensure!(!host.records().contains("\"p1\""), "{}", host.records());
        kills += u32::from(killed) + u32::from(again);
        if !killed && !again {
            break;
        }
    }
    ensure!(kills > 20, "only {kills} kills: the steps are not those that were meant");
    Ok(())
}
