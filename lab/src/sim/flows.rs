//! Flow-level links: every flow has a rate and a path; a link that is asked for more than it has is shared.
//!
//! Rates are max-min fair (progressive filling, Bertsekas and Gallager, Data Networks, 6.5.2), computed only when some
//! link is asked for more than it has: until then every flow has what it asks for. Bytes are counted exactly, in bit nanoseconds.

use std::collections::BTreeMap;
use tandem_model::{BitRate, Hop, Time, Topology, TrafficId, Transport};

#[derive(Debug, Clone)]
struct Flow {
    demand: f64,
    rate: f64,
    transport: Transport,
    path: Vec<Hop>,
}

/// Index of a hop: two per link.
fn slot(hop: Hop) -> usize {
    hop.link.0 as usize * 2 + usize::from(hop.down)
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Flows {
    flows: BTreeMap<TrafficId, Flow>,
    capacity: Vec<f64>,
    /// bit/s carried now, and asked for now, per hop.
    carried: Vec<f64>,
    offered: Vec<f64>,
    /// Bits times nanoseconds per second since the start, per hop: carried, and lost.
    sent: Vec<f64>,
    lost: Vec<f64>,
    at: Time,
}

impl Flows {
    /// No flows yet.
    pub fn new(topology: &Topology, now: Time) -> Flows {
        let hops = topology.links.len() * 2;
        let capacity = topology.links.iter().flat_map(|l| [l.cfg.rate.0 as f64; 2]).collect();
        Flows {
            flows: BTreeMap::new(),
            capacity,
            carried: vec![0.0; hops],
            offered: vec![0.0; hops],
            sent: vec![0.0; hops],
            lost: vec![0.0; hops],
            at: now,
        }
    }

    /// Counts up to `now`.
    pub fn advance(&mut self, now: Time) {
        let seconds = now.since(self.at).as_nanos() as f64 / 1e9;
        if seconds > 0.0 {
            for hop in 0..self.sent.len() {
                self.sent[hop] += self.carried[hop] * seconds;
                self.lost[hop] += (self.offered[hop] - self.carried[hop]).max(0.0) * seconds;
            }
            self.at = now;
        }
    }

    /// Whole bytes that went over a hop.
    pub fn bytes(&self, hop: Hop) -> u64 {
        self.sent.get(slot(hop)).map_or(0, |bits| (bits / 8.0 + 1e-6) as u64)
    }

    /// Whole bytes that did not fit on a hop.
    pub fn dropped(&self, hop: Hop) -> u64 {
        self.lost.get(slot(hop)).map_or(0, |bits| (bits / 8.0) as u64)
    }

    /// Starts a flow; one that runs already is left as it is.
    pub fn start(&mut self, id: TrafficId, demand: BitRate, transport: Transport, path: Vec<Hop>, now: Time) {
        self.advance(now);
        let flow = Flow { demand: demand.0 as f64, rate: 0.0, transport, path };
        self.flows.entry(id).or_insert(flow);
        self.share();
    }

    /// Ends a flow.
    pub fn stop(&mut self, id: TrafficId, now: Time) {
        self.advance(now);
        if self.flows.remove(&id).is_some() {
            self.share();
        }
    }

    /// Gives every flow the path that `path` says.
    pub fn reroute(&mut self, now: Time, path: impl Fn(TrafficId) -> Option<Vec<Hop>>) {
        let changed: Vec<(TrafficId, Vec<Hop>)> = self
            .flows
            .iter()
            .filter_map(|(id, flow)| path(*id).filter(|p| *p != flow.path).map(|p| (*id, p)))
            .collect();
        if changed.is_empty() {
            return;
        }
        self.advance(now);
        for (id, path) in changed {
            if let Some(flow) = self.flows.get_mut(&id) {
                flow.path = path;
            }
        }
        self.share();
    }

    /// A flow's rate now.
    pub fn rate(&self, id: TrafficId) -> Option<BitRate> {
        self.flows.get(&id).map(|f| BitRate(f.rate.round() as u64))
    }

    fn share(&mut self) {
        self.offered.fill(0.0);
        for flow in self.flows.values_mut() {
            flow.rate = flow.demand;
            for hop in &flow.path {
                self.offered[slot(*hop)] += flow.demand;
            }
        }
        let saturated = (0..self.capacity.len()).any(|h| self.offered[h] > self.capacity[h] * (1.0 + 1e-12));
        if saturated {
            self.fill();
        }
        self.carried.fill(0.0);
        let mut offered = vec![0.0; self.offered.len()];
        for flow in self.flows.values() {
            for hop in &flow.path {
                self.carried[slot(*hop)] += flow.rate;
                // A TCP sender slows down to what gets through; a UDP sender does not.
                offered[slot(*hop)] += if flow.transport == Transport::Tcp { flow.rate } else { flow.demand };
            }
        }
        self.offered = offered;
    }

    /// Progressive filling: all open flows grow together until one has what it asks for or one of its hops is full.
    fn fill(&mut self) {
        let mut open: Vec<TrafficId> = self.flows.keys().copied().collect();
        let mut left = self.capacity.clone();
        for flow in self.flows.values_mut() {
            flow.rate = 0.0;
        }
        while !open.is_empty() {
            let mut users = vec![0u32; left.len()];
            for flow in open.iter().filter_map(|id| self.flows.get(id)) {
                flow.path.iter().for_each(|h| users[slot(*h)] += 1);
            }
            let by_links = (0..left.len())
                .filter(|h| users[*h] > 0)
                .map(|h| left[h] / f64::from(users[h]))
                .fold(f64::MAX, f64::min);
            let by_demand = open
                .iter()
                .filter_map(|id| self.flows.get(id))
                .map(|f| f.demand - f.rate)
                .fold(f64::MAX, f64::min);
            let step = by_links.min(by_demand).max(0.0);
            for id in &open {
                if let Some(flow) = self.flows.get_mut(id) {
                    flow.rate += step;
                    flow.path.iter().for_each(|h| left[slot(*h)] -= step);
                }
            }
            let full = |h: &Hop| left[slot(*h)] <= self.capacity[slot(*h)] * 1e-9;
            let before = open.len();
            open.retain(|id| {
                self.flows
                    .get(id)
                    .is_some_and(|f| f.demand - f.rate > f.demand * 1e-9 && !f.path.iter().any(full))
            });
            if open.len() == before {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::site;

    #[test]
    fn a_full_link_is_shared_and_a_small_flow_keeps_what_it_asks_for() {
        let text = "[topology]\nshape = \"linear\"\nswitches = 2\n[bandwidth]\naggregation = \"10 Mbit/s\"\n";
        let site = site::read(text, "x").expect("a good site");
        let mut flows = Flows::new(&site.topology, Time::ZERO);
        let middle = (0..site.topology.links.len() as u32)
            .map(|n| Hop { link: tandem_model::LinkId(n), down: true })
            .find(|h| {
                site.topology.link(h.link).is_some_and(|l| {
                    l.cfg.rate == BitRate::mbit(10)
                        && matches!(
                            (l.a.node, l.b.node),
                            (tandem_model::NodeId::Switch(_), tandem_model::NodeId::Switch(_))
                        )
                })
            })
            .expect("the link between the switches");
        flows.start(TrafficId(1), BitRate::mbit(2), Transport::Udp, vec![middle], Time::ZERO);
        flows.start(TrafficId(2), BitRate::mbit(20), Transport::Udp, vec![middle], Time::ZERO);
        flows.start(TrafficId(3), BitRate::mbit(20), Transport::Tcp, vec![middle], Time::ZERO);
        let rates: Vec<_> = (1..=3).map(|n| flows.rate(TrafficId(n))).collect();
        assert_eq!(rates, [2, 4, 4].map(|n| Some(BitRate::mbit(n))));
        flows.advance(Time::from_secs(8));
        assert_eq!(flows.bytes(middle), 10_000_000);
        assert_eq!(
            flows.dropped(middle),
            16_000_000,
            "the UDP sender loses what does not fit, the TCP sender slows down"
        );
    }
}
