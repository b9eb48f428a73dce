//! `[ovs]` in agent.toml: where Open vSwitch is and how it is used.

use serde::Deserialize;
use std::path::PathBuf;
use tandem_linux::ovs::Datapath as ForwardingPath;
use tandem_linux::ovsdb::Adopt;

/// Where Open vSwitch is and how it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OvsConfig {
    /// Path of the database's socket.
    pub database: PathBuf,
    /// Path of vswitchd's pid file.
    pub pid_file: PathBuf,
    /// Where packets are forwarded.
    pub datapath: DatapathChoice,
    /// Adopt a foreign bridge with a switch's name; `tandem-agent release` restores it.
    pub adopt: bool,
    /// Also adopt one without a controller, although that deletes its flows for a moment.
    pub adopt_with_gap: bool,
}

impl OvsConfig {
    /// The bridges that may be adopted.
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
    /// In the kernel, if it supports that.
    Auto,
    /// In the kernel.
    Kernel,
    /// In vswitchd.
    Userspace,
}
