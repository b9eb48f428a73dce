//! The testbed as a world, the whole way: ssh, lent interfaces, agents over mutual TLS, OpenFlow
//! over TCP, DHCP, traffic, clocks; and what becomes of it when a part dies.

mod rig;

use rig::Rig;
use tandem_tests::wait;

const SITE: &str = "name = \"bench\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 1\nedge = 1\nservers_per_edge = 2\n\
    [bandwidth]\ngateway = \"100 Mbit/s\"\ncore = \"100 Mbit/s\"\naggregation = \"20 Mbit/s\"\nedge = \"50 Mbit/s\"\n\
    [policy]\nallocation = \"worst-fit\"\n[vm]\nnet = \"1 Mbit/s\"\n[statistics]\nperiod = \"500 ms\"\n";

#[test]
fn servers_and_gateways_of_a_testbed_hold_vms_and_traffic_and_are_given_back() -> anyhow::Result<()> {
    if !rig::inside("servers_and_gateways_of_a_testbed_hold_vms_and_traffic_and_are_given_back") {
        return Ok(());
    }
    let mut rig = Rig::new(SITE)?;
    let before = rig.interfaces()?;
    rig.start_controller("bench")?;
    rig.start_agent()?;
    let (site, inventory) = (rig.path("site.toml"), rig.path("inventory.toml"));
    let up = rig.lab(&["up", "--site", &site, "--inventory", &inventory])?;
    eprintln!("{up}");
    rig.wait_ready()?;
    let pinged = rig.lab(&["ping-all"])?;
    eprintln!("{pinged}");
    assert!(pinged.starts_with("4 of 4 pairs"), "{pinged}");

    // A second one is refused, and told by whom.
    let refused = rig.lab(&["up", "--site", &site, "--inventory", &inventory, "--name", "second"]);
    let refused = format!("{:#}", refused.expect_err("the testbed is held"));
    assert!(refused.contains("is held by") && refused.contains("tandem-lab up"), "{refused}");

    // Each way is found by the switches' counters and filled; what a loaded machine makes of the
    // rates is not judged here.
    let api = format!("unix:{}", rig.path("api.sock"));
    let calibrated = rig.lab(&[
        "calibrate",
        "--name",
        "bench",
        "--api",
        &api,
        "--site",
        &site,
        "--out",
        &rig.path("calibration"),
        "--seconds",
        "0.5",
        "--tolerance",
        "80",
    ])?;
    assert!(
        calibrated.contains("0 of 10 directions differ") && calibrated.contains("; 0 were not reached"),
        "{calibrated}"
    );

    // A VM on each server gets its address by DHCP over the real switches, and traffic from the
    // gateway.
    let vms = [rig.json(&["vm", "request"])?, rig.json(&["vm", "request"])?];
    for vm in &vms {
        let (name, address) =
            (format!("vm{}", vm["id"]), vm["address"].as_str().expect("an address").to_owned());
        wait("the VM's address", || {
            let shown = rig.lab(&["exec", &name, "--", "ip", "-4", "-o", "addr", "show", "dev", "eth0"])?;
            Ok(shown.contains(&address).then_some(()))
        })?;
        rig.lab(&["exec", "gw1", "--", "ping", "-c", "2", "-W", "2", &address])?;
    }
    let flows = wait("traffic that arrives", || {
        let flows: serde_json::Value = serde_json::from_str(&rig.lab(&["flows", "--json"])?)?;
        let mut all = flows.as_array().cloned().unwrap_or_default();
        all.retain(|f| f["ends"].as_str().is_some_and(|e| e.contains("-> vm")));
        let enough = |f: &serde_json::Value| f["received"].as_u64().is_some_and(|n| n > 100);
        Ok((all.len() == 2 && all.iter().all(enough)).then_some(all))
    })?;
    for flow in &flows {
        // All machines share this kernel's clock: what is measured over ssh must come out as zero,
        // so that no delay is negative.
        let delay = flow["delay_ms"].as_f64().expect("a delay");
        assert!((0.0..50.0).contains(&delay), "{flow}");
        assert!(flow["goodput"].as_f64().is_some_and(|g| (0.85e6..1.0e6).contains(&g)), "{flow}");
    }
    // A command's status and standard error come back.
    assert!(rig.lab(&["exec", "srv1", "--", "false"]).is_err());
    assert!(rig.lab(&["exec", "edge1", "--", "ip", "link", "show", "edge1-1"])?.contains("edge1-1"));

    rig.lab(&["down"])?;
    rig.nothing_is_left(&before)
}

fn kill(pid: i32) -> anyhow::Result<()> {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    anyhow::ensure!(killed.success(), "process {pid} could not be killed");
    Ok(())
}

#[test]
fn interfaces_come_back_whoever_is_killed_and_the_lab_says_which_machine_is_lost() -> anyhow::Result<()> {
    if !rig::inside("interfaces_come_back_whoever_is_killed_and_the_lab_says_which_machine_is_lost") {
        return Ok(());
    }
    let rig = Rig::new(SITE)?;
    let before = rig.interfaces()?;
    let of = |all: &[String], machine: &str| -> Vec<String> {
        all.iter().filter(|l| l.starts_with(machine)).cloned().collect()
    };
    let (site, inventory) = (rig.path("site.toml"), rig.path("inventory.toml"));

    // A control interface among the ports is refused, and nothing is touched.
    let wrong = std::fs::read_to_string(&inventory)?.replace("control = \"eth0\"", "control = \"eth9\"");
    std::fs::write(rig.path("wrong.toml"), wrong.replace("interface = \"srv1-1\"", "interface = \"eth0\""))?;
    let refused = rig.lab(&["up", "--site", &site, "--inventory", &rig.path("wrong.toml")]);
    let refused = format!("{:#}", refused.expect_err("eth0 carries this very connection"));
    assert!(refused.contains("it carries this very ssh connection"), "{refused}");
    rig.nothing_is_left(&before)?;

    for victim in ["guard", "node", "connection"] {
        rig.lab(&["up", "--site", &site, "--inventory", &inventory])?;
        assert_ne!(of(&rig.interfaces()?, "host1"), of(&before, "host1"), "srv1-1 is lent");
        match victim {
            "guard" => kill(rig.guard_and_node("host1")?.0)?,
            "node" => kill(rig.guard_and_node("host1")?.1)?,
            _ => {
                for session in rig.processes_on("host1", "root@notty")? {
                    kill(session)?;
                }
            }
        }
        wait("host1's interfaces", || {
            let now = of(&rig.interfaces()?, "host1");
            Ok((now == of(&before, "host1")).then_some(()))
        })?;
        wait("the trouble", || {
            let status = rig.lab(&["status"])?;
            Ok(status.contains("TROUBLE: host1: its node is lost").then_some(()))
        })?;
        let flows = format!("{:#}", rig.lab(&["flows"]).expect_err("a machine is lost"));
        assert!(flows.contains("host1: its node is lost"), "{flows}");
        rig.lab(&["down"])?;
        rig.nothing_is_left(&before)?;
    }

    // The coordinator killed: the connections end with it, and the nodes with them. Its lock says
    // that it has died.
    rig.lab(&["up", "--site", &site, "--inventory", &inventory])?;
    let coordinator = *rig.processes("__testbed").first().expect("it runs");
    kill(coordinator)?;
    wait("all interfaces", || Ok((rig.interfaces()? == before).then_some(())))?;
    let refused = rig.lab(&["up", "--site", &site, "--inventory", &inventory]);
    let refused = format!("{:#}", refused.expect_err("the lock is left"));
    assert!(refused.contains("has died") && refused.contains("unlock --break"), "{refused}");
    Ok(())
}

#[test]
fn experiments_run_on_a_testbed_and_end_clearly_when_a_connection_is_cut() -> anyhow::Result<()> {
    if !rig::inside("experiments_run_on_a_testbed_and_end_clearly_when_a_connection_is_cut") {
        return Ok(());
    }
    let mut rig = Rig::new(SITE)?;
    let before = rig.interfaces()?;
    // Only to enrol: an experiment has a controller of its own, with the same authority.
    rig.start_controller("nobody")?;
    rig.start_agent()?;
    wait("the agent", || {
        Ok(rig
            .json(&["agent", "list"])?
            .as_array()
            .is_some_and(|l| l.len() == 1 && l[0]["agent"]["connected"] == true)
            .then_some(()))
    })?;
    rig.stop_controller();

    let (out, site, inventory, authority) =
        (rig.path("run"), rig.path("site.toml"), rig.path("inventory.toml"), rig.path("authority"));
    let place = [
        "--world",
        "testbed",
        "--site",
        &site,
        "--inventory",
        &inventory,
        "--authority",
        &authority,
        "--out",
        &out,
    ];
    let short = ["--link", "10", "--transport", "udp", "--seconds", "2"];
    let table = rig.lab(&[&["experiment", "qos-classes"], &place[..], &short[..]].concat())?;
    eprintln!("{table}");
    let read = |name: &str| std::fs::read_to_string(rig.folder.join("run").join(name));
    let shares = read("csv/shares.csv")?;
    let gold: Vec<f64> = shares
        .lines()
        .filter(|l| l.contains(",gold,"))
        .filter_map(|l| l.rsplit(',').next()?.parse().ok())
        .collect();
    assert!(gold.len() == 2 && gold.iter().all(|g| (66.0..74.0).contains(g)), "70/30: {shares}");
    let manifest: serde_json::Value = serde_json::from_str(&read("manifest.json")?)?;
    assert_eq!(
        (&manifest["world"], manifest["machines"].as_array().map(Vec::len)),
        (&"testbed".into(), Some(4))
    );
    assert!(
        manifest["machines"][0]["ovs"].as_str().is_some_and(|v| v.contains("Open vSwitch")),
        "{manifest}"
    );
    // All machines have this machine's clock: each offset is zero within its own uncertainty.
    let offsets = read("csv/clock-offsets.csv")?;
    let rows: Vec<Vec<&str>> = offsets.lines().skip(1).map(|l| l.split(',').collect()).collect();
    assert!(rows.len() >= 9, "three nodes, at the start, before and after: {offsets}");
    for row in &rows {
        let (offset, within): (f64, f64) = (row[3].parse()?, row[4].parse()?);
        assert!(offset.abs() <= within, "{offsets}");
    }
    let counters = read("csv/counters.csv")?;
    for part in [
        ",before,interface,srv1 br0,tx_bytes,",
        ",after,port,edge1.1,tx_bytes,",
        ",after,class,edge1.1 queue 0,bytes,",
    ] {
        assert!(counters.contains(part), "{part} is not in {counters}");
    }
    rig.nothing_is_left(&before)?;

    // The cable of the control network, so to say, in the middle of the next.
    let mut running = rig
        .lab_command(&[&["experiment", "best-vs-worst-fit"], &place[..]].concat())?
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    wait("the experiment's first VM", || Ok((!rig.processes("udhcpc").is_empty()).then_some(())))?;
    for session in rig.processes_on("host2", "root@notty")? {
        kill(session)?;
    }
    let ended = wait("the experiment's end", || Ok(running.try_wait()?))?;
    let mut said = String::new();
    std::io::Read::read_to_string(&mut running.stderr.take().expect("piped"), &mut said)?;
    assert!(!ended.success() && said.contains("host2: its node is lost"), "{said}");
    rig.nothing_is_left(&before)
}
