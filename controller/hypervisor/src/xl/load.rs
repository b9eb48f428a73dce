//! The loads of a host and its VMs, by one command: `xl list` (CPU time, in tenths of seconds), `xl
//! info` (memory), dom0's own counters of network interfaces, and those of block devices that
//! dom0's kernel serves. Xen counts dirtied memory only during a migration.

use super::host::{CpuTime, HostState, sift};
use super::parse::{Nonsense, counters, domains, info};
use super::tag::Tag;
use crate::{ServerLoad, VmmError};
use std::collections::BTreeMap;
use std::sync::Mutex;
use tandem_model::{LoadSample, VmId};

/// Prints the sections, each after a separator line. A server's own traffic is that of its bridges'
/// ports that belong to no guest.
const SCRIPT: &str = r#"xl list -v || exit 1
echo '== info'; xl info || exit 1
echo '== interfaces'
for n in /sys/class/net/vif*; do
  [ -e "$n" ] && echo "${n##*/} $(cat "$n/statistics/rx_bytes") $(cat "$n/statistics/tx_bytes")"
done
for b in "$@"; do
  if [ -d "/sys/class/net/$b/brif" ]; then ports=$(ls "/sys/class/net/$b/brif"); else ports=$(ovs-vsctl --timeout=10 list-ports "$b" 2>/dev/null); fi
  for p in $ports; do
    case $p in vif*|tap*) continue ;; esac
    n=/sys/class/net/$p
    [ -e "$n" ] && echo "uplink:$p $(cat "$n/statistics/rx_bytes") $(cat "$n/statistics/tx_bytes")"
  done
done
echo '== disks'
for n in /sys/bus/xen-backend/devices/vbd-*; do
  [ -e "$n/statistics/rd_sect" ] && echo "${n##*/} $(cat "$n/statistics/rd_sect") $(cat "$n/statistics/wr_sect")"
done; :"#;

/// blkback counts in sectors (Documentation/ABI/testing/sysfs-driver-xen-blkback).
const SECTOR: u64 = 512;

pub(crate) async fn load(host: &HostState) -> Result<ServerLoad, VmmError> {
    let what = "reading its loads";
    let bridges: Vec<&str> = host.host.uplinks.iter().map(|(_, b)| b.as_str()).collect();
    let text = host.ask(what, SCRIPT, &bridges).await?;
    read(&text, host.tag, &host.cpu).map_err(|e| host.nonsense(what, &e))
}

/// The sections of the script's output. Each begins with a separator line: a domain's name, which
/// any user of the host may choose, may contain the same text but has its columns behind it.
fn sections(text: &str) -> BTreeMap<&str, String> {
    let mut parts: BTreeMap<&str, String> = BTreeMap::new();
    let mut at = "list";
    for line in text.lines() {
        match ["info", "interfaces", "disks"].into_iter().find(|n| line.strip_prefix("== ") == Some(n)) {
            Some(name) => at = name,
            None => {
                let part = parts.entry(at).or_default();
                part.push_str(line);
                part.push('\n');
            }
        }
    }
    parts
}

/// MiB as bytes; below the value for "not counted", whatever a host prints.
pub(crate) fn bytes_of(mib: u64) -> u64 {
    mib.saturating_mul(1 << 20).min(u64::MAX - 1)
}

/// The loads in the script's output; `cpu` is continued.
pub(crate) fn read(text: &str, tag: Tag, cpu: &Mutex<CpuTime>) -> Result<ServerLoad, Nonsense> {
    let parts = sections(text);
    let section = |name: &str| parts.get(name).map_or("", String::as_str);
    let list = domains(section("list"))?;
    let info = info(section("info"))?;
    let interfaces = counters(section("interfaces"));
    let disks = counters(section("disks"));
    let cpu_ns = cpu.lock().map_or(u64::MAX, |mut cpu| cpu.add(&list));
    let uplinks: Vec<(u64, u64)> =
        interfaces.iter().filter(|(n, _)| n.starts_with("uplink:")).map(|(_, c)| *c).collect();
    let sum = |all: &[(u64, u64)], pick: fn(&(u64, u64)) -> u64| {
        if all.is_empty() { u64::MAX } else { all.iter().map(pick).fold(0, u64::saturating_add) }
    };
    let of = |prefix: &str| -> Vec<(u64, u64)> {
        disks.iter().filter(|(n, _)| n.starts_with(prefix)).map(|(_, c)| *c).collect()
    };
    let sectors = |all: &[(u64, u64)], pick: fn(&(u64, u64)) -> u64| match sum(all, pick) {
        u64::MAX => u64::MAX,
        n => n.saturating_mul(SECTOR),
    };
    let every = of("vbd-");
    let server = LoadSample {
        cpu_ns,
        ram: bytes_of(info.total_mib.saturating_sub(info.free_mib)),
        disk_read: sectors(&every, |c| c.0),
        disk_written: sectors(&every, |c| c.1),
        rx_bytes: sum(&uplinks, |c| c.0),
        tx_bytes: sum(&uplinks, |c| c.1),
        dirtied: u64::MAX,
    };
    let mut vms: Vec<(VmId, LoadSample)> = Vec::new();
    for ours in sift(tag, list) {
        use crate::FoundState::{Paused, Running};
        if !matches!(ours.state(), Running | Paused) {
            continue;
        }
        let d = &ours.domain;
        let vif = interfaces.get(&format!("vif{}.0", d.id)).copied();
        let own = of(&format!("vbd-{}-", d.id));
        let sample = LoadSample {
            cpu_ns: d.cpu_ns,
            ram: bytes_of(d.memory_mib),
            disk_read: sectors(&own, |c| c.0),
            disk_written: sectors(&own, |c| c.1),
            // What dom0 has received, the VM has sent.
            rx_bytes: vif.map_or(u64::MAX, |c| c.1),
            tx_bytes: vif.map_or(u64::MAX, |c| c.0),
            dirtied: u64::MAX,
        };
        vms.push((ours.vm, sample));
    }
    Ok(ServerLoad { server, vms })
}
