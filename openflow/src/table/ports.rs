//! A switch's ports as its pipeline knows them: which there are, which get what is flooded, which
//! are alive.

use crate::of13::port;

/// One port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub number: u32,
    /// It gets what is flooded (OpenFlow 1.0: not OFPPC_NO_FLOOD).
    pub flood: bool,
    /// It is up, so that a bucket that watches it is alive (OFPPS_LIVE).
    pub live: bool,
}

/// All ports, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ports {
    list: Vec<Standing>,
    generation: u64,
}

impl Ports {
    /// Ports that are up and get what is flooded.
    pub fn new(numbers: &[u32]) -> Ports {
        let mut ports = Ports::default();
        numbers.iter().for_each(|n| ports.set(Standing { number: *n, flood: true, live: true }));
        ports
    }

    /// Adds or changes a port.
    pub fn set(&mut self, port: Standing) {
        match self.list.binary_search_by_key(&port.number, |p| p.number) {
            Ok(at) if self.list[at] == port => return,
            Ok(at) => self.list[at] = port,
            Err(at) => self.list.insert(at, port),
        }
        self.generation += 1;
    }

    /// Takes a port away.
    pub fn remove(&mut self, number: u32) {
        if let Ok(at) = self.list.binary_search_by_key(&number, |p| p.number) {
            self.list.remove(at);
            self.generation += 1;
        }
    }

    /// Changes whenever a port does.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// True when there is such a port and it is up.
    pub fn live(&self, number: u32) -> bool {
        self.list.binary_search_by_key(&number, |p| p.number).is_ok_and(|at| self.list[at].live)
    }

    /// The ports that a packet to ALL goes out of, or to FLOOD: not the one that it came in by, and
    /// not the switch itself.
    pub(super) fn flooded(&self, to: u32, in_port: u32) -> impl Iterator<Item = u32> {
        let takes = move |p: &&Standing| p.number <= port::MAX && (to == port::ALL || p.flood);
        self.list.iter().filter(takes).map(|p| p.number).filter(move |p| *p != in_port)
    }
}
