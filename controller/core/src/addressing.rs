//! Addresses: the pools that VMs get theirs from, ARP and DHCP as answered by the controller, and who may use which address.
//!
//! VMs are isolated from each other unless grouped, so a VM learns the Ethernet address of gateways, of the DHCP and DNS
//! servers' address and of its group's members, and of nobody else. (RFC 826, RFC 2131, RFC 5227.)

use crate::access_ports::{Behind, PortKey};
use crate::hosts::{Host, HostKind, Place, STRANGERS_PER_PORT, Sighting, VM_MAC_PREFIX};
use crate::port_notices::PortNotice;
use crate::rules::compile;
use crate::services::{ComputeMut, ComputeRef, NetworkMut, NetworkRef};
use crate::timers::Timer;
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, DhcpReply, DhcpReplyKind, DhcpRequest, DhcpRequestKind, Dpid, Effect, FixedAddress,
    GatewayId, Level, Mac, NodeId, PortNo, Prefix, Site, SwitchId, VmId, VmState,
};

/// Names in a notice about a port; a server may have hundreds of VMs.
const NAMED: usize = 4;

/// One edge's VM addresses: fresh ones in order, then those given back, longest unused first.
#[derive(Debug, Clone)]
struct Pool {
    prefix: Prefix,
    /// The first one that is for VMs; those before are servers'.
    first: u64,
    next: u64,
    end: u64,
    returned: VecDeque<Ipv4Addr>,
}

/// All edges' VM addresses.
#[derive(Debug, Clone)]
pub(crate) struct Pools(BTreeMap<SwitchId, Pool>);

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
    fn of(&self, address: Ipv4Addr) -> Option<(SwitchId, u64)> {
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

impl ComputeMut<'_> {
    /// Notes a host's sign of life; false when it is not who it says it is.
    fn sighted(&mut self, at: Place, mac: Mac, ip: Ipv4Addr) -> bool {
        let (switch, port) = at;
        let key = self.net.access.key(switch, port);
        let outside = match self.net.access.behind(switch, port) {
            // Only ports that lead to hosts speak for hosts; a packet on its way is no sighting.
            Behind::Switches => return false,
            Behind::Servers(_) => None,
            Behind::Gateways(_) | Behind::Unknown => Some(key),
        };
        let sighting = self.net.hosts.sighted(ip, mac, at, outside, self.cx.now);
        let kind = self.net.hosts.get(ip).map_or(HostKind::Stranger, |h| h.kind);
        match sighting {
            Sighting::Refreshed => true,
            Sighting::Joined => {
                let check = self.cx.now + self.cx.site.discovery.host_timeout;
                self.cx.timers.replace(check, Timer::HostCheck(ip));
                let text = |core: NetworkRef<'_>| {
                    format!(
                        "{} ({ip}, {mac}) is at {}",
                        core.cx.host_name(kind),
                        core.cx.port_name(at.0, at.1)
                    )
                };
                if kind == HostKind::Stranger {
                    self.network_mut().port_notice(key, PortNotice::Stranger, Level::Info, text);
                } else {
                    self.cx.notice(Level::Info, "host-joined", text(self.network()));
                }
                if let HostKind::Vm(vm) = kind {
                    self.on_vm_addressed(vm);
                }
                true
            }
            Sighting::Moved { from } => {
                let text = |core: NetworkRef<'_>| {
                    let (from, to) = (core.cx.port_name(from.0, from.1), core.cx.port_name(at.0, at.1));
                    format!("{} ({ip}) has moved from {from} to {to}", core.cx.host_name(kind))
                };
                if kind == HostKind::Stranger {
                    self.network_mut().port_notice(key, PortNotice::Stranger, Level::Info, text);
                } else {
                    self.cx.notice(Level::Info, "host-moved", text(self.network()));
                }
                true
            }
            Sighting::Spoofed { mac_of, ip_of } => {
                self.learn_stray(at, mac, ip);
                let text = |core: NetworkRef<'_>| core.spoofed_text(at, (mac, mac_of), (ip, ip_of));
                self.network_mut().port_notice(key, PortNotice::Spoofed, Level::Warning, text);
                false
            }
            Sighting::Full => {
                let text = |core: NetworkRef<'_>| {
                    let at = core.cx.port_name(at.0, at.1);
                    format!("{at} has {STRANGERS_PER_PORT} unknown machines; further ones are not listed")
                };
                self.network_mut().port_notice(key, PortNotice::TooManyStrangers, Level::Warning, text);
                false
            }
        }
    }

    pub(crate) fn on_host_seen(&mut self, dpid: Dpid, port: PortNo, mac: Mac, ip: Ipv4Addr) {
        if let Some(at) = self.network_mut().looked_at(dpid, port) {
            self.sighted(at, mac, ip);
        }
    }

    pub(crate) fn on_arp(&mut self, dpid: Dpid, port: PortNo, arp: Arp) {
        if !self.cx.site.modules.arp {
            return;
        }
        let Some(at) = self.network_mut().looked_at(dpid, port) else { return };
        // RFC 5227 2.1.1: a probe has no sender address; it asks whether the address is free.
        let is_probe = arp.sender_ip.is_unspecified();
        if !is_probe && !self.sighted(at, arp.sender_mac, arp.sender_ip) {
            return;
        }
        if arp.op != ArpOp::Request || arp.target_ip == arp.sender_ip {
            return;
        }
        let asking = self.net.hosts.by_mac(arp.sender_mac);
        // A probe is not sighted, so this is where it is held against who may be there.
        let elsewhere = |h: &Host| h.kind != HostKind::Stranger && !h.expected.contains(&at);
        if is_probe && asking.is_some_and(|(_, host)| elsewhere(host)) {
            return;
        }
        let asking = asking.map(|(ip, h)| (ip, h.kind));
        if is_probe && asking.is_some_and(|(ip, _)| ip == arp.target_ip) {
            return;
        }
        let Some(mac) = self.compute().answer_for(arp.target_ip, asking) else { return };
        if let Some((_, HostKind::Gateway(gateway))) = asking
            && let Some(entry) = self.compute().entry(gateway, arp.target_ip)
            && (self.net.live.id(dpid), port) != (Some(entry.0), entry.1)
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
        self.cx.effects.push(Effect::SendArp { switch: dpid, port, arp: reply });
    }

    /// Tells a VM's gateway by which of its uplinks the VM is reached now: an unsolicited ARP reply (RFC 826) at that port.
    pub(crate) fn announce(&mut self, vm: VmId) {
        let Some(record) = self.compute().record_of(vm) else { return };
        let Some(gateway) = self.cx.site.topology.gateway(record.gateway) else { return };
        let arp = Arp {
            op: ArpOp::Reply,
            eth_dst: gateway.mac,
            sender_mac: record.mac,
            sender_ip: record.address,
            target_mac: gateway.mac,
            target_ip: gateway.address,
        };
        let Some((switch, port)) = self.compute().entry(record.gateway, record.address) else { return };
        if let Some(dpid) = crate::live::connected(&self.net.live, &self.cx.site.topology, switch)
            .filter(|_| self.cx.site.modules.arp)
        {
            self.cx.effects.push(Effect::SendArp { switch: dpid, port, arp });
        }
    }

    pub(crate) fn on_dhcp(&mut self, dpid: Dpid, port: PortNo, dhcp: &DhcpRequest) {
        if !self.cx.site.modules.dhcp || dhcp.mac != dhcp.eth_src {
            return;
        }
        let Some(switch) = self.net.live.id(dpid) else { return };
        let key = self.net.access.key(switch, port);
        if !self.network_mut().may_cost(key) {
            return;
        }
        let Some((address, host)) = self.net.hosts.by_mac(dhcp.mac) else { return };
        let kind = host.kind;
        if kind == HostKind::Stranger || !host.expected.contains(&(switch, port)) {
            return;
        }
        let ours = self.cx.site.addresses.dhcp;
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
                    format!("{} declines {address}: somebody else answers for it", self.cx.host_name(kind));
                return self.network_mut().port_notice(key, PortNotice::Declined, Level::Warning, |_| text);
            }
            DhcpRequestKind::Release => return,
        };
        let reply = self.compute().dhcp_reply(answer, dhcp, kind, address);
        self.cx.effects.push(Effect::SendDhcp { switch: dpid, port, dhcp: reply });
        if answer == DhcpReplyKind::Ack && dhcp.kind == DhcpRequestKind::Request {
            self.sighted((switch, port), dhcp.mac, address);
            if let HostKind::Vm(vm) = kind {
                self.on_vm_addressed(vm);
            }
        }
    }

    /// Makes a VM known as a host, at the port of its server.
    pub(crate) fn declare_vm(&mut self, vm: VmId) {
        let Some(record) = self.compute.vms.get(&vm).map(|v| &v.record) else { return };
        let at = compile::server_port(&self.cx.site.topology, record).into_iter().collect();
        let (address, mac, was_there) =
            (record.address, record.mac, !matches!(record.state, VmState::Placed | VmState::Starting));
        if was_there && self.net.hosts.get(address).is_some_and(|h| h.kind == HostKind::Vm(vm)) {
            self.net.hosts.move_to(address, at);
        } else {
            self.net.hosts.declare(address, HostKind::Vm(vm), mac, at);
        }
    }
}

impl<'a> NetworkRef<'a> {
    /// Who sends with whose addresses, and who may send there.
    fn spoofed_text(
        self,
        at: Place,
        (mac, mac_of): (Mac, Option<HostKind>),
        (ip, ip_of): (Ipv4Addr, Option<HostKind>),
    ) -> String {
        let owner = |of: Option<HostKind>| of.map_or_else(|| "nobody".to_owned(), |k| self.cx.host_name(k));
        let what = match (mac_of, ip_of) {
            (None, None) => format!("{ip} with the Ethernet address {mac}, which no machine has there"),
            (a, b) if a == b => format!("{ip}, {mac}: both are of {}, which is not there", owner(a)),
            (a, b) => format!("{ip} of {} with the Ethernet address {mac} of {}", owner(b), owner(a)),
        };
        let place = self.cx.port_name(at.0, at.1);
        let who = self.who_is_at(at);
        format!("somebody at {place} ({who}) sends as {what}; it is not believed and reaches nobody")
    }

    /// Who may send at a port, in words.
    fn who_is_at(self, at: Place) -> String {
        let mut names: Vec<String> = match self.net.access.behind(at.0, at.1) {
            Behind::Servers(servers) => {
                servers.iter().map(|s| self.cx.host_name(HostKind::Server(*s))).collect()
            }
            Behind::Gateways(gateways) => {
                gateways.iter().map(|g| self.cx.host_name(HostKind::Gateway(*g))).collect()
            }
            Behind::Switches | Behind::Unknown => Vec::new(),
        };
        let there = self.net.hosts.iter().filter(|(_, h)| h.expected.contains(&at)).map(|(_, h)| h.kind);
        names.extend(there.filter(|k| matches!(k, HostKind::Vm(_))).map(|k| self.cx.host_name(k)));
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        match (names.is_empty(), more) {
            (true, _) => "a port that the site does not declare".to_owned(),
            (false, 0) => format!("the port of {}", names.join(", ")),
            (false, more) => format!("the port of {} and {more} more", names.join(", ")),
        }
    }
}

impl NetworkMut<'_> {
    /// The place of a packet that is looked at: at a switch that the site knows, at a port that has not sent too many.
    fn looked_at(&mut self, dpid: Dpid, port: PortNo) -> Option<Place> {
        let switch = self.net.live.id(dpid)?;
        let key: PortKey = self.net.access.key(switch, port);
        self.may_cost(key).then_some((switch, port))
    }
}

impl<'a> ComputeRef<'a> {
    /// The Ethernet address that goes with `ip`, if whoever asks may know it.
    fn answer_for(self, ip: Ipv4Addr, asking: Option<(Ipv4Addr, HostKind)>) -> Option<Mac> {
        if ip == self.cx.site.addresses.dhcp {
            return Some(self.cx.site.addresses.dhcp_mac);
        }
        let host = self.net.hosts.get(ip)?;
        let (from, asking) = asking?;
        let may = match (asking, host.kind) {
            (_, HostKind::Gateway(_)) => true,
            (HostKind::Vm(a), HostKind::Vm(b)) => {
                self.grouped(a, b) || self.compute.strays.left.joins(from, ip)
            }
            (HostKind::Vm(_), _) => false,
            (_, HostKind::Stranger) => false,
            _ => true,
        };
        may.then_some(host.mac)
    }

    /// The switch port by which a gateway's packets to an address come in. A gateway with several uplinks asks at all of them
    /// and is answered at this one only, so that it learns which one to use.
    pub(crate) fn entry(self, gateway: GatewayId, ip: Ipv4Addr) -> Option<(SwitchId, PortNo)> {
        let topology = &self.cx.site.topology;
        let down = match self.net.hosts.get(ip)?.kind {
            HostKind::Vm(vm) => self.record_of(vm)?.path_down.clone(),
            HostKind::Server(server) => compile::paths_via(topology, &self.net.routes, server, 0, gateway)?.1,
            _ => return None,
        };
        let first = down.first()?;
        let end = topology.link(first.link)?.other(NodeId::Gateway(gateway))?;
        match end.node {
            NodeId::Switch(switch) => Some((switch, end.port)),
            _ => None,
        }
    }

    /// True when two VMs share a group.
    pub(crate) fn grouped(self, a: VmId, b: VmId) -> bool {
        self.compute.groups.values().any(|g| g.members.contains(&a) && g.members.contains(&b))
    }

    fn dhcp_reply(
        self,
        kind: DhcpReplyKind,
        to: &DhcpRequest,
        host: HostKind,
        address: Ipv4Addr,
    ) -> DhcpReply {
        let plan = &self.cx.site.addresses;
        let router = match host {
            HostKind::Vm(vm) => self.record_of(vm).and_then(|r| self.cx.site.topology.gateway(r.gateway)),
            _ => self.cx.site.topology.gateways.first(),
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
    pub(crate) fn fixed_address(self, vm: VmId) -> Option<FixedAddress> {
        let record = &self.compute.vms.get(&vm)?.record;
        if self.cx.site.modules.dhcp {
            return None;
        }
        let router = self.cx.site.topology.gateway(record.gateway)?.address;
        Some(FixedAddress {
            address: record.address,
            prefix_len: self.cx.site.addresses.network.len(),
            router,
        })
    }
}
