//! A small data centre with real packets: Open vSwitch, or the agent's own switches, in namespaces,
//! VMs with a real DHCP client, the controller as a process.

use anyhow::{Context, Result, ensure};
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tandem_tests::pings::Ping;
use tandem_tests::{DataCentre, can_emulate, can_emulate_on, program, wait};

/// Two of everything, so that every link has an alternative; quick discovery and statistics.
const SITE: &str = r#"
name = "small"
[topology]
shape = "three-tier"
core = 2
aggregation = 2
edge = 2
servers_per_edge = 2
[bandwidth]
gateway = "100 Mbit/s"
core = "50 Mbit/s"
aggregation = "50 Mbit/s"
edge = "20 Mbit/s"
[servers]
cpu = 4
ram = "8 GiB"
disk = "100 GiB"
[vm]
net = "1 Mbit/s"
start_timeout = "20 s"
[policy]
allocation = "worst-fit"
[statistics]
period = "500 ms"
history_weight = 0.0
[discovery]
lldp_period = "500 ms"
lldp_timeout = "5 s"
switch_grace = "2 s"
"#;

const GATEWAY: &str = "10.255.255.1";

#[test]
fn vms_come_speak_to_whom_they_may_and_go() -> Result<()> {
    come_and_go("ovs")
}

#[test]
fn vms_come_speak_and_go_on_soft_switches() -> Result<()> {
    come_and_go("soft")
}

#[test]
fn core_switches_with_cards_forward_for_everybody() -> Result<()> {
    if !can_emulate_on("soft") {
        return Ok(());
    }
    let cards = "[[switch]]\nname = \"core1\"\ndatapath = \"netfpga\"\n[[switch]]\nname = \"core2\"\ndatapath = \"netfpga\"\n";
    let dc = DataCentre::up_on(&format!("{SITE}{cards}"), "soft")?;
    let pings = dc.lab(&["ping-all", "--name", &dc.name])?;
    ensure!(pings.contains("16 of 16 pairs answer; 0.0% loss"), "{pings}");
    let (id, _) = dc.request_vm()?;
    let vm = format!("vm{id}");
    dc.exec(&vm, &["ping", "-c", "10", "-i", "0.1", "-W", "2", GATEWAY])?;
    let links = dc.json(&["links"])?;
    let list = links.as_array().cloned().unwrap_or_default();
    ensure!(
        !list.is_empty() && list.iter().all(|l| l["state"] == "confirmed" || l["state"] == "declared"),
        "{links}"
    );
    Ok(())
}

fn come_and_go(datapath: &'static str) -> Result<()> {
    if !can_emulate_on(datapath) {
        return Ok(());
    }
    let dc = DataCentre::up_on(SITE, datapath)?;
    let pings = dc.lab(&["ping-all", "--name", &dc.name])?;
    ensure!(pings.contains("16 of 16 pairs answer; 0.0% loss"), "{pings}");

    let ((a, _), (b, b_address)) = (dc.request_vm()?, dc.request_vm()?);
    let (vm_a, vm_b) = (format!("vm{a}"), format!("vm{b}"));
    dc.exec(&vm_a, &["ping", "-c", "2", "-W", "2", GATEWAY])?;

    // Isolated until grouped, and again afterwards.
    ensure!(
        dc.exec(&vm_a, &["ping", "-c", "2", "-W", "1", &b_address]).is_err(),
        "two VMs reach each other without a group"
    );
    let a_address = dc.json(&["vm", "show", &vm_a])?["address"].as_str().context("an address")?.to_owned();
    let group = dc.tandem(&["group", "create", &a_address, &b_address])?;
    wait("grouped VMs reach each other", || {
        Ok(dc.exec(&vm_a, &["ping", "-c", "1", "-W", "1", &b_address]).ok())
    })?;
    dc.tandem(&["group", "delete", &group])?;
    ensure!(
        dc.exec(&vm_b, &["ping", "-c", "2", "-W", "1", &a_address]).is_err(),
        "the group is gone, its traffic is not"
    );

    // A VM that uses another address or Ethernet address is not heard.
    dc.exec(&vm_a, &["ip", "addr", "add", "10.0.0.77/8", "dev", "eth0"])?;
    ensure!(
        dc.exec(&vm_a, &["ping", "-c", "2", "-W", "1", "-I", "10.0.0.77", GATEWAY]).is_err(),
        "a forged address gets through"
    );

    // Generated traffic runs and is counted; the CSV files grow.
    wait("the VM's traffic in the statistics", || {
        let vm = dc.json(&["vm", "show", &vm_b])?;
        Ok((vm["rate"].as_u64().unwrap_or(0) > 900_000).then_some(()))
    })?;
    let hosts = std::fs::read_to_string(dc.path("csv/hoststats.csv"))?;
    ensure!(hosts.starts_with("time;0000000003000001.3;"), "{}", hosts.lines().next().unwrap_or(""));

    dc.tandem(&["vm", "resize", &vm_b, "--net", "2 Mbit/s"])?;
    wait("the resized VM's traffic", || {
        let vm = dc.json(&["vm", "show", &vm_b])?;
        Ok((vm["rate"].as_u64().unwrap_or(0) > 1_800_000).then_some(()))
    })?;
    let refused = dc
        .tandem(&["vm", "resize", &vm_b, "--cpu", "400"])
        .err()
        .context("an impossible resize was accepted")?;
    ensure!(refused.to_string().contains("CPU short"), "{refused}");

    dc.tandem(&["vm", "delete", &vm_a])?;
    let unknown = dc.tandem(&["vm", "delete", &vm_a]).err().context("a VM that is gone was deleted again")?;
    ensure!(unknown.to_string().contains("there is no vm"), "{unknown}");
    let rules = dc.tandem(&["rules"])?;
    ensure!(!rules.contains(&format!(" {vm_a} ")), "rules of a VM that is gone are left");
    Ok(())
}

#[test]
fn a_group_of_several_is_labelled_and_nobody_else_is_reached() -> Result<()> {
    several("ovs")
}

#[test]
fn a_group_of_several_is_labelled_on_soft_switches() -> Result<()> {
    several("soft")
}

/// More members than have rules pair by pair, two and more to a server, at both edges; and one who
/// is none.
fn several(datapath: &'static str) -> Result<()> {
    if !can_emulate_on(datapath) {
        return Ok(());
    }
    let dc = DataCentre::up_on(SITE, datapath)?;
    let mut vms = Vec::new();
    for _ in 0..7 {
        let (id, address) = dc.request_vm()?;
        vms.push((format!("vm{id}"), address));
    }
    let (outsider, members) = vms.split_first().context("VMs")?;
    let ping = |from: &str, to: &str| dc.exec(from, &["ping", "-c", "1", "-W", "1", to]);
    let addresses = members.iter().map(|(_, address)| address.as_str());
    let create: Vec<&str> = ["group", "create"].into_iter().chain(addresses).collect();
    let group = dc.tandem(&create)?;
    for (from, _) in members {
        for (to, address) in members.iter().filter(|(to, _)| to != from) {
            // The first one may have to wait for the answer to ARP.
            wait(&format!("{from} reaches {to}"), || Ok(ping(from, address).ok()))?;
        }
        ensure!(ping(from, &outsider.1).is_err(), "{from} reaches {}", outsider.0);
        ping(from, GATEWAY)?;
    }
    for (to, address) in members {
        ensure!(ping(&outsider.0, address).is_err(), "{} reaches {to}", outsider.0);
    }
    let rules = dc.tandem(&["rules"])?;
    ensure!(rules.contains("write_metadata:"), "{rules}");
    // Read back by the audit as they were written.
    ensure!(!dc.notice("rules-repaired")?, "the switches have other rules than they were sent");
    dc.tandem(&["group", "delete", &group])?;
    for ((from, _), (to, address)) in members.iter().zip(&members[1..]) {
        ensure!(ping(from, address).is_err(), "{from} reaches {to}, and the group is gone");
    }
    Ok(())
}

#[test]
fn a_cut_link_is_routed_around_and_the_outage_is_measured() -> Result<()> {
    cut_link("ovs")
}

#[test]
fn a_cut_link_is_routed_around_on_soft_switches() -> Result<()> {
    cut_link("soft")
}

fn cut_link(datapath: &'static str) -> Result<()> {
    if !can_emulate_on(datapath) {
        return Ok(());
    }
    let dc = DataCentre::up_on(SITE, datapath)?;
    let (id, _) = dc.request_vm()?;
    let vm = format!("vm{id}");
    let path = dc.json(&["vm", "show", &vm])?["path"].as_array().context("a path")?.clone();
    let (edge, above) =
        (path[1].as_str().context("an edge")?, path[2].as_str().context("an aggregation switch")?);
    let topology = dc.json(&["topology"])?;
    let port = topology["switches"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|s| s["name"] == edge)
        .flat_map(|s| s["ports"].as_array().cloned().unwrap_or_default())
        .find(|p| p["peer"].as_str().is_some_and(|peer| peer.starts_with(&format!("{above}."))))
        .context("the port that leads up")?;
    let interface = port["name"].as_str().context("a port's name")?.to_owned();

    let mut ping = Ping::start(&dc, &vm, GATEWAY, 600)?;
    ping.answered(100)?;
    dc.exec(edge, &["ip", "link", "set", &interface, "down"])?;
    wait("the VM on another path", || Ok(dc.notice("vm-rerouted")?.then_some(())))?;
    let now = dc.json(&["vm", "show", &vm])?;
    ensure!(now["state"]["state"] == "running", "{now}");
    ensure!(now["path"].as_array() != Some(&path), "the VM is still on the path that was cut");

    let lost = ping.lost()?;
    println!("outage after a cut link: {lost} of 600 pings at 10 ms, about {} ms", lost * 10);
    ensure!(lost < 300, "the outage took longer than 3 s: {lost} pings of 10 ms");

    dc.exec(edge, &["ip", "link", "set", &interface, "up"])?;
    wait("the link back in use", || {
        let links = dc.json(&["links"])?;
        let list = links.as_array().cloned().unwrap_or_default();
        Ok(list.iter().all(|l| l["state"] == "confirmed" || l["state"] == "declared").then_some(()))
    })?;
    let pings = dc.lab(&["ping-all", "--name", &dc.name])?;
    ensure!(pings.contains("0.0% loss"), "{pings}");
    Ok(())
}

#[test]
fn a_killed_controller_comes_back_without_a_lost_packet_and_its_run_replays() -> Result<()> {
    killed_controller("ovs")
}

#[test]
fn a_killed_controller_comes_back_to_soft_switches() -> Result<()> {
    killed_controller("soft")
}

fn killed_controller(datapath: &'static str) -> Result<()> {
    if !can_emulate_on(datapath) {
        return Ok(());
    }
    let mut dc = DataCentre::up_on(SITE, datapath)?;
    let (id, address) = dc.request_vm()?;
    let mut ping = Ping::start(&dc, &format!("vm{id}"), GATEWAY, 500)?;
    ping.answered(50)?;
    dc.end_controller("-9")?;
    ping.answered(50)?;
    dc.start_controller()?;
    dc.wait_ready()?;
    let lost = ping.lost()?;
    ensure!(lost == 0, "{lost} packets were lost while the controller was away");

    // It knows its VM, and a further one gets another address.
    let vms = dc.json(&["vm", "list"])?;
    ensure!(vms[0]["address"] == address.as_str() && vms[0]["state"]["state"] == "running", "{vms}");
    let (_, second) = dc.request_vm()?;
    ensure!(second != address, "an address was given out twice");

    // The first run was recorded until the kill; it replays to the same decisions.
    let replayed = dc.tandem(&["replay", &dc.path("run.jsonl").display().to_string()])?;
    ensure!(replayed.contains("all decided the same"), "{replayed}");

    // A clean stop leaves the switches forwarding.
    dc.end_controller("-TERM")?;
    dc.exec(&format!("vm{id}"), &["ping", "-c", "3", "-W", "2", GATEWAY])?;
    Ok(())
}

#[test]
fn flows_wiped_behind_our_back_are_put_back() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let dc = DataCentre::up(SITE)?;
    let (id, _) = dc.request_vm()?;
    let foreign = "cookie=0x99,priority=1,dl_type=0x9999,actions=drop";
    dc.exec("edge1", &["env", "OVS_RUNDIR=/mnt", "ovs-ofctl", "add-flow", "edge1", foreign])?;
    for switch in ["edge1", "edge2", "agg1", "agg2"] {
        dc.exec(
            switch,
            &[
                "env",
                "OVS_RUNDIR=/mnt",
                "ovs-ofctl",
                "del-flows",
                switch,
                "cookie=0x5464000000000000/0xffff000000000000",
            ],
        )?;
    }
    wait("the repair", || Ok(dc.notice("rules-repaired")?.then_some(())))?;
    wait("traffic again", || Ok(dc.exec(&format!("vm{id}"), &["ping", "-c", "2", "-W", "1", GATEWAY]).ok()))?;
    // A rule that nobody wants, with our cookie, goes; somebody else's stays.
    let stale = "cookie=0x5464020000000100,priority=9,ip,nw_dst=192.0.2.1,actions=drop";
    dc.exec("edge1", &["env", "OVS_RUNDIR=/mnt", "ovs-ofctl", "add-flow", "edge1", stale])?;
    wait("the stale rule gone", || {
        let flows = dc.exec("edge1", &["env", "OVS_RUNDIR=/mnt", "ovs-ofctl", "dump-flows", "edge1"])?;
        Ok((!flows.contains("192.0.2.1")).then_some(()))
    })?;
    let flows = dc.exec("edge1", &["env", "OVS_RUNDIR=/mnt", "ovs-ofctl", "dump-flows", "edge1"])?;
    ensure!(flows.contains("0x9999"), "a flow of somebody else was touched");
    Ok(())
}

#[test]
fn a_killed_lab_leaves_nothing_and_names_are_taken_once() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let dc = DataCentre::prepare(SITE)?;
    let said = dc.lab_up()?;
    let again = dc.lab_up().err().context("a second lab of the same name came up")?;
    ensure!(again.to_string().contains("there is a lab"), "{again}");
    let pid = said
        .split("first process ")
        .nth(1)
        .and_then(|t| t.split_whitespace().next())
        .context("a process id")?;

    let inside = |pid: &str| -> Vec<String> {
        // Processes of the lab are those whose process namespace is its first process's.
        let own = std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter(|e| std::fs::read_link(e.path().join("ns/pid")).ok() == own && own.is_some())
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect()
    };
    let before = inside(pid);
    ensure!(
        before.len() >= 4,
        "a lab is at least its first process, its own, and two of Open vSwitch: {before:?}"
    );
    Command::new("kill").args(["-9", pid]).status()?;
    wait("every process of the lab gone", || {
        Ok(before.iter().all(|p| !std::path::Path::new(&format!("/proc/{p}")).exists()).then_some(()))
    })?;
    let sockets = std::fs::read_to_string("/proc/net/unix")?;
    ensure!(!sockets.contains(&dc.name), "a socket of the lab is left");
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    ensure!(
        !mounts.lines().any(|l| l.split_whitespace().nth(1) == Some("/mnt")),
        "a mount of the lab is left"
    );
    let links = std::fs::read_to_string("/proc/net/dev")?;
    ensure!(!links.contains("edge1-1") && !links.contains("ovs-netdev"), "an interface of the lab is left");
    dc.lab_up()?;
    let start = Instant::now();
    dc.lab(&["down", "--name", &dc.name])?;
    println!("a lab is gone after {:?}", start.elapsed());
    Ok(())
}

#[test]
fn what_a_kernel_cannot_do_is_said_and_nothing_is_left() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let dc = DataCentre::prepare(&format!("{SITE}[links]\ndelay = \"5 ms\"\n"))?;
    match dc.lab_up() {
        Ok(_) => {
            // A kernel with netem: the delay is there, in both directions of both links.
            dc.lab(&["down", "--name", &dc.name])?;
        }
        Err(error) => {
            ensure!(error.to_string().contains("this kernel has no netem"), "{error}");
            let gone = dc.lab(&["status", "--name", &dc.name]).err().context("a lab that failed is up")?;
            ensure!(gone.to_string().contains("there is no lab"), "{gone}");
        }
    }
    Ok(())
}

#[test]
fn garbage_bad_files_and_second_starts_are_refused_with_what_to_do() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let mut dc = DataCentre::prepare(SITE)?;
    dc.start_controller()?;
    // What is no OpenFlow ends its own connection and nothing else.
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[1, 0, 0, 3, 0, 0, 0, 0], &[1, 5, 0, 8, 0, 0, 0, 1]]
    {
        let mut stream = UnixStream::connect(dc.path("openflow.sock"))?;
        stream.set_read_timeout(Some(tandem_tests::LIMIT))?;
        stream.write_all(garbage)?;
        stream.read_to_end(&mut Vec::new()).context("the connection of an unknown peer is not closed")?;
    }
    dc.json(&["topology"])?;

    let refused = dc.tandem(&["vm", "request"]).err().context("a VM without a hypervisor was accepted")?;
    ensure!(refused.to_string().contains("tandem-lab up"), "{refused}");

    // The same sockets and the same store cannot be had twice.
    let second = Command::new(program("tandem")?)
        .args(["--api", &format!("unix:{}", dc.path("other.sock").display()), "serve", "--site"])
        .arg(dc.path("site.toml"))
        .args(["--agents", &format!("unix:{}", dc.path("other-agents.sock").display())])
        .args(["--openflow", &format!("unix:{}", dc.path("openflow.sock").display()), "--store"])
        .arg(dc.path("other.sqlite"))
        .output()?;
    let text = String::from_utf8_lossy(&second.stderr);
    ensure!(!second.status.success() && text.contains("another `tandem serve`"), "{text}");
    let third = Command::new(program("tandem")?)
        .args(["--api", &format!("unix:{}", dc.path("third.sock").display()), "serve", "--site"])
        .arg(dc.path("site.toml"))
        .args(["--agents", &format!("unix:{}", dc.path("third-agents.sock").display())])
        .args(["--openflow", &format!("unix:{}", dc.path("third-of.sock").display()), "--store"])
        .arg(dc.path("store.sqlite"))
        .output()?;
    let text = String::from_utf8_lossy(&third.stderr);
    ensure!(!third.status.success() && text.contains("store"), "{text}");

    let bad = dc.path("bad.toml");
    std::fs::write(&bad, "[topology]\nshape = \"three-tier\"\nedges = 3\nservers_per_edge = \"two\"\n")?;
    let faults = dc
        .tandem(&["check", &bad.display().to_string()])
        .err()
        .context("a bad site was accepted")?
        .to_string();
    ensure!(
        faults.contains("3:1: topology.edges: unknown key")
            && faults.contains("4:20: topology.servers_per_edge"),
        "{faults}"
    );
    Ok(())
}

/// What an ordinary user does with a data centre; $1 is the folder with the programs and the site,
/// $2 the lab's name.
const ORDINARY_USER: &str = r#"
set -e
cd "$1"
test "$(id -u)" = 65534
export TANDEM_API="unix:$1/api.sock"
./tandem serve --site site.toml --openflow "unix:$1/of.sock" --agents "unix:$1/agents.sock" --world "@tandem-lab/65534/$2/world" --store "$1/store.sqlite" >serve.log 2>&1 &
controller=$!
trap 'kill $controller; ./tandem-lab down --name "$2" >&2' EXIT
until ./tandem topology >/dev/null 2>&1; do kill -0 $controller; sleep 0.05; done
./tandem-lab up --site site.toml --name "$2" --controller "unix:$1/of.sock" --agents "unix:$1/agents.sock"
until test "$(./tandem --json topology | grep -c '"sync": "done"')" = 6; do kill -0 $controller; sleep 0.05; done
until ./tandem --json notices | grep -q world-up; do kill -0 $controller; sleep 0.05; done
./tandem vm request
./tandem-lab ping-all --name "$2"
until ./tandem-lab exec --name "$2" vm1 -- ip -4 -o addr show dev eth0 | grep inet; do kill -0 $controller; sleep 0.05; done
"#;

/// Where user namespaces are to be had, an ordinary user has the emulated world too; where not, the
/// error says what is missing.
#[test]
fn an_ordinary_user_brings_up_a_data_centre_in_a_user_namespace() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("tandem-user-{}", std::process::id()));
    let gone = Gone(&folder);
    std::fs::create_dir(&folder)?;
    std::fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
    for name in ["tandem", "tandem-lab", "tandem-agent"] {
        tandem_tests::copy_program(&program(name)?, &folder.join(name))?;
    }
    std::fs::write(folder.join("site.toml"), SITE)?;
    std::fs::write(folder.join("user.sh"), ORDINARY_USER)?;
    // /dev/net/tun as Debian's udev makes it, seen by this test only.
    let script = "mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 && chmod 666 /dev/net/tun && \
                  exec timeout 240 setpriv --reuid 65534 --regid 65534 --clear-groups sh \"$1/user.sh\" \"$1\" \"$2\"";
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"])
        .arg(&folder)
        .arg(format!("user-{}", std::process::id()))
        .output()?;
    drop(gone);
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let allowed = std::fs::read_to_string("/proc/sys/user/max_user_namespaces")?.trim() != "0";
    if allowed {
        ensure!(output.status.success(), "{said}{error}");
        ensure!(said.contains("16 of 16 pairs answer") && said.contains("inet 10."), "{said}{error}");
    } else {
        ensure!(error.contains("user namespaces"), "{said}{error}");
    }
    Ok(())
}

/// Removes a folder when it is dropped.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0);
    }
}
