//! The testbed as a world, the whole way: ssh, lent interfaces, agents over mutual TLS, OpenFlow over TCP, DHCP, traffic, clocks; and what
//! becomes of it when a part dies.

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

    // A VM on each server gets its address by DHCP over the real switches, and traffic from the gateway.
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
        let all = flows.as_array().cloned().unwrap_or_default();
        let enough = |f: &serde_json::Value| f["received"].as_u64().is_some_and(|n| n > 100);
        Ok((all.len() == 2 && all.iter().all(enough)).then_some(all))
    })?;
    for flow in &flows {
        // All machines share this kernel's clock: what is measured over ssh must come out as zero, so that no delay is negative.
        let delay = flow["delay_ms"].as_f64().expect("a delay");
        assert!((0.0..50.0).contains(&delay), "{flow}");
        assert!(flow["goodput"].as_f64().is_some_and(|g| (0.85e6..1.0e6).contains(&g)), "{flow}");
    }
    // A command's status and standard error come back.
    assert!(rig.lab(&["exec", "srv1", "--", "false"]).is_err());
    assert!(rig.lab(&["exec", "edge1", "--", "ip", "link", "show", "edge1-1"])?.contains("edge1-1"));

    rig.lab(&["down"])?;
    assert_eq!(rig.interfaces()?, before, "everything is as it was");
    assert_eq!(rig.processes("__node"), Vec::<i32>::new());
    assert_eq!(rig.processes("udhcpc"), Vec::<i32>::new());
    let locks = rig.on("host1", &["sh", "-c", "find /mnt/rig -name '*.lock*'"])?;
    assert_eq!(locks, "");
    let copies = std::fs::read_dir("/tmp")?
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("tandem-lab."));
    assert_eq!(copies.count(), 0);
    Ok(())
}
