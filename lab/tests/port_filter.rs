//! A VM that pretends to be another: nothing of that leaves its server, before it moves and after;
//! what is honest goes on.

use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tandem_agent_protocol::hypervisor as wire;
use tandem_lab::control::client::Client;
use tandem_lab::control::messages::{self, LabRequest};

const LIMIT: Duration = Duration::from_secs(60);
const SITE: &str = "name = \"honest\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 1\nedge = 1\nservers_per_edge = 2\n\
    [bandwidth]\nedge = \"400 Mbit/s\"\n[traffic]\nenabled = false\n";

struct Lab {
    name: String,
    folder: std::path::PathBuf,
}

fn run(arguments: &[&str]) -> Result<Output> {
    let program = env!("CARGO_BIN_EXE_tandem-lab");
    Ok(Command::new(program).args(arguments).stdin(Stdio::null()).output()?)
}

impl Lab {
    /// `None` where this machine cannot hold one; in CI that is a failure.
    fn up() -> Result<Option<Lab>> {
        let name = format!("honest-{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("tandem-{name}"));
        std::fs::create_dir_all(&folder)?;
        let site = folder.join("site.toml");
        std::fs::write(&site, SITE)?;
        let lab = Lab { name, folder };
        let socket = |n: &str| format!("unix:{}", lab.folder.join(n).display());
        let site = site.display().to_string();
        let up = ["up", "--site", &site, "--name", &lab.name, "--datapath", "soft"];
        let places = ["--controller", &socket("openflow.sock"), "--agents", &socket("agents.sock")];
        let up = run(&[&up[..], &places[..]].concat())?;
        if up.status.success() {
            // The switches pass everything: what does not arrive was kept back at the VM's port.
            messages::ask(&lab.name, &LabRequest::Hubs)?;
            return Ok(Some(lab));
        }
        let why = String::from_utf8_lossy(&up.stderr).trim().to_owned();
        ensure!(why.contains("not possible here") && std::env::var_os("CI").is_none(), "{why}");
        eprintln!("skipped: {why}");
        Ok(None)
    }

    fn exec(&self, node: &str, command: &[&str]) -> Result<bool> {
        Ok(run(&[&["exec", "--name", &self.name, node, "--"], command].concat())?.status.success())
    }

    fn must(&self, node: &str, command: &[&str]) -> Result<()> {
        ensure!(self.exec(node, command)?, "{node}: {command:?}");
        Ok(())
    }

    /// One of three pings is answered.
    fn pings(&self, node: &str, more: &[&str], to: &str) -> Result<bool> {
        self.exec(node, &[&["ping", "-q", "-c", "3", "-i", "0.2", "-W", "1"][..], more, &[to]].concat())
    }

    /// A server's own address.
    fn address(&self, server: &str) -> Result<String> {
        let out = run(&[
            "exec", "--name", &self.name, server, "--", "ip", "-o", "-4", "addr", "show", "scope", "global",
        ])?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let address =
            text.split_whitespace().skip_while(|w| *w != "inet").nth(1).and_then(|a| a.split('/').next());
        address.map(str::to_owned).with_context(|| format!("{server} has no address: {text}"))
    }

    /// vm1, on that server, reaches a VM of the other one. Two on one server meet at the switch,
    /// and a hub sends nothing back.
    fn honest(&self, on: &str) -> Result<()> {
        let (partner, _) = others(on);
        let start = Instant::now();
        while !self.pings("vm1", &[], partner)? {
            ensure!(start.elapsed() < LIMIT, "vm1 on {on} does not reach {partner}, as itself");
        }
        Ok(())
    }

    /// As the VM next to it, as its server, from nowhere; by ARP and by IP.
    fn is_held(&self, on: &str) -> Result<()> {
        self.honest(on)?;
        let (partner, neighbour) = others(on);
        for pretended in [neighbour, "10.0.77.77"] {
            self.must("vm1", &["ip", "addr", "add", &format!("{pretended}/8"), "dev", "eth0"])?;
            let answered = self.pings("vm1", &["-I", pretended], partner)?;
            self.must("vm1", &["ip", "addr", "del", &format!("{pretended}/8"), "dev", "eth0"])?;
            ensure!(!answered, "vm1 passes for {pretended}");
        }
        let theirs = format!("02:00:00:08:00:0{}", &neighbour[neighbour.len() - 1..]);
        self.must("vm1", &["ip", "link", "set", "eth0", "address", &theirs])?;
        let answered = self.pings("vm1", &[], partner)?;
        self.must("vm1", &["ip", "link", "set", "eth0", "address", "02:00:00:08:00:01"])?;
        ensure!(!answered, "vm1 uses {neighbour}'s Ethernet address");
        // Its own server has services (the transfers of migrations, for one) that are no VM's
        // business; the way to others is the network's.
        let (own, other) = if on == "srv1" { ("srv1", "srv2") } else { ("srv2", "srv1") };
        ensure!(
            !self.pings("vm1", &[], &self.address(own)?)?,
            "vm1 reaches its own server behind the network's back"
        );
        ensure!(self.pings("vm1", &[], &self.address(other)?)?, "vm1 does not reach {other}");
        self.honest(on)
    }
}

/// For vm1 on a server: the VM that it talks to, on the other server, and the one that it passes
/// for. vm2 is on srv1, vm3 on srv2.
fn others(on: &str) -> (&'static str, &'static str) {
    if on == "srv1" { ("10.0.1.3", "10.0.1.2") } else { ("10.0.1.2", "10.0.1.3") }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = run(&["down", "--name", &self.name]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn vm(id: u64, server: u32) -> wire::Allocate {
    let address = Ipv4Addr::new(10, 0, 1, id as u8).to_bits();
    wire::Allocate {
        vm: id,
        server,
        resources: Some(wire::Resources {
            cpu_cores: 1,
            ram_bytes: 16 << 20,
            disk_bytes: 1 << 30,
            net_bit_per_s: 1_000_000,
        }),
        mac: vec![2, 0, 0, 8, 0, id as u8],
        uplink_port: 1,
        address,
        fixed_address: Some(wire::FixedAddress { address, prefix_len: 8, router: 0x0aff_ff01 }),
        ..wire::Allocate::default()
    }
}

fn order(migration: u64, from: u32, to: u32) -> wire::Migrate {
    wire::Migrate {
        migration,
        vm: 1,
        from,
        to,
        uplink_port: 1,
        live: true,
        rate_bit_per_s: 200_000_000,
        downtime_ns: 100_000_000,
        rounds: 3,
        resources: None,
    }
}

#[test]
fn a_vm_speaks_as_itself_only_wherever_it_runs() -> Result<()> {
    let Some(lab) = Lab::up()? else { return Ok(()) };
    let client = Client::attach(&lab.name)?;
    client.allocate(vm(1, 0))?;
    client.allocate(vm(2, 0))?;
    client.allocate(vm(3, 1))?;
    lab.is_held("srv1")?;
    // There and back: the filter is where the VM is, and nowhere else.
    client.migrate(order(1, 0, 1), LIMIT)?;
    lab.is_held("srv2")?;
    client.migrate(order(2, 1, 0), LIMIT)?;
    lab.is_held("srv1")?;
    // Its place is taken by another with the same address.
    client.order(wire::order::Order::Stop(wire::Stop { vm: 1, server: 0, placed_at_ns: None }))?;
    client.until("the stop", LIMIT, |r| {
        matches!(r, wire::report::Report::Stopped(s) if s.vm == 1).then_some(())
    })?;
    client.allocate(vm(1, 1))?;
    lab.honest("srv2")?;
    let nameless = wire::Allocate { address: 0, fixed_address: None, ..vm(9, 0) };
    let why = client.allocate(nameless).expect_err("an address is needed").to_string();
    ensure!(why.contains("does not say which address"), "{why}");
    Ok(())
}
