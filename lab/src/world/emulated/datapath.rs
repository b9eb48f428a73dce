//! What the switches of an emulated data centre are made of.

use anyhow::bail;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tandem_linux::ovs;
use tandem_linux::probe::Probe;
use tandem_model::{DatapathKind, Site, Switch};

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
    /// A NetFPGA card in memory per switch, with the agent's own switch behind it: four ports are
    /// the card's, further ones plain NICs.
    NetfpgaModel,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Datapath {
    /// Open vSwitch.
    Ovs,
    /// The agent's own switch.
    Soft,
    /// A modelled card with it.
    Netfpga,
}

impl Choice {
    /// What this machine can have of it.
    ///
    /// # Errors
    /// With all that is missing, and what to do.
    pub fn decide(self, probe: &Probe, site: &Site) -> anyhow::Result<Datapath> {
        let datapath = match self {
            Choice::Auto if probe.ovs => Datapath::Ovs,
            Choice::Auto | Choice::Soft => Datapath::Soft,
            Choice::Ovs => Datapath::Ovs,
            Choice::NetfpgaModel => Datapath::Netfpga,
        };
        let mut missing = probe.missing(datapath.needs_ovs(site));
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
    /// What a switch is made of: what the site says of it, else this.
    pub fn of(self, switch: &Switch) -> Datapath {
        match switch.datapath {
            Some(DatapathKind::Ovs) => Datapath::Ovs,
            Some(DatapathKind::Soft) => Datapath::Soft,
            Some(DatapathKind::Netfpga) => Datapath::Netfpga,
            None => self,
        }
    }

    /// Open vSwitch has to run for a site.
    pub fn needs_ovs(self, site: &Site) -> bool {
        let mut switches = site.topology.switches.iter().filter(|s| !s.legacy);
        switches.any(|s| self.of(s) == Datapath::Ovs)
    }

    /// Where the switches of a site forward, for people.
    pub fn places(self, site: &Site) -> String {
        let switches = site.topology.switches.iter().filter(|s| !s.legacy);
        let kinds: BTreeSet<&str> = switches.map(|s| self.of(s).place()).collect();
        kinds.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Its word in agent.toml.
    pub fn word(self) -> &'static str {
        match self {
            Datapath::Ovs => "ovs",
            Datapath::Soft => "soft",
            Datapath::Netfpga => "netfpga",
        }
    }

    /// Where its switches forward, for people.
    pub fn place(self) -> &'static str {
        match (self, ovs::Datapath::probe()) {
            (Datapath::Soft, _) => "the agent (soft)",
            (Datapath::Netfpga, _) => "modelled NetFPGA cards",
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
        let site = tandem_model::site::read("[topology]\nshape = \"linear\"\n", "test").expect("a site");
        let decide = |choice: Choice, probe: &Probe| choice.decide(probe, &site).map_err(|e| e.to_string());
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
