//! The operator's hand end to end: a real port that goes down by OpenFlow, a real path that is
//! pinned; both outlive the controller.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tandem_tests::{DataCentre, can_emulate, wait};

/// Two of everything above the servers, so that every link has an alternative.
const SITE: &str = r#"
name = "operator"
[topology]
shape = "three-tier"
core = 1
aggregation = 2
edge = 1
servers_per_edge = 1
aggregation_core_links = 1
[bandwidth]
gateway = "100 Mbit/s"
core = "50 Mbit/s"
aggregation = "50 Mbit/s"
edge = "20 Mbit/s"
[vm]
net = "1 Mbit/s"
start_timeout = "30 s"
[traffic]
enabled = false
[statistics]
period = "500 ms"
[discovery]
lldp_period = "500 ms"
lldp_timeout = "5 s"
switch_grace = "2 s"
"#;

const GATEWAY: &str = "10.255.255.1";

fn path(dc: &DataCentre, vm: &str) -> Result<Vec<String>> {
    let shown = dc.json(&["vm", "show", vm])?;
    let names = shown["path"].as_array().context("a path")?;
    Ok(names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect())
}

/// The number and the name of edge1's port that leads to another switch.
fn port_to(dc: &DataCentre, other: &str) -> Result<(String, String)> {
    let topology = dc.json(&["topology"])?;
    let switches = topology["switches"].as_array().cloned().unwrap_or_default();
    let edge = switches.iter().find(|s| s["name"] == "edge1").context("edge1")?;
    let leads = |p: &&Value| p["peer"].as_str().is_some_and(|peer| peer.starts_with(&format!("{other}.")));
    let port = edge["ports"].as_array().into_iter().flatten().find(leads).context("the port")?;
    Ok((port["port"].to_string(), port["name"].as_str().context("its name")?.to_owned()))
}

/// Whether an interface of edge1 is enabled, as the kernel says.
fn enabled(dc: &DataCentre, interface: &str) -> Result<bool> {
    let shown = dc.exec("edge1", &["ip", "-o", "link", "show", "dev", interface])?;
    let flags = shown.split(['<', '>']).nth(1).with_context(|| format!("no flags: {shown}"))?;
    Ok(flags.split(',').any(|f| f == "UP"))
}

fn reaches_its_gateway(dc: &DataCentre, vm: &str) -> Result<()> {
    wait("the VM's gateway", || Ok(dc.exec(vm, &["ping", "-c", "2", "-W", "1", GATEWAY]).ok()))?;
    Ok(())
}

fn overrides(dc: &DataCentre) -> Result<Vec<Value>> {
    Ok(dc.json(&["overrides"])?.as_array().cloned().unwrap_or_default())
}

#[test]
fn a_port_goes_down_and_up_by_hand_in_both_versions_of_openflow() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    for protocol in ["OpenFlow13", "OpenFlow10"] {
        let mut dc = DataCentre::prepare(SITE)?;
        dc.lab_up_with(&["--protocols", protocol])?;
        dc.start_controller()?;
        dc.wait_ready()?;
        let vm = format!("vm{}", dc.request_vm()?.0);
        let by = path(&dc, &vm)?[2].clone();
        let (port, interface) = port_to(&dc, &by)?;
        ensure!(enabled(&dc, &interface)?, "{interface} is down from the start");

        dc.tandem(&["port", "down", "edge1", &port])?;
        wait("the port off", || Ok((!enabled(&dc, &interface)?).then_some(())))?;
        ensure!(path(&dc, &vm)?[2] != by, "{protocol}: the VM is still on the path over the port");
        reaches_its_gateway(&dc, &vm)?;
        let shown = dc.tandem(&["topology"])?;
        ensure!(shown.contains(&format!("the operator has switched off edge1.{port}")), "{shown}");
        ensure!(overrides(&dc)?.len() == 1 && dc.tandem(&["overrides"])?.contains("tandem port up edge1"));

        // Somebody on the switch switches it on: it is switched off again.
        dc.exec("edge1", &["ip", "link", "set", &interface, "up"])?;
        wait("the port off again", || Ok((!enabled(&dc, &interface)?).then_some(())))?;

        // So it is after a restart of the controller, also if somebody did so while it was away.
        dc.end_controller("-9")?;
        dc.exec("edge1", &["ip", "link", "set", &interface, "up"])?;
        dc.start_controller()?;
        dc.wait_ready()?;
        wait("the port off after a restart", || Ok((!enabled(&dc, &interface)?).then_some(())))?;
        ensure!(overrides(&dc)?.len() == 1 && path(&dc, &vm)?[2] != by, "forgotten by a restart");
        reaches_its_gateway(&dc, &vm)?;

        dc.tandem(&["port", "up", "edge1", &port])?;
        wait("the port on", || Ok(enabled(&dc, &interface)?.then_some(())))?;
        wait("the link in use", || {
            let links = dc.json(&["links"])?;
            let list = links.as_array().cloned().unwrap_or_default();
            Ok(list.iter().all(|l| l["state"] == "confirmed" || l["state"] == "declared").then_some(()))
        })?;
        ensure!(overrides(&dc)?.is_empty(), "{:?}", overrides(&dc)?);
        let again =
            dc.tandem(&["port", "up", "edge1", &port]).err().context("there was nothing to take back")?;
        ensure!(again.to_string().contains("was not switched off here"), "{again}");
        let none = dc.tandem(&["port", "down", "edge1", "99"]).err().context("there is no port 99")?;
        ensure!(none.to_string().contains("there is no port edge1.99"), "{none}");
    }
    Ok(())
}

#[test]
fn a_path_is_pinned_left_when_it_breaks_taken_again_and_unpinned() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut dc = DataCentre::up(SITE)?;
    let vm = format!("vm{}", dc.request_vm()?.0);
    let before = path(&dc, &vm)?;
    let by = if before[2] == "agg1" { "agg2" } else { "agg1" };
    let unknown = dc.tandem(&["path", "pin", &vm, "agg9"]).err().context("there is no agg9")?;
    ensure!(unknown.to_string().contains("there is no switch agg9"), "{unknown}");
    let no_way = dc.tandem(&["path", "pin", &vm, "core1", by]).err().context("there is no such way")?;
    ensure!(no_way.to_string().contains("a live path short"), "{no_way}");
    ensure!(path(&dc, &vm)? == before, "a pin that was refused moved the VM");

    dc.tandem(&["path", "pin", &vm, by, "core1"])?;
    ensure!(path(&dc, &vm)?[2] == by, "{:?}", path(&dc, &vm)?);
    reaches_its_gateway(&dc, &vm)?;
    // Its packets really go there.
    let (_, interface) = port_to(&dc, by)?;
    let sent = || -> Result<u64> {
        let text = dc.exec("edge1", &["ip", "-s", "-j", "link", "show", "dev", &interface])?;
        let shown: Value = serde_json::from_str(&text)?;
        shown[0]["stats64"]["tx"]["packets"].as_u64().context("no count of packets")
    };
    let count = sent()?;
    dc.exec(&vm, &["ping", "-i", "0.01", "-c", "100", "-W", "2", GATEWAY])?;
    ensure!(sent()? >= count + 100, "only {} packets went by {by}", sent()? - count);

    dc.end_controller("-9")?;
    dc.start_controller()?;
    dc.wait_ready()?;
    ensure!(path(&dc, &vm)?[2] == by && overrides(&dc)?.len() == 1, "forgotten by a restart");
    reaches_its_gateway(&dc, &vm)?;

    dc.exec("edge1", &["ip", "link", "set", &interface, "down"])?;
    wait("the pinned path left", || Ok(dc.notice("path-left")?.then_some(())))?;
    ensure!(path(&dc, &vm)?[2] != by && overrides(&dc)?[0]["kept"] == false, "{:?}", overrides(&dc)?);
    reaches_its_gateway(&dc, &vm)?;
    dc.exec("edge1", &["ip", "link", "set", &interface, "up"])?;
    wait("the pinned path taken again", || Ok((path(&dc, &vm)?[2] == by).then_some(())))?;
    ensure!(dc.notice("path-back")? && overrides(&dc)?[0]["kept"] == true, "{:?}", overrides(&dc)?);
    reaches_its_gateway(&dc, &vm)?;

    dc.tandem(&["path", "unpin", &vm])?;
    ensure!(path(&dc, &vm)? == before && overrides(&dc)?.is_empty(), "{:?}", path(&dc, &vm)?);
    reaches_its_gateway(&dc, &vm)?;
    // What was done by hand is recorded like everything else, and decided the same again.
    let recording = dc.path("run.jsonl").display().to_string();
    let replayed = dc.tandem(&["replay", &recording])?;
    ensure!(replayed.contains("all decided the same"), "{replayed}");
    Ok(())
}
