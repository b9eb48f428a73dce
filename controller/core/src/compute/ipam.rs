//! Addresses: the pools that VMs get theirs from, a pool for each edge switch.

use crate::network::host_tracker::VM_MAC_PREFIX;
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use tandem_model::{Mac, Prefix, Site, SwitchId, VmId};

/// One edge's VM addresses: fresh ones in order, then those given back, longest unused first.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) prefix: Prefix,
    /// The first one that is for VMs; those before are servers'.
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(crate) end: u64,
    pub(crate) returned: VecDeque<Ipv4Addr>,
}

/// All edges' VM addresses.
#[derive(Debug, Clone)]
pub(crate) struct Pools(pub(crate) BTreeMap<SwitchId, Pool>);

impl Pools {
    pub(crate) fn new(site: &Site) -> Pools {
        let first = u64::from(site.addresses.servers_per_prefix) + 1;
        let pool = |prefix: Prefix| Pool {
            prefix,
            first,
            next: first,
            end: prefix.size().saturating_sub(1),
            returned: VecDeque::new(),
        };
        let edges = (0u32..).zip(&site.topology.switches);
        Pools(edges.filter_map(|(n, s)| s.prefix.map(|p| (SwitchId(n), pool(p)))).collect())
    }

    /// How many addresses an edge has left.
    pub(crate) fn left(&self, edge: SwitchId) -> u64 {
        self.0.get(&edge).map_or(0, |p| p.end.saturating_sub(p.next) + p.returned.len() as u64)
    }

    pub(crate) fn take(&mut self, edge: SwitchId) -> Option<Ipv4Addr> {
        let pool = self.0.get_mut(&edge)?;
        if pool.next < pool.end {
            pool.next += 1;
            return pool.prefix.nth(pool.next - 1);
        }
        pool.returned.pop_front()
    }

    /// Takes one particular address, which a VM of the store has already.
    pub(crate) fn take_known(&mut self, address: Ipv4Addr) {
        let Some(pool) = self.0.values_mut().find(|p| p.prefix.contains(address)) else { return };
        let offset = u64::from(address.to_bits()) - u64::from(pool.prefix.address().to_bits());
        if offset < pool.next {
            pool.returned.retain(|a| *a != address);
            return;
        }
        let skipped = pool.next..offset;
        pool.returned.extend(skipped.filter_map(|n| pool.prefix.nth(n)));
        pool.next = offset + 1;
    }

    /// The pool that an address is of, and its place in it: an address that a VM may have.
    pub(crate) fn of(&self, address: Ipv4Addr) -> Option<(SwitchId, u64)> {
        let (edge, pool) = self.0.iter().find(|(_, p)| p.prefix.contains(address))?;
        let offset = u64::from(address.to_bits()) - u64::from(pool.prefix.address().to_bits());
        (pool.first..pool.end).contains(&offset).then_some((*edge, offset))
    }

    /// True for an address that a VM may have.
    pub(crate) fn is_for_vms(&self, address: Ipv4Addr) -> bool {
        self.of(address).is_some()
    }

    /// Takes one particular address, if it is for VMs and nobody has it.
    pub(crate) fn hold(&mut self, address: Ipv4Addr) -> bool {
        let Some((edge, offset)) = self.of(address) else { return false };
        let free = self.0.get(&edge).is_some_and(|p| offset >= p.next || p.returned.contains(&address));
        if free {
            self.take_known(address);
        }
        free
    }

    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        if let Some(pool) = self.0.values_mut().find(|p| p.prefix.contains(address)) {
            pool.returned.push_back(address);
        }
    }
}

/// A VM's Ethernet address: locally administered, with the low 32 bits of its id.
pub(crate) fn vm_mac(id: VmId) -> Mac {
    let [a, b, c, d] = (id.0 as u32).to_be_bytes();
    let [x, y] = VM_MAC_PREFIX;
    Mac([x, y, a, b, c, d])
}
