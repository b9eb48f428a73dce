//! A lab among people who mean it harm, or make mistakes: a second controller, another user of the
//! machine, a VM that floods. VMs that ping each other and the gateway every 10 ms are the
//! witnesses: they lose nothing, and what the controller keeps and logs is bounded.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tandem_tests::pings::{Use, Witnesses};
use tandem_tests::{DataCentre, can_emulate_on, program, wait};

const SITE: &str = r#"
name = "hostile"
[topology]
shape = "three-tier"
core = 1
aggregation = 2
edge = 2
aggregation_core_links = 1
servers_per_edge = 1
[bandwidth]
gateway = "100 Mbit/s"
core = "100 Mbit/s"
aggregation = "100 Mbit/s"
edge = "100 Mbit/s"
[servers]
cpu = 8
ram = "16 GiB"
disk = "200 GiB"
[vm]
net = "1 Mbit/s"
start_timeout = "20 s"
[policy]
allocation = "worst-fit"
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
/// Debian's `nobody`.
const OTHER: u32 = 65_534;

/// A lab with two VMs of a group.
struct Town {
    dc: DataCentre,
    ways: [(String, String); 3],
    vms: usize,
}

impl Town {
    fn up(datapath: &'static str) -> Result<Town> {
        let dc = DataCentre::up_on(SITE, datapath)?;
        let ((a, a_address), (b, b_address)) = (dc.request_vm()?, dc.request_vm()?);
        let (a, b) = (format!("vm{a}"), format!("vm{b}"));
        dc.tandem(&["group", "create", &a_address, &b_address])?;
        wait("grouped VMs reach each other", || {
            Ok(dc.exec(&a, &["ping", "-c", "1", "-W", "1", &b_address]).ok())
        })?;
        let ways = [(a.clone(), GATEWAY.into()), (a, b_address), (b, GATEWAY.into())];
        Ok(Town { dc, ways, vms: 2 })
    }

    fn watch(&self, count: u32) -> Result<Witnesses> {
        let ways: Vec<(&str, &str)> = self.ways.iter().map(|(n, to)| (n.as_str(), to.as_str())).collect();
        Witnesses::start(&self.dc, &ways, count)
    }

    /// All VMs run, and a further one is started and deleted: the lab does what its controller
    /// says.
    fn is_well(&self, during: &str) -> Result<()> {
        let vms = self.dc.json(&["vm", "list"])?;
        let run = |v: &&Value| v["state"]["state"] == "running";
        let running = vms.as_array().into_iter().flatten().filter(run).count();
        ensure!(running == self.vms, "{during}: {vms}");
        let (id, _) = self.dc.request_vm().with_context(|| format!("{during}: a further VM"))?;
        let vm = format!("vm{id}");
        self.dc.exec(&vm, &["ping", "-c", "2", "-W", "2", GATEWAY])?;
        self.dc.tandem(&["vm", "delete", &vm])?;
        Ok(())
    }
}

/// A process that ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another `tandem serve` for the same lab, with a store and sockets of its own in `folder`.
fn another_controller(town: &Town, folder: &str, user: Option<u32>) -> Result<(Process, PathBuf)> {
    let folder = town.dc.path(folder);
    std::fs::create_dir(&folder)?;
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777))?;
    let socket = |name: &str| format!("unix:{}", folder.join(name).display());
    let log = std::fs::File::create(folder.join("tandem.log"))?;
    std::fs::set_permissions(folder.join("tandem.log"), PermissionsExt::from_mode(0o666))?;
    let tandem = bystander(&town.dc, "tandem")?;
    let mut command = Command::new(tandem);
    command
        .args(["--api", &socket("api.sock"), "serve", "--openflow", &socket("openflow.sock")])
        .args(["--agents", &socket("agents.sock"), "--world", &format!("@tandem-lab/{}/world", town.dc.name)])
        .arg("--site")
        .arg(town.dc.path("site.toml"))
        .arg("--store")
        .arg(folder.join("store.sqlite"))
        .env("TANDEM_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    Ok((Process(command.spawn()?), folder))
}

/// A program where another user may run it.
fn bystander(dc: &DataCentre, name: &str) -> Result<PathBuf> {
    let copy = dc.path(name);
    if !copy.exists() {
        tandem_tests::copy_program(&program(name)?, &copy)?;
    }
    Ok(copy)
}

/// A second controller by accident, or by another user: it is refused or does nothing, and the
/// first one goes on.
#[test]
fn a_second_controller_of_a_lab_harms_nobody() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let town = Town::up("soft")?;
    for (folder, user) in [("second", None), ("others", Some(OTHER))] {
        let pings = town.watch(600)?;
        let (mut second, folder) = another_controller(&town, folder, user)?;
        let log = || std::fs::read_to_string(folder.join("tandem.log")).unwrap_or_default();
        // It has tried, or has ended because it was refused.
        wait("the second controller has tried", || {
            let tried = log().contains("hypervisor service");
            Ok((tried || second.0.try_wait()?.is_some()).then_some(()))
        })?;
        pings.lost_nothing("with a second controller")?;
        town.is_well("with a second controller").with_context(log)?;
        drop(second);
        town.is_well("after the second controller").with_context(log)?;
    }
    Ok(())
}

/// Fifty connections to each socket that is named, held open with garbage in them.
const GARBAGE: &str = r#"
import socket,sys
held=[]
for p in sys.argv[1:]:
  for n in range(50):
    try:
      s=socket.socket(socket.AF_UNIX)
      s.settimeout(1)
      s.connect(p if p[0]!='@' else '\0'+p[1:])
      s.send(b'\xff'*4096)
      held.append(s)
    except OSError as e: pass
for s in held:
  try: s.recv(1)
  except OSError: pass
"#;

/// Everything that another user of the machine can think of is refused with a reason, and changes
/// nothing.
#[test]
fn another_users_hands_do_nothing_to_a_lab() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let town = Town::up("soft")?;
    std::fs::set_permissions(&town.dc.folder, PermissionsExt::from_mode(0o755))?;
    let name = town.dc.name.as_str();
    let api = format!("unix:{}", town.dc.path("api.sock").display());
    let api = api.as_str();
    let vm = town.ways[0].0.as_str();
    let pings = town.watch(500)?;
    let tries: [(&str, &[&str]); 9] = [
        ("tandem-lab", &["down", "--name", name]),
        ("tandem-lab", &["down", "--name", name, "--user", "root"]),
        ("tandem-lab", &["status", "--name", name]),
        ("tandem-lab", &["status", "--name", name, "--user", "0"]),
        ("tandem-lab", &["exec", "--name", name, "--user", "0", vm, "--", "reboot"]),
        ("tandem", &["--api", api, "vm", "delete", vm]),
        ("tandem", &["--api", api, "vm", "list"]),
        ("tandem", &["--api", api, "token", "create", "mine"]),
        ("tandem", &["--api", api, "agent", "token", "mine"]),
    ];
    for (tool, arguments) in tries {
        let mut command = Command::new(bystander(&town.dc, tool)?);
        let output = command.args(arguments).uid(OTHER).gid(OTHER).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(!output.status.success() && !said.trim().is_empty(), "{tool} {arguments:?}: {said}");
        ensure!(!said.contains("10.") && !said.contains("panicked"), "{tool} {arguments:?}: {said}");
        println!("{tool} {}: {}", arguments.join(" "), said.lines().next().unwrap_or_default());
    }
    // Connections to every socket that is there, held open or full of garbage.
    let sockets = ["openflow.sock", "agents.sock", "api.sock"].map(|s| town.dc.path(s).display().to_string());
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", GARBAGE]).args(sockets);
    command.args([format!("@tandem-lab/{name}"), format!("@tandem-lab/{name}/world")]);
    ensure!(command.uid(OTHER).gid(OTHER).stdin(Stdio::null()).status()?.success(), "it could not even try");
    pings.lost_nothing("with another user's hands on the sockets")?;
    town.is_well("after another user's hands")
}

/// Frames of a VM that floods, $1 of each kind, some 4,000 a second, from an interface that may
/// send anything: ARP with random Ethernet and IPv4 addresses, ARP of its own for random addresses,
/// DHCP of random clients and of its own, discovery frames.
const FLOOD: &str = r#"
import os, socket, struct, sys, time
count = int(sys.argv[1])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
own = s.getsockname()[4]
ip = socket.inet_aton(sys.argv[2])
def mac(): return bytes([2]) + os.urandom(5)
def arp(src, sender, target, op=1):
    return b"\xff" * 6 + src + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, op) + src + sender + bytes(6) + target
def dhcp(src, chaddr):
    body = struct.pack("!BBBBIHH", 1, 1, 6, 0, struct.unpack("!I", os.urandom(4))[0], 0, 0x8000) + bytes(16) + chaddr + bytes(10 + 192)
    body += b"\x63\x82\x53\x63" + b"\x35\x01\x01\xff"
    udp = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + bytes(4) + b"\xff" * 4
    total = sum(struct.unpack("!10H", head))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xffff) + head[12:]
    return b"\xff" * 6 + src + b"\x08\x00" + head + udp
def lldp(src):
    head = b"\x01\x80\xc2\x00\x00\x0e" + src + b"\x88\xcc"
    return head + b"\x02\x07\x04" + os.urandom(6) + b"\x04\x05\x07" + os.urandom(4) + b"\x06\x02\x00\x78\x00\x00"
sent = 0
for n in range(count):
    m = mac()
    for frame in (arp(m, b"\x0a" + os.urandom(3), b"\x0a" + os.urandom(3)), arp(own, ip, b"\x0a" + os.urandom(3)),
                  arp(own, b"\x0a" + os.urandom(3), ip, 2), dhcp(m, m), dhcp(own, own), lldp(own), lldp(m)):
        try: s.send(frame); sent += 1
        except OSError: pass
    if n % 8 == 7: time.sleep(0.014)
print(sent)
"#;

/// How much more memory the controller may have after a flood, in KiB, and how much it may have
/// logged.
const MEMORY: u64 = 64 * 1024;
const LOG: u64 = 256 * 1024;

#[test]
fn a_vm_that_floods_harms_no_neighbour() -> Result<()> {
    flooded("ovs")
}

#[test]
fn a_vm_that_floods_soft_switches_harms_no_neighbour() -> Result<()> {
    flooded("soft")
}

fn flooded(datapath: &'static str) -> Result<()> {
    if !can_emulate_on(datapath) {
        return Ok(());
    }
    let mut town = Town::up(datapath)?;
    let (id, address) = town.dc.request_vm()?;
    town.vms = 3;
    let before = Use::of_controller(&town.dc)?;
    let pings = town.watch(1500)?;
    let begun = Instant::now();
    let flood = town
        .dc
        .exec_in_background(&format!("vm{id}"), &["/usr/bin/python3", "-c", FLOOD, "6000", &address])?;
    // While it goes on, the controller does what it is asked to.
    town.is_well("under a flood")?;
    let output = flood.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let frames: u64 = said.parse().with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let took = begun.elapsed();
    ensure!(frames >= 40_000, "only {frames} frames were sent");
    pings.lost_nothing("under a flood")?;
    town.is_well("after a flood")?;
    let used = Use::of_controller(&town.dc)?.more_than(before);
    println!(
        "{datapath}: {frames} frames in {took:.1?}: {} KiB more memory, {} bytes of log, 0 pings lost",
        used.memory, used.log
    );
    ensure!(used.memory < MEMORY && used.log < LOG, "{used:?}");
    let hosts = town.dc.json(&["topology"])?;
    let unknown =
        hosts["hosts"].as_array().map_or(0, |l| l.iter().filter(|h| h["kind"] == "unknown").count());
    ensure!(unknown < 100, "{unknown} unknown hosts are kept");
    Ok(())
}
