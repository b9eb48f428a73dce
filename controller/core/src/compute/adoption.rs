//! Adopting: a VM that runs without a record of it becomes a VM like any other, and nothing of it
//! is changed.
//!
//! 1. What its tag says and what is said now make its request; what neither says is asked for, and
//!    they must not contradict each other.
//! 2. Its place is where it runs, by the uplink and the gateway that it has. There it is reserved,
//!    if need be beyond what is free.
//! 3. The store has it before anything else knows it. Then it gets its rules, and its tag is
//!    written as this version has it.

use crate::compute::pending_writes::PendingWrite;
use crate::compute::strays::Stray;
use crate::compute::vm::Vm;
use crate::compute::{ComputeMut, ComputeRef};
use crate::network::attachment;
use crate::network::host_tracker::HostKind;
use crate::network::paths::NO_WAY;
use crate::network::place::Placement;
use crate::rules::transactions::Purpose;
use std::net::Ipv4Addr;
use tandem_model::text::escaped;
use tandem_model::{
    Adoption, BitRate, Effect, GatewayId, Level, Mac, NodeId, PortNo, RequestId, Resources, Response,
    ServerId, SiteEvent, StoreOp, VmId, VmOrigin, VmRecord, VmRequest, VmState,
};

impl ComputeMut<'_> {
    pub(crate) fn adopt_vm(
        &mut self,
        request: RequestId,
        vm: VmId,
        server: Option<ServerId>,
        known: Adoption,
    ) {
        let Some(key) = self.stray_meant(request, vm, server) else { return };
        if self
            .compute
            .strays
            .all
            .get(&key)
            .is_some_and(|stray| self.compute().record_elsewhere(stray).is_some())
        {
            return self.follow_vm(request, key, &known);
        }
        let record = self.adoption(key, known);
        self.store_adopted(request, key, record, PendingWrite::Adopted);
    }

    /// Asks the store for the record that a stray is to have, and reserves what it needs meanwhile;
    /// or answers why it can have none.
    pub(crate) fn store_adopted(
        &mut self,
        request: RequestId,
        key: (VmId, ServerId),
        record: Result<VmRecord, String>,
        wait: fn(Box<VmRecord>, RequestId) -> PendingWrite,
    ) {
        match record {
            Ok(record) => {
                self.reserve(&Placement::of(&record), &record.request);
                if let Some(stray) = self.compute.strays.all.get_mut(&key) {
                    stray.adopting = true;
                }
                let vm = Box::new(record.clone());
                self.store(StoreOp::PutVm { vm }, wait(Box::new(record), request));
            }
            Err(why) => self.cx.answer(request, Response::Conflict { why }),
        }
    }

    /// The record that a stray will have.
    fn adoption(&mut self, key: (VmId, ServerId), known: Adoption) -> Result<VmRecord, String> {
        let (id, server) = key;
        let place = self.cx.server_name(server);
        let Some(stray) = self.compute.strays.all.get(&key).cloned() else {
            return Err(format!("{id} is gone"));
        };
        if let Some(other) = self.compute.vms.values().find(|v| v.record.id.0 as u32 == id.0 as u32) {
            let (other, at) = (other.record.id, self.cx.server_name(other.record.server));
            return Err(format!(
                "there is a record of {other} already, on {at}: delete that first, or stop this one (`tandem vm stop-stray {id}`)"
            ));
        }
        if self.compute.world.is_none() {
            return Err(self.compute().no_world());
        }
        if stray.adopting || !stray.stopping.is_empty() {
            let what = if stray.adopting { "adopted" } else { "stopped" };
            return Err(format!("{id} is being {what} already"));
        }
        if !stray.found.runs {
            return Err(format!(
                "{id} is on {place} but does not run, and only a VM that runs can be adopted: start it there by hand, or remove it \
                 (`tandem vm stop-stray {id}`)"
            ));
        }
        let lacks: Vec<&str> = stray.lacks().into_iter().filter(|name| !is_said(&known, name)).collect();
        if !lacks.is_empty() {
            let options: Vec<String> = lacks.iter().map(|name| format!("--{name}")).collect();
            return Err(format!(
                "what is kept with {id} on {place} does not say all of its request (it was made by an older version): say {}",
                options.join(", ")
            ));
        }
        let request = self.compute().adopted_request(&stray, &known)?;
        let address = agree("address", stray.address, known.address)?;
        let Some(address) = address else { return Err(format!("{id} has no address: say --address")) };
        let mac = stray.mac();
        self.compute().is_free_for(&stray, mac, address)?;
        let origin = stray.found.spec.as_ref().map(|s| (s.uplink_port, s.origin));
        let placement = self.compute().place_found(server, origin, request.resources.net).ok_or_else(|| {
            format!("no path between {place} and a gateway is alive; {id} can be adopted when its switches are connected")
        })?;
        self.hold_address(key, address);
        let now = self.cx.wall_now();
        Ok(VmRecord {
            id,
            server: placement.server,
            uplink: placement.uplink,
            gateway: placement.gateway,
            mac,
            address,
            path_up: placement.path_up,
            path_down: placement.path_down,
            pin: None,
            state: VmState::Running,
            placed_at: origin.map_or(now, |(_, o)| o.placed_at),
            running_at: Some(now),
            expires_at: request.timeout.map(|t| now + t),
            request,
        })
    }

    /// The store has it: it is a VM like any other from now on.
    pub(crate) fn adopted(&mut self, record: VmRecord, request: RequestId) {
        let (id, server) = (record.id, record.server);
        let before = self.compute.strays.all.remove(&(id, server)).and_then(|s| s.found.spec);
        if let Some(at) = record.expires_at {
            self.begin_lease(id, at);
        }
        self.compute.vms.insert(id, Vm::adopted(record.clone()));
        self.cx.dirty.vms = true;
        self.declare_vm(id);
        self.install(id, Purpose::VmMove(id));
        self.review_left();
        if self.compute.world.is_some() {
            let uplink = self.network().server_side_port(&record);
            if let Some(uplink_port) = uplink.filter(|p| before.as_ref().map(|s| s.uplink_port) != Some(*p)) {
                self.cx.effects.push(Effect::AttachVm { vm: id, server, uplink_port });
            }
            self.tag_vm(id);
        }
        self.start_traffic(id);
        self.announce(id);
        let text =
            format!("{id} ({}) on {} was adopted as it runs", record.address, self.cx.server_name(server));
        self.cx.notice(Level::Info, "vm-adopted", text);
        self.cx.tell(SiteEvent::VmStarted { vm: id, server });
        if !self.network().has_way(&record) {
            self.cut(id, NO_WAY);
        }
        self.cx.answer(request, Response::VmRunning { vm: Box::new(record) });
    }

    /// The store could not write it: it stays a stray.
    pub(crate) fn not_adopted(&mut self, record: &VmRecord, request: RequestId, why: String) {
        self.release(&Placement::of(record), &record.request);
        if let Some(stray) = self.compute.strays.all.get_mut(&(record.id, record.server)) {
            stray.adopting = false;
        }
        self.cx.answer(request, Response::Failed { why });
    }
}

impl<'a> ComputeRef<'a> {
    /// What was asked for, by the tag and by what is said now; the two must not contradict each
    /// other.
    pub(crate) fn adopted_request(self, stray: &Stray, known: &Adoption) -> Result<VmRequest, String> {
        let spec = stray.found.spec.as_deref();
        let size = spec.map(|s| s.resources);
        let classes = self.cx.site.classes.len();
        let class = spec.and_then(|s| s.origin.class).filter(|c| usize::from(c.0) < classes);
        if known.class.is_some_and(|c| usize::from(c.0) >= classes) {
            return Err("the site file has no such class".to_owned());
        }
        Ok(VmRequest {
            resources: Resources {
                cpu: agree("cpu", size.map(|s| s.cpu), known.cpu)?.unwrap_or_default(),
                ram: agree("ram", size.map(|s| s.ram), known.ram)?.unwrap_or_default(),
                disk: agree("disk", size.map(|s| s.disk), known.disk)?.unwrap_or_default(),
                net: agree("net", size.map(|s| s.net), known.net)?.unwrap_or_default(),
            },
            class: agree("class", class, known.class)?,
            timeout: known.timeout.or_else(|| spec.and_then(|s| s.origin.timeout)),
            name: self.adopted_name(spec.and_then(|s| s.name.clone()), known.name.clone())?,
            image: agree("image", spec.and_then(|s| s.image.clone()), known.image.clone())?,
            ..VmRequest::default()
        })
    }

    /// The name that an adopted VM has: what its tag says, or, where another VM has that, what is
    /// said now.
    fn adopted_name(self, kept: Option<String>, said: Option<String>) -> Result<Option<String>, String> {
        let of_another = |name: &Option<String>| self.name_taken(name.as_deref());
        let name = match of_another(&kept) {
            Some(_) => said.or(kept),
            None => agree("name", kept, said)?,
        };
        match of_another(&name) {
            Some(other) => {
                let name = name.as_deref().map(escaped);
                let name = name.map(|n| n.to_string()).unwrap_or_default();
                Err(format!("{other} has the name \"{name}\" already: say another (--name)"))
            }
            None => Ok(name),
        }
    }

    /// Whether nobody else has a stray's addresses.
    pub(crate) fn is_free_for(self, stray: &Stray, mac: Mac, address: Ipv4Addr) -> Result<(), String> {
        let same = |v: &&Vm| v.record.address == address || v.record.mac == mac;
        if let Some(vm) = self.compute.vms.values().find(same) {
            return Err(format!("{} has its address {address} or its Ethernet address {mac}", vm.record.id));
        }
        let key = |s: &Stray| (s.found.vm, s.found.server);
        let same = |s: &&Stray| key(s) != key(stray) && (s.address == Some(address) || s.mac() == mac);
        if let Some(other) = self.compute.strays.iter().find(same) {
            let at = self.cx.server_name(other.found.server);
            return Err(format!("{} on {at} has its addresses too; stop one of them", other.found.vm));
        }
        self.is_for_vms(stray.found.vm, mac, address)
    }

    /// Whether a VM may have these addresses at all.
    pub(crate) fn is_for_vms(self, vm: VmId, mac: Mac, address: Ipv4Addr) -> Result<(), String> {
        let is_anothers = |kind| kind != HostKind::Vm(vm);
        let there = self.net.hosts.get(address).filter(|h| !h.expected.is_empty());
        if !self.compute.addresses.is_for_vms(address) || there.is_some_and(|h| is_anothers(h.kind)) {
            return Err(format!("{address} is no address for VMs of this site"));
        }
        let machine = self.net.hosts.by_mac(mac).map(|(_, h)| h.kind).filter(|k| *k != HostKind::Unknown);
        if machine.is_some_and(is_anothers) || mac.is_multicast() || mac == self.cx.site.addresses.dhcp_mac {
            return Err(format!("{mac} is no Ethernet address for VMs of this site"));
        }
        Ok(())
    }

    /// A way for a VM that runs on a server: by the uplink and the gateway that it has, with room
    /// if there is, else any live one.
    pub(crate) fn place_found(
        self,
        server: ServerId,
        origin: Option<(PortNo, VmOrigin)>,
        rate: BitRate,
    ) -> Option<Placement> {
        let mut uplinks: Vec<usize> = (0..self.cx.site.topology.server(server)?.uplinks.len()).collect();
        uplinks.sort_by_key(|u| self.uplink_side_port(server, *u) != origin.map(|(port, _)| port));
        self.place_by(server, &uplinks, origin.and_then(|(_, o)| o.gateway), rate)
    }

    /// The same by the uplink only that it is plugged into.
    pub(crate) fn place_served(
        self,
        server: ServerId,
        port: PortNo,
        gateway: Option<GatewayId>,
        rate: BitRate,
    ) -> Option<Placement> {
        let count = self.cx.site.topology.server(server)?.uplinks.len();
        let own: Vec<usize> =
            (0..count).filter(|u| self.uplink_side_port(server, *u) == Some(port)).collect();
        self.place_by(server, &own, gateway, rate)
    }

    /// The server's own port of one of its uplinks.
    fn uplink_side_port(self, server: ServerId, uplink: usize) -> Option<PortNo> {
        let topology = &self.cx.site.topology;
        let link = *topology.server(server)?.uplinks.get(uplink)?;
        attachment::port_on(topology, NodeId::Server(server), link)
    }

    /// By the first of these uplinks that has room, else by the first that is alive.
    fn place_by(
        self,
        server: ServerId,
        uplinks: &[usize],
        gateway: Option<GatewayId>,
        rate: BitRate,
    ) -> Option<Placement> {
        let topology = &self.cx.site.topology;
        let own = gateway.filter(|g| topology.gateway(*g).is_some());
        let gateways = |uplink: usize| -> Vec<GatewayId> {
            own.map(|g| vec![g]).unwrap_or_else(|| {
                topology
                    .edge_of(server, uplink)
                    .map(|edge| self.net.routes.gateways_from(edge))
                    .unwrap_or_default()
            })
        };
        let ways = || uplinks.iter().flat_map(|u| gateways(*u).into_iter().map(move |g| (*u, g)));
        let placed = |uplink: usize, gateway, (path_up, path_down)| Placement {
            server,
            uplink: uplink as u32,
            gateway,
            path_up,
            path_down,
        };
        let default =
            |(u, g)| Some(placed(u, g, attachment::paths_via(topology, &self.net.routes, server, u, g)?));
        let has_room = |p: &Placement| {
            [&p.path_up, &p.path_down].into_iter().all(|path| self.net.links.shortage(path, rate).is_none())
        };
        let detour = |(u, g), rate| Some(placed(u, g, self.network().detour(server, u, g, rate)?));
        ways()
            .filter_map(default)
            .find(has_room)
            .or_else(|| ways().find_map(|way| detour(way, rate)))
            .or_else(|| ways().find_map(default))
            .or_else(|| ways().find_map(|way| detour(way, BitRate(0))))
    }
}

fn is_said(known: &Adoption, name: &str) -> bool {
    match name {
        "cpu" => known.cpu.is_some(),
        "ram" => known.ram.is_some(),
        "disk" => known.disk.is_some(),
        "net" => known.net.is_some(),
        _ => known.address.is_some(),
    }
}

/// What is kept with a VM, or else what is said of it.
fn agree<T: PartialEq>(name: &str, kept: Option<T>, said: Option<T>) -> Result<Option<T>, String> {
    match (kept, said) {
        (Some(kept), Some(said)) if kept != said => {
            Err(format!("what is kept with it says another {name} than --{name}: leave that out"))
        }
        (kept, said) => Ok(kept.or(said)),
    }
}
