//! VMs that run without a record, as they are found, held apart from others, and stopped on
//! request.

use crate::compute::ipam::vm_mac;
use crate::compute::strays::{Network, Stray};
use crate::compute::vm::Vm;
use crate::compute::{ComputeMut, ComputeRef};
use crate::network::{attachment, host_tracker};
use crate::rules::owners::owner;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tandem_model::{
    Effect, FoundVm, Level, Mac, PortNo, RequestId, Response, ServerId, SwitchId, VmId, VmState,
};

/// VMs that a notice names.
pub(crate) const NAMED: usize = 6;

/// Ids of strays below this are never given out again; ids beyond come from no controller, and are
/// only stepped over.
pub(crate) const BELIEVABLE_ID: u64 = 1 << 31;

impl ComputeMut<'_> {
    pub(crate) fn on_vms_found(&mut self, vms: Vec<FoundVm>) {
        self.compute.strays.found = vms.into_iter().map(|f| ((f.vm, f.server), f)).collect();
    }

    /// Holds what is there against what is known, and keeps a list of what is not.
    pub(crate) fn take_strays(&mut self, there: &[(VmId, ServerId)]) {
        let mut now: BTreeMap<(VmId, ServerId), FoundVm> = BTreeMap::new();
        for (vm, server) in there {
            // One that is being stopped is no stray, wherever it is.
            let stopping = |v: &Vm| matches!(v.record.state, VmState::Stopping { .. });
            let leftover = self.compute.strays.origin(*vm, *server).is_some()
                && self.compute().is_of_record(*vm, *server)
                && self.compute.vms.get(vm).is_some_and(stopping);
            if self.compute().is_ours(*vm, *server) || leftover {
                continue;
            }
            let spec = self.compute.strays.found.get(&(*vm, *server)).and_then(|f| f.spec.clone());
            now.insert((*vm, *server), FoundVm { vm: *vm, server: *server, runs: true, spec });
        }
        let halted =
            self.compute.strays.found.values().filter(|f| !f.runs && !there.contains(&(f.vm, f.server)));
        let halted = halted.filter(|f| !self.compute().is_of_record(f.vm, f.server));
        now.extend(halted.map(|f| ((f.vm, f.server), f.clone())));
        let gone: Vec<(VmId, ServerId)> = self
            .compute
            .strays
            .all
            .keys()
            .filter(|key| !now.contains_key(*key) && !self.compute.away.contains_key(&key.1))
            .copied()
            .collect();
        for key in gone {
            self.drop_stray(key);
        }
        let mut new = Vec::new();
        for (key, found) in now {
            if found.vm.0 < BELIEVABLE_ID {
                self.compute.last_vm = self.compute.last_vm.max(found.vm.0);
            }
            let address = found.spec.as_ref().map(|s| s.address);
            if let Some(stray) = self.compute.strays.all.get_mut(&key) {
                stray.found = found;
                if !stray.stopping.is_empty() {
                    // Whoever was asked to stop it was away.
                    self.ask_stop_stray(key);
                }
            } else {
                new.push(key);
                let stray = Stray {
                    found,
                    address: None,
                    holds: false,
                    stopping: Vec::new(),
                    adopting: false,
                    network: Network::Unseen,
                };
                self.compute.strays.all.insert(key, stray);
            }
            if let Some(address) = address {
                self.hold_address(key, address);
            }
        }
        self.say_strays(&new);
        self.serve_strays();
    }

    pub(crate) fn say_strays(&mut self, new: &[(VmId, ServerId)]) {
        if new.is_empty() {
            return;
        }
        let text = format!(
            "this controller has no record of {}: left alone, with the network that they have. `tandem vm list --strays` lists \
             them, `tandem vm adopt` takes one up as it is, `tandem vm stop-stray` stops one",
            self.compute().named(new)
        );
        self.cx.notice(Level::Warning, "vm-stray", text);
    }

    /// A stray's address is given to nobody else.
    pub(crate) fn hold_address(&mut self, key: (VmId, ServerId), address: Ipv4Addr) {
        let Some(stray) = self.compute.strays.all.get_mut(&key) else { return };
        if stray.address == Some(address) {
            return;
        }
        let before = stray.address.replace(address).filter(|_| std::mem::take(&mut stray.holds));
        if let Some(before) = before {
            self.compute.addresses.give_back(before);
        }
        if (self.compute.strays.left.hand_over(address) || self.compute.addresses.hold(address))
            && let Some(stray) = self.compute.strays.all.get_mut(&key)
        {
            stray.holds = true;
        }
        self.cx.dirty.vms = true;
    }

    /// Forgets a stray that is not there any more; [`ComputeMut::serve_strays`] is to follow.
    pub(crate) fn drop_stray(&mut self, key: (VmId, ServerId)) {
        let Some(stray) = self.compute.strays.all.remove(&key) else { return };
        if let Some(address) = stray.address.filter(|_| stray.holds) {
            self.compute.addresses.give_back(address);
        }
        self.compute.strays.gone.extend(stray.network.served().cloned());
        self.cx.dirty.vms = true;
        stray.stopping.into_iter().for_each(|r| self.cx.answer(r, Response::Done));
    }

    /// The next VM's id: no VM, stray or switch's cookie (which holds 32 bits of it) has it, those
    /// of rules that are left neither.
    pub(crate) fn next_vm_id(&mut self) -> VmId {
        loop {
            self.compute.last_vm += 1;
            let id = VmId(self.compute.last_vm);
            let taken = |s: &Stray| s.found.vm.0 as u32 == id.0 as u32 || s.mac() == vm_mac(id);
            if !self.compute.strays.iter().any(taken) && !self.compute.strays.left.has(owner(id)) {
                return id;
            }
        }
    }

    /// Somebody at a port sends with the Ethernet address of a stray that is there, whose address
    /// is not known: this is its address.
    pub(crate) fn learn_stray(&mut self, at: (SwitchId, PortNo), mac: Mac, ip: Ipv4Addr) {
        let topology = &self.cx.site.topology;
        let is_at = |server: ServerId| {
            let uplinks = topology.server(server).map_or(0, |s| s.uplinks.len());
            (0..uplinks).any(|u| attachment::uplink_port(topology, server, u) == Some(at))
        };
        let unknown = |s: &&Stray| s.address.is_none() && s.mac() == mac && is_at(s.found.server);
        let key = self.compute.strays.iter().find(unknown).map(|s| (s.found.vm, s.found.server));
        // One that somebody else has is not learnt.
        if let Some(key) = key
            && self.net.hosts.get(ip).is_none_or(|h| h.kind == host_tracker::HostKind::Unknown)
            && (self.compute.strays.left.hand_over_to(key.0, ip) || self.compute.addresses.hold(ip))
            && let Some(stray) = self.compute.strays.all.get_mut(&key)
        {
            (stray.address, stray.holds) = (Some(ip), true);
            self.cx.dirty.vms = true;
        }
    }

    /// The stray that is meant, or an answer why none is.
    pub(crate) fn stray_meant(
        &mut self,
        request: RequestId,
        vm: VmId,
        server: Option<ServerId>,
    ) -> Option<(VmId, ServerId)> {
        let all: Vec<ServerId> = self.compute.strays.of(vm).map(|s| s.found.server).collect();
        let answer = match (server, &all[..]) {
            (Some(server), _) if all.contains(&server) => return Some((vm, server)),
            (None, [server]) => return Some((vm, *server)),
            (None, [_, ..]) => {
                let names: Vec<String> = all.iter().map(|s| self.cx.server_name(*s)).collect();
                let why = format!("there is a {vm} on {}: say which with --server", names.join(" and on "));
                Response::Conflict { why }
            }
            _ => Response::NotFound { what: format!("stray {vm}{}", self.compute().on_server(server)) },
        };
        self.cx.answer(request, answer);
        None
    }

    pub(crate) fn stop_stray(&mut self, request: RequestId, vm: VmId, server: Option<ServerId>) {
        let Some(key) = self.stray_meant(request, vm, server) else { return };
        if self.compute.world.is_none() || self.compute.away.contains_key(&key.1) {
            let why = match self.compute.away.get(&key.1) {
                Some(why) => {
                    format!("the hypervisor of {} does not answer: {why}", self.cx.server_name(key.1))
                }
                None => self.compute().no_world(),
            };
            return self.cx.answer(request, Response::Failed { why });
        }
        let Some(stray) = self.compute.strays.all.get_mut(&key) else { return };
        if stray.adopting {
            let why = format!("{vm} is being adopted; delete it when it is");
            return self.cx.answer(request, Response::Conflict { why });
        }
        stray.stopping.push(request);
        self.ask_stop_stray(key);
    }

    pub(crate) fn ask_stop_stray(&mut self, (vm, server): (VmId, ServerId)) {
        let placed_at = self.compute.strays.origin(vm, server).map(|o| o.placed_at);
        self.cx.effects.push(Effect::StopVm { vm, server, placed_at });
    }

    /// True when it was a stray that was stopped on somebody's word.
    pub(crate) fn stray_stopped(&mut self, vm: VmId) -> bool {
        let stopped = self.compute.strays.of(vm).find(|s| !s.stopping.is_empty());
        let Some(key) = stopped.map(|s| (s.found.vm, s.found.server)) else { return false };
        let text = format!("{vm} on {}, a stray, was stopped on request", self.cx.server_name(key.1));
        self.end_stray(key);
        self.cx.notice(Level::Info, "vm-gone", text);
        true
    }

    /// A VM that is not known has died, or was stopped by somebody else.
    pub(crate) fn stray_failed(&mut self, vm: VmId) {
        let all: Vec<(VmId, ServerId)> =
            self.compute.strays.of(vm).map(|s| (s.found.vm, s.found.server)).collect();
        // With several it is not known which one.
        if let [key] = all[..]
            && self.compute.strays.all.get(&key).is_some_and(|s| !s.adopting)
        {
            self.end_stray(key);
        }
    }

    /// One that is there no more, while the others are as they were.
    pub(crate) fn end_stray(&mut self, key: (VmId, ServerId)) {
        self.compute.strays.found.remove(&key);
        let Some(stray) = self.compute.strays.all.get(&key) else { return };
        let (mac, address) = (stray.mac(), stray.address);
        self.drop_stray(key);
        self.serve_after(key.0, mac, address);
    }

    /// Has a VM's hypervisor keep with it what it is asked for with now.
    pub(crate) fn tag_vm(&mut self, id: VmId) {
        let Some(record) = self.compute.vms.get(&id).map(|v| v.record.clone()) else { return };
        if self.compute.world.is_none() {
            return;
        }
        if let Some(spec) = self.compute().vm_spec(&record) {
            self.cx.effects.push(Effect::TagVm { vm: id, server: record.server, spec: Box::new(spec) });
        }
    }

    /// The same, where what is kept with it is of an older version or not as it is now.
    pub(crate) fn tag_again(&mut self, id: VmId) {
        let Some(record) = self.compute.vms.get(&id).map(|v| &v.record) else { return };
        // Worlds that tell of no tags keep none.
        let Some(found) = self.compute.strays.found.get(&(id, record.server)) else { return };
        if found.spec.as_deref() != self.compute().vm_spec(record).as_ref() {
            self.tag_vm(id);
        }
    }
}

impl<'a> ComputeRef<'a> {
    /// True when a VM at a server is the one that the record is of.
    pub(crate) fn is_ours(self, vm: VmId, server: ServerId) -> bool {
        self.may_run_on(vm, server) && self.is_of_record(vm, server)
    }

    /// True unless its tag says that it was made for another request than the record.
    pub(crate) fn is_of_record(self, vm: VmId, server: ServerId) -> bool {
        let made_for = self.compute.strays.origin(vm, server).map(|o| o.placed_at);
        self.compute.vms.get(&vm).is_some_and(|v| made_for.is_none_or(|at| at == v.record.placed_at))
    }

    /// The first of them by name, and how many more there are.
    pub(crate) fn named(self, keys: &[(VmId, ServerId)]) -> String {
        let at = |(vm, server): &(VmId, ServerId)| format!("{vm} on {}", self.cx.server_name(*server));
        let mut names: Vec<String> = keys.iter().take(NAMED).map(at).collect();
        names.extend((keys.len() > NAMED).then(|| format!("{} more", keys.len() - NAMED)));
        names.join(", ")
    }

    pub(crate) fn on_server(self, server: Option<ServerId>) -> String {
        server.map(|s| format!(" on {}", self.cx.server_name(s))).unwrap_or_default()
    }
}
