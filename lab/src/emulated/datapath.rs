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
