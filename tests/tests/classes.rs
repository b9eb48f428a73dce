//! Service classes end to end: two VMs of different classes behind one port, with real agents,
//! kernel queues and packets.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tandem_tests::{DataCentre, can_emulate_on, wait};

/// Each VM is sent ten times what it asked for, so that two of them fill the link to their server
/// twice; a third VM has a server, and a port, of its own. Measured load is no reason to refuse a
/// VM here.
const SITE: &str = r#"
name = "classes"
[topology]
shape = "three-tier"
core = 1
aggregation = 1
edge = 1
servers_per_edge = 2
[bandwidth]
gateway = "100 Mbit/s"
core = "100 Mbit/s"
aggregation = "100 Mbit/s"
edge = "10 Mbit/s"
[servers]
cpu = 2
[vm]
net = "1 Mbit/s"
start_timeout = "30 s"
[policy]
allocation = "best-fit"
link_margin = 5.0
[traffic]
share = 10.0
[statistics]
period = "500 ms"
history_weight = 0.5
[[class]]
name = "gold"
share = 70
dscp = 46
[[class]]
name = "silver"
share = 30
dscp = 10
default = true
"#;

const GATEWAY: &str = "10.255.255.1";

/// The port of edge1 that leads to a server, as `tandem stats --json` shows it.
fn port(dc: &DataCentre, server: &str) -> Result<Value> {
    let switches = dc.json(&["stats"])?;
    let edge = switches.as_array().into_iter().flatten().find(|s| s["name"] == "edge1");
    let ports = edge.and_then(|e| e["ports"].as_array()).context("edge1's ports")?;
    let found = ports.iter().find(|p| p["peer"].as_str().is_some_and(|peer| peer.starts_with(server)));
    found.cloned().with_context(|| format!("no port leads to {server}"))
}

/// What each class has of the port, in percent.
fn shares(port: &Value) -> Option<[f64; 2]> {
    let share = |n: usize| port["classes"].get(n)?["share"].as_f64();
    Some([share(0)?, share(1)?])
}

fn are(seen: [f64; 2], wanted: [f64; 2]) -> bool {
    seen.iter().zip(wanted).all(|(seen, wanted)| (seen - wanted).abs() < 4.0)
}

/// A class's guaranteed rate, and the bytes that it has sent, in the kernel's words.
fn kernel(dc: &DataCentre, interface: &str, class: u32) -> Result<(String, u64)> {
    let text = dc.exec("edge1", &["tc", "-s", "class", "show", "dev", interface])?;
    let mut lines = text.lines().skip_while(|l| !l.starts_with(&format!("class htb 1:{class} ")));
    let word = |line: Option<&str>, after: &str| {
        let mut words = line.unwrap_or_default().split_whitespace().skip_while(|w| *w != after).skip(1);
        words.next().map(str::to_owned)
    };
    let rate = word(lines.next(), "rate").with_context(|| format!("no rate in {text}"))?;
    let sent = word(lines.next(), "Sent").and_then(|w| w.parse().ok()).context("no bytes")?;
    Ok((rate, sent))
}

/// How many of a ping's packets were lost, from its last lines.
fn lost(text: &str) -> Result<u32> {
    let line = text.lines().find(|l| l.contains("packets transmitted")).context("no summary of ping")?;
    let number = |word: &str| -> Result<u32> {
        let before = line.split(word).next().context("no such figure")?;
        Ok(before.rsplit(", ").next().unwrap_or(before).trim().parse()?)
    };
    Ok(number(" packets transmitted")? - number(" received")?)
}

fn request(dc: &DataCentre, more: &[&str]) -> Result<Value> {
    dc.json(&[&["vm", "request"], more].concat())
}

#[test]
fn classes_get_their_shares_which_change_at_run_time_and_a_congested_port_costs_others_nothing() -> Result<()>
{
    classes_get_their_shares_on("ovs")
}

#[test]
fn the_soft_switch_does_the_same_by_its_queues() -> Result<()> {
    classes_get_their_shares_on("soft")
}

fn classes_get_their_shares_on(datapath: &'static str) -> Result<()> {
    if !can_emulate_on(datapath) {
        return Ok(());
    }
    let mut dc = DataCentre::up_on(SITE, datapath)?;
    wait("the agent's queues", || {
        Ok((port(&dc, "srv1.")?["classes"].as_array().is_some_and(|c| c.len() == 2)).then_some(()))
    })?;
    let unknown = request(&dc, &["--class", "bronze"]).err().context("a class that is not there")?;
    ensure!(unknown.to_string().contains("the site file has gold, silver"), "{unknown}");

    let gold = request(&dc, &["--class", "gold"])?;
    let silver = request(&dc, &["--class", "silver"])?;
    let idle = request(&dc, &["--net", "20 kbit/s"])?;
    ensure!(gold["server"] == silver["server"] && idle["server"] != gold["server"], "{gold} {silver} {idle}");

    let seen = wait("70/30 in the statistics", || {
        let port = port(&dc, "srv1.")?;
        Ok(shares(&port).filter(|s| are(*s, [70.0, 30.0])).map(|s| (port, s)))
    })?;
    println!("shares of 10 Mbit/s: {:?}", seen.1);
    let interface = seen.0["name"].as_str().context("a name")?.to_owned();
    let number = seen.0["port"].to_string();
    let selections: &[&str] = if datapath == "soft" { &["queue"] } else { &["dscp", "queue"] };
    ensure!(selections.iter().any(|s| seen.0["selection"] == *s), "{}", seen.0);

    // The same to Prometheus, in the kernel, for people, and in the files.
    let labels = |class: &'static str| [("switch", "edge1"), ("port", number.as_str()), ("class", class)];
    let metrics = dc.metrics()?;
    ensure!(metrics.value("tandem_class_guaranteed_bytes_per_second", &labels("gold"))? == 875_000.0);
    let share = |class| metrics.value("tandem_class_port_share_ratio", &labels(class)).map(|s| s * 100.0);
    ensure!(are([share("gold")?, share("silver")?], [70.0, 30.0]), "{} {}", share("gold")?, share("silver")?);
    ensure!(metrics.value("tandem_class_dropped_packets_total", &labels("silver"))? > 0.0, "it is congested");
    ensure!(metrics.value("tandem_agent_up", &[("agent", "classes")])? == 1.0);
    let before = kernel(&dc, &interface, 1)?;
    ensure!(before.0 == "7Mbit", "{}", before.0);
    let counted = metrics.value("tandem_class_transmit_bytes_total", &labels("gold"))?;
    ensure!(counted > 0.0 && counted <= before.1 as f64, "{counted} of {}", before.1);
    let table = dc.tandem(&["stats"])?;
    ensure!(table.contains("of the port") && table.contains("gold"), "{table}");
    let files = std::fs::read_to_string(dc.path("csv/classstats.csv"))?;
    ensure!(files.lines().next().is_some_and(|h| h.contains(&format!(".{number}.gold"))), "{files}");
    ensure!(dc.path("csv/queuestats.csv").exists(), "no queuestats.csv");

    // Other shares, while the idle port's packets are counted.
    let ping = dc.exec_in_background(
        &format!("vm{}", idle["id"]),
        &["ping", "-i", "0.01", "-c", "400", "-W", "5", GATEWAY],
    )?;
    let wrong = dc.tandem(&["class", "set", "gold=90", "silver=40"]).err().context("130% were accepted")?;
    ensure!(wrong.to_string().contains("100% is all there is"), "{wrong}");
    dc.tandem(&["class", "set", "gold=40", "silver=60"])?;
    let seen = wait("40/60 in the statistics", || {
        Ok(shares(&port(&dc, "srv1.")?).filter(|s| are(*s, [40.0, 60.0])))
    })?;
    println!("shares after the change: {seen:?}");
    let (gold, silver) = (kernel(&dc, &interface, 1)?, kernel(&dc, &interface, 2)?);
    ensure!(gold.0 == "4Mbit" && silver.0 == "6Mbit", "{} {}", gold.0, silver.0);
    ensure!(gold.1 > before.1, "the class was made anew: {} bytes, before {}", gold.1, before.1);
    // A shared send buffer that one port fills costs the others half of their packets, all the
    // time. A machine that is busy with other things may lose a few at its own doing: then the
    // congestion, which goes on, is watched again.
    let lost = lost(&String::from_utf8_lossy(&ping.wait_with_output()?.stdout))?;
    println!("{lost} of 400 packets lost on the idle port while shares were changed");
    ensure!(lost < 100, "the idle port lost {lost} of 400 packets while shares were changed");
    wait("no packet lost on the idle port", || {
        let ping = ["ping", "-i", "0.01", "-c", "200", "-W", "5", GATEWAY];
        let said = dc.exec(&format!("vm{}", idle["id"]), &ping)?;
        Ok((self::lost(&said)? == 0).then_some(()))
    })?;

    // A controller that is started anew knows the shares, and its agent finds nothing to change.
    dc.end_controller("-9")?;
    dc.start_controller()?;
    dc.wait_ready()?;
    wait("the agent's answer", || {
        let agents = dc.json(&["agent", "list"])?;
        let agent = &agents[0]["agent"];
        let done = agent["connected"] == true && agent["generation"] != 0;
        Ok((done && agent["applied"] == agent["generation"]).then_some(()))
    })?;
    let classes = dc.json(&["class", "list"])?;
    ensure!(classes[0]["share"] == 40.0 && classes[1]["share"] == 60.0, "{classes}");
    let after = kernel(&dc, &interface, 1)?;
    ensure!(after.0 == "4Mbit" && after.1 >= gold.1, "{after:?} after {gold:?}");
    wait("40/60 again", || Ok(shares(&port(&dc, "srv1.")?).filter(|s| are(*s, [40.0, 60.0]))))?;
    Ok(())
}
