//! The wall clock of a running data centre is set, by Debian's `faketime` (packages `faketime`,
//! `libfaketime`): an hour and a day either way.
//!
//! The library stands before clock_gettime(2) of the controller, the agents, Open vSwitch and the
//! lab; it reads the offset from a file, and leaves CLOCK_MONOTONIC alone, as clock_settime(2)
//! does. Pings from VMs are the witnesses.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tandem_tests::pings::{Use, Witnesses};
use tandem_tests::{DataCentre, can_emulate_on, wait};

/// Two of everything; discovery and statistics so quick that each phase of the test is longer than
/// every time-out.
const SITE: &str = r#"
name = "clocks"
[topology]
shape = "three-tier"
core = 2
aggregation = 2
edge = 2
servers_per_edge = 2
[bandwidth]
gateway = "100 Mbit/s"
core = "50 Mbit/s"
aggregation = "50 Mbit/s"
edge = "20 Mbit/s"
[servers]
cpu = 8
ram = "16 GiB"
disk = "200 GiB"
[vm]
net = "1 Mbit/s"
start_timeout = "20 s"
[policy]
allocation = "worst-fit"
[statistics]
period = "500 ms"
history_weight = 0.0
[discovery]
lldp_period = "500 ms"
lldp_timeout = "3 s"
switch_grace = "2 s"
"#;

const GATEWAY: &str = "10.255.255.1";
/// Packets of a phase, 10 ms apart: longer than `lldp_timeout` and `switch_grace`.
const PHASE: u32 = 450;
/// How much more memory the controller may have at the end, in KiB, and how much log it may have
/// written.
const MEMORY: u64 = 32 * 1024;
const LOG: u64 = 64 * 1024;
/// What nobody should hear of because of a clock.
const ALARMS: [&str; 11] = [
    "link-missing",
    "link-down",
    "link-miswired",
    "switch-down",
    "vm-cut",
    "vm-rerouted",
    "vm-failed",
    "host-lost",
    "rules-repaired",
    "agent-down",
    "store-failed",
];

/// The library, where it is installed. In CI it has to be.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|f| f.path().join("faketime/libfaketimeMT.so.1")).find(|p| p.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: faketime");
        eprintln!("skipped: missing faketime");
    }
    found
}

/// A data centre whose wall clock can be set.
struct Clocked {
    dc: DataCentre,
    /// How far the clock is off, in seconds.
    offset: i64,
    /// How often the running controller has seen it set.
    steps: usize,
}

impl Clocked {
    fn up(datapath: &'static str) -> Result<Option<Clocked>> {
        let Some(library) = library().filter(|_| can_emulate_on(datapath)) else { return Ok(None) };
        let mut dc = DataCentre::prepare(SITE)?;
        dc.datapath = Some(datapath);
        // The library keeps something in /dev/shm by process numbers, which begin anew in a lab,
        // and what is killed leaves it there.
        let script = format!(
            "mount -t tmpfs tmpfs /dev/shm && exec env LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 \
             FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1 \"$@\"",
            library.display(),
            dc.path("clock").display()
        );
        dc.starter = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).into();
        let mut clocked = Clocked { dc, offset: 0, steps: 0 };
        clocked.write(0)?;
        clocked.dc.start()?;
        Ok(Some(clocked))
    }

    /// The wall clock is so many seconds off from now on.
    fn write(&mut self, offset: i64) -> Result<()> {
        self.offset = offset;
        let new = self.dc.path("clock.new");
        std::fs::write(&new, format!("{offset:+}\n"))?;
        Ok(std::fs::rename(new, self.dc.path("clock"))?)
    }

    fn notices(&self, kind: &str) -> Result<Vec<Value>> {
        let notices = self.dc.json(&["notices"])?;
        Ok(notices.as_array().into_iter().flatten().filter(|n| n["kind"] == kind).cloned().collect())
    }

    /// Sets the clock, and waits until the controller has said so.
    fn step(&mut self, offset: i64) -> Result<()> {
        self.write(offset)?;
        self.steps += 1;
        let steps = self.steps;
        wait("the step is noticed", || Ok((self.notices("clock-stepped")?.len() == steps).then_some(())))
    }

    fn no_alarm(&self, during: &str) -> Result<()> {
        for kind in ALARMS {
            let heard = self.notices(kind)?;
            ensure!(heard.is_empty(), "{during}: {heard:?}");
        }
        let links = self.dc.json(&["links"])?;
        let well = |l: &Value| l["state"] == "confirmed" || l["state"] == "declared";
        ensure!(links.as_array().is_some_and(|l| !l.is_empty() && l.iter().all(well)), "{during}: {links}");
        Ok(())
    }

    /// A VM with an end to its time.
    fn timed_vm(&self, seconds: u64) -> Result<String> {
        let vm = self.dc.json(&["vm", "request", "--timeout", &seconds.to_string()])?;
        Ok(format!("vm{}", vm["id"].as_u64().context("no id")?))
    }

    /// How long a VM has still to live, in seconds, by the end that is shown and the clock as it is
    /// set.
    fn left(&self, vm: &str) -> Result<f64> {
        let shown = self.dc.json(&["vm", "show", vm])?;
        let end = shown["expires_at"].as_u64().context("no end")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() + self.offset as f64;
        Ok(end as f64 / 1e9 - now)
    }

    fn runs(&self, vm: &str) -> Result<bool> {
        let all = self.dc.json(&["vm", "list"])?;
        let is = |v: &Value| Some(vm) == v["id"].as_u64().map(|id| format!("vm{id}")).as_deref();
        Ok(all.as_array().into_iter().flatten().any(|v| is(v) && v["state"]["state"] == "running"))
    }
}

/// Two VMs of a group, and the ways that are watched: to each other and to the gateway.
fn witnesses(dc: &DataCentre) -> Result<[(String, String); 3]> {
    let ((a, a_address), (b, b_address)) = (dc.request_vm()?, dc.request_vm()?);
    let (a, b) = (format!("vm{a}"), format!("vm{b}"));
    dc.tandem(&["group", "create", &a_address, &b_address])?;
    wait("grouped VMs reach each other", || {
        Ok(dc.exec(&a, &["ping", "-c", "1", "-W", "1", &b_address]).ok())
    })?;
    Ok([(a.clone(), GATEWAY.into()), (a, b_address), (b, GATEWAY.into())])
}

fn watch(dc: &DataCentre, ways: &[(String, String); 3]) -> Result<Witnesses> {
    let ways: Vec<(&str, &str)> = ways.iter().map(|(node, to)| (node.as_str(), to.as_str())).collect();
    Witnesses::start(dc, &ways, PHASE)
}

#[test]
fn nothing_happens_when_the_wall_clock_is_set() -> Result<()> {
    stepped("ovs")
}

#[test]
fn nothing_happens_on_soft_switches_when_the_wall_clock_is_set() -> Result<()> {
    stepped("soft")
}

fn stepped(datapath: &'static str) -> Result<()> {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    let Some(mut lab) = Clocked::up(datapath)? else { return Ok(()) };
    let ways = witnesses(&lab.dc)?;
    let before = Use::of_controller(&lab.dc)?;

    // 1. By an hour and a day, forward and back, and back and forward. A VM's time begins before
    //    each and ends after its ordinary time.
    let all = [HOUR, 0, -HOUR, 0, DAY, 0, -DAY, 0];
    // The agent's own switches have one clock for all; each direction of the longer step is enough.
    let offsets = if datapath == "ovs" { &all[..] } else { &all[4..] };
    for &offset in offsets {
        let during = format!("{offset:+} s");
        let pings = watch(&lab.dc, &ways)?;
        let begun = Instant::now();
        let timed = lab.timed_vm(4)?;
        let running = Instant::now();
        lab.step(offset)?;
        ensure!(
            running.elapsed() > Duration::from_millis(3500) || lab.runs(&timed)?,
            "{during}: {timed} was cut"
        );
        wait("the end of the VM's time", || Ok((!lab.runs(&timed)?).then_some(())))?;
        let (least, most) = (begun.elapsed(), running.elapsed());
        ensure!(least >= Duration::from_secs(4), "{during}: {timed} ended after {least:?}");
        ensure!(most < Duration::from_secs(7), "{during}: {timed} ended only after {most:?}");
        pings.lost_nothing(&during)?;
        lab.no_alarm(&during)?;
    }

    // 2. A link that is silent is missed in its ordinary time, also right after a step; the step is
    //    put right while it is.
    if datapath == "ovs" {
        silence(&mut lab, DAY)?;
    }
    let used = Use::of_controller(&lab.dc)?.more_than(before);
    println!("{datapath}: {} steps: {} KiB more memory, {} bytes of log", lab.steps, used.memory, used.log);
    ensure!(used.memory < MEMORY && used.log < LOG, "{used:?}");
    Ok(())
}

/// Discovery frames over edge1's first uplink are dropped at both ends: only the time that passes
/// can tell.
fn silence(lab: &mut Clocked, offset: i64) -> Result<()> {
    let topology = lab.dc.json(&["topology"])?;
    let switches = topology["switches"].as_array().context("switches")?;
    let edge = switches.iter().find(|s| s["name"] == "edge1").context("edge1")?;
    let leads_up = |p: &&Value| p["peer"].as_str().is_some_and(|peer| peer.starts_with("agg"));
    let port =
        edge["ports"].as_array().into_iter().flatten().find(leads_up).context("a port that leads up")?;
    let (above, above_port) =
        port["peer"].as_str().and_then(|p| p.split_once('.')).context("a switch above")?;
    let ends = [("edge1", port["port"].as_u64().context("a number")?), (above, above_port.parse()?)];
    let ofctl = |dc: &DataCentre, verb: &str, switch: &str, flow: &str| {
        dc.exec("edge1", &["env", "OVS_RUNDIR=/mnt", "ovs-ofctl", verb, switch, flow])
    };
    for (switch, port) in ends {
        let flow = format!("cookie=0x99,priority=60000,in_port={port},dl_type=0x88cc,actions=drop");
        ofctl(&lab.dc, "add-flow", switch, &flow)?;
    }
    let begun = Instant::now();
    lab.step(offset)?;
    wait("the silent link is missed", || Ok((!lab.notices("link-missing")?.is_empty()).then_some(())))?;
    let took = begun.elapsed();
    println!("a silent link is missed after {took:?} with the clock {offset:+} s off");
    ensure!(took > Duration::from_millis(2400) && took < Duration::from_secs(6), "{took:?}");
    for (switch, _) in ends {
        ofctl(&lab.dc, "del-flows", switch, "cookie=0x99/-1")?;
    }
    lab.step(0)?;
    wait("the link is there again", || {
        let links = lab.dc.json(&["links"])?;
        let well = |l: &Value| l["state"] == "confirmed" || l["state"] == "declared";
        Ok(links.as_array().is_some_and(|l| l.iter().all(well)).then_some(()))
    })
}

/// A controller that starts under a clock that is wrong: VMs run on with what was left of their
/// time, also when the clock is put right then.
#[test]
fn a_restart_under_a_wrong_clock_takes_nobodys_time() -> Result<()> {
    const DAY: i64 = 86_400;
    const LIFE: f64 = 3000.0;
    let Some(mut lab) = Clocked::up("soft")? else { return Ok(()) };
    let ways = witnesses(&lab.dc)?;
    let timed = lab.timed_vm(LIFE as u64)?;
    let begun = Instant::now();
    for (before, offset) in [(0, DAY), (0, -DAY), (DAY, 0)] {
        let during = format!("restarted from {before:+} s to {offset:+} s");
        if before != 0 {
            lab.steps = lab.notices("clock-stepped")?.len();
            lab.step(before)?;
        }
        let pings = watch(&lab.dc, &ways)?;
        lab.dc.end_controller("-9")?;
        lab.write(offset)?;
        lab.dc.start_controller()?;
        lab.dc.wait_ready()?;
        ensure!(lab.notices("clock-doubted")?.len() == 1, "{during}: nothing is said");
        let near = |left: f64| {
            // What passed between the last write that a controller runs and its end, and until the
            // next was there, was not counted.
            let passed = begun.elapsed().as_secs_f64();
            (left + passed - LIFE).abs() < 65.0
        };
        let left = lab.left(&timed)?;
        ensure!(near(left), "{during}: {left} s are left of {LIFE} s after {:?}", begun.elapsed());
        ensure!(lab.runs(&timed)?, "{during}");
        // Put right by a time service.
        lab.steps = 0;
        if offset != 0 {
            lab.step(0)?;
        }
        let left = lab.left(&timed)?;
        ensure!(near(left), "{during}, then put right: {left} s are left of {LIFE} s");
        pings.lost_nothing(&during)?;
        lab.no_alarm(&during)?;
    }
    Ok(())
}
