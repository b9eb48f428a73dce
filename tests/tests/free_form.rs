//! A graph with real packets: loops, two gateways, two cables in parallel, a switch that is core and
//! edge at once, a server with two links. Everybody reaches everybody, a VM gets its traffic, and
//! both go on when one of the parallel cables is gone. VMs are called by their names throughout.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tandem_tests::{DataCentre, can_emulate_on, program, wait};

const SITE: &str = r#"
name = "graph"
[topology]
shape = "free-form"
[[switch]]
name = "s1"
[[switch]]
name = "s2"
[[switch]]
name = "s3"
[[server]]
name = "h1"
[[server]]
name = "h2"
[[server]]
name = "h3"
[[gateway]]
name = "gw1"
[[gateway]]
name = "gw2"
[[link]]
between = ["gw1", "s1"]
[[link]]
between = ["gw2", "s2"]
[[link]]
between = ["s1", "s2"]
count = 2
[[link]]
between = ["s2", "s3"]
[[link]]
between = ["s3", "s1"]
[[link]]
between = ["s3", "h1"]
[[link]]
between = ["h2", "s2"]
[[link]]
between = ["h2", "s3"]
[[link]]
between = ["h3", "s1"]
[bandwidth]
edge = "20mbit"
aggregation = "50M"
[vm]
net = "1Mbps"
start_timeout = "20secs"
[policy]
allocation = "worst-fit"
[statistics]
period = "500ms"
history_weight = 0.0
[discovery]
lldp_period = "500ms"
lldp_timeout = "5s"
"#;

fn all_answer(dc: &DataCentre) -> Result<()> {
    let pings = dc.lab(&["ping-all", "--name", &dc.name])?;
    ensure!(pings.contains("0.0% loss"), "{pings}");
    Ok(())
}

#[test]
fn a_graph_forwards_for_everybody_on_open_vswitch() -> Result<()> {
    forwards_for_everybody("ovs")
}

#[test]
fn a_graph_forwards_for_everybody_on_soft_switches() -> Result<()> {
    forwards_for_everybody("soft")
}

fn forwards_for_everybody(datapath: &'static str) -> Result<()> {
    if !can_emulate_on(datapath) {
        return Ok(());
    }
    let dc = DataCentre::up_on(SITE, datapath)?;
    all_answer(&dc)?;
    let names = ["web", "db", "cache"];
    for name in names {
        dc.tandem(&["vm", "request", "--name", name])?;
    }
    let again = dc.tandem(&["vm", "request", "--name", "web"]).err().context("the name is taken")?;
    ensure!(format!("{again:#}").contains("has the name \"web\" already"), "{again:#}");
    let shown = |name: &str| dc.json(&["vm", "show", name]);
    let node = |name: &str| -> Result<String> { Ok(format!("vm{}", shown(name)?["id"])) };
    for name in names {
        let vm = node(name)?;
        for gateway in ["10.255.255.1", "10.255.255.2"] {
            // Only its own gateway's address answers a VM.
            let own = shown(name)?["gateway_name"] == format!("gw{}", &gateway[gateway.len() - 1..]);
            let ping = dc.exec(&vm, &["ping", "-c", "2", "-W", "2", gateway]);
            ensure!(!own || ping.is_ok(), "{name} does not reach {gateway}: {ping:?}");
        }
        wait("the VM's traffic in the statistics", || {
            Ok((shown(name)?["rate"].as_u64().unwrap_or(0) > 900_000).then_some(()))
        })?;
    }
    let web = node("web")?;
    let db = shown("db")?["address"].as_str().context("an address")?.to_owned();
    ensure!(dc.exec(&web, &["ping", "-c", "1", "-W", "1", &db]).is_err(), "no group, and yet they speak");
    let group = dc.tandem(&["group", "create", "web", "db"])?;
    wait("grouped VMs reach each other", || Ok(dc.exec(&web, &["ping", "-c", "1", "-W", "1", &db]).ok()))?;
    dc.tandem(&["group", "delete", &group])?;

    // Each of the two parallel cables goes in turn: the other one takes over.
    let cables = parallel(&dc)?;
    ensure!(cables.len() == 2, "two cables: {cables:?}");
    for cable in cables {
        let port = cable.split("<->").next().and_then(|end| end.rsplit('.').next()).context("a port")?;
        dc.tandem(&["port", "down", "s1", port])?;
        all_answer(&dc)?;
        for name in names {
            dc.exec(name, &["ping", "-c", "2", "-W", "2", gateway_of(&shown(name)?)])?;
        }
        dc.tandem(&["port", "up", "s1", port])?;
        wait("the cable is used again", || {
            let links = dc.json(&["links"])?;
            let all = links.as_array().into_iter().flatten();
            Ok(all.into_iter().any(|l| l["name"] == cable && l["state"] == "confirmed").then_some(()))
        })?;
    }
    dc.tandem(&["vm", "delete", "web"])?;
    let gone = dc.tandem(&["vm", "delete", "dbb"]).err().context("there is none")?;
    ensure!(format!("{gone:#}").contains("did you mean \"db\"?"), "{gone:#}");
    Ok(())
}

/// The names of the links between s1 and s2.
fn parallel(dc: &DataCentre) -> Result<Vec<String>> {
    let links = dc.json(&["links"])?;
    let names = links.as_array().into_iter().flatten().filter_map(|l| l["name"].as_str());
    let names = names.filter(|name| name.contains("s1.") && name.contains("s2."));
    Ok(names.map(ToOwned::to_owned).collect())
}

fn gateway_of(vm: &Value) -> &'static str {
    if vm["gateway_name"] == "gw1" { "10.255.255.1" } else { "10.255.255.2" }
}

/// `tandem check` names the policies of a sound site, and what this machine cannot do for it, which
/// is no fault; of a site with faults it prints only those.
#[test]
fn check_says_what_this_machine_cannot_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let check = |text: &str, json: bool| -> Result<std::process::Output> {
        let file = folder.path().join("site.toml");
        std::fs::write(&file, text)?;
        let mut command = std::process::Command::new(program("tandem")?);
        Ok(command.arg("check").arg(&file).args(json.then_some("--json")).output()?)
    };
    // 300 Gbit/s of servers: more than this machine's cores forward, whatever it is.
    let large = "[topology]\nshape = \"leaf-spine\"\nleaves = 1000\nservers_per_leaf = 30\n";
    let output = check(large, true)?;
    ensure!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(said["ok"] == true && said["servers"] == 30_000, "{said}");
    let allocation = said["policies"]["policy.allocation"].as_array().context("policies")?;
    ensure!(allocation.iter().any(|name| name == "worst-fit"), "{said}");
    let rates = said["notes"].as_array().into_iter().flatten().find(|note| note["about"] == "rates");
    let rates = rates.with_context(|| format!("no note about rates: {said}"))?;
    ensure!(rates["problem"].as_str().is_some_and(|p| p.contains("300 Gbit/s")), "{rates}");
    let text = String::from_utf8(check(large, false)?.stdout)?;
    ensure!(text.contains("note: rates: ") && text.contains("policy.allocation: "), "{text}");

    let output = check("[topology]\nshape = \"free-form\"\n[[switch]]\nname = \"s1\"\n", true)?;
    let said: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(!output.status.success() && said["ok"] == false, "{said}");
    ensure!(said["faults"][0]["key"] == "gateway" && said["notes"].is_null(), "{said}");
    Ok(())
}
