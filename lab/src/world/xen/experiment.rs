//! `experiment live-migration --world xen`: what a VM's peers notice of a move between two Xen
//! hosts, by pings every 10 ms.
//!
//! - `first`: `tandem migrate`. The controller makes the new place's rules, and only then the VM
//!   moves.
//! - `after`: what a network does that hears of a move when it is done. The switches of domain 0
//!   have rules for the old place only; `xl` moves the VM by itself, and when it has, the rules are
//!   changed.
//! - `pause`: the hypervisor's own pause alone. Rules send what is for the VM to both hosts all the
//!   time.
//!
//! The last two are measured without a controller, on bridges that are made for it: nobody is there
//! who would mend them.

use super::{files, wait};
use crate::experiment::live::{GAPS, Rules};
use crate::experiment::manifest::Manifest;
use crate::experiment::plot::{Bars, Drawing};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use crate::world::xen::data_centre::DataCentre;
use crate::world::xen::pings::Report;
use crate::world::xen::supervisor::Plan;
use anyhow::{Context, bail, ensure};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Pings before and after a move.
const AROUND: Duration = Duration::from_secs(3);
/// The guest of what is measured by hand, in the prefix of the first edge switch.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sizes of the VM's memory in MiB.
    pub memory: Vec<u64>,
    /// What the VM writes to its memory: images.
    pub dirty: Vec<String>,
    /// When the rules of the new place are made.
    pub rules: Vec<Rules>,
}

struct Cell {
    memory: u64,
    dirty: String,
    rules: Rules,
    took: Duration,
    report: Report,
}

/// Runs it and fills the run folder; the table for people.
///
/// # Errors
/// With the step that failed; hosts and controller are then gone.
pub fn run(plan: &Plan, agent: &Path, options: &Options, folder: &mut RunFolder) -> anyhow::Result<String> {
    let text = files::site(&plan.name, plan.hosts);
    let mut dc = DataCentre::up(plan, agent, |line| eprintln!("{line}"))?;
    let mut cells = Vec::new();
    // With the controller first: afterwards its switches are taken apart.
    let mut rules = options.rules.clone();
    rules.sort();
    for rules in rules {
        if rules != Rules::First {
            by_hand(&mut dc)?;
        }
        for mib in &options.memory {
            for image in &options.dirty {
                let raw = folder.path().join(format!("pings-{}-{mib}-{image}", rules.word()));
                let cell = match rules {
                    Rules::First => controlled(&dc, *mib, image, &raw),
                    Rules::After | Rules::Pause => moved_by_hand(&dc, rules, *mib, image, &raw),
                };
                let cell = cell.with_context(|| format!("{mib} MiB, {image}, rules {}", rules.word()))?;
                eprintln!("{}", line(&cell));
                cells.push(cell);
            }
        }
    }
    write(folder, &cells)?;
    folder.finish(Manifest::new("live-migration", "xen", 0, &text))?;
    Ok(table(&cells))
}

/// A move by the controller.
fn controlled(dc: &DataCentre, memory: u64, image: &str, raw: &Path) -> anyhow::Result<Cell> {
    let vm = dc.request(&["--image", image, "--ram", &format!("{memory} MiB")])?;
    dc.expect_answer(vm.address)?;
    let to = if dc.server_of(vm.id)?.as_deref() == Some("srv1") { "srv2" } else { "srv1" };
    let watch = dc.watch(vm.address)?;
    std::thread::sleep(AROUND);
    let began = Instant::now();
    let id = dc.begin_move(vm.id, to, &["--force"])?;
    let (end, why) = dc.end_of(id)?;
    let took = began.elapsed();
    ensure!(end == "moved", "it was {end}: {why}");
    dc.expect_answer(vm.address)?;
    std::thread::sleep(AROUND);
    let report = watch.stop(raw)?;
    dc.clean()?;
    Ok(Cell { memory, dirty: image.to_owned(), rules: Rules::First, took, report })
}

/// Ends the controller and the agents, and makes the bridges without them.
fn by_hand(dc: &mut DataCentre) -> anyhow::Result<()> {
    if dc.kill_controller().is_err() {
        return Ok(());
    }
    for host in &dc.lab.hosts {
        let mut script = String::from(
            "kill $(cat /run/tandem-agent/agent.pid) 2> /dev/null; for b in $(ovs-vsctl list-br); do ovs-vsctl del-br $b; done\n",
        );
        for switch in host.nodes.iter().filter(|n| n.starts_with("core") || n.starts_with("edge")) {
            let _ = write!(
                script,
                "ovs-vsctl add-br {switch} -- set-fail-mode {switch} secure\nfor p in /sys/class/net/{switch}-*; do p=${{p##*/}}; ovs-vsctl add-port {switch} $p -- \
                 set interface $p ofport_request=${{p##*-}}; tc qdisc del dev $p root 2> /dev/null; ip link set $p up; done; ip link set {switch} up\n"
            );
        }
        host.access.run(&script)?;
    }
    Ok(())
}

/// Where packets to the guest are sent: to the first host, to the second, or to both.
#[derive(Clone, Copy)]
enum Towards {
    First,
    Second,
    Both,
}

/// Rules of a hub, but for what is from and for the guest: only what is at a server is to be
/// seen at its uplink.
fn forward(dc: &DataCentre, towards: Towards) -> anyhow::Result<()> {
    // Ports as the site's shape numbers them: core1 has the gateway at 1 and the edges at 2 and 3,
    // edges the core at 1 and the server at 2.
    let out = match towards {
        Towards::First => "output:2",
        Towards::Second => "output:3",
        Towards::Both => "output:2,output:3",
    };
    let core = format!(
        "table=0,priority=10,ip,nw_dst={GUEST},actions={out}\ntable=0,priority=10,ip,nw_src={GUEST},actions=output:1\n\
         table=0,priority=10,arp,arp_spa={GUEST},actions=output:1\ntable=0,priority=1,actions=flood\n"
    );
    let edge = "table=0,priority=1,actions=flood\n".to_owned();
    for (switch, rules) in [("core1", core), ("edge1", edge.clone()), ("edge2", edge)] {
        // One bundle: no packet meets a table that is half filled.
        let command = format!(
            "printf '{}' | ovs-ofctl -O OpenFlow14 --bundle replace-flows {switch} -",
            rules.replace('\n', "\\n")
        );
        dc.lab.host(switch)?.access.run(&command)?;
    }
    Ok(())
}

/// A move by `xl` alone.
fn moved_by_hand(
    dc: &DataCentre,
    rules: Rules,
    memory: u64,
    image: &str,
    raw: &Path,
) -> anyhow::Result<Cell> {
    let Some((_, dirty, pause)) = files::IMAGES.iter().find(|(n, ..)| *n == image) else {
        bail!("there is no image {image:?}")
    };
    let source = &dc.lab.host("srv1")?.access;
    let target = &dc.lab.host("srv2")?.access;
    forward(dc, if rules == Rules::Pause { Towards::Both } else { Towards::First })?;
    let config = format!(
        "name = 'moved'\ntype = 'pv'\nkernel = '/var/lib/tandem/images/vmlinux'\nramdisk = '/var/lib/tandem/images/initrd'\n\
         extra = 'console=hvc0 mitigations=off quiet ip={GUEST}::10.255.255.1:255.0.0.0:moved:eth0:off tandem.dirty={dirty} tandem.pause={pause}'\n\
         memory = {memory}\nvif = ['mac=00:16:3e:00:00:c8,bridge=xenbr0,script=vif-bridge']\non_crash = 'destroy'\n"
    );
    source.run(&format!("cat > /tmp/moved.cfg << 'END'\n{config}END\nxl create -q /tmp/moved.cfg"))?;
    let to = target.run("ip -4 -o address show dev xenbr0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p'")?;
    let result: anyhow::Result<(Duration, Report)> = (|| {
        dc.expect_answer(GUEST)?;
        let watch = dc.watch(GUEST)?;
        std::thread::sleep(AROUND);
        let began = Instant::now();
        source.run(&format!(
            "xl migrate moved {to} > /tmp/moved.log 2>&1 || {{ tail -n 3 /tmp/moved.log >&2; exit 1; }}"
        ))?;
        let took = began.elapsed();
        if rules == Rules::After {
            forward(dc, Towards::Second)?;
        }
        dc.expect_answer(GUEST)?;
        std::thread::sleep(AROUND);
        Ok((took, watch.stop(raw)?))
    })();
    for host in [source, target] {
        host.run("xl destroy moved 2> /dev/null || true")?;
        wait("the guest's end", Duration::from_secs(120), || {
            Ok((!host.run("xl list")?.contains("moved")).then_some(()))
        })?;
    }
    let (took, report) = result?;
    Ok(Cell { memory, dirty: image.to_owned(), rules, took, report })
}

fn write(folder: &mut RunFolder, cells: &[Cell]) -> anyhow::Result<()> {
    let mut gaps = String::from(GAPS);
    let mut transfers = String::from(
        "world;memory_mb;dirty;rules;seconds;silence_ms;pings;lost_before;lost_in_it;lost_after;missed\n",
    );
    for c in cells {
        let key = format!("xen;{};{};{}", c.memory, c.dirty, c.rules.word());
        let r = &c.report;
        writeln!(gaps, "{key};{};{:.1};{}", r.lost, r.longest_gap_ms, r.network_lost)?;
        let silence = r.silence_ms.map(|ms| format!("{ms:.1}")).unwrap_or_default();
        let [before, within, after] = r.where_lost;
        writeln!(
            transfers,
            "{key};{:.1};{silence};{};{before};{within};{after};{}",
            c.took.as_secs_f64(),
            r.sent,
            r.missed
        )?;
    }
    folder.table(Table::of_lines("gaps", 4, &gaps))?;
    folder.table(Table::of_lines("transfers", 4, &transfers))?;
    let bars = |title: &str, unit: &str, value: &dyn Fn(&Cell) -> f64| {
        let mut groups: Vec<(u64, &str)> = Vec::new();
        for c in cells {
            if !groups.contains(&(c.memory, c.dirty.as_str())) {
                groups.push((c.memory, &c.dirty));
            }
        }
        let mut words: Vec<Rules> = cells.iter().map(|c| c.rules).collect();
        words.sort();
        words.dedup();
        let mean = |rules: Rules, group: &(u64, &str)| {
            let of = |c: &&Cell| c.rules == rules && (c.memory, c.dirty.as_str()) == *group;
            let values: Vec<f64> = cells.iter().filter(of).map(value).collect();
            values.iter().sum::<f64>() / values.len().max(1) as f64
        };
        let series: Vec<(&str, Vec<f64>)> =
            words.iter().map(|r| (r.title(), groups.iter().map(|g| mean(*r, g)).collect())).collect();
        let labels: Vec<String> = groups.iter().map(|(mib, dirty)| format!("{mib} MiB {dirty}")).collect();
        Drawing::Bars(Bars::of(title, "Xen hosts under emulation", unit, &labels, &series))
    };
    let gap = bars("The longest time in which nothing arrives", "time (ms)", &|c| c.report.longest_gap_ms);
    folder.figure("longest-gap", gap)?;
    let lost =
        bars("Packets lost by the network (no bar: none)", "packets", &|c| c.report.network_lost as f64);
    folder.figure("network-lost", lost)
}

fn line(c: &Cell) -> String {
    let r = &c.report;
    format!(
        "{:>8} {:<12} {:<6} {:>8.1} {:>11.0} {:>10.0} {:>14} {:>15}",
        c.memory,
        c.dirty,
        c.rules.word(),
        c.took.as_secs_f64(),
        r.silence_ms.unwrap_or(0.0),
        r.longest_gap_ms,
        format!("{} of {}", r.lost, r.sent),
        r.network_lost
    )
}

fn table(cells: &[Cell]) -> String {
    let mut out = String::from("Live migration between two Xen hosts under emulation\n\n");
    let _ = writeln!(
        out,
        "{:>8} {:<12} {:<6} {:>8} {:>11} {:>10} {:>14} {:>15}",
        "MiB", "writes", "rules", "seconds", "silence ms", "gap ms", "lost", "by the network"
    );
    for c in cells {
        let _ = writeln!(out, "{}", line(c));
    }
    out
}
