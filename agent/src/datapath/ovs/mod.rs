//! Open vSwitch: bridges and ports by OVSDB, queues and classes by the kernel's HTB.

mod bridges;
mod config;
mod datapath;
mod doctor;
mod takeover_outage;

pub(super) use bridges::ports_there;
pub use config::{DatapathChoice, OvsConfig};
pub use datapath::Ovs;
pub(crate) use doctor::bridges;

use super::registry::DatapathEntry;
use crate::config::Config;
use tandem_agent_protocol::datapaths::{LabSetup, Management};
use tandem_linux::ovs::Datapath as ForwardingPath;

/// See [`crate::datapath::registry`].
pub(super) static ENTRY: DatapathEntry = DatapathEntry {
    about: "Open vSwitch: bridges and ports by OVSDB, classes by the kernel's HTB",
    has_settings: false,
    check: |_| Ok(()),
    // Without switches it is opened too, to restore what it adopted for an earlier configuration,
    // if Open vSwitch is installed.
    open: |config, switches, _| {
        if switches.is_empty() && !config.ovs.database.exists() {
            return None;
        }
        Some(Box::new(Ovs::new(config, switches)))
    },
    doctor: doctor::inspect,
    reads_in_user_space,
    // The folder of the agent itself, for compatibility: this kind is older than the others.
    records: |state| state.to_owned(),
    makes_bridges: true,
    lab,
};

fn lab() -> LabSetup {
    LabSetup {
        title: "Open vSwitch".into(),
        place: match ForwardingPath::probe() {
            ForwardingPath::Kernel => "the kernel".into(),
            ForwardingPath::Userspace => "user space".into(),
        },
        needs_open_vswitch: true,
        management: Management::OpenVswitch,
        switch: String::new(),
        ports: Vec::new(),
    }
}

/// True if vswitchd itself forwards on this machine.
pub(super) fn reads_in_user_space(config: &Config) -> bool {
    config.ovs.forwarding() == ForwardingPath::Userspace
}
