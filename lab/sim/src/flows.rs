//! Flow-level links: every flow has a rate and a path; a link that is asked for more than it has is
//! shared.
//!
//! Rates are max-min fair (progressive filling, Bertsekas and Gallager, Data Networks, 6.5.2), in
//! whole bit/s. A flow that starts, ends or changes costs what it touches: its own hops, and where
//! one of them is asked for more than it has, the flows that share such hops with it, directly or
//! through others. Bits are counted exactly, in bit/s times nanoseconds.

use std::collections::{BTreeMap, BTreeSet};
use tandem_model::{BitRate, Hop, Time, Topology, TrafficId, TrafficTool};

#[derive(Debug, Clone)]
struct Flow {
    demand: u64,
    rate: u64,
    tool: TrafficTool,
    path: Vec<Hop>,
    sent: u128,
    since: Time,
}

/// One direction of a link.
#[derive(Debug, Clone)]
struct LinkDirection {
    capacity: u64,
    /// What its flows ask for together, bit/s.
    demand: u64,
    /// What it carries, and what its senders send: a TCP sender slows down to what gets through, a
    /// UDP sender does not.
    carried: u64,
    offered: u64,
    /// Bits times 10^9 until `since`: carried, and lost.
    sent: u128,
    lost: u128,
    since: Time,
    flows: BTreeSet<TrafficId>,
    /// It was asked for more than it has when its flows' rates were worked out last.
    tight: bool,
}

impl LinkDirection {
    fn is_tight(&self) -> bool {
        self.demand > self.capacity
    }

    fn settle(&mut self, now: Time) {
        let nanos = now.since(self.since).as_nanos();
        self.sent += u128::from(self.carried) * nanos;
        self.lost += u128::from(self.offered.saturating_sub(self.carried)) * nanos;
        self.since = now;
    }
}

/// Index of a hop: two per link.
fn slot(hop: Hop) -> usize {
    hop.link.0 as usize * 2 + usize::from(hop.down)
}

/// Whole bytes in bits times 10^9.
fn bytes(bits: u128) -> u64 {
    u64::try_from(bits / 8_000_000_000).unwrap_or(u64::MAX)
}

/// All flows and the links that they share.
#[derive(Debug, Clone)]
pub struct Flows {
    flows: BTreeMap<TrafficId, Flow>,
    lines: Vec<LinkDirection>,
    /// Flows whose rate has changed, of those that somebody wants to know about.
    changed: Vec<TrafficId>,
    at: Time,
}

impl Flows {
    /// No flows yet.
    pub fn new(topology: &Topology, now: Time) -> Flows {
        let line = |rate: BitRate| LinkDirection {
            capacity: rate.0,
            demand: 0,
            carried: 0,
            offered: 0,
            sent: 0,
            lost: 0,
            since: now,
            flows: BTreeSet::new(),
            tight: false,
        };
        let lines = topology.links.iter().flat_map(|l| [line(l.cfg.rate), line(l.cfg.rate)]).collect();
        Flows { flows: BTreeMap::new(), lines, changed: Vec::new(), at: now }
    }

    /// Counts up to `now`.
    pub fn advance(&mut self, now: Time) {
        self.at = self.at.max(now);
    }

    fn counted(&self, hop: Hop, of: impl Fn(&LinkDirection) -> u128) -> u64 {
        let Some(line) = self.lines.get(slot(hop)) else { return 0 };
        let mut line = LinkDirection { flows: BTreeSet::new(), ..*line };
        line.settle(self.at);
        bytes(of(&line))
    }

    /// Whole bytes that went over a hop.
    pub fn bytes(&self, hop: Hop) -> u64 {
        self.counted(hop, |l| l.sent)
    }

    /// Whole bytes that did not fit on a hop.
    pub fn dropped(&self, hop: Hop) -> u64 {
        self.counted(hop, |l| l.lost)
    }

    /// Whole bytes of a flow that have arrived since it started; 0 for one that is not there.
    pub fn arrived(&self, id: TrafficId) -> u64 {
        let Some(flow) = self.flows.get(&id) else { return 0 };
        bytes(flow.sent + u128::from(flow.rate) * self.at.since(flow.since).as_nanos())
    }

    /// Starts a flow; one that runs already is left as it is.
    pub fn start(&mut self, id: TrafficId, demand: BitRate, tool: TrafficTool, path: Vec<Hop>, now: Time) {
        self.advance(now);
        if self.flows.contains_key(&id) {
            return;
        }
        let flow = Flow { demand: demand.0, rate: 0, tool, path, sent: 0, since: now };
        self.put(id, flow);
    }

    /// Ends a flow.
    pub fn stop(&mut self, id: TrafficId, now: Time) {
        self.advance(now);
        if let Some(flow) = self.take(id) {
            self.share(None, &flow.path);
        }
    }

    /// Gives a flow another path.
    pub fn reroute(&mut self, id: TrafficId, path: &[Hop], now: Time) {
        if self.flows.get(&id).is_none_or(|f| f.path == path) {
            return;
        }
        self.advance(now);
        if let Some(flow) = self.take(id) {
            let before = flow.path.clone();
            self.put(id, Flow { path: path.to_vec(), ..flow });
            self.share(None, &before);
        }
    }

    /// Lets a flow ask for another rate.
    pub fn ask(&mut self, id: TrafficId, demand: BitRate, now: Time) {
        if self.flows.get(&id).is_none_or(|f| f.demand == demand.0) {
            return;
        }
        self.advance(now);
        if let Some(flow) = self.take(id) {
            self.put(id, Flow { demand: demand.0, ..flow });
        }
    }

    /// A flow's rate now.
    pub fn rate(&self, id: TrafficId) -> Option<BitRate> {
        self.flows.get(&id).map(|f| BitRate(f.rate))
    }

    /// All flows, in order of id.
    pub fn ids(&self) -> Vec<TrafficId> {
        self.flows.keys().copied().collect()
    }

    /// Flows whose rate has changed since the last call, each at least once.
    pub fn take_changed(&mut self) -> Vec<TrafficId> {
        std::mem::take(&mut self.changed)
    }

    fn put(&mut self, id: TrafficId, flow: Flow) {
        let path = flow.path.clone();
        for hop in &path {
            if let Some(line) = self.lines.get_mut(slot(*hop)) {
                line.demand += flow.demand;
                line.flows.insert(id);
            }
        }
        self.flows.insert(id, flow);
        self.share(Some(id), &path);
    }

    /// Takes a flow off its hops, settled; those who share them are not told yet.
    fn take(&mut self, id: TrafficId) -> Option<Flow> {
        self.set_rate(id, 0);
        let mut flow = self.flows.remove(&id)?;
        // A UDP sender that gets nothing through still sends.
        let sends = if flow.tool == TrafficTool::TCP { 0 } else { flow.demand };
        for hop in &flow.path {
            if let Some(line) = self.lines.get_mut(slot(*hop)) {
                line.settle(self.at);
                line.demand -= flow.demand;
                line.offered -= sends;
                line.flows.remove(&id);
            }
        }
        flow.rate = 0;
        Some(flow)
    }

    fn set_rate(&mut self, id: TrafficId, rate: u64) {
        let now = self.at;
        let Some(flow) = self.flows.get_mut(&id) else { return };
        if flow.rate == rate {
            return;
        }
        flow.sent += u128::from(flow.rate) * now.since(flow.since).as_nanos();
        let before = std::mem::replace(&mut flow.rate, rate);
        flow.since = now;
        let tcp = flow.tool == TrafficTool::TCP;
        for hop in &flow.path {
            if let Some(line) = self.lines.get_mut(slot(*hop)) {
                line.settle(now);
                line.carried = line.carried - before + rate;
                if tcp {
                    line.offered = line.offered - before + rate;
                }
            }
        }
        self.changed.push(id);
    }

    /// Works out the rates of whoever a change on these hops can touch: `new` itself, which was put
    /// there, and who shares tight hops.
    fn share(&mut self, new: Option<TrafficId>, hops: &[Hop]) {
        let mut touched: BTreeSet<TrafficId> = new.into_iter().collect();
        if let Some(flow) = new.and_then(|id| self.flows.get(&id))
            && flow.tool != TrafficTool::TCP
        {
            for hop in &flow.path {
                let line = &mut self.lines[slot(*hop)];
                line.settle(self.at);
                line.offered += flow.demand;
            }
        }
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        let mut open: Vec<usize> = hops.iter().map(|h| slot(*h)).collect();
        while let Some(n) = open.pop() {
            let Some(line) = self.lines.get(n) else { continue };
            if !(line.is_tight() || line.tight) || !seen.insert(n) {
                continue;
            }
            for id in &line.flows {
                touched.insert(*id);
                open.extend(self.flows.get(id).into_iter().flat_map(|f| &f.path).map(|h| slot(*h)));
            }
        }
        for n in &seen {
            self.lines[*n].tight = self.lines[*n].is_tight();
        }
        let tight: Vec<usize> = seen.into_iter().filter(|n| self.lines[*n].tight).collect();
        for (id, rate) in self.fill(&touched, &tight) {
            self.set_rate(id, rate);
        }
    }

    /// Progressive filling: all open flows grow together until one has what it asks for or one of
    /// its hops is full.
    fn fill(&self, touched: &BTreeSet<TrafficId>, tight: &[usize]) -> Vec<(TrafficId, u64)> {
        let flows: Vec<(TrafficId, &Flow)> =
            touched.iter().filter_map(|id| self.flows.get(id).map(|f| (*id, f))).collect();
        if tight.is_empty() {
            return flows.into_iter().map(|(id, f)| (id, f.demand)).collect();
        }
        let mut left: BTreeMap<usize, f64> =
            tight.iter().map(|n| (*n, self.lines[*n].capacity as f64)).collect();
        let mut rates = vec![0.0f64; flows.len()];
        let mut open: Vec<usize> = (0..flows.len()).collect();
        while !open.is_empty() {
            let mut users: BTreeMap<usize, u32> = BTreeMap::new();
            for hop in open.iter().flat_map(|n| &flows[*n].1.path).map(|h| slot(*h)) {
                if left.contains_key(&hop) {
                    *users.entry(hop).or_default() += 1;
                }
            }
            let by_links =
                users.iter().map(|(n, count)| left[n] / f64::from(*count)).fold(f64::MAX, f64::min);
            let by_demand =
                open.iter().map(|n| flows[*n].1.demand as f64 - rates[*n]).fold(f64::MAX, f64::min);
            let step = by_links.min(by_demand).max(0.0);
            for n in &open {
                rates[*n] += step;
                for hop in &flows[*n].1.path {
                    if let Some(left) = left.get_mut(&slot(*hop)) {
                        *left -= step;
                    }
                }
            }
            let full = |h: &Hop| {
                left.get(&slot(*h)).is_some_and(|l| *l <= self.lines[slot(*h)].capacity as f64 * 1e-9)
            };
            let before = open.len();
            open.retain(|n| {
                let flow = flows[*n].1;
                flow.demand as f64 - rates[*n] > flow.demand as f64 * 1e-9 && !flow.path.iter().any(full)
            });
            if open.len() == before {
                break;
            }
        }
        // Rounded down: a hop never carries more than it has.
        flows.iter().zip(rates).map(|((id, f), r)| (*id, ((r + 1e-3).floor() as u64).min(f.demand))).collect()
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
        flows.start(TrafficId(1), BitRate::mbit(2), TrafficTool::UDP, vec![middle], Time::ZERO);
        flows.start(TrafficId(2), BitRate::mbit(20), TrafficTool::UDP, vec![middle], Time::ZERO);
        flows.start(TrafficId(3), BitRate::mbit(20), TrafficTool::TCP, vec![middle], Time::ZERO);
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

    /// Two hops in a row of a switch pair's link and each server's own, and flows over some of
    /// them.
    #[test]
    fn a_change_gives_the_rates_that_starting_anew_gives() {
        use rand_chacha::ChaCha8Rng;
        use rand_chacha::rand_core::{Rng, SeedableRng};
        let site = site::read("[topology]\nshape = \"three-tier\"\n", "x").expect("a good site");
        let links = site.topology.links.len() as u64;
        for seed in 0..20 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut flows = Flows::new(&site.topology, Time::ZERO);
            let mut there: BTreeMap<TrafficId, (BitRate, Vec<Hop>)> = BTreeMap::new();
            for step in 0u64..120 {
                let now = Time::from_secs(step);
                let id = TrafficId(random.next_u64() % 30);
                let mut path = BTreeSet::new();
                for _ in 0..=random.next_u64() % 4 {
                    let link = tandem_model::LinkId((random.next_u64() % links) as u32);
                    path.insert(Hop { link, down: random.next_u64().is_multiple_of(2) });
                }
                let path: Vec<Hop> = path.into_iter().collect();
                let rate = BitRate::mbit(1 + random.next_u64() % 30);
                match random.next_u64() % 4 {
                    0 => {
                        flows.stop(id, now);
                        there.remove(&id);
                    }
                    1 => {
                        flows.reroute(id, &path, now);
                        there.entry(id).and_modify(|f| f.1 = path);
                    }
                    2 => {
                        flows.ask(id, rate, now);
                        there.entry(id).and_modify(|f| f.0 = rate);
                    }
                    _ => {
                        flows.start(id, rate, TrafficTool::UDP, path.clone(), now);
                        there.entry(id).or_insert((rate, path));
                    }
                }
                let mut anew = Flows::new(&site.topology, now);
                for (id, (rate, path)) in &there {
                    anew.start(*id, *rate, TrafficTool::UDP, path.clone(), now);
                }
                for id in there.keys() {
                    let a = flows.rate(*id).expect("there").0;
                    let b = anew.rate(*id).expect("there").0;
                    assert!(a.abs_diff(b) <= 2, "seed {seed}, step {step}: {id} has {a}, anew {b}");
                }
                for line in &flows.lines {
                    assert!(line.carried <= line.capacity, "seed {seed}, step {step}");
                    let sum: u64 = line.flows.iter().map(|id| flows.flows[id].rate).sum();
                    assert_eq!(line.carried, sum);
                    assert_eq!(line.offered, line.demand, "UDP senders send what they want");
                }
            }
        }
    }
}
