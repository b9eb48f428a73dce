//! How long an emulated data centre takes to come up and to go, beside the floor: the same
//! namespaces and links by `ip -batch`, and the same bridges by one `ovs-vsctl`.

use crate::control::messages::{self, LabRequest, LabResponse};
use crate::controller_process::{self, Controller, Options as ControllerOptions};
use crate::temp_dir::TempDir;
use crate::world::emulated::datapath::Choice;
use crate::world::emulated::engine::EngineKind;
use crate::world::emulated::lab_control::{self, Plan};
use crate::world::emulated::network::port_name;
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tandem_model::{DatapathKind, NodeId, Site, SwitchId, site};

/// What is brought up.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// `fat-tree:K`, or `tree:EDGES:SERVERS` (one core switch, EDGES edge switches with SERVERS
    /// servers each).
    #[arg(long, default_value = "fat-tree:8")]
    pub shape: String,
    /// How often.
    #[arg(long, default_value_t = 3)]
    pub repeat: u32,
}

/// Servers that ping all others in the end: every switch has then forwarded, without the hours that
/// a million pairs take.
const PINGING: usize = 2;

/// The site file of a shape.
///
/// # Errors
/// When it is no shape.
pub(super) fn site_text(shape: &str) -> anyhow::Result<String> {
    let parts: Vec<&str> = shape.split(':').collect();
    let topology = match parts[..] {
        ["fat-tree", k] => format!("shape = \"fat-tree\"\nk = {k}\n"),
        ["tree", edges, servers] => format!(
            "shape = \"three-tier\"\ncore = 1\naggregation = 0\nedge = {edges}\nservers_per_edge = {servers}\nedge_aggregation_links = 1\n"
        ),
        _ => bail!("{shape:?} is no shape; write fat-tree:8 or tree:32:32"),
    };
    Ok(format!(
        "name = \"bench\"\n[topology]\n{topology}[bandwidth]\nedge = \"100 Mbit/s\"\naggregation = \"1 Gbit/s\"\ncore = \"1 Gbit/s\"\ngateway = \"1 Gbit/s\"\n"
    ))
}

fn memory_free() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Measures and prints.
///
/// # Errors
/// With the step that failed; labs and controllers are then gone.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let text = site_text(&options.shape)?;
    let site = site::read(&text, "the bench's site")?;
    let t = &site.topology;
    println!(
        "{}: {} servers, {} switches, {} links",
        options.shape,
        t.servers.len(),
        t.switches.len(),
        t.links.len()
    );
    println!(
        "{:>12} {:>12} {:>12} {:>12} {:>8} {:>14}",
        "network s", "connected s", "floor s", "gone s", "ratio", "MB a server"
    );
    for _ in 0..options.repeat {
        let floor = floor(&site)?;
        let scratch = TempDir::new("bench")?;
        let file = scratch.path().join("site.toml");
        std::fs::write(&file, &text)?;
        let name = format!("bench-{}", std::process::id());
        let controller = Controller::start(&ControllerOptions {
            site: &file,
            folder: scratch.path(),
            lab: &name,
            csv: None,
            record: None,
            more: &[],
        })?;
        let before = memory_free();
        let start = Instant::now();
        let plan = Plan {
            group: None,
            name: Some(name.clone()),
            text: text.clone(),
            file: "the bench's site".into(),
            controller: controller_process::openflow(scratch.path()),
            agents: controller_process::agents(scratch.path()),
            agent_per_switch: false,
            datapath: Choice::Kind(DatapathKind::OVS),
            engine: EngineKind::Native,
            protocols: vec!["OpenFlow10".into(), "OpenFlow13".into()],
        };
        lab_control::up(&plan)?;
        let network = start.elapsed();
        // From here on it goes down also when a step fails or we are killed.
        let held = messages::hold(&name)?;
        controller.wait_connected(Duration::from_secs(120))?;
        let connected = start.elapsed();
        let used = before.saturating_sub(memory_free());
        let LabResponse::Pings(pings) =
            messages::ask(&name, &LabRequest::PingAll { senders: Some(PINGING) })?
        else {
            bail!("the lab answered something else")
        };
        let end = Instant::now();
        lab_control::down(&name)?;
        let gone = end.elapsed();
        drop(held);
        controller.stop()?;
        println!(
            "{:>12.3} {:>12.3} {:>12.3} {:>12.3} {:>8.2} {:>14.3}   {} of {} pings answered",
            network.as_secs_f64(),
            connected.as_secs_f64(),
            floor.as_secs_f64(),
            gone.as_secs_f64(),
            connected.as_secs_f64() / floor.as_secs_f64(),
            used as f64 / 1024.0 / t.servers.len().max(1) as f64,
            pings.answered,
            pings.tried
        );
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The same namespaces and links by `ip -batch`, the same bridges by one `ovs-vsctl`, in a sandbox
/// of their own.
fn floor(site: &Site) -> anyhow::Result<Duration> {
    let t = &site.topology;
    let mut ip = String::new();
    let mut vsctl = String::from("ovs-vsctl --db=unix:/mnt/db.sock");
    let nodes = t.servers.iter().map(|s| &s.name).chain(t.gateways.iter().map(|g| &g.name));
    for name in nodes {
        writeln!(ip, "netns add {name}")?;
    }
    let end = |e: tandem_model::Endpoint| match e.node {
        NodeId::Switch(s) => (port_name(t, s, e.port), None),
        node => (format!("eth{}", e.port.0 - 1), Some(t.name(node).to_owned())),
    };
    for link in &t.links {
        let ((a, na), (b, nb)) = (end(link.a), end(link.b));
        let place = |ns: &Option<String>| ns.as_ref().map(|n| format!(" netns {n}")).unwrap_or_default();
        writeln!(ip, "link add name {a}{} type veth peer name {b}{}", place(&na), place(&nb))?;
        for (name, ns) in [(&a, &na), (&b, &nb)] {
            if ns.is_none() {
                writeln!(ip, "link set {name} up")?;
            }
        }
    }
    for (n, switch) in (0u32..).zip(&t.switches) {
        write!(vsctl, " -- add-br {0} -- set bridge {0} datapath_type=netdev", switch.name)?;
        for (port, _) in t.ports(NodeId::Switch(SwitchId(n))) {
            write!(vsctl, " -- add-port {} {}", switch.name, port_name(t, SwitchId(n), *port))?;
        }
    }
    let script = format!(
        "set -e\nmount -t tmpfs tmpfs /mnt\nmkdir -p /mnt/netns\nmount -t tmpfs tmpfs /run\ncat > /mnt/ip <<'EOF'\n{ip}EOF\n\
         cat > /mnt/vsctl <<'EOF'\n{vsctl}\nEOF\n\
         export OVS_RUNDIR=/mnt OVS_DBDIR=/mnt OVS_LOGDIR=/mnt OVS_SYSCONFDIR=/mnt\n\
         start=$(date +%s%N)\n\
         ovsdb-tool create /mnt/conf.db /usr/share/openvswitch/vswitch.ovsschema\n\
         ovsdb-server /mnt/conf.db --remote=punix:/mnt/db.sock --unixctl=/mnt/db.ctl --pidfile=/mnt/db.pid --detach --log-file=/mnt/db.log\n\
         ovs-vsctl --db=unix:/mnt/db.sock --no-wait init\n\
         ovs-vswitchd unix:/mnt/db.sock --unixctl=/mnt/sw.ctl --pidfile=/mnt/sw.pid --disable-system --detach --log-file=/mnt/sw.log\n\
         ip -batch /mnt/ip\nsh /mnt/vsctl\necho $(( $(date +%s%N) - start ))\n"
    );
    let child = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting unshare (package util-linux)")?;
    let mut child = child;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let nanos = text.lines().last().and_then(|l| l.trim().parse().ok());
    match nanos {
        Some(nanos) if output.status.success() => Ok(Duration::from_nanos(nanos)),
        _ => bail!("the floor could not be measured: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}
