//! `agent.toml`: the host's switches and interfaces, and the address of its controller.
//!
//! ```toml
//! name = "mini1"
//! controller = "tcp:10.0.0.1:6655"             # or unix:PATH on one machine
//! state = "/var/lib/tandem-agent"               # certificate, last desired state
//! control = "/run/tandem-agent/control.sock"    # for `tandem-agent status`
//! group = "tandem"  # who may use that besides root and the agent's own user; left out: nobody
//! [ovs]
//! database = "/run/openvswitch/db.sock"
//! pid_file = "/run/openvswitch/ovs-vswitchd.pid"
//! datapath = "auto"                             # or kernel, userspace
//! adopt = false  # true: take over bridges of a switch's name that somebody else has made
//! adopt_with_gap = false                        # true: also those whose flows are lost by that
//! [[switch]]
//! name = "edge1"
//! datapath = "ovs"  # or soft: a switch in the agent itself, without Open vSwitch
//! # where its switch finds OpenFlow, if the controller does not say
//! controllers = ["tcp:10.0.0.1:6653"]
//! [[switch.port]]
//! number = 1
//! interface = "eth1"
//! queueing = true                               # false: somebody else shapes it
//! [[switch]]
//! name = "core1"
//! datapath = "netfpga"                          # or soft
//! [switch.card]
//! device = "ioctl:nf2c0"                        # or mmap:0000:03:00.0, cosim:SOCKET, model
//! profile = "openflow-switch"                   # the register map; without, the card is probed
//! transport = "software"  # or card: rules on TCP and UDP ports too, though it errs on fragments
//! watchdog = true
//! cpu_ports = true  # false: hardware only, as a card without its driver is
//! recover = true  # false: a data path that has stopped is reported, and left to the operator
//! # true: after three stops in a minute, the receiver of the port that they seem to come from is
//! # off for a while
//! mute = false
//! # or clear-on-read, as behind a simulation; without, as the profile says
//! row_counters = "accumulate"
//! # or card: idle time-outs go by the card's seconds, for a simulation that is slow
//! clock = "real"
//! [[switch.port]]
//! number = 1
//! interface = "nf2c0"
//! card_port = 0                                 # without: a plain NIC
//! ```
//!
//! A kind of datapath may have settings of its own for a switch, as a table `[switch.settings]`
//! that its folder documents; none of the kinds above has any.

use crate::datapath::netfpga::CardConfig;
use crate::datapath::ovs::OvsConfig;
use crate::datapath::registry::REGISTRY;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tandem_model::DatapathKind;

/// The configuration of an agent, as agent.toml has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The agent's name, as its certificate has it.
    pub name: String,
    /// The controller's address.
    pub controller: Address,
    /// Folder for the files that must survive a restart.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// The socket for `tandem-agent status`.
    #[serde(default = "control")]
    pub control: PathBuf,
    /// The group whose members may use the agent's sockets too.
    #[serde(default)]
    pub group: Option<String>,
    /// A desired state for the first start, until the controller sends one.
    #[serde(default)]
    pub initial: Option<PathBuf>,
    /// The section about Open vSwitch.
    #[serde(default)]
    pub ovs: OvsConfig,
    /// The host's switches.
    #[serde(default, rename = "switch")]
    pub switches: Vec<SwitchConfig>,
}

fn state() -> PathBuf {
    "/var/lib/tandem-agent".into()
}

fn control() -> PathBuf {
    "/run/tandem-agent/control.sock".into()
}

/// A switch of this host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchConfig {
    /// Its name in the site file.
    pub name: String,
    /// Its kind of datapath.
    #[serde(default = "ovs")]
    pub datapath: DatapathKind,
    /// Addresses of its OpenFlow controllers, in the syntax of Open vSwitch.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// OpenFlow versions, as Open vSwitch names them, if the controller does not set them.
    #[serde(default = "crate::desired::protocols")]
    pub protocols: Vec<String>,
    /// The section about the card of a `netfpga` switch.
    #[serde(default)]
    pub card: Option<CardConfig>,
    /// Settings of its kind of datapath, which the kind's `check` reads; only for a kind with
    /// settings.
    #[serde(default)]
    pub settings: toml::Table,
    /// Its ports.
    #[serde(default, rename = "port")]
    pub ports: Vec<PortConfig>,
}

/// A port of a switch.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortConfig {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// False: others configure its queueing, and the agent sets neither rate nor classes.
    #[serde(default = "yes")]
    pub queueing: bool,
    /// In a `netfpga` switch, the port of the card, 0 to 3; absent for a plain NIC.
    #[serde(default)]
    pub card_port: Option<u8>,
}

fn ovs() -> DatapathKind {
    DatapathKind::OVS
}

fn yes() -> bool {
    true
}

/// The controller's address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// `tcp:HOST:PORT`, with mutual TLS.
    Tcp(String),
    /// `unix:PATH`: any process that may open the socket is trusted.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;
    fn from_str(s: &str) -> Result<Address, String> {
        match s.split_once(':') {
            Some(("tcp", rest)) if rest.contains(':') => Ok(Address::Tcp(rest.to_owned())),
            Some(("unix", path)) if !path.is_empty() => Ok(Address::Unix(path.into())),
            _ => Err(format!("{s:?} is no address; write tcp:10.0.0.1:6655 or unix:/path/to/socket")),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;
    fn try_from(s: String) -> Result<Address, String> {
        s.parse()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(a) => write!(f, "tcp:{a}"),
            Address::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// With the line, and what to write instead.
    pub fn read(path: &Path) -> anyhow::Result<Config> {
        use anyhow::Context;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Config::parse(&text).with_context(|| format!("{} is no agent.toml", path.display()))
    }

    /// Reads and checks a text.
    ///
    /// With the line, or the settings that contradict each other.
    pub fn parse(text: &str) -> anyhow::Result<Config> {
        let config: Config = toml::from_str(text)?;
        config.check().map_err(|why| anyhow::anyhow!("{why}"))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let usable = |s: &str| {
            (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !usable(&self.name) {
            return Err(format!("name = {:?}: write up to 64 letters, digits, '-', '_' or '.'", self.name));
        }
        let mut switches = std::collections::BTreeSet::new();
        let mut interfaces = std::collections::BTreeSet::new();
        for switch in &self.switches {
            if !switches.insert(&switch.name) {
                return Err(format!("switch {:?} is described twice", switch.name));
            }
            for (kind, entry) in REGISTRY {
                if kind == switch.datapath && !entry.has_settings && !switch.settings.is_empty() {
                    return Err(format!(
                        "switch {:?} has [switch.settings], and datapath {kind} takes none; remove that section",
                        switch.name
                    ));
                }
                (entry.check)(switch)?;
            }
            let mut numbers = std::collections::BTreeSet::new();
            for port in &switch.ports {
                if !numbers.insert(port.number) {
                    return Err(format!("switch {:?} has two ports {}", switch.name, port.number));
                }
                if !interfaces.insert(&port.interface) {
                    return Err(format!("interface {:?} is in two ports", port.interface));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::ovs::DatapathChoice;

    #[test]
    fn a_small_file_has_its_defaults_and_a_wrong_one_is_named() {
        let config: Config = toml::from_str(
            "name = \"mini1\"\ncontroller = \"tcp:10.0.0.1:6655\"\n[[switch]]\nname = \"edge1\"\n[[switch.port]]\n\
             number = 1\ninterface = \"eth1\"\n",
        )
        .expect("a configuration");
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.ovs.datapath, DatapathChoice::Auto);
        for (wrong, word) in [
            ("name = \"a\"\ncontroller = \"10.0.0.1\"\n", "tcp:10.0.0.1:6655"),
            ("name = \"a\"\ncontroller = \"tcp:a:1\"\ncolour = 1\n", "colour"),
            ("controller = \"tcp:a:1\"\n", "name"),
        ] {
            let error = toml::from_str::<Config>(wrong).expect_err("wrong").to_string();
            assert!(error.contains(word), "{error}");
        }
        let twice =
            "name = \"a\"\ncontroller = \"tcp:a:1\"\n[[switch]]\nname = \"e\"\n[[switch]]\nname = \"e\"\n";
        let config: Config = toml::from_str(twice).expect("well-formed");
        assert!(config.check().expect_err("twice").contains("twice"));
        let settings = "name = \"a\"\ncontroller = \"tcp:a:1\"\n[[switch]]\nname = \"e\"\n[switch.settings]\nspeed = 1\n";
        let error = Config::parse(settings).expect_err("Open vSwitch has none").to_string();
        assert!(error.contains("datapath ovs takes none; remove that section"), "{error}");
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_a_configuration_or_an_error_in_words(
            lines in prop::collection::vec(prop_oneof![
                Just("name = \"mini1\"".to_owned()),
                Just("controller = \"unix:/x\"".to_owned()),
                Just("[[switch]]".to_owned()),
                Just("[[switch.port]]".to_owned()),
                Just("[ovs]".to_owned()),
                "(name|number|interface|datapath|controllers|queueing|group|adopt|adopt_with_gap) = (\"[a-z0-9:/]{0,20}\"|-?[0-9]{1,20}|true|\\[\\])",
                ".{0,40}",
            ], 0..12),
        ) {
            if let Err(error) = Config::parse(&lines.join("\n")) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
