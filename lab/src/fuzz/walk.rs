//! Packets walk through the switches' actual flow tables, as copies: what is looked at changes no counter.

use super::world::World;
use std::net::Ipv4Addr;
use tandem_model::{LinkId, Mac, NodeId, PortNo, ServerId, SwitchId, VmRecord};
use tandem_openflow::of13::port::CONTROLLER;
use tandem_openflow::table::Pipeline;

/// More copies of one packet than this are a flood.
const MOST_COPIES: usize = 64;

/// What becomes of a copy of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It reaches this machine.
    At(NodeId),
    /// It goes to the controller.
    Controller,
    /// It is dropped here.
    Dropped(SwitchId),
    /// It is sent out of a port whose link is down.
    Lost(LinkId),
    /// It goes in circles.
    Loop,
}

/// The tables as they were when a packet last came by, by switch.
#[derive(Default)]
pub struct Walker {
    tables: Vec<Option<(u64, Pipeline)>>,
}

impl Walker {
    /// Where every copy of a packet ends that a machine sends by a link.
    pub fn spread(&mut self, world: &World, from: NodeId, first: LinkId, frame: Vec<u8>) -> Vec<Fate> {
        let topology = &world.site.topology;
        self.tables.resize_with(world.switches.len(), || None);
        let mut fates = Vec::new();
        let mut open = vec![(from, first, frame, 0)];
        while let Some((node, link, frame, steps)) = open.pop() {
            let Some(end) = topology.link(link).and_then(|l| l.other(node)) else { continue };
            if !world.is_up(link) {
                fates.push(Fate::Lost(link));
                continue;
            }
            let NodeId::Switch(id) = end.node else {
                fates.push(Fate::At(end.node));
                continue;
            };
            if steps > topology.switches.len() || fates.len() + open.len() > MOST_COPIES {
                fates.push(Fate::Loop);
                continue;
            }
            let sent = self.tables_of(world, id).process(&frame, end.port.0, world.now).unwrap_or_default();
            let before = open.len() + fates.len();
            for copy in sent {
                match topology.link_at(end.node, PortNo(copy.port)) {
                    _ if copy.port == CONTROLLER => fates.push(Fate::Controller),
                    Some(next) => open.push((end.node, next, copy.frame, steps + 1)),
                    None => {}
                }
            }
            if open.len() + fates.len() == before {
                fates.push(Fate::Dropped(id));
            }
        }
        fates.sort_unstable();
        fates
    }

    fn tables_of(&mut self, world: &World, id: SwitchId) -> &mut Pipeline {
        let real = world.switches[id.0 as usize].soft.pipeline();
        let kept = self.tables[id.0 as usize].take().filter(|(of, _)| *of == real.generation());
        let kept = kept.unwrap_or_else(|| (real.generation(), real.clone()));
        &mut self.tables[id.0 as usize].insert(kept).1
    }

    /// From a VM to an address that has this Ethernet address.
    pub fn from_vm(&mut self, world: &World, vm: &VmRecord, to: (Mac, Ipv4Addr)) -> Vec<Fate> {
        let server = NodeId::Server(vm.server);
        let uplinks = world.site.topology.server(vm.server).map(|s| &s.uplinks);
        let Some(link) = uplinks.and_then(|l| l.get(vm.uplink as usize)).copied() else { return Vec::new() };
        self.spread(world, server, link, udp(vm.mac, to.0, vm.address, to.1))
    }

    /// Why a VM does not reach its gateway or is not reached from there, if that is so.
    pub fn is_cut_off(&mut self, world: &World, vm: &VmRecord) -> Option<String> {
        let gateway = world.site.topology.gateway(vm.gateway)?;
        let node = NodeId::Gateway(vm.gateway);
        for address in [gateway.address, Ipv4Addr::new(192, 0, 2, 1)] {
            let fates = self.from_vm(world, vm, (gateway.mac, address));
            if fates != [Fate::At(node)] {
                return Some(format!("from {} to {address} by {}: {fates:?}", vm.id, gateway.name));
            }
        }
        let first = vm.path_down.first()?;
        let frame = udp(gateway.mac, vm.mac, gateway.address, vm.address);
        let fates = self.spread(world, node, first.link, frame);
        let wanted = Fate::At(NodeId::Server(vm.server));
        let reached = fates.iter().filter(|f| matches!(f, Fate::At(_))).count();
        let is_right = reached == 1 && fates.contains(&wanted) && !fates.contains(&Fate::Loop);
        (!is_right).then(|| format!("from {} to {} on {}: {fates:?}", gateway.name, vm.id, vm.server))
    }

    /// Why a packet between two VMs goes where it should not, or not where it should, if that is so.
    pub fn is_wrong(&mut self, world: &World, from: &VmRecord, to: &VmRecord, may: bool) -> Option<String> {
        let fates = self.from_vm(world, from, (to.mac, to.address));
        let there = Fate::At(NodeId::Server(to.server));
        let reached: Vec<&Fate> = fates.iter().filter(|f| matches!(f, Fate::At(_))).collect();
        let is_right = if may { reached == [&there] } else { reached.is_empty() };
        let rule = if may { "share a group" } else { "share no group" };
        (!is_right).then(|| format!("from {} to {}, which {rule}: {fates:?}", from.id, to.id))
    }

    /// The same from a server itself.
    pub fn server_to(&mut self, world: &World, from: ServerId, to: &VmRecord) -> Option<String> {
        let server = world.site.topology.server(from)?;
        let link = *server.uplinks.first()?;
        let frame = udp(server.mac, to.mac, server.address, to.address);
        let fates = self.spread(world, NodeId::Server(from), link, frame);
        let reached = fates.iter().any(|f| matches!(f, Fate::At(_)));
        reached.then(|| format!("from the server {} itself to {}: {fates:?}", server.name, to.id))
    }
}

/// A UDP packet (RFC 768, RFC 791) of 60 bytes.
pub fn udp(eth_src: Mac, eth_dst: Mac, src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(60);
    frame.extend(eth_dst.0);
    frame.extend(eth_src.0);
    frame.extend([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(src.octets());
    frame.extend(dst.octets());
    let sum: u32 = frame[14..34].chunks_exact(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    // Ports 5000 and 5001, 26 bytes, no checksum.
    frame.extend([0x13, 0x88, 0x13, 0x89, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}
