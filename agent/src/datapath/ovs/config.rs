//! `[ovs]` in agent.toml: where Open vSwitch is and how it is used.

use serde::Deserialize;
use std::path::PathBuf;
use tandem_linux::ovs::Datapath as ForwardingPath;
use tandem_linux::ovsdb::Adopt;

/// Where Open vSwitch is and how it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OvsConfig {
    /// The database's socket.
    pub database: PathBuf,
    /// vswitchd's process id.
    pub pid_file: PathBuf,
    /// Where packets are forwarded.
    pub datapath: DatapathChoice,
    /// Take over a bridge of a switch's name that somebody else has made; it is given back by
    /// `tandem-agent release`.
    pub adopt: bool,
    /// The same for one that has no controller, though its flows are lost by that for a moment.
    pub adopt_with_gap: bool,
}

impl OvsConfig {
    /// Which bridges may be taken over.
    pub fn may_adopt(&self) -> Adopt {
        match (self.adopt, self.adopt_with_gap) {
            (_, true) => Adopt::EvenWithGap,
            (true, false) => Adopt::WithoutGap,
            (false, false) => Adopt::No,
        }
    }

    /// Where its packets are forwarded on this machine.
    pub(super) fn forwarding(&self) -> ForwardingPath {
        match self.datapath {
            DatapathChoice::Auto => ForwardingPath::probe(),
            DatapathChoice::Kernel => ForwardingPath::Kernel,
            DatapathChoice::Userspace => ForwardingPath::Userspace,
        }
    }
}

impl Default for OvsConfig {
    fn default() -> OvsConfig {
        OvsConfig {
            database: "/run/openvswitch/db.sock".into(),
            pid_file: "/run/openvswitch/ovs-vswitchd.pid".into(),
            datapath: DatapathChoice::Auto,
            adopt: false,
            adopt_with_gap: false,
        }
    }
}

/// Where Open vSwitch forwards packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatapathChoice {
    /// The kernel's if it has one.
    Auto,
    /// The kernel's.
    Kernel,
    /// vswitchd's own.
    Userspace,
}
