//! What the switches of an emulated data centre are made of.

use anyhow::bail;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tandem_linux::ovs;
use tandem_linux::probe::Probe;

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Open vSwitch where it is installed, else the agent's own switch.
    #[default]
    Auto,
    /// Open vSwitch.
    Ovs,
    /// The agent's own switch.
    Soft,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Datapath {
    /// Open vSwitch.
    Ovs,
    /// The agent's own switch.
    Soft,
}

impl Choice {
    /// What this machine can have of it.
    ///
    /// # Errors
    /// With all that is missing, and what to do.
    pub fn decide(self, probe: &Probe) -> anyhow::Result<Datapath> {
        let datapath = match self {
            Choice::Auto if probe.ovs => Datapath::Ovs,
            Choice::Auto | Choice::Soft => Datapath::Soft,
            Choice::Ovs => Datapath::Ovs,
        };
        let mut missing = probe.missing(datapath == Datapath::Ovs);
        if missing.is_empty() {
            return Ok(datapath);
        }
        if datapath == Datapath::Ovs && probe.missing(false).is_empty() {
            missing.push("or nothing of it with switches of Tandem's own: --datapath soft");
        }
        bail!("the emulated world is not possible here; missing:\n  {}", missing.join("\n  "))
    }
}

impl Datapath {
    /// Its word in agent.toml.
    pub fn word(self) -> &'static str {
        match self {
            Datapath::Ovs => "ovs",
            Datapath::Soft => "soft",
        }
    }

    /// Where its switches forward, for people.
    pub fn place(self) -> &'static str {
        match (self, ovs::Datapath::probe()) {
            (Datapath::Soft, _) => "the agent (soft)",
            (Datapath::Ovs, ovs::Datapath::Kernel) => "the kernel",
            (Datapath::Ovs, ovs::Datapath::Userspace) => "user space",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_not_chosen_by_itself_and_named_when_asked_for() {
        let all = Probe {
            namespaces: true,
            tun: true,
            ovs: true,
            udhcpc: true,
            datapath: ovs::Datapath::Userspace,
        };
        let without = Probe { ovs: false, tun: false, ..all };
        let decide = |choice: Choice, probe: &Probe| choice.decide(probe).map_err(|e| e.to_string());
        assert_eq!(decide(Choice::Auto, &all), Ok(Datapath::Ovs));
        assert_eq!(decide(Choice::Soft, &all), Ok(Datapath::Soft));
        assert_eq!(decide(Choice::Auto, &without), Ok(Datapath::Soft));
        let why = decide(Choice::Ovs, &without).expect_err("it is not installed");
        for word in ["openvswitch-switch", "/dev/net/tun", "--datapath soft"] {
            assert!(why.contains(word), "{word} in {why}");
        }
        let bare = Probe { udhcpc: false, ..without };
        assert!(decide(Choice::Auto, &bare).expect_err("no DHCP client").contains("udhcpc"));
    }
}
