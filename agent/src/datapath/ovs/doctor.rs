//! The checks of `tandem-agent doctor` for Open vSwitch.

use crate::config::Config;
use crate::doctor::Findings;
use std::path::Path;
use tandem_linux::ovs::Datapath as ForwardingPath;
use tandem_linux::ovsdb::{ActualBridge, Ovsdb};
use tandem_model::DatapathKind;

/// All bridges in the database, of any owner; empty if it does not answer.
pub(crate) fn bridges(config: &Config) -> Vec<ActualBridge> {
    Ovsdb::connect(&config.ovs.database).and_then(|mut d| d.read_bridges()).unwrap_or_default()
}

/// Whether the host may need Open vSwitch: without a configuration or without switches in it, it
/// may; if all switches are of other kinds, it does not.
fn is_wanted(config: Option<&Config>) -> bool {
    let has = |kind| config.is_some_and(|c| c.switches.iter().any(|s| s.datapath == kind));
    !has(DatapathKind::SOFT) || has(DatapathKind::OVS)
}

pub(super) fn inspect(config: Option<&Config>, findings: &mut Findings) {
    if !is_wanted(config) {
        return;
    }
    match ForwardingPath::probe() {
        ForwardingPath::Kernel => findings.add(
            Some(true),
            "datapath",
            "the kernel's (openvswitch.ko is loaded); rules choose queues".into(),
        ),
        ForwardingPath::Userspace => findings.add(
            None,
            "datapath",
            "vswitchd's own: openvswitch.ko is not loaded (`modprobe openvswitch`; package linux-image). \
             Classes are chosen by DSCP filters"
                .into(),
        ),
    }
    if let Some(config) = config {
        database(config, findings);
    }
}

/// Checks the database's version, and whether vswitchd runs.
fn database(config: &Config, findings: &mut Findings) {
    let what = format!("OVS database ({})", config.ovs.database.display());
    match Ovsdb::connect(&config.ovs.database).map_err(|e| e.to_string()).and_then(|mut d| {
        Ok((d.about().map_err(|e| e.to_string())?, d.read_bridges().map_err(|e| e.to_string())?))
    }) {
        Ok((about, bridges)) => {
            let version = about.version.unwrap_or_else(|| "of unknown version".into());
            findings.add(
                None,
                "Open vSwitch",
                format!("{version}; datapaths: {}", about.datapath_types.join(", ")),
            );
            let names: Vec<String> = bridges
                .iter()
                .map(|b| match b.owner.as_deref() {
                    Some(owner) if owner == config.name => b.name.clone(),
                    Some(owner) => format!("{} (agent {owner}'s)", b.name),
                    None => format!("{} (somebody else's)", b.name),
                })
                .collect();
            let found = if names.is_empty() {
                "answers; no bridges yet".to_owned()
            } else {
                format!("answers; bridges: {}", names.join(", "))
            };
            findings.add(Some(true), &what, found);
        }
        Err(why) => findings.add(
            Some(false),
            &what,
            format!("{why}. `apt-get install openvswitch-switch`, `systemctl start openvswitch-switch`"),
        ),
    }
    let pid = std::fs::read_to_string(&config.ovs.pid_file).ok().and_then(|t| t.trim().parse::<u32>().ok());
    let runs = pid.is_some_and(|p| Path::new(&format!("/proc/{p}")).exists());
    let found = match pid {
        Some(pid) if runs => format!("runs as process {pid}"),
        _ => format!(
            "does not run ({} names no process): `systemctl start openvswitch-switch`",
            config.ovs.pid_file.display()
        ),
    };
    findings.add(Some(runs), "ovs-vswitchd", found);
}
