//! OpenFlow's port numbers and the card's queues. The map is explicit: a plain NIC listed before
//! the card's ports must not shift their numbers.

use std::fmt;

/// The most ports of a card with source queues.
pub const CARD_PORTS: u8 = 4;

/// A set of card ports, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct CardPorts(pub u8);

impl CardPorts {
    /// The set of one port.
    pub const fn one(n: u8) -> CardPorts {
        CardPorts(1 << n)
    }

    /// True with this port.
    pub const fn has(self, n: u8) -> bool {
        self.0 >> n & 1 == 1
    }

    /// The ports, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..CARD_PORTS).filter(move |n| self.has(*n))
    }

    /// The number of ports.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The place of an OpenFlow port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Port n of the card: queue 2n, its CPU queue 2n+1.
    Card(u8),
    /// A plain NIC: its packets never reach the card.
    Plain,
}

/// One OpenFlow port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its OpenFlow number.
    pub number: u32,
    /// Its interface's name.
    pub name: String,
    /// Its place.
    pub at: At,
    /// Part of FLOOD (without OFPPC_NO_FLOOD).
    pub flood: bool,
    /// Packets may go out (without OFPPC_NO_FWD).
    pub forward: bool,
    /// Packets that come in are looked up (without OFPPC_NO_RECV); the card drops the others.
    pub receive: bool,
}

impl Port {
    /// A port with all three flags set.
    pub fn new(number: u32, name: impl Into<String>, at: At) -> Port {
        Port { number, name: name.into(), at, flood: true, forward: true, receive: true }
    }
}

/// Why a list of ports is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Two ports have the same number.
    #[error("{0} and {1} have the same OpenFlow port number; give each port its own")]
    Number(String, String),
    /// Two ports are at the same port of the card.
    #[error("{0} and {1} are the same port of the card; list each once")]
    Twice(String, String),
    /// The card has no such port.
    #[error("{0} is at port {1} of the card, which has ports 0 to {last}", last = CARD_PORTS - 1)]
    Missing(String, u8),
    /// A number that OpenFlow reserves.
    #[error("{0} cannot have OpenFlow port number {1}: ports have 1 to 65280")]
    Reserved(String, u32),
}

/// The ports of one switch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortMap {
    ports: Vec<Port>,
    by_card: [Option<u32>; CARD_PORTS as usize],
    ingress: CardPorts,
    /// The host has interfaces at the card's CPU queues, so that packets can be forwarded in
    /// software.
    pub cpu_ports: bool,
}

impl PortMap {
    /// From the list of ports.
    ///
    /// # Errors When two are equal, or one is invalid.
    pub fn new(ports: Vec<Port>, cpu_ports: bool) -> Result<PortMap, PortError> {
        let mut map = PortMap {
            ports: Vec::new(),
            by_card: [None; CARD_PORTS as usize],
            cpu_ports,
            ..PortMap::default()
        };
        for port in ports {
            if !(1..=0xff00).contains(&port.number) {
                return Err(PortError::Reserved(port.name, port.number));
            }
            if let Some(other) = map.get(port.number) {
                return Err(PortError::Number(other.name.clone(), port.name));
            }
            if let At::Card(n) = port.at {
                let Some(slot) = map.by_card.get_mut(usize::from(n)) else {
                    return Err(PortError::Missing(port.name, n));
                };
                if let Some(other) = slot.replace(port.number) {
                    let other = map.get(other).map_or_else(String::new, |p| p.name.clone());
                    return Err(PortError::Twice(other, port.name));
                }
                if port.receive {
                    map.ingress.0 |= 1 << n;
                }
            }
            map.ports.push(port);
        }
        Ok(map)
    }

    /// All four ports of one card, OpenFlow numbers 1 to 4, named nf2c0 to nf2c3.
    pub fn one_card(cpu_ports: bool) -> PortMap {
        let port = |n: u8| Port::new(u32::from(n) + 1, format!("nf2c{n}"), At::Card(n));
        PortMap {
            ports: (0..CARD_PORTS).map(port).collect(),
            by_card: [Some(1), Some(2), Some(3), Some(4)],
            ingress: CardPorts(0xf),
            cpu_ports,
        }
    }

    /// All ports.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter()
    }

    /// A port by its OpenFlow number.
    pub fn get(&self, number: u32) -> Option<&Port> {
        self.ports.iter().find(|p| p.number == number)
    }

    /// A port by its name.
    pub fn named(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|p| p.name == name)
    }

    /// The OpenFlow number of a port of the card.
    pub fn number(&self, n: u8) -> Option<u32> {
        self.by_card.get(usize::from(n)).copied().flatten()
    }

    /// The card's ports with OFPPC_NO_RECV clear.
    pub fn ingress(&self) -> CardPorts {
        self.ingress
    }
}

/// The queue of a port of the card.
pub const fn queue(n: u8) -> u8 {
    2 * n
}

/// The CPU queue of a port of the card.
pub const fn cpu_queue(n: u8) -> u8 {
    2 * n + 1
}

/// Patterns of the source field, as value and compared bits, that together match the queues of all
/// ports in `wanted` and of none outside `allowed`. They never match CPU queues.
pub(super) fn sources(wanted: CardPorts, allowed: CardPorts) -> impl Iterator<Item = (u64, u64)> {
    // All sets of two bits of a port's number with don't-cares: all four ports, pairs that share a
    // bit, single ports.
    const CUBES: [(u8, u8, u8); 9] = [
        (0, 0b00, 0b1111),
        (0, 0b01, 0b0101),
        (1, 0b01, 0b1010),
        (0, 0b10, 0b0011),
        (2, 0b10, 0b1100),
        (0, 0b11, 0b0001),
        (1, 0b11, 0b0010),
        (2, 0b11, 0b0100),
        (3, 0b11, 0b1000),
    ];
    let mut left = wanted.0;
    CUBES.into_iter().filter_map(move |(value, bits, ports)| {
        let useful = ports & left != 0 && ports & !allowed.0 == 0;
        useful.then(|| {
            left &= !ports;
            (u64::from(value) << 1, 0xff & !(u64::from(!bits & 0b11) << 1))
        })
    })
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.number, self.name)
    }
}
