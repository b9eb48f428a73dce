//! What each effect of the core does to the simulated world: to switches, hypervisors, traffic and
//! the store.

use crate::network::uplink_switch;
use crate::transfers::TransferOrder;
use crate::{ScheduledAction, SimEvent, Simulation};
use tandem_model::{
    Cookie, DhcpReplyKind, DhcpRequest, DhcpRequestKind, Effect, Event, NodeId, Owner, PortNo, ServerId,
    Site, StoreOp, SwitchId, TrafficEnd, TrafficId, VmId, VmSpec,
};

/// The flows that a VM may have: to it, and from it.
pub(super) fn traffic(vm: VmId) -> [TrafficId; 2] {
    [TrafficId(vm.0 * 2), TrafficId(vm.0 * 2 + 1)]
}

impl Simulation {
    pub(super) fn apply_effect(&mut self, effect: Effect) {
        let delays = self.delays;
        match effect {
            Effect::SyncRules { switch, txn, rules, .. } => {
                let added = rules.len() as u32;
                self.later(delays.rules, Event::RulesApplied { switch, txn, added, removed: 0 });
                for vm in self.flows.ids().into_iter().filter(|id| id.0 >> 63 == 0).map(|id| VmId(id.0 / 2)) {
                    self.refresh_path(vm);
                }
            }
            Effect::ApplyRules { switch, txn, add, remove } => {
                let added = add.len() as u32;
                let removed = remove.len() as u32;
                self.later(delays.rules, Event::RulesApplied { switch, txn, added, removed });
                let owners = add.iter().map(|r| r.cookie).filter_map(Cookie::owner);
                let mut vms: Vec<u32> =
                    owners.filter_map(|o| if let Owner::Vm(vm) = o { Some(vm) } else { None }).collect();
                vms.dedup();
                vms.into_iter().for_each(|vm| self.refresh_path(VmId(u64::from(vm))));
            }
            Effect::AllocateVm { vm, server, spec } => {
                if spec.fixed_address.is_none() {
                    let event = dhcp(&self.site, server, &spec, vm, DhcpRequestKind::Discover, None);
                    self.later(delays.boot, event);
                }
                self.by_mac.insert(spec.mac, vm);
                self.loads.place(vm, server, spec.resources, self.now);
                self.vms.insert(vm, (server, spec));
                self.later(delays.boot, Event::VmStarted { vm, address: None });
            }
            Effect::SendDhcp { dhcp: reply, .. } if reply.kind == DhcpReplyKind::Offer => {
                let vm = self.by_mac.get(&reply.mac).copied();
                if let Some((vm, (server, spec))) = vm.and_then(|vm| self.vms.get(&vm).map(|v| (vm, v))) {
                    let wanted = Some(reply.address);
                    let event = dhcp(&self.site, *server, spec, vm, DhcpRequestKind::Request, wanted);
                    self.later(delays.packet, event);
                }
            }
            Effect::TagVm { vm, spec, .. } => {
                if let Some((_, kept)) = self.vms.get_mut(&vm) {
                    *kept = *spec;
                }
            }
            Effect::StopVm { vm, placed_at, .. } => {
                // One that was made for another request is not the one that is meant.
                let other =
                    |(_, spec): &(ServerId, VmSpec)| placed_at.is_some_and(|at| spec.origin.placed_at != at);
                if self.vms.get(&vm).is_some_and(other) {
                    return self.later(delays.boot, Event::VmStopped { vm });
                }
                self.drop_transfer_of(vm);
                if let Some((_, spec)) = self.vms.remove(&vm) {
                    self.by_mac.remove(&spec.mac);
                }
                self.past_bytes.remove(&vm);
                self.loads.remove(vm, self.now);
                self.later(delays.boot, Event::VmStopped { vm });
            }
            Effect::ResizeVm { vm, resources, .. } => {
                if let Some((server, spec)) = self.vms.get_mut(&vm) {
                    spec.resources = resources;
                    let server = *server;
                    self.loads.place(vm, server, resources, self.now);
                }
                self.later(delays.packet, Event::VmResized { vm });
            }
            Effect::AttachVm { vm, uplink_port, .. } => {
                if let Some((_, spec)) = self.vms.get_mut(&vm) {
                    spec.uplink_port = uplink_port;
                }
            }
            Effect::TrafficStart { spec } => {
                if let Some(path) = self.path_of(spec.from, spec.to) {
                    // A VM that is policed sends no more than its network rate.
                    let sender = spec.from.vm().filter(|_| self.site.vm.police);
                    let sender = sender.and_then(|vm| self.vms.get(&vm));
                    let rate = sender.map_or(spec.rate, |(_, vm)| spec.rate.min(vm.resources.net));
                    self.flows.start(spec.id, rate, spec.transport, path, self.now);
                    self.follow_rates();
                }
            }
            Effect::TrafficStop { id } => {
                self.flows.advance(self.now);
                let bytes = self.flows.arrived(id);
                if let Some(past) =
                    self.past_bytes.entry(VmId(id.0 / 2)).or_default().get_mut((id.0 % 2) as usize)
                {
                    *past += bytes;
                }
                self.flows.stop(id, self.now);
                self.follow_rates();
            }
            Effect::Store { id, op: record } => {
                match record {
                    StoreOp::PutMigration { migration } => self.transfers.path(migration.id, migration.path),
                    StoreOp::RemoveMigration { migration } => self.transfers.forget(migration),
                    StoreOp::PutMoved { vm, .. } | StoreOp::PutVm { vm } => self.refresh_path(vm.id),
                    StoreOp::PutVmGroup { vms, .. } => vms.iter().for_each(|vm| self.refresh_path(vm.id)),
                    _ => {}
                }
                self.later(delays.store, Event::Stored { id });
            }
            Effect::Response { id, response: answer } => self.answers.push((self.now, id, answer)),
            Effect::PollNow { switch } => {
                if let Some(id) = self.site.topology.switch_by_dpid(switch) {
                    self.push(self.now, ScheduledAction::PollOnce(id));
                }
            }
            Effect::SetPort { switch, port, up } => {
                let topology = &self.site.topology;
                let Some(node) = topology.switch_by_dpid(switch).map(NodeId::Switch) else { return };
                let link = topology.link_at(node, port);
                if up {
                    self.off.remove(&(node, port))
                } else {
                    self.off.insert((node, port))
                };
                link.into_iter().for_each(|l| self.report_port_states(self.now + delays.packet, l));
                self.later(delays.packet, Event::PortSet { switch, port, up });
            }
            Effect::MigrateVm { migration, vm, from, to, manner, spec, rate, downtime, rounds } => {
                self.events.push((self.now, SimEvent::TransferBegun { vm, from, to }));
                self.migrate(TransferOrder {
                    migration,
                    vm,
                    from,
                    to,
                    manner,
                    spec: *spec,
                    rate,
                    downtime,
                    rounds,
                });
            }
            Effect::SetMigrationRate { migration, rate } => self.set_migration_rate(migration, rate),
            Effect::CancelMigration { migration, vm, to, .. } => self.cancel_migration(migration, vm, to),
            Effect::ReportLoads { period } => {
                self.load_epoch += 1;
                self.load_period = period;
                self.push(self.now + period, ScheduledAction::Loads(self.load_epoch));
            }
            Effect::Notice { notice } => {
                let of = ["hotspot", "plan", "migration"];
                if of.iter().any(|word| notice.kind.starts_with(word)) {
                    self.events.push((self.now, SimEvent::Notice(notice)));
                }
            }
            Effect::SendArp { switch, port, arp } => self.answer_arp(switch, port, &arp),
            // A simulated switch has what it was told and nothing from before.
            Effect::SendDhcp { .. }
            | Effect::Discover { .. }
            | Effect::LeaveRules { .. }
            | Effect::ConfigureAgent { .. } => {}
        }
    }

    /// A VM's flows follow its path.
    pub(super) fn refresh_path(&mut self, vm: VmId) {
        let Some(record) = self.core.vm(vm) else { return };
        let [to, from] = traffic(vm);
        self.flows.reroute(to, &record.path_down, self.now);
        self.flows.reroute(from, &record.path_up, self.now);
        self.follow_rates();
    }

    fn path_of(&self, from: TrafficEnd, to: TrafficEnd) -> Option<Vec<tandem_model::Hop>> {
        match (from, to) {
            (TrafficEnd::Gateway(..), TrafficEnd::Vm(vm, _)) => self.core.vm(vm).map(|r| r.path_down.clone()),
            (TrafficEnd::Vm(vm, _), TrafficEnd::Gateway(..)) => self.core.vm(vm).map(|r| r.path_up.clone()),
            _ => None,
        }
    }

    /// Every server reports what it and its VMs use.
    pub(super) fn report_loads(&mut self) -> std::io::Result<()> {
        self.push(self.now + self.load_period, ScheduledAction::Loads(self.load_epoch));
        let site = self.site.clone();
        for (n, declared) in (0u32..).zip(&site.topology.servers) {
            let server = ServerId(n);
            self.flows.advance(self.now);
            let (mut sample, mut vms) = self.loads.sample(server, self.now);
            for link in &declared.uplinks {
                let Some(up) = site.topology.link(*link).map(|l| l.hop_from(*link, NodeId::Server(server)))
                else {
                    continue;
                };
                sample.tx_bytes += self.flows.bytes(up);
                sample.rx_bytes += self.flows.bytes(tandem_model::Hop { down: !up.down, ..up });
            }
            for (vm, sample) in &mut vms {
                [sample.rx_bytes, sample.tx_bytes] = self.vm_bytes(*vm);
            }
            self.feed(Event::ServerSamples { server, sample, vms })?;
        }
        Ok(())
    }

    /// Bytes to a VM and from it.
    pub(super) fn vm_bytes(&self, vm: VmId) -> [u64; 2] {
        let [to, from] = traffic(vm);
        let past = self.past_bytes.get(&vm).copied().unwrap_or_default();
        [past[0] + self.flows.arrived(to), past[1] + self.flows.arrived(from)]
    }
}

/// A VM's DHCP message as its edge switch would show it.
fn dhcp(
    site: &Site,
    server: ServerId,
    spec: &VmSpec,
    vm: VmId,
    kind: DhcpRequestKind,
    requested: Option<std::net::Ipv4Addr>,
) -> Event {
    let topology = &site.topology;
    let at = uplink_switch(site, server, spec.uplink_port);
    let (switch, port) = at.unwrap_or((SwitchId(0), PortNo(0)));
    Event::DhcpSeen {
        switch: topology.switch(switch).map(|s| s.dpid).unwrap_or(tandem_model::Dpid(0)),
        port,
        dhcp: DhcpRequest {
            kind,
            xid: vm.0 as u32,
            mac: spec.mac,
            eth_src: spec.mac,
            client: std::net::Ipv4Addr::UNSPECIFIED,
            requested,
            server: requested.map(|_| site.addresses.dhcp),
            broadcast: false,
        },
    }
}
