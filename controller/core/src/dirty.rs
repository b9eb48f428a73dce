//! Which parts of the snapshot are out of date.

use std::collections::BTreeSet;
use tandem_model::{ServerId, SwitchId};

/// What changed since the last snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dirty {
    pub(crate) switches: bool,
    pub(crate) links: bool,
    pub(crate) vms: bool,
    pub(crate) notices: bool,
    pub(crate) plans: bool,
    pub(crate) hotspots: bool,
    pub(crate) migrations: bool,
    pub(crate) servers: BTreeSet<ServerId>,
    pub(crate) rules: BTreeSet<SwitchId>,
    /// Switches whose counters of rules were read.
    pub(crate) rule_readings: BTreeSet<SwitchId>,
    /// Where only some switches have changed.
    pub(crate) some_switches: BTreeSet<SwitchId>,
    pub(crate) all_servers: bool,
}

impl Dirty {
    pub(crate) fn all(switches: usize) -> Dirty {
        Dirty {
            switches: true,
            links: true,
            vms: true,
            notices: true,
            plans: true,
            hotspots: true,
            migrations: true,
            servers: BTreeSet::new(),
            some_switches: BTreeSet::new(),
            rule_readings: BTreeSet::new(),
            rules: (0..switches as u32).map(SwitchId).collect(),
            all_servers: true,
        }
    }

    pub(crate) fn any(&self) -> bool {
        self.switches
            || self.links
            || self.vms
            || self.notices
            || self.plans
            || self.hotspots
            || self.migrations
            || self.all_servers
            || !self.servers.is_empty()
            || !self.rules.is_empty()
            || !self.some_switches.is_empty()
            || !self.rule_readings.is_empty()
    }

    /// A switch has told its counters.
    pub(crate) fn statistics(&mut self, id: SwitchId) {
        (self.links, self.vms) = (true, true);
        self.switch(id);
    }

    /// Something of one switch has changed.
    pub(crate) fn switch(&mut self, id: SwitchId) {
        self.some_switches.insert(id);
    }

    pub(crate) fn server(&mut self, id: ServerId) {
        if !self.all_servers {
            self.servers.insert(id);
        }
        self.links = true;
    }

    /// A server has told what it and its VMs use.
    pub(crate) fn server_load(&mut self, id: ServerId) {
        self.vms = true;
        if !self.all_servers {
            self.servers.insert(id);
        }
    }

    pub(crate) fn rules(&mut self, id: SwitchId) {
        self.rules.insert(id);
        self.switches = true;
    }
}
