//! Rules in switches that nobody on record wants: of VMs, groups and migrations that run although
//! the store does not know them.
//!
//! A switch that connects says what it has of these ([`tandem_model::Event::RulesLeft`]), and is
//! told whose are stale all the same ([`tandem_model::Effect::LeaveRules`]).
//! 1. A VM's rules stay until every server has told what runs there, and then as long as a stray of
//!    its id runs.
//! 2. They go where a VM on record has its id or an address of theirs, and when the stray is served
//!    from its tag ([`crate::compute::stray_network`]): then it has rules of its own.
//! 3. Rules of groups and of transfers stay until then, and as long as any stray runs. A group that
//!    has a member on record has ended.
//! 4. Ids and addresses of what stays are given to nobody.

use crate::rules::owners;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use tandem_model::{Leave, Owner, SwitchId, VmId};

/// What switches have, as they said last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Left {
    pub(crate) by_switch: BTreeMap<SwitchId, BTreeMap<Owner, BTreeSet<Ipv4Addr>>>,
    /// What each switch was told last.
    pub(crate) told: BTreeMap<SwitchId, Leave>,
    /// Addresses that were taken from the pools for them.
    pub(crate) held: BTreeSet<Ipv4Addr>,
    /// Groups of which a member is on record.
    pub(crate) ended: BTreeSet<Owner>,
}

impl Left {
    /// True when a switch has rules which nobody on record wants.
    pub(crate) fn is_any(&self) -> bool {
        !self.by_switch.is_empty()
    }

    /// True when a switch has rules of that owner which nobody on record wants.
    pub(crate) fn has(&self, owner: Owner) -> bool {
        self.by_switch.values().any(|owners| owners.contains_key(&owner))
    }

    /// True when an address is in the rules that are left of a VM, and held for it: from now on by
    /// whoever asks.
    pub(crate) fn hand_over_to(&mut self, vm: VmId, address: Ipv4Addr) -> bool {
        let owner = owners::owner(vm);
        let has =
            |owners: &BTreeMap<_, BTreeSet<_>>| owners.get(&owner).is_some_and(|a| a.contains(&address));
        self.by_switch.values().any(has) && self.hand_over(address)
    }

    /// True for two members of a group that is not on record and has not ended.
    pub(crate) fn joins(&self, a: Ipv4Addr, b: Ipv4Addr) -> bool {
        let is_group = |owner: &Owner| matches!(owner, Owner::Group(_)) && !self.ended.contains(owner);
        let there = self.by_switch.values().flatten();
        there
            .filter(|(owner, _)| is_group(owner))
            .any(|(_, members)| members.contains(&a) && members.contains(&b))
    }

    /// Leaves an address to the stray that has it; true when it was held here.
    pub(crate) fn hand_over(&mut self, address: Ipv4Addr) -> bool {
        self.held.remove(&address)
    }
}
