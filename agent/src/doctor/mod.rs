//! `tandem-agent doctor`: checks the host without changing it, and names for each fault the cable
//! or command that repairs it. The checks of a kind of datapath are in that datapath's folder.

mod control_connection;
mod ports;

use crate::config::Config;
use crate::datapath::registry::REGISTRY;
use serde::Serialize;
use tandem_linux::probe;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it is in order; `None` for a mere report.
    pub good: Option<bool>,
    /// The subject.
    pub what: String,
    /// The result, and how to repair a fault.
    pub found: String,
}

/// The results so far, in the order of output.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one; `good` as in [`Finding`].
    pub fn add(&mut self, good: Option<bool>, what: &str, found: String) {
        self.0.push(Finding { good, what: what.to_owned(), found });
    }

    /// Checks whether this process has a capability, given by its number in linux/capability.h.
    pub fn add_capability(&mut self, what: &str, number: u32) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim);
        let effective = effective.and_then(|e| u64::from_str_radix(e, 16).ok());
        let has = effective.is_some_and(|e| e & (1 << number) != 0);
        let found = if has { "there" } else { "missing: run it as root, or by the systemd unit" };
        self.add(Some(has), what, found.to_owned());
    }
}

/// CAP_NET_ADMIN (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;

/// Runs all checks; without a configuration, those that apply to any host.
pub fn inspect(config: Option<&Config>) -> Vec<Finding> {
    let mut findings = Findings::default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    findings.add(None, "kernel", kernel.trim().to_owned());
    findings.add_capability("CAP_NET_ADMIN", CAP_NET_ADMIN);
    queueing(&mut findings);
    for (_, entry) in REGISTRY {
        (entry.doctor)(config, &mut findings);
    }
    if let Some(config) = config {
        ports::inspect(config, &mut findings);
        control_connection::inspect(config, &mut findings);
    }
    findings.0
}

fn queueing(findings: &mut Findings) {
    let found = match probe::queueing() {
        Ok(found) => found,
        Err(error) => return findings.add(None, "traffic control", format!("not looked at: {error}")),
    };
    let parts = [
        (found.htb, "HTB", "sch_htb", "without it no rate and no class can be kept", true),
        (found.u32, "u32 filters", "cls_u32", "cls_bpf does it, too", !found.bpf),
        (found.bpf, "cls_bpf filters", "cls_bpf", "u32 does it, too", false),
        (found.netem, "netem", "sch_netem", "only for imitated delay and loss", false),
    ];
    for (there, what, module, without, needed) in parts {
        let text = if there {
            "there".to_owned()
        } else {
            format!("missing (`modprobe {module}`, or a kernel that has it); {without}")
        };
        findings.add(if there { Some(true) } else { needed.then_some(false) }, what, text);
    }
}
