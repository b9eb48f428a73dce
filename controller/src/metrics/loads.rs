//! What servers and VMs use, and VMs on their way.

use super::{Families, NONE, bytes, one, per_second};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Unit;
use std::fmt;
use tandem_core::Snapshot;
use tandem_core::compute::host_load::LoadView;
use tandem_model::{MigrationEnd, Phase};

/// Of whom a load is: the words that metrics' names and helps begin with.
struct Whose {
    name: &'static str,
    help: &'static str,
}

fn load<L: EncodeLabelSet + Clone>(
    out: &mut Families<'_>,
    whose: &Whose,
    loads: &[(L, LoadView)],
) -> fmt::Result {
    let mut gauge = |what: &str, help: &str, unit: Option<Unit>, f: fn(&LoadView) -> f64| {
        let samples = loads.iter().map(|(labels, load)| (labels.clone(), f(load)));
        out.gauge(&format!("{}_{what}", whose.name), &format!("{help}{}", whose.help), unit, samples)
    };
    gauge("cpu_used_cores", "CPU cores in use", None, |l| l.cpu)?;
    gauge("memory_used", "Memory in use", Some(Unit::Bytes), |l| l.ram.0 as f64)?;
    gauge("disk_read", "Read from disks", per_second(), |l| bytes(l.disk_read))?;
    gauge("disk_written", "Written to disks", per_second(), |l| bytes(l.disk_written))?;
    gauge("network_receive", "Received from the network", per_second(), |l| bytes(l.rx))?;
    gauge("network_transmit", "Sent to the network", per_second(), |l| bytes(l.tx))?;
    gauge("memory_dirtied", "Memory written to", per_second(), |l| bytes(l.dirty))
}

/// Loads of servers and of VMs; nothing of those that their hypervisors do not measure.
pub(super) fn loads(out: &mut Families<'_>, s: &Snapshot) -> fmt::Result {
    let servers: Vec<_> =
        s.servers.iter().filter_map(|x| Some(([("server", x.name.as_str())], x.load?))).collect();
    load(out, &Whose { name: "tandem_server", help: ", as the hypervisor measures it, smoothed" }, &servers)?;
    let ids: Vec<String> = s.vms.iter().map(|vm| vm.record.id.to_string()).collect();
    let vms: Vec<_> = s
        .vms
        .iter()
        .zip(&ids)
        .filter_map(|(vm, id)| Some(([("vm", id.as_str()), ("server", vm.server_name.as_str())], vm.load?)))
        .collect();
    load(
        out,
        &Whose { name: "tandem_vm", help: " by the VM, as the hypervisor measures it, smoothed" },
        &vms,
    )?;
    let drained = s.servers.iter().map(|x| ([("server", x.name.as_str())], one(x.drained)));
    out.gauge("tandem_server_drained", "1 for a server that gets no more VMs", None, drained)
}

/// Migrations, plans and hotspots.
pub(super) fn moves(out: &mut Families<'_>, s: &Snapshot) -> fmt::Result {
    let all = [
        Phase::Reserve,
        Phase::Prepare,
        Phase::Transfer,
        Phase::SwitchOver,
        Phase::Confirm,
        Phase::Release,
        Phase::Undo,
    ];
    let names = all.map(|phase| phase.to_string().replace(' ', "-"));
    let phases = all.iter().zip(&names).map(|(phase, name)| {
        let there = s.migrations.iter().filter(|m| m.ended.is_none() && m.record.phase == *phase).count();
        ([("phase", name.as_str())], there as f64)
    });
    out.gauge("tandem_migrations_under_way", "Migrations under way, by their phase", None, phases)?;
    let (mut moved, mut silent) = (0, 0.0_f64);
    for (_, end) in s.migrations.iter().filter_map(|m| m.ended.as_ref()) {
        if let MigrationEnd::Moved { downtime } = end {
            moved += 1;
            silent = silent.max(downtime.unwrap_or_default().as_secs_f64());
        }
    }
    let help = "The longest silence of a VM among the latest migrations";
    let longest = (moved > 0).then_some((NONE, silent));
    out.gauge("tandem_migration_silence", help, Some(Unit::Seconds), longest)?;
    let plans = s.plans.iter().filter(|p| p.begun.is_some() && p.ended.is_none()).count();
    out.gauge("tandem_plans_under_way", "Plans that are being carried out", None, [(NONE, plans as f64)])?;
    let kinds = [("hot", false), ("expected", true)].map(|(state, expected)| {
        let there = s.hotspots.iter().filter(|h| h.expected == expected).count();
        ([("state", state)], there as f64)
    });
    out.gauge("tandem_hotspots", "Servers and links that are used too much", None, kinds)
}
