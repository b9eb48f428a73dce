//! Data centres of other shapes and with parts switched off, and what is left of one whose owner is
//! killed.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::{Command, Stdio};
use tandem_tests::{DataCentre, can_emulate, program, wait};

const GATEWAY: &str = "10.255.255.1";

/// What every one of them has.
const COMMON: &str = "[bandwidth]\nedge = \"20 Mbit/s\"\n[vm]\nnet = \"1 Mbit/s\"\nstart_timeout = \"20 s\"\n\
                      [statistics]\nperiod = \"500 ms\"\nhistory_weight = 0.0\n";

fn all_answer(dc: &DataCentre) -> Result<()> {
    let pings = dc.lab(&["ping-all", "--name", &dc.name])?;
    ensure!(pings.contains("0.0% loss"), "{pings}");
    Ok(())
}

/// A fat tree under first fit, a line under best fit: everybody reaches everybody, and a VM its
/// gateway.
#[test]
fn other_shapes_forward_and_place_vms() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    for (shape, policy) in [
        ("shape = \"fat-tree\"\nk = 4\n", "first-fit"),
        ("shape = \"linear\"\nswitches = 4\nservers_per_switch = 1\ngateways = 1\n", "best-fit"),
    ] {
        let site =
            format!("name = \"shape\"\n[topology]\n{shape}{COMMON}[policy]\nallocation = \"{policy}\"\n");
        let dc = DataCentre::up(&site).with_context(|| shape.to_owned())?;
        all_answer(&dc)?;
        let (vm, _) = dc.request_vm()?;
        dc.exec(&format!("vm{vm}"), &["ping", "-c", "2", "-W", "2", GATEWAY])?;
    }
    Ok(())
}

/// VMs of one server speak to each other through their edge switch: not before they are grouped,
/// and not after.
#[test]
fn vms_of_one_server_speak_through_their_edge_switch() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let site = format!(
        "name = \"one\"\n[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 1\ngateways = 1\n{COMMON}"
    );
    let dc = DataCentre::up(&site)?;
    let ((a, a_address), (_, b_address)) = (dc.request_vm()?, dc.request_vm()?);
    let ping = || dc.exec(&format!("vm{a}"), &["ping", "-c", "2", "-W", "1", &b_address]);
    ensure!(ping().is_err(), "two VMs reach each other without a group");
    let group = dc.tandem(&["group", "create", &a_address, &b_address])?;
    wait("grouped VMs reach each other", || Ok(ping().ok()))?;
    dc.tandem(&["group", "delete", &group])?;
    wait("they are isolated again", || Ok(ping().is_err().then_some(())))
}

/// Nobody answers DHCP or ARP, nothing discovers or exports: addresses and neighbours are set by
/// hand, and packets flow all the same.
#[test]
fn with_all_modules_off_packets_still_flow() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let site = format!(
        "name = \"bare\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 1\nedge = 2\nservers_per_edge = 1\n\
         {COMMON}[traffic]\nenabled = false\n[modules]\ndhcp = false\narp = false\ndiscovery = false\nexporter = false\n"
    );
    let dc = DataCentre::up(&site)?;
    all_answer(&dc)?;
    let ((a, _), (b, b_address)) = (dc.request_vm()?, dc.request_vm()?);
    for vm in [a, b] {
        dc.exec(&format!("vm{vm}"), &["ping", "-c", "2", "-W", "2", GATEWAY])?;
    }
    let a_address =
        dc.json(&["vm", "show", &a.to_string()])?["address"].as_str().context("an address")?.to_owned();
    dc.tandem(&["group", "create", &a_address, &b_address])?;
    wait("grouped VMs reach each other", || {
        Ok(dc.exec(&format!("vm{a}"), &["ping", "-c", "1", "-W", "1", &b_address]).ok())
    })?;
    ensure!(!dc.path("csv").join("hoststats.csv").exists(), "the exporter is off");
    Ok(())
}

/// What generated flows report is what went over the wire: both transports get their rate, and
/// nothing is called lost that is not.
#[test]
fn flows_report_what_arrives() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    for transport in ["udp", "tcp"] {
        let site = format!(
            "name = \"flows\"\n[topology]\nshape = \"linear\"\nswitches = 1\nservers_per_switch = 1\ngateways = 1\n{COMMON}[traffic]\ntransport = \"{transport}\"\n"
        );
        let dc = DataCentre::up(&site)?;
        dc.request_vm()?;
        // A busy machine may hold a packet up for a while, and TCP with it what is behind: it
        // catches up.
        let flow = wait("a flow that runs for some seconds and whose packets have arrived", || {
            let flows: Vec<Value> = serde_json::from_str(&dc.lab(&["flows", "--name", &dc.name, "--json"])?)?;
            Ok(flows.into_iter().find(|f| {
                let of = |name: &str| f[name].as_f64().unwrap_or(-1.0);
                let under_way = of("sent") - of("received");
                of("seconds") > 4.0 && of("received") > 20.0 && under_way <= 0.05 * of("sent") + 3.0
            }))
        })?;
        let of = |name: &str| flow[name].as_f64().unwrap_or(-1.0);
        // 1 Mbit/s on layer 2, of which payload is 91 to 97 percent.
        ensure!((0.80e6..1.02e6).contains(&of("goodput")), "{flow}");
        ensure!(of("delay_ms") > 0.0 && of("delay_ms") < 1000.0 && of("jitter_ms") >= 0.0, "{flow}");
        ensure!(of("reordered") == 0.0, "{flow}");
    }
    Ok(())
}

/// The processes whose command line has a text.
fn processes(text: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(text) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// An experiment that is interrupted, or killed, takes its lab and its controller with it.
#[test]
fn an_experiment_that_ends_early_leaves_nothing() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    for signal in ["-INT", "-TERM", "-KILL"] {
        let out = std::env::temp_dir().join(format!("tandem-early-{}", std::process::id()));
        let mut child = Command::new(program("tandem-lab")?)
            .args(["experiment", "best-vs-worst-fit", "--world", "emulated", "--out"])
            .arg(&out)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let lab = format!("@tandem-lab/figure-4-2-best-fit-{}", child.id());
        let is_up = || -> Result<bool> { Ok(std::fs::read_to_string("/proc/net/unix")?.contains(&lab)) };
        let scratch = std::env::temp_dir().join(format!("tandem-best-fit-{}", child.id()));
        wait("the experiment's lab and controller", || {
            let ready = is_up()? && !processes(&format!("{}/api.sock", scratch.display()))?.is_empty();
            Ok(ready.then_some(()))
        })?;
        Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        child.wait()?;
        let gone = wait("everything to be gone", || {
            let left = processes(&scratch.display().to_string())?;
            Ok((!is_up()? && left.is_empty()).then_some(()))
        });
        if signal != "-KILL" {
            ensure!(!scratch.exists(), "{} is left", scratch.display());
        }
        let _ = std::fs::remove_dir_all(&scratch);
        let _ = std::fs::remove_dir_all(&out);
        gone.context(signal)?;
    }
    Ok(())
}
