//! ARP and DHCP as answered by the controller, and who may use which address.
//!
//! VMs are isolated from each other unless grouped, so a VM learns the Ethernet address of
//! gateways, of the DHCP and DNS servers' address and of its group's members, and of nobody else.
//! (RFC 826, RFC 2131, RFC 5227.)

use crate::compute::{ComputeMut, ComputeRef};
use crate::network::access_ports::Behind;
use crate::network::host_tracker::{Host, HostEvent, HostKind, Place, UNKNOWN_PER_PORT};
use crate::network::port_limits::PortNotice;
use crate::network::{NetworkRef, attachment, topology_state};
use crate::timers::Timer;
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, DhcpReply, DhcpReplyKind, DhcpRequest, DhcpRequestKind, Dpid, Effect, FixedAddress,
    GatewayId, Level, Mac, NodeId, PortNo, SiteEvent, SwitchId, VmId, VmState,
};

impl ComputeMut<'_> {
    /// Notes a host's sign of life; false when it is not who it says it is.
    pub(crate) fn sighted(&mut self, at: Place, mac: Mac, ip: Ipv4Addr) -> bool {
        let (switch, port) = at;
        let key = self.net.access.key(switch, port);
        let outside = match self.net.access.behind(switch, port) {
            // Only ports that lead to hosts speak for hosts; a packet on its way is no sighting.
            Behind::Switches => return false,
            Behind::Servers(_) => None,
            Behind::Gateways(_) | Behind::Unknown => Some(key),
        };
        let sighting = self.net.hosts.sighted(ip, mac, at, outside, self.cx.now);
        let kind = self.net.hosts.get(ip).map_or(HostKind::Unknown, |h| h.kind);
        match sighting {
            HostEvent::Refreshed => true,
            HostEvent::Joined => {
                let check = self.cx.now + self.cx.site.discovery.host_timeout;
                self.cx.timers.replace(check, Timer::HostCheck(ip));
                let text = |core: NetworkRef<'_>| {
                    format!(
                        "{} ({ip}, {mac}) is at {}",
                        core.cx.host_name(kind),
                        core.cx.port_name(at.0, at.1)
                    )
                };
                let is_said = if kind == HostKind::Unknown {
                    self.network_mut().port_notice(key, PortNotice::UnknownHost, Level::Info, text)
                } else {
                    self.cx.notice(Level::Info, "host-joined", text(self.network()));
                    true
                };
                if is_said {
                    self.cx.tell(SiteEvent::HostJoined { mac, ip: Some(ip), switch, port });
                }
                if let HostKind::Vm(vm) = kind {
                    self.on_vm_addressed(vm);
                }
                true
            }
            HostEvent::Moved { from } => {
                let text = |core: NetworkRef<'_>| {
                    let (from, to) = (core.cx.port_name(from.0, from.1), core.cx.port_name(at.0, at.1));
                    format!("{} ({ip}) has moved from {from} to {to}", core.cx.host_name(kind))
                };
                let is_said = if kind == HostKind::Unknown {
                    self.network_mut().port_notice(key, PortNotice::UnknownHost, Level::Info, text)
                } else {
                    self.cx.notice(Level::Info, "host-moved", text(self.network()));
                    true
                };
                if is_said {
                    self.cx.tell(SiteEvent::HostMoved { mac, ip: Some(ip), switch, port });
                }
                true
            }
            HostEvent::Spoofed { mac_of, ip_of } => {
                self.learn_stray(at, mac, ip);
                let text = |core: NetworkRef<'_>| core.spoofed_text(at, (mac, mac_of), (ip, ip_of));
                self.network_mut().port_notice(key, PortNotice::Spoofed, Level::Warning, text);
                false
            }
            HostEvent::Full => {
                let text = |core: NetworkRef<'_>| {
                    let at = core.cx.port_name(at.0, at.1);
                    format!("{at} has {UNKNOWN_PER_PORT} unknown machines; further ones are not listed")
                };
                self.network_mut().port_notice(key, PortNotice::TooManyUnknown, Level::Warning, text);
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
        let elsewhere = |h: &Host| h.kind != HostKind::Unknown && !h.expected.contains(&at);
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

    /// Tells a VM's gateway by which of its uplinks the VM is reached now: an unsolicited ARP reply
    /// (RFC 826) at that port.
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
        if let Some(dpid) = topology_state::connected(&self.net.live, &self.cx.site.topology, switch)
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
        if kind == HostKind::Unknown || !host.expected.contains(&(switch, port)) {
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
                self.network_mut().port_notice(key, PortNotice::Declined, Level::Warning, |_| text);
                return;
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
        let at = attachment::server_port(&self.cx.site.topology, record).into_iter().collect();
        let (address, mac, was_there) =
            (record.address, record.mac, !matches!(record.state, VmState::Placed | VmState::Starting));
        if was_there && self.net.hosts.get(address).is_some_and(|h| h.kind == HostKind::Vm(vm)) {
            self.net.hosts.move_to(address, at);
        } else {
            self.net.hosts.declare(address, HostKind::Vm(vm), mac, at);
        }
    }
}

impl<'a> ComputeRef<'a> {
    /// The Ethernet address that goes with `ip`, if whoever asks may know it.
    pub(crate) fn answer_for(self, ip: Ipv4Addr, asking: Option<(Ipv4Addr, HostKind)>) -> Option<Mac> {
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
            (_, HostKind::Unknown) => false,
            _ => true,
        };
        may.then_some(host.mac)
    }

    /// The switch port by which a gateway's packets to an address come in. A gateway with several
    /// uplinks asks at all of them and is answered at this one only, so that it learns which one to
    /// use.
    pub(crate) fn entry(self, gateway: GatewayId, ip: Ipv4Addr) -> Option<(SwitchId, PortNo)> {
        let topology = &self.cx.site.topology;
        let down = match self.net.hosts.get(ip)?.kind {
            HostKind::Vm(vm) => self.record_of(vm)?.path_down.clone(),
            HostKind::Server(server) => {
                attachment::paths_via(topology, &self.net.routes, server, 0, gateway)?.1
            }
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

    pub(crate) fn dhcp_reply(
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
