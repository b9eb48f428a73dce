//! Addresses: the pools that VMs get theirs from, ARP and DHCP as answered by the controller, and who may use which address.
//!
//! VMs are isolated from each other unless grouped, so a VM learns the Ethernet address of gateways, of the DHCP and DNS
//! servers' address and of its group's members, and of nobody else. (RFC 826, RFC 2131, RFC 5227.)

use crate::core::Core;
use crate::hosts::{HostKind, Sighting};
use crate::rules::compile;
use crate::timers::Timer;
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, DhcpReply, DhcpReplyKind, DhcpRequest, DhcpRequestKind, Dpid, Effect, FixedAddress,
    GatewayId, Level, Mac, NodeId, PortNo, Prefix, Site, SwitchId, VmId, VmState,
};

/// One edge's VM addresses: fresh ones in order, then those given back, longest unused first.
#[derive(Debug, Clone)]
struct Pool {
    prefix: Prefix,
    next: u64,
    end: u64,
    returned: VecDeque<Ipv4Addr>,
}

/// All edges' VM addresses.
#[derive(Debug, Clone)]
pub(crate) struct Pools(BTreeMap<SwitchId, Pool>);

impl Pools {
    pub(crate) fn new(site: &Site) -> Pools {
        let pool = |prefix: Prefix| Pool {
            prefix,
            next: u64::from(site.addresses.servers_per_prefix) + 1,
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

    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        if let Some(pool) = self.0.values_mut().find(|p| p.prefix.contains(address)) {
            pool.returned.push_back(address);
        }
    }
}

/// A VM's Ethernet address: locally administered, with the low 32 bits of its id.
pub(crate) fn vm_mac(id: VmId) -> Mac {
    let [a, b, c, d] = (id.0 as u32).to_be_bytes();
    Mac([0x02, 0x10, a, b, c, d])
}

impl Core {
    /// Notes a host's sign of life; false when it is not who it says it is.
    fn sighted(&mut self, dpid: Dpid, port: PortNo, mac: Mac, ip: Ipv4Addr) -> bool {
        let Some(switch) = self.live.id(dpid) else { return false };
        // Only ports that lead to hosts speak for hosts; a packet on its way is no sighting.
        let topology = &self.site.topology;
        let link = topology.link_at(tandem_model::NodeId::Switch(switch), port);
        let other = link.and_then(|l| topology.link(l)?.other(tandem_model::NodeId::Switch(switch)));
        if other.is_some_and(|e| crate::live::is_openflow(topology, e.node)) {
            return false;
        }
        match self.hosts.sighted(ip, mac, (switch, port), self.now) {
            Sighting::Refreshed => true,
            Sighting::Joined => {
                self.dirty.hosts = true;
                let kind = self.hosts.get(ip).map_or(HostKind::Stranger, |h| h.kind);
                self.timers.set(self.now + self.site.discovery.host_timeout, Timer::HostCheck(ip));
                let name = self.host_name(kind);
                let text = format!("{name} ({ip}, {mac}) is at {}.{port}", self.switch_name(dpid));
                self.notice(Level::Info, "host-joined", text);
                if let HostKind::Vm(vm) = kind {
                    self.on_vm_addressed(vm);
                }
                true
            }
            Sighting::Moved { from } => {
                self.dirty.hosts = true;
                let kind = self.hosts.get(ip).map_or(HostKind::Stranger, |h| h.kind);
                let was = self.site.topology.name(tandem_model::NodeId::Switch(from.0)).to_owned();
                let text = format!(
                    "{} ({ip}) has moved from {was}.{} to {}.{port}",
                    self.host_name(kind),
                    from.1,
                    self.switch_name(dpid)
                );
                self.notice(Level::Info, "host-moved", text);
                true
            }
            Sighting::Spoofed { owner } => {
                let last = self.named.get(&(switch, port)).copied();
                if last.is_none_or(|t| self.now.since(t) >= Duration::from_secs(60)) {
                    self.named.insert((switch, port), self.now);
                    let text = format!(
                        "at {}.{port} somebody ({mac}) uses {ip}, which belongs to {}; what it sends is dropped",
                        self.switch_name(dpid),
                        self.host_name(owner)
                    );
                    self.notice(Level::Warning, "spoofed", text);
                }
                false
            }
        }
    }

    pub(crate) fn on_host_seen(&mut self, dpid: Dpid, port: PortNo, mac: Mac, ip: Ipv4Addr) {
        self.sighted(dpid, port, mac, ip);
    }

    pub(crate) fn on_arp(&mut self, dpid: Dpid, port: PortNo, arp: Arp) {
        if !self.site.modules.arp {
            return;
        }
        // RFC 5227 2.1.1: a probe has no sender address; it asks whether the address is free.
        let is_probe = arp.sender_ip.is_unspecified();
        if !is_probe && !self.sighted(dpid, port, arp.sender_mac, arp.sender_ip) {
            return;
        }
        if arp.op != ArpOp::Request || arp.target_ip == arp.sender_ip {
            return;
        }
        let asking = self.hosts.by_mac(arp.sender_mac).map(|(ip, h)| (ip, h.kind));
        if is_probe && asking.is_some_and(|(ip, _)| ip == arp.target_ip) {
            return;
        }
        let Some(mac) = self.answer_for(arp.target_ip, asking.map(|(_, kind)| kind)) else { return };
        if let Some((_, HostKind::Gateway(gateway))) = asking
            && let Some(entry) = self.entry(gateway, arp.target_ip)
            && (self.live.id(dpid), port) != (Some(entry.0), entry.1)
        {
            return;
        }
        let reply = Arp {
            op: ArpOp::Reply,
            eth_dst: arp.sender_mac,
            sender_mac: mac,
            sender_ip: arp.target_ip,
            target_mac: arp.sender_mac,
            target_ip: arp.sender_ip,
        };
        self.effects.push(Effect::SendArp { switch: dpid, port, arp: reply });
    }

    /// The Ethernet address that goes with `ip`, if whoever asks may know it.
    fn answer_for(&self, ip: Ipv4Addr, asking: Option<HostKind>) -> Option<Mac> {
        if ip == self.site.addresses.dhcp {
            return Some(self.site.addresses.dhcp_mac);
        }
        let host = self.hosts.get(ip)?;
        let may = match (asking?, host.kind) {
            (_, HostKind::Gateway(_)) => true,
            (HostKind::Vm(a), HostKind::Vm(b)) => self.grouped(a, b),
            (HostKind::Vm(_), _) => false,
            (_, HostKind::Stranger) => false,
            _ => true,
        };
        may.then_some(host.mac)
    }

    /// The switch port by which a gateway's packets to an address come in. A gateway with several uplinks asks at all of them
    /// and is answered at this one only, so that it learns which one to use.
    pub(crate) fn entry(&self, gateway: GatewayId, ip: Ipv4Addr) -> Option<(SwitchId, PortNo)> {
        let topology = &self.site.topology;
        let down = match self.hosts.get(ip)?.kind {
            HostKind::Vm(vm) => self.vms.get(&vm)?.record.path_down.clone(),
            HostKind::Server(server) => compile::paths_via(topology, &self.routes, server, 0, gateway)?.1,
            _ => return None,
        };
        let first = down.first()?;
        let end = topology.link(first.link)?.other(NodeId::Gateway(gateway))?;
        match end.node {
            NodeId::Switch(switch) => Some((switch, end.port)),
            _ => None,
        }
    }

    /// Tells a VM's gateway by which of its uplinks the VM is reached now: an unsolicited ARP reply (RFC 826) at that port.
    pub(crate) fn announce(&mut self, vm: VmId) {
        let Some(record) = self.vms.get(&vm).map(|v| &v.record) else { return };
        let Some(gateway) = self.site.topology.gateway(record.gateway) else { return };
        let arp = Arp {
            op: ArpOp::Reply,
            eth_dst: gateway.mac,
            sender_mac: record.mac,
            sender_ip: record.address,
            target_mac: gateway.mac,
            target_ip: gateway.address,
        };
        let Some((switch, port)) = self.entry(record.gateway, record.address) else { return };
        if let Some(dpid) =
            crate::core::connected(&self.live, &self.site, switch).filter(|_| self.site.modules.arp)
        {
            self.effects.push(Effect::SendArp { switch: dpid, port, arp });
        }
    }

    /// True when two VMs share a group.
    pub(crate) fn grouped(&self, a: VmId, b: VmId) -> bool {
        self.groups.values().any(|g| g.members.contains(&a) && g.members.contains(&b))
    }

    pub(crate) fn on_dhcp(&mut self, dpid: Dpid, port: PortNo, dhcp: &DhcpRequest) {
        if !self.site.modules.dhcp || dhcp.mac != dhcp.eth_src {
            return;
        }
        let Some(switch) = self.live.id(dpid) else { return };
        let Some((address, host)) = self.hosts.by_mac(dhcp.mac) else { return };
        let kind = host.kind;
        if kind == HostKind::Stranger || !host.expected.contains(&(switch, port)) {
            return;
        }
        let ours = self.site.addresses.dhcp;
        if dhcp.server.is_some_and(|s| s != ours) {
            return;
        }
        let wants = dhcp.requested.or((!dhcp.client.is_unspecified()).then_some(dhcp.client));
        let answer = match dhcp.kind {
            DhcpRequestKind::Discover => DhcpReplyKind::Offer,
            DhcpRequestKind::Request if wants.is_none_or(|w| w == address) => DhcpReplyKind::Ack,
            DhcpRequestKind::Request => DhcpReplyKind::Nak,
            DhcpRequestKind::Inform => DhcpReplyKind::Ack,
            // Addresses are the plan's: what a client declines or gives back stays the VM's.
            DhcpRequestKind::Decline => {
                let text =
                    format!("{} declines {address}: somebody else answers for it", self.host_name(kind));
                return self.notice(Level::Warning, "dhcp-declined", text);
            }
            DhcpRequestKind::Release => return,
        };
        let reply = self.dhcp_reply(answer, dhcp, kind, address);
        self.effects.push(Effect::SendDhcp { switch: dpid, port, dhcp: reply });
        if answer == DhcpReplyKind::Ack && dhcp.kind == DhcpRequestKind::Request {
            self.sighted(dpid, port, dhcp.mac, address);
            if let HostKind::Vm(vm) = kind {
                self.on_vm_addressed(vm);
            }
        }
    }

    fn dhcp_reply(
        &self,
        kind: DhcpReplyKind,
        to: &DhcpRequest,
        host: HostKind,
        address: Ipv4Addr,
    ) -> DhcpReply {
        let plan = &self.site.addresses;
        let router = match host {
            HostKind::Vm(vm) => self.vms.get(&vm).and_then(|v| self.site.topology.gateway(v.record.gateway)),
            _ => self.site.topology.gateways.first(),
        };
        let nak = kind == DhcpReplyKind::Nak;
        // RFC 2131 4.3.5: an answer to INFORM carries no address and no lease.
        let inform = to.kind == DhcpRequestKind::Inform;
        DhcpReply {
            kind,
            xid: to.xid,
            mac: to.mac,
            client: if nak { Ipv4Addr::UNSPECIFIED } else { to.client },
            address: if nak || inform { Ipv4Addr::UNSPECIFIED } else { address },
            server: plan.dhcp,
            server_mac: plan.dhcp_mac,
            prefix_len: plan.network.len(),
            router: router.map(|g| g.address).filter(|_| !nak),
            dns: if nak { Vec::new() } else { plan.dns.clone() },
            lease: if nak || inform { Duration::ZERO } else { plan.lease },
            // RFC 2131 4.3.2: a NAK is broadcast, since the client may have no valid address.
            broadcast: to.broadcast || nak,
        }
    }

    /// The address that a hypervisor configures by hand where DHCP is off.
    pub(crate) fn fixed_address(&self, vm: VmId) -> Option<FixedAddress> {
        let record = &self.vms.get(&vm)?.record;
        if self.site.modules.dhcp {
            return None;
        }
        let router = self.site.topology.gateway(record.gateway)?.address;
        Some(FixedAddress { address: record.address, prefix_len: self.site.addresses.network.len(), router })
    }

    /// Makes a VM known as a host, at the port of its server.
    pub(crate) fn declare_vm(&mut self, vm: VmId) {
        let Some(record) = self.vms.get(&vm).map(|v| &v.record) else { return };
        let at = compile::server_port(&self.site.topology, record).into_iter().collect();
        let (address, mac, was_there) =
            (record.address, record.mac, !matches!(record.state, VmState::Placed | VmState::Starting));
        if was_there && self.hosts.get(address).is_some_and(|h| h.kind == HostKind::Vm(vm)) {
            self.hosts.move_to(address, at);
        } else {
            self.hosts.declare(address, HostKind::Vm(vm), mac, at);
        }
        self.dirty.hosts = true;
    }
}
