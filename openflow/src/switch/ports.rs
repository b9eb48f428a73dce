//! A switch's ports: their state, their configuration by controllers, their counters, and their
//! descriptions in messages.

use super::settings::{Port, PortCounters, Queue, QueueCounters, config};
use crate::of10;
use crate::of13;
use crate::table::ports::Standing;
use crate::wire::{Pad, Text};
use tandem_model::{Mac, Time};

/// OFPPF: bit rate in Mbit/s and its bit (full duplex). OpenFlow 1.0 has the first four too.
const SPEEDS: [(u64, u32); 7] = [
    (10, 1 << 1),
    (100, 1 << 3),
    (1_000, 1 << 5),
    (10_000, 1 << 6),
    (40_000, 1 << 7),
    (100_000, 1 << 8),
    (1_000_000, 1 << 9),
];
/// OFPPF_OTHER of 1.3.
const OTHER_SPEED: u32 = 1 << 10;
/// OFPPS_LIVE of 1.3.
const LIVE: u32 = 1 << 2;

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) port: Port,
    /// OFPPC bits now.
    pub(super) config: u32,
    pub(super) seen: PortCounters,
    /// Counters of each queue in `port.queues`.
    queues: Vec<QueueCounters>,
    pub(super) added: Time,
}

impl State {
    pub(super) fn new(port: Port, now: Time) -> State {
        let config = port.config;
        let mut state = State { port, config, seen: PortCounters::default(), queues: Vec::new(), added: now };
        state.queues.resize(state.port.queues.len(), QueueCounters::default());
        state
    }

    /// Updates the port; true if controllers see a difference.
    pub(super) fn update(&mut self, port: Port) -> bool {
        let shown = |p: &Port| (p.name.clone(), p.mac, p.up, p.speed);
        let differs = shown(&self.port) != shown(&port);
        let counters = |q: &Queue| self.queue(q.id).unwrap_or_default();
        self.queues = port.queues.iter().map(counters).collect();
        self.port = Port { config: self.port.config, ..port };
        differs
    }

    /// The port as the pipeline knows it.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            number: self.port.number,
            flood: self.config & config::NO_FLOOD == 0,
            live: self.port.up && self.config & config::DOWN == 0,
        }
    }

    /// Whether packets that it receives are forwarded.
    #[inline]
    pub(super) fn receives(&self) -> bool {
        self.config & (config::NO_RECV | config::DOWN) == 0
    }

    /// Whether packets are sent out of it. Packets for a port without a link are passed to the sink
    /// all the same: the sink knows the link's present state.
    #[inline]
    pub(super) fn sends(&self) -> bool {
        self.config & (config::NO_FWD | config::DOWN) == 0
    }

    /// Counts a packet that goes out.
    #[inline]
    pub(super) fn sent(&mut self, queue: u32, bytes: usize) {
        self.seen.tx_packets += 1;
        self.seen.tx_bytes += bytes as u64;
        if let Some(at) = self.port.queues.iter().position(|q| q.id == queue)
            && let Some(counters) = self.queues.get_mut(at)
        {
            counters.tx_packets += 1;
            counters.tx_bytes += bytes as u64;
        }
    }

    /// The counters of a queue, if it exists.
    pub(super) fn queue(&self, id: u32) -> Option<QueueCounters> {
        let at = self.port.queues.iter().position(|q| q.id == id)?;
        self.queues.get(at).copied()
    }

    fn features(&self) -> u32 {
        self.port.speed.map_or(0, |speed| {
            SPEEDS.iter().find(|(mbit, _)| mbit * 1_000_000 == speed).map_or(OTHER_SPEED, |(_, bit)| *bit)
        })
    }

    /// Its description in OpenFlow 1.0; `None` for a number beyond the range of 1.0.
    pub(super) fn port10(&self) -> Option<of10::PhyPort> {
        let p = &self.port;
        Some(of10::PhyPort {
            port_no: narrow(p.number)?,
            hw_addr: Mac(p.mac),
            name: Text::new(cut(&p.name, 15)),
            config: self.config,
            state: u32::from(!p.up) * of10::port::STATE_LINK_DOWN,
            curr: self.features() & 0x7f,
            advertised: 0,
            supported: 0,
            peer: 0,
        })
    }

    /// Its description in OpenFlow 1.3.
    pub(super) fn port13(&self) -> of13::Port {
        let p = &self.port;
        let kbit = p.speed.map_or(0, |s| u32::try_from(s / 1000).unwrap_or(u32::MAX));
        let live = if self.standing().live { LIVE } else { 0 };
        of13::Port {
            port_no: p.number,
            pad: Pad::default(),
            hw_addr: Mac(p.mac),
            pad2: Pad::default(),
            name: Text::new(cut(&p.name, 15)),
            config: self.config & !config::NO_FLOOD,
            state: if p.up { live } else { of13::port::STATE_LINK_DOWN },
            curr: self.features(),
            advertised: 0,
            supported: 0,
            peer: 0,
            curr_speed: kbit,
            max_speed: kbit,
        }
    }
}

/// A port's number in OpenFlow 1.0, if it is in the range of 1.0.
pub(super) fn narrow(number: u32) -> Option<u16> {
    match number {
        of13::port::IN_PORT..=of13::port::ANY => Some((number & 0xffff) as u16),
        n => u16::try_from(n).ok().filter(|n| *n <= of10::port::MAX),
    }
}

/// The beginning of a text, at most so many bytes of it.
pub(super) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// All ports, by number.
#[derive(Debug, Clone, Default)]
pub(super) struct PortList(Vec<State>);

impl PortList {
    pub(super) fn iter(&self) -> impl Iterator<Item = &State> {
        self.0.iter()
    }

    #[inline]
    fn place(&self, number: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |s| s.port.number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&State> {
        self.place(number).ok().and_then(|at| self.0.get(at))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut State> {
        self.place(number).ok().and_then(|at| self.0.get_mut(at))
    }

    /// Adds a port that is not there yet.
    pub(super) fn add(&mut self, state: State) {
        if let Err(at) = self.place(state.port.number) {
            self.0.insert(at, state);
        }
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<State> {
        self.place(number).ok().map(|at| self.0.remove(at))
    }
}
