//! The checks of `tandem-agent doctor` for the soft switch.

use crate::config::Config;
use crate::doctor::Findings;
use tandem_model::DatapathKind;

/// CAP_NET_RAW (linux/capability.h): packet sockets need it.
const CAP_NET_RAW: u32 = 13;

pub(super) fn inspect(config: Option<&Config>, findings: &mut Findings) {
    let has = |kind| config.is_some_and(|c| c.switches.iter().any(|s| s.datapath == kind));
    if !has(DatapathKind::SOFT) {
        return;
    }
    if !has(DatapathKind::OVS) {
        findings.add(None, "datapath", "the agent's own (soft); rules choose queues".into());
    }
    findings.add_capability("CAP_NET_RAW", CAP_NET_RAW);
}
