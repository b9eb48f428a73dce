//! In a whole lab: a VM that is policed sends no more than its network rate, before and after a
//! resize; hosts announce themselves; a flow has the tool and options that the site says.

use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tandem_agent_protocol::hypervisor as wire;
use tandem_lab::control::client::Client;
use tandem_lab::control::messages::{self, FlowReport, LabRequest, LabResponse};

const LIMIT: Duration = Duration::from_secs(60);
const SITE: &str = "name = \"load\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 1\nedge = 1\nservers_per_edge = 2\n\
    [bandwidth]\nedge = \"400 Mbit/s\"\n[traffic.chatty]\ntool = \"on-off\"\non = \"20 ms\"\noff = \"20 ms\"\n\
    [vm]\npolice = true\n[discovery]\nannounce = \"200 ms\"\n";

struct Lab {
    name: String,
    folder: std::path::PathBuf,
}

fn run(arguments: &[&str]) -> Result<Output> {
    let program = env!("CARGO_BIN_EXE_tandem-lab");
    Ok(Command::new(program).args(arguments).stdin(Stdio::null()).output()?)
}

impl Lab {
    /// Asks for one; what `tandem-lab up` says.
    fn ask(name: &str, site: &str) -> Result<(Lab, Output)> {
        let name = format!("{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("tandem-{name}"));
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("site.toml");
        std::fs::write(&file, site)?;
        let lab = Lab { name, folder };
        let socket = |n: &str| format!("unix:{}", lab.folder.join(n).display());
        let file = file.display().to_string();
        let up = ["up", "--site", &file, "--name", &lab.name, "--datapath", "soft"];
        let places = ["--controller", &socket("openflow.sock"), "--agents", &socket("agents.sock")];
        let up = run(&[&up[..], &places[..]].concat())?;
        Ok((lab, up))
    }

    /// `None` where this machine cannot hold one; in CI that is a failure.
    fn up() -> Result<Option<Lab>> {
        let (lab, up) = Lab::ask("load", SITE)?;
        if up.status.success() {
            messages::ask(&lab.name, &LabRequest::Hubs)?;
            return Ok(Some(lab));
        }
        let why = String::from_utf8_lossy(&up.stderr).trim().to_owned();
        ensure!(why.contains("not possible here") && std::env::var_os("CI").is_none(), "{why}");
        eprintln!("skipped: {why}");
        Ok(None)
    }

    fn flow(&self, id: u64, to: Ipv4Addr, tool: &str, rate: u64) -> Result<()> {
        let from = ("vm1".to_owned(), Ipv4Addr::new(10, 0, 1, 1));
        let tool = Some(tool.parse()?);
        let to = ("gw1".to_owned(), to);
        messages::ask(&self.name, &LabRequest::StartFlow { id, from, to, rate, tcp: false, tool }).map(drop)
    }

    fn report(&self, id: u64) -> Result<FlowReport> {
        let LabResponse::Flows { flows } = messages::ask(&self.name, &LabRequest::Flows)? else {
            anyhow::bail!("something else")
        };
        flows.into_iter().find(|f| f.id == id).context("the flow")
    }

    /// Bit/s of payload that arrive of a flow, once 150 packets have.
    fn goodput(&self, id: u64) -> Result<f64> {
        let start = Instant::now();
        loop {
            let report = self.report(id)?;
            if report.received >= 150 {
                return Ok(report.goodput);
            }
            ensure!(start.elapsed() < LIMIT, "{report:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Frames that a node's interfaces have received.
    fn received(&self, node: &str) -> Result<u64> {
        let LabResponse::Counters { counters } = messages::ask(&self.name, &LabRequest::Counters)? else {
            anyhow::bail!("something else")
        };
        Ok(counters.iter().filter(|c| c.node == node).map(|c| c.rx_packets).sum())
    }

    /// A gateway's address.
    fn address(&self, node: &str) -> Result<Ipv4Addr> {
        let words =
            ["exec", "--name", &self.name, node, "--", "ip", "-o", "-4", "addr", "show", "scope", "global"];
        let text = String::from_utf8_lossy(&run(&words)?.stdout).into_owned();
        let address =
            text.split_whitespace().skip_while(|w| *w != "inet").nth(1).and_then(|a| a.split('/').next());
        Ok(address.with_context(|| format!("{node} has no address: {text}"))?.parse()?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = run(&["down", "--name", &self.name]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn resources(net: u64) -> wire::Resources {
    wire::Resources { cpu_cores: 1, ram_bytes: 16 << 20, disk_bytes: 1 << 30, net_bit_per_s: net }
}

#[test]
fn a_policed_vm_sends_its_network_rate_and_hosts_announce_themselves() -> Result<()> {
    let Some(lab) = Lab::up()? else { return Ok(()) };
    let client = Client::attach(&lab.name)?;
    let address = Ipv4Addr::new(10, 0, 1, 1).to_bits();
    client.allocate(wire::Allocate {
        vm: 1,
        server: 0,
        resources: Some(resources(2_000_000)),
        mac: vec![2, 0, 0, 8, 0, 1],
        uplink_port: 1,
        address,
        fixed_address: Some(wire::FixedAddress { address, prefix_len: 8, router: 0x0aff_ff01 }),
        ..wire::Allocate::default()
    })?;
    let gateway = lab.address("gw1")?;

    // It wants five times what it may send.
    lab.flow(1, gateway, "udp", 10_000_000)?;
    let got = lab.goodput(1)?;
    // Payload is 1372 of a frame's 1414 bytes.
    ensure!((1.5e6..2.2e6).contains(&got), "{got} bit/s of 2 Mbit/s");
    messages::ask(&lab.name, &LabRequest::StopFlow { id: 1 })?;
    client.order(wire::order::Order::Resize(wire::Resize {
        vm: 1,
        server: 0,
        resources: Some(resources(4_000_000)),
    }))?;
    client.until("the resize", LIMIT, |r| matches!(r, wire::report::Report::Resized(_)).then_some(()))?;
    lab.flow(2, gateway, "udp", 20_000_000)?;
    let got = lab.goodput(2)?;
    ensure!((3e6..4.4e6).contains(&got), "{got} bit/s of 4 Mbit/s");
    messages::ask(&lab.name, &LabRequest::StopFlow { id: 2 })?;

    // The site's own name of a tool.
    lab.flow(3, gateway, "chatty", 1_000_000)?;
    lab.goodput(3)?;
    let report = lab.report(3)?;
    let tool = report.tool.map(|t| t.to_string());
    ensure!((report.transport.as_str(), tool.as_deref()) == ("chatty", Some("on-off")), "{report:?}");
    messages::ask(&lab.name, &LabRequest::StopFlow { id: 3 })?;

    // Nobody else says anything any more, and everybody hears two servers, a gateway and a VM.
    let before = lab.received("srv2")?;
    let start = Instant::now();
    while lab.received("srv2")? < before + 12 {
        ensure!(start.elapsed() < LIMIT, "hosts do not announce themselves");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn what_a_tool_cannot_be_told_is_said_before_a_lab_comes_up() -> Result<()> {
    for (wrong, said) in [
        ("[traffic]\ntransport = \"pigeon\"", "[traffic] transport: this lab has no traffic tool pigeon"),
        ("[traffic.on-off]\non = \"5\"", "[traffic.on-off]: on: \"5\" is no time"),
        (
            "[traffic.pcap]\nfile = \"/nowhere.pcap\"",
            "[traffic.pcap]: file: /nowhere.pcap: it cannot be read",
        ),
        ("[traffic.web]\ntool = \"udp\"\nsize = 5", "[traffic.web]: size: unknown key"),
    ] {
        let site = format!("name = \"load\"\n[topology]\nshape = \"linear\"\nswitches = 1\n{wrong}\n");
        let (_lab, up) = Lab::ask("wrong", &site)?;
        let why = String::from_utf8_lossy(&up.stderr).into_owned();
        ensure!(!up.status.success() && why.contains(said), "{wrong}: {why}");
    }
    Ok(())
}
