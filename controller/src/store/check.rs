//! Checks the stored records against the site: all faults are reported at once, and a record is
//! used completely or not at all.
//!
//! A record that does not fit is a [`Severity::Fault`]: the controller does not start, because a
//! wrong record of a VM is worse than a missing one. What a killed controller may leave (a group
//! with a member that was just deleted) is a [`Severity::Leftover`]: it is reported, and left out.

use super::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tandem_model::{
    Hop, LinkId, MigrationRecord, NodeId, OnPlace, PersistedState, Place, ServerId, Site, SwitchId, VmId,
    VmRecord,
};

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The store is not used with this site.
    Fault,
    /// The record is left out.
    Leftover,
}

/// A record that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The table of the record.
    pub table: &'static str,
    /// Its id there.
    pub id: i64,
    /// The severity.
    pub severity: Severity,
    /// The reason.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.table, self.id, self.what)
    }
}

/// All findings; `before` is the layout that the records were written for.
pub fn findings(stored: &PersistedState, before: &Layout, site: &Site) -> Vec<Finding> {
    let mut check = Check { site, before, now: Layout::of(site), found: Vec::new() };
    check.vms(stored);
    check.groups(stored);
    check.migrations(stored);
    check.wishes(stored);
    check.found
}

/// Removes the leftovers: afterwards each group has only stored members.
pub(super) fn leave_out(stored: &mut PersistedState) {
    let known: BTreeSet<VmId> = stored.vms.iter().map(|v| v.id).collect();
    for group in &mut stored.groups {
        group.members.retain(|m| known.contains(m));
    }
}

struct Check<'a> {
    site: &'a Site,
    before: &'a Layout,
    now: Layout,
    found: Vec<Finding>,
}

/// Compares the name at an index when the record was written with the present one.
fn moved(what: &str, index: usize, before: &[String], now: &[String]) -> Option<String> {
    match (before.get(index), now.get(index)) {
        (_, None) => Some(match before.get(index) {
            Some(name) => format!("{what} {name}, which the site no longer has"),
            None => format!("{what} number {index}, which the site does not have"),
        }),
        (Some(then), Some(there)) if then != there => Some(format!(
            "{what} {then}, and the site file now has {there} in its place (records know them by their place in the file: add new ones \
             after the others)"
        )),
        _ => None,
    }
}

impl Check<'_> {
    fn add(&mut self, table: &'static str, id: u64, what: impl Into<String>) {
        let severity = Severity::Fault;
        self.found.push(Finding { table, id: id.cast_signed(), severity, what: what.into() });
    }

    fn leftover(&mut self, table: &'static str, id: u64, what: String) {
        self.found.push(Finding { table, id: id.cast_signed(), severity: Severity::Leftover, what });
    }

    fn server(&self, id: ServerId) -> Option<String> {
        moved("server", id.0 as usize, &self.before.servers, &self.now.servers)
    }

    fn switch(&self, id: SwitchId) -> Option<String> {
        moved("switch", id.0 as usize, &self.before.switches, &self.now.switches)
    }

    fn link(&self, id: LinkId) -> Option<String> {
        moved("link", id.0 as usize, &self.before.links, &self.now.links)
    }

    /// The faults of a placement, and of its paths.
    fn place(&self, place: &Place) -> Vec<String> {
        let mut faults: Vec<String> =
            self.server(place.server).map(|f| format!("it is on {f}")).into_iter().collect();
        let uplink = self.site.topology.access(place.server, place.uplink as usize);
        if faults.is_empty() && uplink.is_none() {
            let name = self.site.topology.name(NodeId::Server(place.server));
            faults.push(format!(
                "it is reached by uplink {} of server {name}, which has none of that number",
                place.uplink
            ));
        }
        let gateway = moved("gateway", place.gateway.0 as usize, &self.before.gateways, &self.now.gateways);
        faults.extend(gateway.map(|f| format!("it speaks to the outside by {f}")));
        let ends = (NodeId::Server(place.server), NodeId::Gateway(place.gateway));
        let whole = faults.is_empty();
        for (name, path, from, to) in [
            ("path to its gateway", &place.path_up, ends.0, ends.1),
            ("path from its gateway", &place.path_down, ends.1, ends.0),
        ] {
            faults
                .extend(self.path(path, whole.then_some((from, to))).map(|why| format!("its {name} {why}")));
        }
        faults
    }

    /// The fault of a path; an empty one is valid (the VM is cut off).
    fn path(&self, path: &[Hop], ends: Option<(NodeId, NodeId)>) -> Option<String> {
        if let Some(gone) = path.iter().find_map(|hop| self.link(hop.link)) {
            return Some(format!("goes over {gone}"));
        }
        let (from, to) = ends.filter(|_| !path.is_empty())?;
        let mut at = from;
        for hop in path {
            let link = self.site.topology.link(hop.link)?;
            let (begin, end) = if hop.down { (link.a.node, link.b.node) } else { (link.b.node, link.a.node) };
            if begin != at {
                let topology = &self.site.topology;
                return Some(format!("is broken: it does not go on from {}", topology.name(at)));
            }
            at = end;
        }
        (at != to).then(|| {
            format!("ends at {} instead of {}", self.site.topology.name(at), self.site.topology.name(to))
        })
    }

    fn vms(&mut self, stored: &PersistedState) {
        let (mut macs, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for vm in &stored.vms {
            let faults = self.vm(vm);
            faults.into_iter().for_each(|f| self.add("vm", vm.id.0, f));
            if let Some(other) = addresses.insert(vm.address, vm.id) {
                self.add("vm", vm.id.0, format!("its address {} is {other}'s too", vm.address));
            }
            if let Some(other) = macs.insert(vm.mac, vm.id) {
                self.add("vm", vm.id.0, format!("its Ethernet address {} is {other}'s too", vm.mac));
            }
        }
    }

    fn vm(&self, vm: &VmRecord) -> Vec<String> {
        let mut faults = self.place(&Place::of(vm));
        let topology = &self.site.topology;
        // A VM that was moved keeps its address, so it may be in another edge's prefix than its
        // server's.
        if !topology.switches.iter().filter_map(|s| s.prefix).any(|p| p.contains(vm.address)) {
            faults.push(format!("its address {} is in no edge switch's prefix", vm.address));
        }
        let machines = topology.servers.iter().map(|s| (&s.name, s.address, s.mac));
        let machines = machines.chain(topology.gateways.iter().map(|g| (&g.name, g.address, g.mac)));
        for (name, address, mac) in machines {
            if address == vm.address || mac == vm.mac {
                faults.push(format!("it has {name}'s address ({address}, {mac})"));
            }
        }
        if vm.mac.is_multicast() {
            faults.push(format!("its Ethernet address {} is one of a group", vm.mac));
        }
        if let Some(class) = vm.request.class {
            let class = moved("class", usize::from(class.0), &self.before.classes, &self.now.classes);
            faults.extend(class.map(|f| format!("it is of {f}")));
        }
        match vm.request.constraints.on {
            Some(OnPlace::Server(server)) => {
                faults.extend(self.server(server).map(|f| format!("it is kept to {f}")));
            }
            Some(OnPlace::Edge(switch)) => {
                faults.extend(self.switch(switch).map(|f| format!("it is kept to the servers of {f}")));
            }
            None => {}
        }
        let pins = vm.pin.iter().flatten().filter_map(|s| self.switch(*s));
        faults.extend(pins.map(|f| format!("its path is pinned to {f}")));
        if u32::try_from(vm.id.0).is_err() {
            faults.push("its number is above 4294967295".to_owned());
        }
        faults
    }

    fn groups(&mut self, stored: &PersistedState) {
        let known: BTreeSet<VmId> = stored.vms.iter().map(|v| v.id).collect();
        for group in &stored.groups {
            for member in group.members.iter().filter(|m| !known.contains(m)) {
                if member.0 <= stored.last_vm {
                    let what = format!("its member {member} is gone; it is left out");
                    self.leftover("vm_group", group.id.0, what);
                } else {
                    self.add("vm_group", group.id.0, format!("its member {member} was never there"));
                }
            }
            if u32::try_from(group.id.0).is_err() {
                self.add("vm_group", group.id.0, "its number is above 4294967295");
            }
        }
    }

    fn migrations(&mut self, stored: &PersistedState) {
        let known: BTreeSet<VmId> = stored.vms.iter().map(|v| v.id).collect();
        for migration in &stored.migrations {
            let MigrationRecord { id, vm, from, to, path, .. } = migration;
            if !known.contains(vm) {
                if vm.0 <= stored.last_vm {
                    self.leftover("migration", id.0, format!("{vm}, which it moves, is gone"));
                } else {
                    self.add("migration", id.0, format!("{vm}, which it moves, was never there"));
                }
            }
            for (name, place) in [("old", from), ("new", to)] {
                let faults = self.place(place);
                faults
                    .into_iter()
                    .for_each(|f| self.add("migration", id.0, format!("its {name} place: {f}")));
            }
            if let Some(fault) = self.path(path, None) {
                self.add("migration", id.0, format!("its traffic's path {fault}"));
            }
        }
    }

    /// Checks the manual overrides.
    fn wishes(&mut self, stored: &PersistedState) {
        for port in &stored.ports {
            let id = super::port_id(port.switch, port.port);
            if let Some(fault) = self.switch(port.switch) {
                self.add("port", id, format!("port {} was switched off at {fault}", port.port));
            }
        }
        for server in &stored.drained {
            if let Some(fault) = self.server(*server) {
                self.add("drained", u64::from(server.0), format!("out of service is {fault}"));
            }
        }
        let classes = self.now.classes.len();
        if !stored.shares.is_empty() && stored.shares.len() != classes {
            let what = format!(
                "it has shares of {} classes, and the site has {classes}; they are left out",
                stored.shares.len()
            );
            self.leftover("shares", 0, what);
        }
        let is_percent = |n: f64| n.is_finite() && (0.0..=100.0).contains(&n);
        if stored.shares.iter().any(|s| !is_percent(s.share) || !is_percent(s.ceiling)) {
            self.add("shares", 0, "a share is no percentage");
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
