//! How full switches are: what a switch sends by all its ports together, over what its links could
//! carry.
//!
//! The sum is of what is sent, so that each packet through a switch counts once, as in the switch
//! ratio of the thesis (Teixeira 2013). Reserved and measured are kept as sums, brought up to date
//! with each hop that changes, so that a load costs O(1). Switches that do not speak OpenFlow are
//! left out: nobody counts what they send.

use tandem_model::{BitRate, NodeId, SwitchId, Topology};

/// One switch. The sums are wide enough for any number of links.
#[derive(Debug, Clone, Default)]
struct Sums {
    /// The rates of its links together, bit/s.
    capacity: u128,
    /// Capacity times the margin; `None` without a margin.
    limit: Option<u128>,
    reserved: u128,
    measured: u128,
}

/// What is reserved and measured at each switch, and its limit.
#[derive(Debug, Clone)]
pub struct SwitchLoads {
    switches: Vec<Sums>,
}

impl SwitchLoads {
    /// All switches of a topology, idle; each may send `margin` of its capacity.
    pub fn new(topology: &Topology, margin: Option<f64>) -> SwitchLoads {
        let sums = |n: u32| {
            let links = topology.ports(NodeId::Switch(SwitchId(n))).iter();
            let rates = links.filter_map(|(_, link)| Some(u128::from(topology.link(*link)?.cfg.rate.0)));
            let capacity: u128 = rates.sum();
            let limit = margin.map(|margin| (capacity as f64 * margin) as u128);
            Sums { capacity, limit, ..Sums::default() }
        };
        SwitchLoads { switches: (0..topology.switches.len() as u32).map(sums).collect() }
    }

    /// Lets each switch send `margin` of its capacity from now on.
    pub(super) fn set_margin(&mut self, margin: f64) {
        for sums in &mut self.switches {
            sums.limit = Some((sums.capacity as f64 * margin) as u128);
        }
    }

    fn sums(&self, id: SwitchId) -> Option<&Sums> {
        self.switches.get(id.0 as usize)
    }

    fn change(&mut self, id: SwitchId, change: impl FnOnce(&mut Sums)) {
        if let Some(sums) = self.switches.get_mut(id.0 as usize) {
            change(sums);
        }
    }

    pub(super) fn reserve(&mut self, id: SwitchId, rate: u64) {
        self.change(id, |sums| sums.reserved += u128::from(rate));
    }

    pub(super) fn release(&mut self, id: SwitchId, rate: u64) {
        self.change(id, |sums| sums.reserved = sums.reserved.saturating_sub(u128::from(rate)));
    }

    pub(super) fn set_measured(&mut self, id: SwitchId, before: u64, after: u64) {
        self.change(id, |sums| {
            sums.measured = sums.measured.saturating_sub(u128::from(before)) + u128::from(after);
        });
    }

    /// What a switch may still send beside the larger of reserved and measured; `None` where it has
    /// no limit of its own.
    pub fn left(&self, id: SwitchId) -> Option<BitRate> {
        self.left_without(id, BitRate(0), BitRate(0))
    }

    /// The same without one who has reserved `reserved` of it and sends `sent`.
    pub(super) fn left_without(&self, id: SwitchId, reserved: BitRate, sent: BitRate) -> Option<BitRate> {
        let sums = self.sums(id)?;
        let others = sums.reserved.saturating_sub(u128::from(reserved.0));
        let measured = sums.measured.saturating_sub(u128::from(sent.0));
        let left = sums.limit?.saturating_sub(others.max(measured));
        Some(BitRate(u64::try_from(left).unwrap_or(u64::MAX)))
    }

    /// What a switch may send; `None` where it has no limit of its own.
    pub fn limit(&self, id: SwitchId) -> Option<BitRate> {
        Some(BitRate(u64::try_from(self.sums(id)?.limit?).unwrap_or(u64::MAX)))
    }

    /// What is reserved on a switch, by all its ports together.
    pub fn reserved(&self, id: SwitchId) -> BitRate {
        BitRate(self.sums(id).map_or(0, |s| u64::try_from(s.reserved).unwrap_or(u64::MAX)))
    }

    /// What is measured over what its links could carry; 0 for a switch without links.
    pub fn ratio(&self, id: SwitchId) -> f64 {
        let Some(sums) = self.sums(id).filter(|s| s.capacity > 0) else { return 0.0 };
        sums.measured as f64 / sums.capacity as f64
    }

    /// The larger of reserved and measured over what a switch may send: its capacity, or its limit
    /// where it has one. 0 for a switch without links.
    pub fn load(&self, id: SwitchId) -> f64 {
        let Some(sums) = self.sums(id) else { return 0.0 };
        let most = sums.limit.unwrap_or(sums.capacity);
        if most == 0 { 0.0 } else { sums.reserved.max(sums.measured) as f64 / most as f64 }
    }
}

#[cfg(test)]
mod tests {
    use crate::network::links::LinkTable;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use tandem_model::paths::tail;
    use tandem_model::{BitRate, Hop, LinkId, NodeId, SwitchId, site};

    proptest! {
        /// Whatever is reserved, given back and measured in whatever order, a switch's load is what a
        /// sum over its hops says.
        #[test]
        fn a_switch_s_load_is_the_sum_of_what_its_hops_send(
            steps in prop::collection::vec((any::<u32>(), any::<bool>(), 0u8..4, 0u64..50_000_000), 1..60),
        ) {
            let site = site::read("[topology]\nshape = \"three-tier\"\n", "x").expect("a good site");
            let mut links = LinkTable::new(&site.topology, 1.0).with_switch_margin(&site.topology, Some(0.5));
            let mut reserved: BTreeMap<Hop, u64> = BTreeMap::new();
            let mut measured: BTreeMap<Hop, u64> = BTreeMap::new();
            for (link, down, what, rate) in steps {
                let hop = Hop { link: LinkId(link % site.topology.links.len() as u32), down };
                match what {
                    0 | 1 => {
                        links.reserve(&[hop], BitRate(rate));
                        *reserved.entry(hop).or_default() += rate;
                    }
                    2 => {
                        let back = reserved.get(&hop).map_or(0, |all| rate.min(*all));
                        links.release(&[hop], BitRate(back));
                        *reserved.entry(hop).or_default() -= back;
                    }
                    _ => {
                        links.set_measured(hop, BitRate(rate));
                        measured.insert(hop, rate);
                    }
                }
                for n in 0..site.topology.switches.len() as u32 {
                    let id = SwitchId(n);
                    let sum = |of: &BTreeMap<Hop, u64>| -> u64 {
                        let here = |hop: &Hop| tail(&site.topology, *hop) == Some(NodeId::Switch(id));
                        of.iter().filter(|(hop, _)| here(hop)).map(|(_, rate)| rate).sum()
                    };
                    let ports = site.topology.ports(NodeId::Switch(id)).iter();
                    let capacity: u64 = ports.map(|(_, link)| site.topology.links[link.0 as usize].cfg.rate.0).sum();
                    let busy = sum(&reserved).max(sum(&measured));
                    prop_assert_eq!(links.by_switch().reserved(id), BitRate(sum(&reserved)));
                    let left = links.by_switch().left(id);
                    prop_assert_eq!(left, Some(BitRate((capacity / 2).saturating_sub(busy))));
                }
            }
        }
    }
}
