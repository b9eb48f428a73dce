//! A switch's ports as the pipeline needs them: which ones exist, get flooded packets, and are
//! live.

use crate::of13::port;

/// The state of a port in the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Port number.
    pub number: u32,
    /// Flooded packets go out of it (OpenFlow 1.0: no OFPPC_NO_FLOOD).
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
    /// Ports that are live and get flooded packets.
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

    /// Removes a port.
    pub fn remove(&mut self, number: u32) {
        if let Ok(at) = self.list.binary_search_by_key(&number, |p| p.number) {
            self.list.remove(at);
            self.generation += 1;
        }
    }

    /// A number that changes whenever a port does.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// True when there is such a port and it is up.
    pub fn live(&self, number: u32) -> bool {
        self.list.binary_search_by_key(&number, |p| p.number).is_ok_and(|at| self.list[at].live)
    }

    /// The ports that a packet to ALL or FLOOD goes out of: all but its input port and LOCAL.
    pub(super) fn flooded(&self, to: u32, in_port: u32) -> impl Iterator<Item = u32> {
        let takes = move |p: &&Standing| p.number <= port::MAX && (to == port::ALL || p.flood);
        self.list.iter().filter(takes).map(|p| p.number).filter(move |p| *p != in_port)
    }
}
