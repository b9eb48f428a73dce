//! Links as the core sees them: alive or not, how much is reserved, how much is measured, how much
//! is left.
//!
//! Admission uses the larger of reserved and measured, against capacity times the safety margin,
//! per direction. Where switches have a margin too, a hop has left what its switch has left for it:
//! so whoever asks for a hop's room, asks for its switch's.

use crate::network::switch_loads::SwitchLoads;
use tandem_model::{BitRate, Hop, LinkId, NodeId, SwitchId, Topology};

/// What is known of a declared link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Declared in the site, both ends up, not (or not yet) confirmed by discovery.
    Declared,
    /// Seen by discovery, or needing none (a server's or gateway's link whose switch port is up).
    Confirmed,
    /// One of its ports is down or gone, or one of its switches is away.
    Down,
    /// Its ports are up but discovery does not see it any more.
    Missing,
}

const NO_SWITCH: SwitchId = SwitchId(u32::MAX);

/// One link's load. Arrays are by direction: 0 upwards (b to a), 1 downwards (a to b). In one cache
/// line: a decision looks at links all over the data centre, once each.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Load {
    /// Capacity times margin, bit/s.
    limit: u64,
    capacity: u64,
    reserved: [u64; 2],
    measured: [u64; 2],
    /// No switch counts what goes there.
    uncounted: [bool; 2],
    state: LinkState,
    /// The OpenFlow switches at its ends, [`NO_SWITCH`] for what is none.
    switches: [SwitchId; 2],
}

/// The capacity, reservations and measured load of every link, in each direction.
#[derive(Debug, Clone)]
pub struct LinkTable {
    loads: Vec<Load>,
    switches: SwitchLoads,
}

fn side(hop: Hop) -> usize {
    usize::from(hop.down)
}

impl LinkTable {
    /// All links of a topology, empty and merely declared.
    pub fn new(topology: &Topology, margin: f64) -> LinkTable {
        let loads = topology
            .links
            .iter()
            .map(|link| Load {
                limit: (link.cfg.rate.0 as f64 * margin) as u64,
                capacity: link.cfg.rate.0,
                reserved: [0; 2],
                measured: [0; 2],
                uncounted: [false; 2],
                state: LinkState::Declared,
                switches: [link.a, link.b].map(|end| match end.node {
                    NodeId::Switch(id) if topology.switch(id).is_some_and(|s| !s.legacy) => id,
                    _ => NO_SWITCH,
                }),
            })
            .collect();
        LinkTable { loads, switches: SwitchLoads::new(topology, None) }
    }

    /// The same with switches that may send so much of their capacity, before anything is reserved.
    #[must_use]
    pub fn with_switch_margin(mut self, topology: &Topology, margin: Option<f64>) -> LinkTable {
        self.switches = SwitchLoads::new(topology, margin);
        self
    }

    /// How full the switches are.
    pub fn by_switch(&self) -> &SwitchLoads {
        &self.switches
    }

    /// The switch that sends what goes over a hop; `None` where it is none that speaks OpenFlow.
    pub fn sender(&self, hop: Hop) -> Option<SwitchId> {
        // Upwards a link is entered at its lower end.
        let end = if hop.down { 0 } else { 1 };
        self.load(hop.link).map(|l| l.switches[end]).filter(|id| *id != NO_SWITCH)
    }

    /// What a VM may have of what a hop's switch has left. It passes a switch twice, on its way up
    /// and on its way down, and each way is asked for by itself: so each gets half.
    fn share_of_switch(&self, hop: Hop) -> u64 {
        self.sender(hop).and_then(|id| self.switches.left(id)).map_or(u64::MAX, |left| left.0 / 2)
    }

    /// The switch that has less than `need` left for a hop, where it is not the link that is short.
    pub fn short_switch(&self, hop: Hop, need: BitRate) -> Option<(SwitchId, BitRate)> {
        let load = self.load(hop.link).filter(|_| self.is_usable(hop.link))?;
        let of_link = load.limit.saturating_sub(load.reserved[side(hop)].max(load.measured[side(hop)]));
        let id = self.sender(hop).filter(|_| of_link >= need.0)?;
        self.switches.left(id).filter(|left| left.0 / 2 < need.0).map(|left| (id, left))
    }

    fn load(&self, id: LinkId) -> Option<&Load> {
        self.loads.get(id.0 as usize)
    }

    /// Lets each switch send so much of its capacity, for a dry run.
    pub(crate) fn set_switch_margin(&mut self, margin: f64) {
        self.switches.set_margin(margin);
    }

    /// Lets every link be promised up to another margin: on paper.
    pub(crate) fn set_margin(&mut self, margin: f64) {
        self.loads.iter_mut().for_each(|load| load.limit = (load.capacity as f64 * margin) as u64);
    }

    /// A link's state; a link that does not exist is down.
    pub fn state(&self, id: LinkId) -> LinkState {
        self.load(id).map_or(LinkState::Down, |l| l.state)
    }

    /// Sets a link's state; true when that changed whether it can be used.
    pub fn set_state(&mut self, id: LinkId, state: LinkState) -> bool {
        let before = self.is_usable(id);
        if let Some(load) = self.loads.get_mut(id.0 as usize) {
            load.state = state;
        }
        before != self.is_usable(id)
    }

    /// True for a link that traffic may be sent over.
    pub fn is_usable(&self, id: LinkId) -> bool {
        matches!(self.state(id), LinkState::Declared | LinkState::Confirmed)
    }

    /// What a hop has left for reservations, by its link and by the switch that sends there; `None`
    /// when its link cannot be used.
    pub fn residual(&self, hop: Hop) -> Option<BitRate> {
        let load = self.load(hop.link).filter(|_| self.is_usable(hop.link))?;
        let taken = load.reserved[side(hop)].max(load.measured[side(hop)]);
        Some(BitRate(load.limit.saturating_sub(taken).min(self.share_of_switch(hop))))
    }

    /// What may be reserved on a hop: capacity times margin.
    pub fn limit(&self, hop: Hop) -> BitRate {
        BitRate(self.load(hop.link).map_or(0, |l| l.limit))
    }

    /// What a hop would have left without one who has reserved `reserved` of it and sends `sent`;
    /// `None` when its link cannot be used.
    pub fn residual_without(&self, hop: Hop, reserved: BitRate, sent: BitRate) -> Option<BitRate> {
        let load = self.load(hop.link).filter(|_| self.is_usable(hop.link))?;
        let others = load.reserved[side(hop)].saturating_sub(reserved.0);
        let measured = load.measured[side(hop)].saturating_sub(sent.0);
        // A transfer passes its switches one way.
        let of_switch = self.sender(hop).and_then(|id| self.switches.left_without(id, reserved, sent));
        let of_link = load.limit.saturating_sub(others.max(measured));
        Some(BitRate(of_link.min(of_switch.map_or(u64::MAX, |left| left.0))))
    }

    /// How full a hop is: the larger of reserved and measured over what it may carry.
    pub fn fill(&self, hop: Hop) -> f64 {
        self.load(hop.link).filter(|l| l.limit > 0).map_or(f64::INFINITY, |l| {
            l.reserved[side(hop)].max(l.measured[side(hop)]) as f64 / l.limit as f64
        })
    }

    /// The OpenFlow switches at a link's ends.
    pub fn switches(&self, id: LinkId) -> impl Iterator<Item = SwitchId> {
        let ends = self.load(id).map_or([NO_SWITCH; 2], |l| l.switches);
        ends.into_iter().filter(|id| *id != NO_SWITCH)
    }

    /// The first hop of a path without room for `need`.
    pub fn shortage(&self, path: &[Hop], need: BitRate) -> Option<Hop> {
        path.iter().copied().find(|hop| self.residual(*hop).is_none_or(|left| left < need))
    }

    /// Reserves `rate` on every hop.
    pub fn reserve(&mut self, path: &[Hop], rate: BitRate) {
        for hop in path {
            let Some(load) = self.loads.get_mut(hop.link.0 as usize) else { continue };
            let before = load.reserved[side(*hop)];
            let after = before.saturating_add(rate.0);
            load.reserved[side(*hop)] = after;
            self.sender(*hop).into_iter().for_each(|id| self.switches.reserve(id, after - before));
        }
    }

    /// Gives back what `reserve` took.
    pub fn release(&mut self, path: &[Hop], rate: BitRate) {
        for hop in path {
            let Some(load) = self.loads.get_mut(hop.link.0 as usize) else { continue };
            let before = load.reserved[side(*hop)];
            let after = before.saturating_sub(rate.0);
            load.reserved[side(*hop)] = after;
            self.sender(*hop).into_iter().for_each(|id| self.switches.release(id, before - after));
        }
    }

    /// What is reserved on a hop.
    pub fn reserved(&self, hop: Hop) -> BitRate {
        BitRate(self.load(hop.link).map_or(0, |l| l.reserved[side(hop)]))
    }

    /// What was last measured on a hop, smoothed.
    pub fn measured(&self, hop: Hop) -> BitRate {
        BitRate(self.load(hop.link).map_or(0, |l| l.measured[side(hop)]))
    }

    /// Sets what was measured on a hop.
    pub fn set_measured(&mut self, hop: Hop, rate: BitRate) {
        let before = self.measured(hop);
        self.sender(hop).into_iter().for_each(|id| self.switches.set_measured(id, before.0, rate.0));
        if let Some(load) = self.loads.get_mut(hop.link.0 as usize) {
            load.measured[side(hop)] = rate.0;
            load.uncounted[side(hop)] = false;
        }
    }

    /// Sets what a switch says of a hop: its rate, or that it does not count. Then only what is
    /// reserved is known of it.
    pub fn set_counted(&mut self, hop: Hop, rate: Option<BitRate>) {
        self.set_measured(hop, rate.unwrap_or_default());
        if let Some(load) = self.loads.get_mut(hop.link.0 as usize) {
            load.uncounted[side(hop)] = rate.is_none();
        }
    }

    /// True where a switch has said that it does not count what goes there.
    pub fn is_uncounted(&self, hop: Hop) -> bool {
        self.load(hop.link).is_some_and(|l| l.uncounted[side(hop)])
    }

    /// Measured over capacity, the busier direction; the thesis' link ratio.
    pub fn ratio(&self, id: LinkId) -> f64 {
        self.load(id).map_or(0.0, |l| {
            if l.capacity == 0 { 0.0 } else { l.measured[0].max(l.measured[1]) as f64 / l.capacity as f64 }
        })
    }
}
