//! A desired state: the wanted switches and ports of a host, from the controller or from a file
//! (`desired.toml`).
//!
//! ```toml
//! [[switch]]
//! name = "edge1"
//! datapath_id = "0000000003000001"
//! controllers = ["tcp:10.0.0.1:6653"]
//! [[switch.port]]
//! number = 1                  # OpenFlow number
//! interface = "eth1"
//! rate = "10 Mbit/s"          # left out: its queueing is left alone
//! queue = 50                  # packets that wait, without classes
//! default_class = 1           # for packets of no class
//! [[switch.port.class]]       # in the order of their queue numbers, from 0
//! rate = "7 Mbit/s"           # guaranteed
//! ceiling = "10 Mbit/s"       # at most; the port's rate if left out
//! dscp = 46
//! queue = 30
//! ```

use crate::config::{Config, PortConfig};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::collections::BTreeSet;
use tandem_agent_protocol::agent as wire;
use tandem_model::{BitRate, Dpid};

/// The most classes of a port: DSCP has as many values.
pub const CLASSES: usize = 64;

/// The wanted switches of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Switches.
    #[serde(default, rename = "switch")]
    pub switches: Vec<Switch>,
}

/// A switch of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Its name in the site file.
    pub name: String,
    /// OpenFlow datapath id, 16 hexadecimal digits.
    pub datapath_id: Dpid,
    /// Addresses of its OpenFlow controllers, in the syntax of Open vSwitch.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// OpenFlow versions, as Open vSwitch names them.
    #[serde(default = "protocols")]
    pub protocols: Vec<String>,
    /// Ports.
    #[serde(default, rename = "port")]
    pub ports: Vec<Port>,
}

/// OpenFlow 1.0 and 1.3, as Open vSwitch names them.
pub fn protocols() -> Vec<String> {
    vec!["OpenFlow10".into(), "OpenFlow13".into()]
}

/// A port of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// OpenFlow number.
    pub number: u32,
    /// The interface's name.
    pub interface: String,
    /// Its rate; `None` leaves its queueing alone.
    #[serde(default, deserialize_with = "rate", serialize_with = "write_rate")]
    pub rate: Option<BitRate>,
    /// Longest queue in packets, without classes.
    #[serde(default = "queue")]
    pub queue: u32,
    /// The class of packets that no rule assigns to one: an index into `classes`.
    #[serde(default)]
    pub default_class: usize,
    /// Classes, in the order of their queue numbers, from 0.
    #[serde(default, rename = "class")]
    pub classes: Vec<Class>,
}

fn queue() -> u32 {
    50
}

/// A class at a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Guaranteed rate.
    #[serde(deserialize_with = "some_rate", serialize_with = "write_some_rate")]
    pub rate: BitRate,
    /// Highest rate; the port's rate if absent.
    #[serde(default, deserialize_with = "rate", serialize_with = "write_rate")]
    pub ceiling: Option<BitRate>,
    /// The DSCP of its packets, 0 to 63.
    pub dscp: u8,
    /// Longest queue in packets.
    #[serde(default = "class_queue")]
    pub queue: u32,
}

fn class_queue() -> u32 {
    30
}

fn rate<'de, D: Deserializer<'de>>(d: D) -> Result<Option<BitRate>, D::Error> {
    some_rate(d).map(Some)
}

fn some_rate<'de, D: Deserializer<'de>>(d: D) -> Result<BitRate, D::Error> {
    let text = String::deserialize(d)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("{text:?} is no rate; write one such as \"10 Mbit/s\"")))
}

fn write_rate<S: serde::Serializer>(rate: &Option<BitRate>, s: S) -> Result<S::Ok, S::Error> {
    match rate {
        Some(rate) => write_some_rate(rate, s),
        None => s.serialize_none(),
    }
}

fn write_some_rate<S: serde::Serializer>(rate: &BitRate, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&format!("{} bit/s", rate.0))
}

/// A part of a state that cannot be applied, or an event for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The switch.
    pub switch: String,
    /// The port; `None` for the switch itself.
    pub port: Option<u32>,
    /// The reason, and what to do about it.
    pub why: String,
}

impl Fault {
    /// A fault of a switch, or of one of its ports.
    pub fn new(switch: &str, port: Option<u32>, why: impl Into<String>) -> Fault {
        Fault { switch: switch.to_owned(), port, why: why.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{} port {port}: {}", self.switch, self.why),
            None if self.switch.is_empty() => f.write_str(&self.why),
            None => write!(f, "{}: {}", self.switch, self.why),
        }
    }
}

impl From<Fault> for wire::Fault {
    fn from(f: Fault) -> wire::Fault {
        wire::Fault { switch_name: f.switch, port: f.port.unwrap_or(0), why: f.why }
    }
}

impl Desired {
    /// The controller's desired state, with the interfaces of this host's configuration. Parts that
    /// the host does not have are left out and reported.
    pub fn from_wire(desired: &wire::Desired, config: &Config) -> (Desired, Vec<Fault>) {
        let mut faults = Vec::new();
        let mut switches = Vec::new();
        for wanted in &desired.switches {
            let Some(own) = config.switches.iter().find(|s| s.name == wanted.name) else {
                faults.push(Fault::new(
                    &wanted.name,
                    None,
                    "this host has no such switch (agent.toml, [[switch]])",
                ));
                continue;
            };
            let mut ports = Vec::new();
            for port in &wanted.ports {
                match own.ports.iter().find(|p| p.number == port.number) {
                    Some(at) => ports.push(from_wire_port(port, at)),
                    None => faults.push(Fault::new(
                        &wanted.name,
                        Some(port.number),
                        "this host has no such port (agent.toml, [[switch.port]])",
                    )),
                }
            }
            let given =
                |list: &[String], own: &[String]| if list.is_empty() { own.to_vec() } else { list.to_vec() };
            switches.push(Switch {
                name: wanted.name.clone(),
                datapath_id: Dpid(wanted.datapath_id),
                controllers: given(&wanted.controllers, &own.controllers),
                protocols: given(&wanted.protocols, &own.protocols),
                ports,
            });
        }
        let desired = Desired { switches };
        faults.extend(desired.check());
        (desired, faults)
    }

    /// Reads and checks a text.
    ///
    /// With the line, or with all contradictions.
    pub fn parse(text: &str) -> anyhow::Result<Desired> {
        let desired: Desired = toml::from_str(text)?;
        let faults: Vec<String> = desired.check().iter().map(ToString::to_string).collect();
        if faults.is_empty() { Ok(desired) } else { anyhow::bail!("{}", faults.join("\n  ")) }
    }

    /// All contradictions in it.
    pub fn check(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let (mut names, mut interfaces, mut ids) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for switch in &self.switches {
            let mut say = |port, why: String| faults.push(Fault::new(&switch.name, port, why));
            if switch.name.is_empty() || switch.name.len() > 15 || switch.name.contains(['/', ' ', '\0']) {
                say(None, "a bridge's name has 1 to 15 characters, without spaces or slashes".into());
            }
            if !names.insert(&switch.name) {
                say(None, "described twice; write all of it under one [[switch]]".into());
            }
            if !ids.insert(switch.datapath_id) {
                say(None, format!("datapath id {} is another switch's", switch.datapath_id));
            }
            let mut numbers = BTreeSet::new();
            for port in &switch.ports {
                let number = Some(port.number);
                if !(1..0xff00).contains(&port.number) {
                    say(number, "an OpenFlow port number is 1 to 65279".into());
                }
                if !numbers.insert(port.number) {
                    say(number, "described twice".into());
                }
                if !interfaces.insert(&port.interface) {
                    say(number, format!("interface {} is another port's already", port.interface));
                }
                port.check(&mut |why| say(number, why));
            }
        }
        faults
    }
}

impl Port {
    fn check(&self, say: &mut dyn FnMut(String)) {
        let Some(rate) = self.rate else {
            if !self.classes.is_empty() {
                say("classes need the port's rate".into());
            }
            return;
        };
        if rate.0 < 8_000 {
            say(format!("a rate of {rate} is too low; 8 kbit/s at least"));
        }
        if self.classes.len() > CLASSES {
            say(format!("{} classes; {CLASSES} at most", self.classes.len()));
        }
        if !self.classes.is_empty() && self.default_class >= self.classes.len() {
            say(format!("its default class {} is none of its {}", self.default_class, self.classes.len()));
        }
        let mut marks = BTreeSet::new();
        for (n, class) in self.classes.iter().enumerate() {
            if class.rate.0 < 8_000 || class.rate > rate {
                say(format!("class {n} is guaranteed {}; from 8 kbit/s to the port's {rate}", class.rate));
            }
            if class.ceiling.is_some_and(|c| c < class.rate || c > rate) {
                say(format!("class {n}: its ceiling is from its guaranteed rate to the port's"));
            }
            if class.dscp > 63 || !marks.insert(class.dscp) {
                say(format!("class {n}: DSCP {} is another class's, or above 63", class.dscp));
            }
        }
        let sum: u64 = self.classes.iter().fold(0, |sum, c| sum.saturating_add(c.rate.0));
        if sum > rate.0.saturating_add(self.classes.len() as u64) {
            say(format!("its classes are guaranteed {} in all, more than its {rate}", BitRate(sum)));
        }
    }
}

fn from_wire_port(port: &wire::Port, at: &PortConfig) -> Port {
    let rate = |r: u64| (r > 0 && at.queueing).then_some(BitRate(r));
    let classes = if at.queueing { &port.classes[..] } else { &[] };
    Port {
        number: port.number,
        interface: at.interface.clone(),
        rate: rate(port.rate_bit_per_s),
        queue: port.queue_packets.max(1),
        default_class: port.default_class as usize,
        classes: classes
            .iter()
            .map(|c| Class {
                rate: BitRate(c.rate_bit_per_s),
                ceiling: rate(c.ceiling_bit_per_s),
                dscp: u8::try_from(c.dscp).unwrap_or(u8::MAX),
                queue: c.queue_packets.max(1),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Desired {
        toml::from_str(
            "[[switch]]\nname = \"edge1\"\ndatapath_id = \"0000000003000001\"\n[[switch.port]]\nnumber = 1\n\
             interface = \"eth1\"\nrate = \"10 Mbit/s\"\n[[switch.port.class]]\nrate = \"7 Mbit/s\"\ndscp = 46\n\
             [[switch.port.class]]\nrate = \"3 Mbit/s\"\ndscp = 10\n",
        )
        .expect("a desired state")
    }

    #[test]
    fn a_file_is_read_with_its_defaults_and_written_back() {
        let desired = text();
        assert_eq!(desired.check(), []);
        let port = &desired.switches[0].ports[0];
        assert_eq!((port.queue, port.classes[1].rate, port.classes[0].ceiling), (50, BitRate::mbit(3), None));
        let written = toml::to_string(&desired).expect("TOML");
        assert_eq!(toml::from_str::<Desired>(&written).expect("what was written"), desired);
    }

    #[test]
    fn what_contradicts_itself_is_said_all_at_once() {
        let mut desired = text();
        desired.switches.push(desired.switches[0].clone());
        let port = &mut desired.switches[1].ports[0];
        port.number = 0;
        port.default_class = 5;
        port.classes[1].dscp = 46;
        port.classes[1].rate = BitRate::mbit(30);
        let faults = desired.check();
        assert!(faults.len() >= 8, "{faults:#?}");
        let all: String = faults.iter().map(|f| format!("{f}\n")).collect();
        for word in
            ["twice", "another switch's", "65279", "another port's", "DSCP 46", "in all", "default class 5"]
        {
            assert!(all.contains(word), "{word} in {all}");
        }
    }

    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("[[switch]]".to_owned()),
            Just("[[switch.port]]".to_owned()),
            Just("[[switch.port.class]]".to_owned()),
            "name = \"[a-z0-9]{0,18}\"",
            "datapath_id = \"[0-9a-f]{0,18}\"",
            "(number|queue|default_class|dscp) = -?[0-9]{1,20}",
            "interface = \"[a-z0-9]{0,18}\"",
            "(rate|ceiling) = \"-?[0-9]{0,25}(\\.[0-9]{1,3})? ?([kMGT]?bit/s|)\"",
            ".{0,30}",
        ]
    }

    proptest! {
        /// A valid state becomes a tree that the kernel accepts, and is read back as it was
        /// written.
        #[test]
        fn any_text_is_a_desired_state_or_an_error_in_words(lines in prop::collection::vec(line(), 0..16)) {
            match Desired::parse(&lines.join("\n")) {
                Err(error) => prop_assert!(!error.to_string().is_empty()),
                Ok(desired) => sound(&desired)?,
            }
        }

        #[test]
        fn any_wish_of_a_controller_is_sound_or_has_faults(
            rate in any::<u64>(), number in 0u32..70_000, default_class in any::<u32>(),
            classes in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..80, any::<u32>()), 0..70),
        ) {
            let config = Config::parse(
                "name = \"a\"\ncontroller = \"unix:/x\"\n[[switch]]\nname = \"e\"\n[[switch.port]]\nnumber = 1\ninterface = \"p\"\n",
            ).expect("a configuration");
            let class = |(rate, ceiling, dscp, queue): (u64, u64, u32, u32)| wire::Class {
                rate_bit_per_s: rate % 100_000_000, ceiling_bit_per_s: ceiling % 200_000_000, dscp, queue_packets: queue,
            };
            let port = wire::Port {
                number, rate_bit_per_s: rate, queue_packets: 0, default_class,
                classes: classes.into_iter().map(class).collect(),
            };
            let switch = wire::Switch { name: "e".into(), datapath_id: 1, ports: vec![port], ..Default::default() };
            let wish = wire::Desired { generation: 1, switches: vec![switch], report_period_ms: 0 };
            let (desired, faults) = Desired::from_wire(&wish, &config);
            if faults.is_empty() {
                sound(&desired)?;
            }
        }
    }

    fn sound(desired: &Desired) -> Result<(), TestCaseError> {
        let written = toml::to_string(desired).expect("TOML");
        prop_assert_eq!(&toml::from_str::<Desired>(&written).expect("what was written"), desired);
        for tree in desired.switches.iter().flat_map(|s| &s.ports).filter_map(crate::queues::tree) {
            prop_assert_eq!(tree.check(), Ok(()));
        }
        Ok(())
    }
}
