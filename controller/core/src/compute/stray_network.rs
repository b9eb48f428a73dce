//! The network of strays: a VM without a record keeps it while it runs.
//!
//! What a hypervisor keeps with a VM says its addresses, its place and its class. From that a stray
//! gets the rules, the ARP and the DHCP answers that it would have with a record; it reserves
//! nothing. It is not served
//! 1. where its id, its Ethernet address or its IP address is somebody else's too, or is none for
//!    VMs of this site;
//! 2. where nothing of that is kept with it: then only those rules stay that switches have
//!    ([`crate::compute::left_rules`]).

use crate::compute::strays::{Network, Stray};
use crate::compute::{ComputeMut, ComputeRef};
use crate::network::attachment;
use crate::network::host_tracker::HostKind;
use crate::rules::desired::RuleSet;
use crate::rules::owners::owner;
use crate::rules::transactions::Purpose;
use crate::rules::{building_blocks, compile};
use crate::timers::Timer;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tandem_model::{Level, Mac, ServerId, SwitchId, VmId, VmRecord, VmRequest, VmState};

/// How many VMs, on record or running strays, have an id, an Ethernet address and an IP address.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) ids: BTreeMap<u32, usize>,
    pub(crate) macs: BTreeMap<Mac, usize>,
    pub(crate) addresses: BTreeMap<Ipv4Addr, usize>,
}

impl Taken {
    pub(crate) fn add(&mut self, id: VmId, mac: Mac, address: Option<Ipv4Addr>) {
        *self.ids.entry(id.0 as u32).or_default() += 1;
        *self.macs.entry(mac).or_default() += 1;
        if let Some(address) = address {
            *self.addresses.entry(address).or_default() += 1;
        }
    }
}

impl<'a> ComputeRef<'a> {
    /// A VM's record, or the one that a stray is served by.
    pub(crate) fn record_of(self, vm: VmId) -> Option<&'a VmRecord> {
        let known = self.compute.vms.get(&vm).map(|v| &v.record);
        known.or_else(|| self.compute.strays.of(vm).find_map(|s| s.network.served()))
    }

    /// The record that a stray is served by.
    pub(crate) fn stray_record(self, stray: &Stray, taken: &Taken) -> Result<VmRecord, String> {
        let (id, server) = (stray.found.vm, stray.found.server);
        if !stray.found.runs {
            return Err("it does not run".to_owned());
        }
        let spec = stray.found.spec.as_deref().filter(|s| stray.address == Some(s.address));
        let Some(spec) = spec else {
            return Err("what is kept with it does not say its addresses (it was made by an older version)"
                .to_owned());
        };
        if taken.ids.get(&(id.0 as u32)).is_some_and(|count| *count > 1) {
            return Err("there is another VM with its id".to_owned());
        }
        let (mac, address) = (spec.mac, spec.address);
        let shared = |count: Option<&usize>| count.is_some_and(|count| *count > 1);
        if shared(taken.macs.get(&mac)) || shared(taken.addresses.get(&address)) {
            let who = self.is_free_for(stray, mac, address).err();
            return Err(who.unwrap_or_else(|| format!("somebody else has {address} or {mac}")));
        }
        self.is_for_vms(id, mac, address)?;
        let classes = self.cx.site.classes.len();
        let request = VmRequest {
            resources: spec.resources,
            class: spec.origin.class.filter(|c| usize::from(c.0) < classes),
            timeout: spec.origin.timeout,
            name: spec.name.clone(),
            image: spec.image.clone(),
            ..VmRequest::default()
        };
        let is_at = |r: &&VmRecord| (r.server, r.mac, r.address) == (server, mac, address);
        let before = stray.network.served().filter(is_at);
        let before = before.filter(|r| self.network().server_side_port(r) == Some(spec.uplink_port));
        if let Some(before) = before.filter(|r| self.network().has_way(r)) {
            return Ok(VmRecord { request, ..before.clone() });
        }
        let found = self.place_served(server, spec.uplink_port, spec.origin.gateway, request.resources.net);
        let Some(place) = found else {
            // Its path is dead and there is no other: its rules stay as they are.
            let kept = before.map(|r| VmRecord { request, ..r.clone() });
            return kept.ok_or_else(|| "no path leads from its port to a gateway".to_owned());
        };
        Ok(VmRecord {
            id,
            request,
            server,
            uplink: place.uplink,
            gateway: place.gateway,
            mac,
            address,
            path_up: place.path_up,
            path_down: place.path_down,
            pin: None,
            state: VmState::Running,
            placed_at: spec.origin.placed_at,
            running_at: None,
            expires_at: None,
        })
    }
}

impl ComputeMut<'_> {
    /// Serves all strays that can be served, by the topology as it is, and no other.
    pub(crate) fn serve_strays(&mut self) {
        let mut taken = Taken::default();
        for record in
            self.compute.vms.values().map(|v| &v.record).filter(|_| !self.compute.strays.all.is_empty())
        {
            taken.add(record.id, record.mac, Some(record.address));
        }
        for stray in self.compute.strays.iter().filter(|s| s.found.runs) {
            taken.add(stray.found.vm, stray.mac(), stray.address);
        }
        let keys: Vec<(VmId, ServerId)> = self.compute.strays.all.keys().copied().collect();
        let mut refused: BTreeMap<String, Vec<(VmId, ServerId)>> = BTreeMap::new();
        for key in keys {
            if let Some(why) = self.serve_stray(key, &taken) {
                refused.entry(why).or_default().push(key);
            }
        }
        self.end_services();
        for (why, keys) in refused {
            let text = format!(
                "not served without a record: {} ({why}); at most the rules stay that switches had for them already. `tandem vm list \
                 --strays` lists them",
                self.compute().named(&keys)
            );
            self.cx.notice(Level::Warning, "vm-stray-unserved", text);
        }
        self.review_left();
    }

    /// Takes away what those had who are gone, or are not served any more.
    pub(crate) fn end_services(&mut self) {
        for record in std::mem::take(&mut self.compute.strays.gone) {
            self.end_service(&record);
        }
    }

    /// A VM or a stray is gone: a stray that had something in common with it may be served now.
    pub(crate) fn serve_after(&mut self, id: VmId, mac: Mac, address: Option<Ipv4Addr>) {
        let in_common = |s: &Stray| {
            s.found.vm.0 as u32 == id.0 as u32
                || s.mac() == mac
                || (address.is_some() && s.address == address)
        };
        if self.compute.strays.iter().any(|s| s.network.refused().is_some() && in_common(s)) {
            return self.serve_strays();
        }
        self.end_services();
        self.review_left();
    }

    /// Why it is not served, the first time.
    pub(crate) fn serve_stray(&mut self, key: (VmId, ServerId), taken: &Taken) -> Option<String> {
        let stray = self.compute.strays.all.get(&key).filter(|s| !s.adopting)?.clone();
        let before = stray.network.served().cloned();
        match self.compute().stray_record(&stray, taken) {
            Ok(record) => {
                let is_same = |b: &VmRecord| (b.address, b.mac) == (record.address, record.mac);
                if let Some(before) = before.as_ref().filter(|b| !is_same(b)) {
                    self.forget_stray_host(before);
                }
                let entered = before.as_ref().map(|b| b.path_down.first());
                let enters_anew = entered != Some(record.path_down.first());
                if before.as_ref() != Some(&record)
                    && let Some(stray) = self.compute.strays.all.get_mut(&key)
                {
                    stray.network = Network::Served(Box::new(record.clone()));
                    self.cx.dirty.vms = true;
                }
                self.declare_stray(&record);
                if before.is_none() {
                    self.compute.strays.unsettled.insert(record.id);
                }
                self.install_stray(&record);
                let gateway = self.cx.site.topology.gateway(record.gateway);
                if enters_anew && gateway.is_some_and(|g| g.uplinks.len() > 1) {
                    self.announce(record.id);
                }
                None
            }
            Err(why) => {
                self.compute.strays.gone.extend(before);
                let is_new = stray.network.refused() != Some(why.as_str());
                if let Some(stray) = self.compute.strays.all.get_mut(&key).filter(|_| is_new) {
                    stray.network = Network::Refused(why.clone());
                    self.cx.dirty.vms = true;
                }
                (is_new && stray.found.runs).then_some(why)
            }
        }
    }

    pub(crate) fn declare_stray(&mut self, record: &VmRecord) {
        let at = attachment::server_port(&self.cx.site.topology, record).into_iter().collect();
        let kind = HostKind::Vm(record.id);
        match self.net.hosts.get(record.address) {
            Some(host) if (host.kind, host.mac) == (kind, record.mac) => {
                if host.expected != at {
                    self.net.hosts.move_to(record.address, at);
                }
            }
            _ => self.net.hosts.declare(record.address, kind, record.mac, at),
        }
    }

    pub(crate) fn install_stray(&mut self, record: &VmRecord) {
        let marking = building_blocks::Marking { site: &self.cx.site, queues: self.rules.classes.queues() };
        let rules = compile::vm(marking, &self.net.routes, record, 0);
        let entry: Vec<SwitchId> =
            attachment::server_port(&self.cx.site.topology, record).map(|(s, _)| s).into_iter().collect();
        let (_, differences) = self.rules.desired.replace(owner(record.id), rules);
        self.start_change(Purpose::StrayServed(record.id), differences, &entry);
    }

    /// Its rules are in the switches: what they had for it before can go.
    pub(crate) fn stray_settled(&mut self, vm: VmId) {
        if self.compute.strays.unsettled.remove(&vm) && self.compute.strays.unsettled.is_empty() {
            self.review_left();
        }
    }

    /// A stray that is not served any more: its rules go, unless whoever has its id now has rules
    /// of its own.
    pub(crate) fn end_service(&mut self, before: &VmRecord) {
        let now = self.compute().record_of(before.id).map(|r| r.address);
        if now != Some(before.address) {
            self.forget_stray_host(before);
        }
        if now.is_none() {
            let (_, differences) = self.rules.desired.replace(owner(before.id), RuleSet::new());
            self.start_change(Purpose::Upkeep, differences, &[]);
        }
    }

    pub(crate) fn forget_stray_host(&mut self, record: &VmRecord) {
        if self.net.hosts.get(record.address).is_some_and(|h| h.kind == HostKind::Vm(record.id)) {
            self.net.hosts.forget(record.address);
            self.cx.timers.cancel(Timer::HostCheck(record.address));
        }
    }
}
