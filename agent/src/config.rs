//! `agent.toml`: what the host has, and where its controller is.
//!
//! ```toml
//! name = "mini1"
//! controller = "tcp:10.0.0.1:6655"             # or unix:PATH on one machine
//! state = "/var/lib/tandem-agent"               # certificate, last desired state
//! control = "/run/tandem-agent/control.sock"    # for `tandem-agent status`
//! group = "tandem"                              # who may use that besides root and the agent's own user; left out: nobody
//! [ovs]
//! database = "/run/openvswitch/db.sock"
//! pid_file = "/run/openvswitch/ovs-vswitchd.pid"
//! datapath = "auto"                             # or kernel, userspace
//! adopt = false                                 # true: take over bridges of a switch's name that somebody else has made
//! adopt_with_gap = false                        # true: also those whose flows are lost by that
//! [[switch]]
//! name = "edge1"
//! datapath = "ovs"                              # or soft: a switch in the agent itself, without Open vSwitch
//! controllers = ["tcp:10.0.0.1:6653"]           # where its switch finds OpenFlow, if the controller does not say
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
//! transport = "software"                        # or card: rules on TCP and UDP ports too, though it errs on fragments
//! watchdog = true
//! cpu_ports = true                              # false: hardware only, as a card without its driver is
//! recover = true                                # false: a data path that has stopped is told, and left to the operator
//! mute = false                                  # true: after three stops in a minute, the receiver of the port that they seem to come from is off for a while
//! row_counters = "accumulate"                   # or clear-on-read, as behind a simulation; without, as the profile says
//! clock = "real"                                # or card: idle time-outs go by the card's seconds, for a simulation that is slow
//! [[switch.port]]
//! number = 1
//! interface = "nf2c0"
//! card_port = 0                                 # without: a plain NIC
//! ```

use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tandem_linux::ovsdb::Adopt;

/// See the module.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The agent's name, as its certificate has it.
    pub name: String,
    /// Where the controller is.
    pub controller: Address,
    /// Folder for what must survive a restart.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// The socket of `tandem-agent status`.
    #[serde(default = "control")]
    pub control: PathBuf,
    /// The group whose members may use the agent's sockets, too.
    #[serde(default)]
    pub group: Option<String>,
    /// A desired state to begin with, until the controller sends one.
    #[serde(default)]
    pub initial: Option<PathBuf>,
    /// Open vSwitch.
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

/// Where Open vSwitch is and how it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OvsConfig {
    /// The database's socket.
    pub database: PathBuf,
    /// vswitchd's process id.
    pub pid_file: PathBuf,
    /// Which packets' path.
    pub datapath: DatapathChoice,
    /// Take over a bridge of a switch's name that somebody else has made; it is given back by `tandem-agent release`.
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

/// Which packets' path Open vSwitch takes.
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

/// A switch of this host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchConfig {
    /// As the site file calls it.
    pub name: String,
    /// What it is made of.
    #[serde(default)]
    pub datapath: Kind,
    /// Where it finds its OpenFlow controllers, in OVS's words.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// OpenFlow versions, in OVS's words, if the controller does not say.
    #[serde(default = "crate::desired::protocols")]
    pub protocols: Vec<String>,
    /// The card under it, for `netfpga`.
    #[serde(default)]
    pub card: Option<CardConfig>,
    /// Its ports.
    #[serde(default, rename = "port")]
    pub ports: Vec<PortConfig>,
}

/// What a switch is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Open vSwitch.
    #[default]
    Ovs,
    /// A switch in the agent itself.
    Soft,
    /// A NetFPGA card, with a switch in the agent behind it.
    Netfpga,
}

/// A NetFPGA card.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardConfig {
    /// How it is reached: `ioctl:nf2c0`, `mmap:0000:03:00.0`, `cosim:SOCKET`, `model`.
    pub device: String,
    /// Its register map by name, or a file of one (`*.toml`); if it is not said, the card is probed.
    #[serde(default)]
    pub profile: Option<String>,
    /// Where rules on transport ports may be.
    #[serde(default)]
    pub transport: TransportChoice,
    /// The card's own watchdog clears its flows when this agent is stuck or killed for 8.6 s.
    #[serde(default = "yes")]
    pub watchdog: bool,
    /// False: packets are neither taken from the card nor given to it, whether its way could or not; what the card cannot do is refused.
    #[serde(default = "yes")]
    pub cpu_ports: bool,
    /// A data path that lags or has stopped is reset, and everything is written anew. False: it is told only.
    #[serde(default = "yes")]
    pub recover: bool,
    /// After three stops in a minute, the receiver of the port that they seem to come from is switched off for the pause, instead of leaving
    /// the whole card as it is. Which port that is, is a guess.
    #[serde(default)]
    pub mute: bool,
    /// What reading a row's counters does, where that is not what the profile says.
    #[serde(default)]
    pub row_counters: Option<RowCounters>,
    /// By which clock flows are idle.
    #[serde(default)]
    pub clock: ClockChoice,
}

/// By which clock flows are idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockChoice {
    /// This machine's.
    #[default]
    Real,
    /// The card's: behind a simulation its second can take minutes.
    Card,
}

/// What reading a row's counters does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowCounters {
    /// Nothing: they go on.
    Accumulate,
    /// They are 0 after it, as in a simulation of the public sources.
    ClearOnRead,
}

/// Where rules on transport ports may be: a card takes the first bytes of later IP fragments for ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportChoice {
    /// In software, which is right for fragments.
    #[default]
    Software,
    /// In the card.
    Card,
}

/// A port of a switch.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortConfig {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// False leaves its queueing to somebody else: no rate, no classes.
    #[serde(default = "yes")]
    pub queueing: bool,
    /// Of a `netfpga` switch: which port of the card it is, 0 to 3; without, a plain NIC.
    #[serde(default)]
    pub card_port: Option<u8>,
}

fn yes() -> bool {
    true
}

/// Where the controller is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// `tcp:HOST:PORT`, by mutual TLS.
    Tcp(String),
    /// `unix:PATH`: whoever may open the socket is trusted.
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

impl SwitchConfig {
    fn check_card(&self) -> Result<(), String> {
        let name = &self.name;
        let of_card = self.ports.iter().filter_map(|p| Some((p, p.card_port?)));
        match (self.datapath, &self.card) {
            (Kind::Netfpga, None) => {
                return Err(format!(
                    "switch {name:?} is a netfpga one without a card; write [switch.card] with device = \"ioctl:nf2c0\", \"mmap:0000:03:00.0\", \"cosim:SOCKET\" or \"model\""
                ));
            }
            (Kind::Netfpga, Some(card)) => {
                crate::datapath::netfpga::target(card)?;
                if card.mute && !card.recover {
                    return Err(format!(
                        "switch {name:?}: mute = true needs recover = true: a receiver is switched off while a card is reset again and again"
                    ));
                }
            }
            (_, Some(_)) => {
                return Err(format!("switch {name:?} has a card; write datapath = \"netfpga\" for it"));
            }
            (_, None) if of_card.clone().next().is_some() => {
                return Err(format!("switch {name:?} has a port with card_port, but no card"));
            }
            (_, None) => return Ok(()),
        }
        let mut seen = std::collections::BTreeSet::new();
        for (port, at) in of_card {
            if at > 3 {
                return Err(format!(
                    "port {} of {name:?}: card_port = {at}; a card has ports 0 to 3",
                    port.number
                ));
            }
            if !seen.insert(at) {
                return Err(format!("switch {name:?} has two ports that are port {at} of the card"));
            }
        }
        if seen.is_empty() {
            return Err(format!(
                "switch {name:?} uses no port of its card; write card_port = 0 to 3 in its ports"
            ));
        }
        Ok(())
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// With the line and what to write instead.
    pub fn read(path: &Path) -> anyhow::Result<Config> {
        use anyhow::Context;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Config::parse(&text).with_context(|| format!("{} is no agent.toml", path.display()))
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// With the line, or what contradicts what.
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
            switch.check_card()?;
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
    }

    #[test]
    fn a_card_has_its_defaults_and_a_wrong_one_is_named() {
        let file = |card: &str, ports: &str| {
            let head = "name = \"a\"\ncontroller = \"tcp:a:1\"\n[[switch]]\nname = \"core1\"\n";
            Config::parse(&format!("{head}{card}\n{ports}"))
        };
        let port = |n: u32, at: &str| format!("[[switch.port]]\nnumber = {n}\ninterface = \"p{n}\"\n{at}\n");
        let model = "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"";
        let (first, plain) = (port(1, "card_port = 0"), port(2, ""));
        let config = file(model, &format!("{first}{plain}")).expect("a configuration");
        let card = config.switches[0].card.as_ref().expect("a card");
        assert!(card.recover && !card.mute && card.row_counters.is_none() && card.clock == ClockChoice::Real);
        assert!(card.watchdog && card.cpu_ports && card.transport == TransportChoice::Software);
        assert!(crate::datapath::netfpga::cpu_ports(card) && crate::datapath::netfpga::injects(card));
        let bare = CardConfig { cpu_ports: false, ..card.clone() };
        assert!(!crate::datapath::netfpga::cpu_ports(&bare) && crate::datapath::netfpga::injects(&bare));
        let mmap = CardConfig { device: "mmap:0000:03:00.0".into(), ..card.clone() };
        assert!(!crate::datapath::netfpga::cpu_ports(&mmap) && !crate::datapath::netfpga::injects(&mmap));
        let twice = format!("{first}{}", port(2, "card_port = 0"));
        for (card, ports, word) in [
            ("datapath = \"netfpga\"", &first, "without a card; write [switch.card]"),
            (
                "datapath = \"soft\"\n[switch.card]\ndevice = \"model\"",
                &first,
                "write datapath = \"netfpga\"",
            ),
            ("datapath = \"soft\"", &first, "a port with card_port, but no card"),
            (model, &plain, "uses no port of its card"),
            (model, &twice, "two ports that are port 0 of the card"),
            (model, &port(1, "card_port = 4"), "a card has ports 0 to 3"),
            (model, &port(1, "card_port = -1"), "card_port"),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"pci:1\"",
                &first,
                "names no card: ioctl:nf2c0",
            ),
            ("datapath = \"netfpga\"\n[switch.card]\nprofile = \"x\"", &first, "device"),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\ntransport = \"both\"",
                &first,
                "both",
            ),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\ncpu_port = true",
                &first,
                "cpu_port",
            ),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\nrecover = false\nmute = true",
                &first,
                "mute = true needs recover = true",
            ),
            (
                "datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\nrow_counters = \"clears\"",
                &first,
                "clear-on-read",
            ),
            ("datapath = \"netfpga\"\n[switch.card]\ndevice = \"model\"\nclock = \"slow\"", &first, "real"),
        ] {
            let error = file(card, ports).expect_err(word).to_string();
            assert!(error.contains(word), "{word} in {error}");
        }
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
