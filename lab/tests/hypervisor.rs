//! The emulated world's hypervisor service as a controller speaks to it, with no controller there:
//! orders that come again, a rate that changes, a cancel, a stop in the middle.

use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tandem_agent_protocol::hypervisor::{self as wire, order::Order, report::Report};
use tandem_lab::control::client::Client;
use tandem_lab::control::messages::{self, LabRequest};

const LIMIT: Duration = Duration::from_secs(60);
const SITE: &str = "name = \"orders\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 1\nedge = 1\nservers_per_edge = 2\n\
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
    fn up(what: &str) -> Result<Option<Lab>> {
        let name = format!("orders-{what}-{}", std::process::id());
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
            // The servers reach each other without a controller.
            messages::ask(&lab.name, &LabRequest::Hubs)?;
            return Ok(Some(lab));
        }
        let why = String::from_utf8_lossy(&up.stderr).trim().to_owned();
        ensure!(why.contains("not possible here") && std::env::var_os("CI").is_none(), "{why}");
        eprintln!("skipped: {why}");
        Ok(None)
    }

    fn exec(&self, node: &str, command: &[&str]) -> Result<String> {
        let out = run(&[&["exec", "--name", &self.name, node, "--"], command].concat())?;
        ensure!(out.status.success(), "{node}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn has_port(&self, server: &str, vm: u64) -> Result<bool> {
        Ok(self.exec(server, &["ip", "-o", "link", "show"])?.contains(&format!(" vm{vm}@")))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = run(&["down", "--name", &self.name]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn vm(id: u64, mib: u64, image: &str) -> wire::Allocate {
    let address = Ipv4Addr::new(10, 0, 1, id as u8).to_bits();
    wire::Allocate {
        vm: id,
        server: 0,
        resources: Some(wire::Resources {
            cpu_cores: 1,
            ram_bytes: mib << 20,
            disk_bytes: 1 << 30,
            net_bit_per_s: 1_000_000,
        }),
        mac: vec![2, 0, 0, 8, 0, id as u8],
        uplink_port: 1,
        address,
        fixed_address: Some(wire::FixedAddress { address, prefix_len: 8, router: 0x0aff_ff01 }),
        image: image.to_owned(),
        ..wire::Allocate::default()
    }
}

fn order(migration: u64, vm: u64, mbit: u64) -> wire::Migrate {
    wire::Migrate {
        migration,
        vm,
        from: 0,
        to: 1,
        uplink_port: 1,
        live: true,
        rate_bit_per_s: mbit * 1_000_000,
        downtime_ns: 100_000_000,
        rounds: 3,
        resources: None,
    }
}

fn progress(
    client: &Client,
    migration: u64,
    wanted: impl Fn(&wire::MigrationProgress) -> bool,
) -> Result<()> {
    client.until("progress", LIMIT, |report| match report {
        Report::MigrationProgress(p) if p.migration == migration && wanted(p) => Some(()),
        _ => None,
    })
}

#[test]
fn an_order_that_comes_again_goes_on_and_then_is_answered_as_it_ended() -> Result<()> {
    let Some(lab) = Lab::up("again")? else { return Ok(()) };
    let client = Client::attach(&lab.name)?;
    client.allocate(vm(1, 16, "web"))?;
    client.order(Order::Migrate(order(1, 1, 20)))?;
    progress(&client, 1, |p| p.sent_bytes > 0)?;
    // A controller that comes back: the service says what runs, and the order goes on where it is.
    drop(client);
    let client = Client::attach(&lab.name)?;
    ensure!(
        client.hello.vms == [wire::Running { vm: 1, server: 0, kept: Some(vm(1, 16, "web")) }],
        "{:?}",
        client.hello
    );
    client.order(Order::Migrate(order(1, 1, 20)))?;
    progress(&client, 1, |p| p.sent_bytes > 1 << 20 && p.round == 1)?;
    // Fast now: the rest of its 16 MiB would take six seconds.
    client.order(Order::SetMigrationRate(wire::SetMigrationRate {
        migration: 1,
        rate_bit_per_s: 300_000_000,
    }))?;
    progress(&client, 1, |p| p.rate_bit_per_s > 25_000_000 || p.round > 1)?;
    let first = client.moved(1, LIMIT)?.context("a pause")?;
    ensure!(first > Duration::ZERO && lab.has_port("srv2", 1)? && !lab.has_port("srv1", 1)?);
    ensure!(client.migrate(order(1, 1, 20), LIMIT)? == Some(first), "answered as it ended");
    // Another number, and the VM is there already.
    ensure!(client.migrate(order(2, 1, 20), LIMIT)?.is_none());
    let why = client.migrate(order(3, 9, 20), LIMIT).map_err(|e| e.to_string());
    ensure!(why.as_ref().is_err_and(|w| w.contains("it runs at None: vm9 does not run")), "{why:?}");
    Ok(())
}

#[test]
fn a_cancel_a_stop_and_an_order_to_nowhere_leave_nothing_behind() -> Result<()> {
    let Some(lab) = Lab::up("cancel")? else { return Ok(()) };
    let client = Client::attach(&lab.name)?;
    client.allocate(vm(1, 256, "adversarial"))?;
    let sleeper = Command::new(env!("CARGO_BIN_EXE_tandem-lab"))
        .args(["exec", "--name", &lab.name, "vm1", "--", "sleep", "600"])
        .stdin(Stdio::null())
        .spawn()?;
    let why = client.migrate(wire::Migrate { to: 7, ..order(1, 1, 20) }, LIMIT).map_err(|e| e.to_string());
    ensure!(why.as_ref().is_err_and(|w| w.contains("there is no server 7")), "{why:?}");
    client.order(Order::Migrate(order(2, 1, 20)))?;
    progress(&client, 2, |p| p.sent_bytes > 0 && p.dirty_bit_per_s > 0)?;
    let cancel = wire::CancelMigration { migration: 2, vm: 1, from: 0, to: 1 };
    client.order(Order::CancelMigration(cancel))?;
    let why = client.moved(2, LIMIT).map_err(|e| e.to_string());
    ensure!(why.as_ref().is_err_and(|w| w == "it runs at Some(0): cancelled"), "{why:?}");
    ensure!(lab.has_port("srv1", 1)? && !lab.has_port("srv2", 1)?);
    // One that is not under way is answered, too.
    client.order(Order::CancelMigration(wire::CancelMigration { migration: 5, ..cancel }))?;
    let why = client.moved(5, LIMIT).map_err(|e| e.to_string());
    ensure!(why.as_ref().is_err_and(|w| w.contains("it runs at Some(0)")), "{why:?}");

    // Stopped in the middle: the transfer would take minutes, and is not waited for.
    client.order(Order::Migrate(order(6, 1, 20)))?;
    progress(&client, 6, |p| p.sent_bytes > 0)?;
    client.order(Order::Stop(wire::Stop { vm: 1, server: 0, placed_at_ns: None }))?;
    client.until("the VM's end", LIMIT, |r| matches!(r, Report::Stopped(s) if s.vm == 1).then_some(()))?;
    let begin = Instant::now();
    // The kernel takes the interfaces with the namespace, which a process may hold that somebody
    // else has started.
    let mut sleeper = sleeper;
    sleeper.kill()?;
    sleeper.wait()?;
    lab.exec(
        "srv1",
        &[
            "sh",
            "-c",
            "for p in /proc/[0-9]*; do grep -qa '^sleep.600' $p/cmdline && kill -9 ${p#/proc/}; done; true",
        ],
    )?;
    while lab.has_port("srv1", 1)? || lab.has_port("srv2", 1)? {
        ensure!(begin.elapsed() < LIMIT, "its port is left at a server");
    }
    Ok(())
}

#[test]
fn a_paused_vm_s_processes_stand_and_go_on_afterwards_and_loads_come_at_their_period() -> Result<()> {
    let Some(lab) = Lab::up("pause")? else { return Ok(()) };
    let client = Client::attach(&lab.name)?;
    client.allocate(vm(1, 8, "idle"))?;
    // It counts in its file system's memory, by itself, before, during and after the move.
    let script = "n=0; while :; do n=$((n+1)); echo $n > /mnt/count; sleep 0.01; done";
    let mut counter = Command::new(env!("CARGO_BIN_EXE_tandem-lab"))
        .args(["exec", "--name", &lab.name, "vm1", "--", "timeout", "60", "sh", "-c", script])
        .stdin(Stdio::null())
        .spawn()?;
    let count =
        || -> Result<u64> { Ok(lab.exec("vm1", &["cat", "/mnt/count"])?.trim().parse().unwrap_or(0)) };
    let until = |more: u64| -> Result<u64> {
        let begin = Instant::now();
        loop {
            let now = count().unwrap_or(0);
            if now > more {
                return Ok(now);
            }
            ensure!(begin.elapsed() < LIMIT, "it counts no further than {now}");
        }
    };
    let before = until(0)?;
    client.order(Order::ReportLoads(wire::ReportLoads { period_ns: 100_000_000 }))?;
    // Cold: it is paused for all of its 24 MiB, at 40 Mbit/s about five seconds.
    client.order(Order::Migrate(wire::Migrate { live: false, ..order(1, 1, 40) }))?;
    progress(&client, 1, |p| p.sent_bytes > 1 << 20)?;
    // What `exec` starts now is not stopped: a look at a VM that stands.
    let states =
        "for p in /proc/[0-9]*; do grep -qa '^sh.-c.n=0' $p/cmdline && cut -d' ' -f3 $p/stat; done; true";
    let states = lab.exec("srv1", &["sh", "-c", states])?;
    ensure!(states.trim() == "T", "the shell that counts: {states:?}");
    let stands = count()?;
    let silent = client.moved(1, LIMIT)?.context("a pause")?;
    ensure!(silent > Duration::from_secs(1) && stands >= before, "{silent:?}, {before}, {stands}");
    until(stands + 10)?;
    let (server, ram) = client.until("loads with the VM where it is now", LIMIT, |report| match report {
        Report::Loads(l) if l.vms.iter().any(|v| v.vm == 1) && l.server == 1 => {
            Some((l.server, l.load.and_then(|l| l.ram_bytes)))
        }
        _ => None,
    })?;
    ensure!((server, ram) == (1, Some(8 << 20)));
    counter.kill()?;
    counter.wait()?;
    Ok(())
}
