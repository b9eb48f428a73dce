//! VMs that move between servers with real packets: from end to end, cancelled, cut off in the
//! middle, and with a controller that is killed meanwhile.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use tandem_tests::{DataCentre, can_emulate_on, program, wait};

/// Two edges with two servers each. Transfers are slow enough to do something in the middle of one.
const SITE: &str = r#"
name = "moving"
[topology]
shape = "three-tier"
core = 1
aggregation = 2
edge = 2
servers_per_edge = 2
[bandwidth]
gateway = "100 Mbit/s"
core = "100 Mbit/s"
aggregation = "100 Mbit/s"
edge = "100 Mbit/s"
[servers]
cpu = 4
ram = "8 GiB"
disk = "100 GiB"
[vm]
net = "1 Mbit/s"
start_timeout = "20 s"
[policy]
allocation = "best-fit"
[statistics]
period = "500 ms"
history_weight = 0.0
[discovery]
lldp_period = "500 ms"
lldp_timeout = "5 s"
switch_grace = "2 s"
[migration]
rate = "20 Mbit/s"
downtime = "100 ms"
rounds = 5
"#;

const GATEWAY: &str = "10.255.255.1";

struct Vm {
    id: u64,
    name: String,
    address: String,
}

fn request(dc: &DataCentre, mib: u32, image: &str) -> Result<Vm> {
    let ram = format!("{mib} MiB");
    let vm = dc.json(&["vm", "request", "--ram", &ram, "--image", image])?;
    let id = vm["id"].as_u64().context("an id")?;
    let vm =
        Vm { id, name: format!("vm{id}"), address: vm["address"].as_str().context("an address")?.to_owned() };
    wait("the VM reaches the gateway", || Ok(reaches(dc, &vm).then_some(())))?;
    Ok(vm)
}

fn reaches(dc: &DataCentre, vm: &Vm) -> bool {
    dc.exec(&vm.name, &["ping", "-c", "1", "-W", "1", GATEWAY]).is_ok()
        && dc.exec("gw1", &["ping", "-c", "1", "-W", "1", &vm.address]).is_ok()
}

/// Where the controller has a VM; servers count from 0.
fn server(dc: &DataCentre, vm: &Vm) -> Result<u64> {
    dc.json(&["vm", "show", &vm.name])?["server"].as_u64().context("a server")
}

/// Where the lab has it.
fn really_on(dc: &DataCentre, vm: &Vm) -> Result<String> {
    let loads: Value = serde_json::from_str(&dc.lab(&["vm", "loads", "--name", &dc.name, "--json"])?)?;
    let has = |s: &&Value| s["vms"].as_array().is_some_and(|l| l.iter().any(|v| v[0] == vm.id));
    let found = loads.as_array().and_then(|l| l.iter().find(has)).context("the lab does not have it")?;
    Ok(found["name"].as_str().context("a name")?.to_owned())
}

/// The latest of its migrations.
fn migration(dc: &DataCentre, vm: &Vm) -> Result<Option<Value>> {
    let all = dc.json(&["migrations"])?;
    let own = all.as_array().into_iter().flatten().filter(|m| m["vm"] == vm.id);
    Ok(own.max_by_key(|m| m["id"].as_u64()).cloned())
}

/// Starts moving it to srv3 and waits until some of its memory was sent: the migration's id.
fn under_way(dc: &DataCentre, vm: &Vm) -> Result<u64> {
    dc.tandem(&["migrate", &vm.name, "--to", "srv3", "--no-wait", "--force"])?;
    wait("some of its memory is sent", || {
        let m = migration(dc, vm)?.context("no migration is listed")?;
        ensure!(m["ended"].is_null(), "it has ended already: {m}");
        Ok((m["progress"]["sent"].as_u64() > Some(0)).then(|| m["id"].as_u64()).flatten())
    })
}

fn ended(dc: &DataCentre, vm: &Vm) -> Result<Value> {
    wait("the migration's end", || {
        let m = migration(dc, vm)?.context("no migration is listed")?;
        Ok((!m["ended"].is_null()).then_some(m))
    })
}

/// Its port at a server, as the kernel has it.
fn has_port(dc: &DataCentre, node: &str, vm: &Vm) -> Result<bool> {
    Ok(dc.exec(node, &["ip", "-o", "link", "show"])?.contains(&format!(" {}@", vm.name)))
}

#[test]
fn a_vm_moves_with_its_rules_first_and_loses_nothing_by_the_network() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let out = std::env::temp_dir().join(format!("tandem-live-{}", std::process::id()));
    let run = Command::new(program("tandem-lab")?)
        .args([
            "experiment",
            "live-migration",
            "--memory",
            "16",
            "--dirty",
            "web",
            "--datapath",
            "soft",
            "--out",
        ])
        .arg(&out)
        .stdin(Stdio::null())
        .output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let read =
        |name: &str| std::fs::read_to_string(out.join(name)).with_context(|| format!("{name} is not there"));
    let (gaps, transfers, series) =
        (read("csv/gaps.csv")?, read("csv/transfers.csv")?, read("csv/series.csv")?);
    for name in ["manifest.json", "figures/longest-gap.svg", "figures/network-lost.svg"] {
        read(name)?;
    }
    std::fs::remove_dir_all(&out)?;
    let mut lines = gaps.lines();
    ensure!(lines.next() == Some("world,memory_mb,dirty,rules,lost,longest_gap_ms,network_lost"), "{gaps}");
    ensure!(lines.clone().count() == 3, "{gaps}");
    for line in lines {
        let gap: f64 = line.split(',').nth(5).and_then(|g| g.parse().ok()).context("a gap")?;
        ensure!(gap > 2.0 && line.starts_with("emulated,16,web,"), "every VM is paused: {line}");
    }
    // Once the VM runs again nothing but the network can lose its packets, and no transfer loads it
    // any more.
    let pauses: BTreeMap<&str, f64> = transfers
        .lines()
        .skip(1)
        .filter_map(|l| Some((l.split(',').nth(3)?, l.split(',').nth(5)?.parse().ok()?)))
        .collect();
    let mut after: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for line in series.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [_, _, rules, _, _, sent, received, ..] = fields[..] else { continue };
        if sent.parse::<f64>()? > *pauses.get(rules).context("a pause")? {
            let count = after.entry(rules).or_default();
            count.0 += 1;
            count.1 += u32::from(received.is_empty());
        }
    }
    let lost = |rules: &str| after.get(rules).copied().unwrap_or_default();
    ensure!(lost("first").0 > 100 && lost("first").1 == 0, "rules first: {after:?}");
    ensure!(lost("pause").0 > 100 && lost("pause").1 == 0, "the pause alone: {after:?}");
    ensure!(lost("after").1 > 0, "rules that come too late cost packets: {after:?}");
    Ok(())
}

#[test]
fn a_vm_takes_its_address_along_others_start_meanwhile_and_nothing_is_left() -> Result<()> {
    if !can_emulate_on("ovs") {
        return Ok(());
    }
    let dc = DataCentre::up(SITE)?;
    let vm = request(&dc, 16, "web")?;
    ensure!(really_on(&dc, &vm)? == "srv1" && has_port(&dc, "srv1", &vm)?);
    let id = under_way(&dc, &vm)?;
    // A world that did one thing after the other would let this one wait for the transfer's end.
    let other = request(&dc, 16, "idle")?;
    let m = migration(&dc, &vm)?.context("it is listed")?;
    ensure!(m["id"] == id && m["ended"].is_null(), "it was over before the other VM ran: {m}");
    let m = ended(&dc, &vm)?;
    ensure!(m["ended"][1]["result"] == "moved", "{m}");
    ensure!(server(&dc, &vm)? == 2 && really_on(&dc, &vm)? == "srv3");
    ensure!(reaches(&dc, &vm) && reaches(&dc, &other));
    let shown = dc.exec(&vm.name, &["ip", "-4", "-o", "addr", "show", "dev", "eth0"])?;
    ensure!(shown.contains(&vm.address), "{shown}");
    ensure!(!has_port(&dc, "srv1", &vm)? && has_port(&dc, "srv3", &vm)?);
    // Its processes run again.
    let states = dc.exec(&vm.name, &["sh", "-c", "cat /proc/[0-9]*/stat"])?;
    ensure!(!states.contains(" T "), "{states}");
    // Back, at rest: memory and disk.
    dc.tandem(&["migrate", &vm.name, "--to", "srv1", "--cold", "--no-wait"])?;
    let m = wait("the cold migration's end", || {
        let m = migration(&dc, &vm)?.context("it is listed")?;
        Ok((m["id"] != id && !m["ended"].is_null()).then_some(m))
    })?;
    ensure!(m["ended"][1]["result"] == "moved" && really_on(&dc, &vm)? == "srv1", "{m}");
    ensure!(reaches(&dc, &vm));
    dc.tandem(&["vm", "delete", &vm.name])?;
    wait("nothing of it is left", || {
        Ok((!has_port(&dc, "srv1", &vm)? && !has_port(&dc, "srv3", &vm)?).then_some(()))
    })
}

#[test]
fn a_cancelled_migration_and_one_whose_link_is_cut_leave_the_vm_where_it_was() -> Result<()> {
    if !can_emulate_on("ovs") {
        return Ok(());
    }
    let dc = DataCentre::up(SITE)?;
    let vm = request(&dc, 128, "idle")?;
    let id = under_way(&dc, &vm)?;
    dc.tandem(&["migrations", "cancel", &id.to_string()])?;
    let m = ended(&dc, &vm)?;
    ensure!(m["ended"][1]["result"] == "undone", "{m}");
    ensure!(server(&dc, &vm)? == 0 && really_on(&dc, &vm)? == "srv1" && reaches(&dc, &vm));

    let second = under_way(&dc, &vm)?;
    ensure!(second != id);
    dc.exec("srv3", &["ip", "link", "set", "eth0", "down"])?;
    let m = ended(&dc, &vm)?;
    ensure!(m["id"] == second && m["ended"][1]["result"] == "undone", "{m}");
    ensure!(server(&dc, &vm)? == 0 && really_on(&dc, &vm)? == "srv1" && reaches(&dc, &vm));
    dc.exec("srv3", &["ip", "link", "set", "eth0", "up"])?;
    ensure!(!has_port(&dc, "srv3", &vm)?);
    Ok(())
}

#[test]
fn a_controller_that_is_killed_finds_the_vm_moved_when_it_is_back() -> Result<()> {
    if !can_emulate_on("ovs") {
        return Ok(());
    }
    let mut dc = DataCentre::up(SITE)?;
    let vm = request(&dc, 16, "web")?;
    under_way(&dc, &vm)?;
    dc.end_controller("-KILL")?;
    // The lab goes on without it.
    wait("the VM is on the other server", || Ok((really_on(&dc, &vm)? == "srv3").then_some(())))?;
    dc.start_controller()?;
    dc.wait_ready()?;
    wait("the controller has it there", || {
        let at = server(&dc, &vm)?;
        ensure!(at == 2, "on server {at}: {:?}", migration(&dc, &vm)?);
        Ok(Some(()))
    })?;
    wait("it is reached there", || Ok(reaches(&dc, &vm).then_some(())))?;
    ensure!(really_on(&dc, &vm)? == "srv3" && has_port(&dc, "srv3", &vm)? && !has_port(&dc, "srv1", &vm)?);

    // Killed, and back while the transfer goes on.
    let other = request(&dc, 32, "idle")?;
    dc.tandem(&["migrate", &other.name, "--to", "srv4", "--no-wait", "--force"])?;
    wait("some of its memory is sent", || {
        let m = migration(&dc, &other)?.context("no migration is listed")?;
        Ok((m["progress"]["sent"].as_u64() > Some(0)).then_some(()))
    })?;
    dc.end_controller("-KILL")?;
    dc.start_controller()?;
    dc.wait_ready()?;
    // It is finished, or undone where the way to the new place is taken for lost meanwhile.
    // Whichever: all agree on where the VM is.
    let m = ended(&dc, &other)?;
    let (number, name) = if m["ended"][1]["result"] == "moved" { (3, "srv4") } else { (2, "srv3") };
    ensure!(server(&dc, &other)? == number && really_on(&dc, &other)? == name, "{m}");
    wait("it is reached there", || Ok(reaches(&dc, &other).then_some(())))?;
    for node in ["srv3", "srv4"] {
        ensure!(has_port(&dc, node, &other)? == (node == name), "{node}: {m}");
    }
    Ok(())
}

#[test]
fn loads_are_what_vms_do_sizes_change_and_unknown_images_are_refused() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let dc = DataCentre::up_on(SITE, "soft")?;
    let why = dc.tandem(&["vm", "request", "--image", "windows"]).map_err(|e| format!("{e:#}"));
    ensure!(why.as_ref().is_err_and(|w| w.contains("this world has idle, web, adversarial")), "{why:?}");

    let vm = request(&dc, 64, "idle")?;
    let load = ["--cpu", "0.75", "--dirty", "80 Mbit/s", "--working-set", "0.5", "--net", "800 kbit/s"];
    dc.lab(&[&["vm", "load", "--name", &dc.name, &vm.name][..], &load[..]].concat())?;
    // One core, three quarters of it: a rate over a time, which is the same on a busy machine.
    wait("the controller sees what the VM does", || {
        let servers: Value = serde_json::from_str(&dc.get("/api/v1/servers")?)?;
        let first = servers[0]["load"].to_string();
        let metrics = dc.get("/metrics")?;
        let of = |name: &str| -> Option<f64> {
            let line =
                metrics.lines().find(|l| l.starts_with(&format!("{name}{{")) && l.contains(&vm.name))?;
            line.rsplit(' ').next()?.parse().ok()
        };
        let (cpu, dirtied) =
            (of("tandem_vm_cpu_used_cores"), of("tandem_vm_memory_dirtied_bytes_per_second"));
        let sent = of("tandem_vm_network_transmit_bytes_per_second");
        let near = |value: Option<f64>, wanted: f64| value.is_some_and(|v| (v / wanted - 1.0).abs() < 0.25);
        ensure!(
            near(cpu, 0.75) && near(dirtied, 1e7) && near(sent, 1e5),
            "cpu {cpu:?}, dirtied {dirtied:?}, sent {sent:?}; the server: {first}"
        );
        Ok(Some(()))
    })?;
    dc.tandem(&["vm", "resize", &vm.name, "--ram", "96 MiB"])?;
    let loads: Value = serde_json::from_str(&dc.lab(&["vm", "loads", "--name", &dc.name, "--json"])?)?;
    ensure!(loads[0]["used"]["ram"] == 96 << 20, "{loads}");
    Ok(())
}
