//! An interpreter of rules: what a switch does with a packet (OF 1.3.5 section 5.3), and where a
//! packet comes out that is walked from switch to switch. And that one table does what two do.

use crate::world::{SMALL, World, read};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tandem_core::rules::building_blocks::STEP;
use tandem_core::rules::one_table::flatten;
use tandem_model::{
    Cookie, ETH_ARP, ETH_IPV4, LinkId, Mac, Metadata, NodeId, Owner, PortNo, Prefix, Rule, RuleAction,
    RuleKey, RuleMatch, SwitchId, VlanTag, VmRecord,
};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) eth_src: Mac,
    /// `None`: the right one, whatever that is.
    pub(crate) eth_dst: Option<Mac>,
    /// It has a tag with VID 0.
    pub(crate) tagged: bool,
    pub(crate) eth_type: u16,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) udp: (u16, u16),
    pub(crate) dscp: u8,
}

/// Plain UDP between two addresses.
pub(crate) fn udp(eth_src: Mac, src: Ipv4Addr, dst: Ipv4Addr) -> Packet {
    let (eth_dst, tagged) = (None, false);
    Packet { eth_src, eth_dst, tagged, eth_type: ETH_IPV4, src, dst, udp: (5000, 5001), dscp: 0 }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It reaches this machine.
    At(NodeId),
    /// It goes to the controller.
    Controller,
    /// It is dropped here.
    Dropped(SwitchId),
    /// It goes in circles.
    Loop,
}

fn matches(m: &RuleMatch, port: PortNo, metadata: u64, p: &Packet) -> bool {
    let ip = p.eth_type == ETH_IPV4;
    let is = |wanted: bool, there: bool| !wanted || there;
    m.in_port.is_none_or(|x| x == port)
        && m.metadata.is_none_or(|x| (metadata ^ x.value) & x.mask == 0)
        && m.eth_src.is_none_or(|x| x == p.eth_src)
        && m.eth_type.is_none_or(|x| x == p.eth_type)
        && m.eth_dst.is_none_or(|x| p.eth_dst.is_none_or(|y| x == y))
        && match m.vlan {
            None | Some(VlanTag::NoVlan) => true,
            Some(VlanTag::Untagged) => !p.tagged,
            Some(VlanTag::Priority) => p.tagged,
        }
        && is(m.ip_src.is_some(), ip && m.ip_src.is_some_and(|x| x.contains(p.src)))
        && is(m.ip_dst.is_some(), ip && m.ip_dst.is_some_and(|x| x.contains(p.dst)))
        && is(m.ip_dscp.is_some(), ip && m.ip_dscp == Some(p.dscp))
        && is(m.ip_proto.is_some(), ip && m.ip_proto == Some(17))
        && is(m.l4_src.is_some(), ip && m.l4_src == Some(p.udp.0))
        && is(m.l4_dst.is_some(), ip && m.l4_dst == Some(p.udp.1))
}

/// What one switch does: the actions of the highest matching rule, table by table. Two rules of the
/// same priority that match one packet leave the choice to the switch (OF 1.3.5 section 6.4): if
/// they disagree, that is a fault of ours.
pub(crate) fn actions(table: &BTreeMap<RuleKey, Rule>, port: PortNo, packet: &Packet) -> Vec<RuleAction> {
    let mut done = Vec::new();
    // Metadata is zero when a packet enters, and goes with it from table to table (OF 1.3.5 section
    // 5.1).
    let (mut number, mut metadata) = (0, 0);
    loop {
        let hits = table
            .values()
            .filter(|r| r.key.table == number && matches(&r.key.matching, port, metadata, packet));
        let Some(best) = hits.clone().max_by_key(|r| r.key.priority) else { return done };
        for other in hits.filter(|r| r.key.priority == best.key.priority) {
            assert_eq!(other.actions, best.actions, "{:?} and {:?} overlap", other.key, best.key);
        }
        let mut next = None;
        for action in &best.actions {
            match action {
                RuleAction::Goto(t) => next = Some(*t),
                RuleAction::WriteMetadata(m) => metadata = metadata & !m.mask | m.value,
                other => done.push(*other),
            }
        }
        match next {
            Some(t) => number = t,
            None => return done,
        }
    }
}

/// What a switch does in the end: where the packet goes, by which queue, and how it is marked then.
fn outcome(
    table: &BTreeMap<RuleKey, Rule>,
    port: PortNo,
    packet: &mut Packet,
) -> (Vec<RuleAction>, Option<u32>) {
    let (mut out, mut queue) = (Vec::new(), None);
    for action in actions(table, port, packet) {
        match action {
            // A switch sends nothing out of the port it came in by, except by OFPP_IN_PORT (OF
            // 1.3.5 section 7.2.5).
            RuleAction::Output(to) if to == port => {}
            RuleAction::Enqueue { port: to, .. } if to == port => {}
            RuleAction::SetDscp(dscp) => packet.dscp = dscp,
            RuleAction::SetQueue(q) => queue = Some(q),
            RuleAction::Enqueue { port, queue: q } => {
                queue = Some(q);
                out.push(RuleAction::Output(port));
            }
            other => out.push(other),
        }
    }
    let sent = out.iter().any(|a| matches!(a, RuleAction::Output(_)));
    (out, queue.filter(|_| sent))
}

/// How each switch on the way treated a packet: its mark when it left, and its queue.
pub(crate) type Treatment = Vec<(SwitchId, u8, Option<u32>)>;

impl World {
    /// Walks a packet that `from` sends by its first uplink; also returns the switches on the way.
    pub(crate) fn walk(&self, from: NodeId, packet: Packet) -> (Fate, Vec<SwitchId>) {
        self.walk_by(from, self.site.topology.ports(from)[0].1, packet)
    }

    fn walk_by(&self, from: NodeId, first: LinkId, packet: Packet) -> (Fate, Vec<SwitchId>) {
        let (fate, treatment) = self.walk_marked(from, first, packet);
        (fate, treatment.into_iter().map(|(switch, ..)| switch).collect())
    }

    /// Walks a packet and sees how it is treated.
    pub(crate) fn walk_marked(&self, from: NodeId, first: LinkId, mut packet: Packet) -> (Fate, Treatment) {
        let topology = &self.site.topology;
        let mut way = Vec::new();
        let (mut node, mut link) = (from, first);
        loop {
            let end = topology.link(link).and_then(|l| l.other(node)).expect("a link");
            let NodeId::Switch(id) = end.node else { return (Fate::At(end.node), way) };
            if way.len() > topology.switches.len() {
                return (Fate::Loop, way);
            }
            let table = &self.tables[&topology.switches[id.0 as usize].dpid];
            let (done, queue) = outcome(table, end.port, &mut packet);
            way.push((id, packet.dscp, queue));
            let out = match done[..] {
                [RuleAction::Controller] => return (Fate::Controller, way),
                // OF 1.3.5 section 5.9: never back out of the port it came in by, unless told so.
                [RuleAction::Output(p)] if p != end.port => p,
                [RuleAction::Hairpin] => end.port,
                [] | [RuleAction::Output(_)] => return (Fate::Dropped(id), way),
                ref other => panic!("{other:?}"),
            };
            (node, link) = (end.node, topology.link_at(end.node, out).expect("a declared port"));
            if matches!(done[..], [RuleAction::Hairpin]) {
                let host = topology.link(link).and_then(|l| l.other(node)).expect("a link").node;
                return (Fate::At(host), way);
            }
        }
    }

    /// Where every copy of a packet ends that `from` sends by a link; switches may send it on more
    /// than once.
    pub(crate) fn spread(&self, from: NodeId, first: LinkId, packet: Packet) -> Vec<Fate> {
        let topology = &self.site.topology;
        let mut fates = Vec::new();
        let mut open = vec![(from, first, packet, 0)];
        while let Some((node, link, mut packet, steps)) = open.pop() {
            let end = topology.link(link).and_then(|l| l.other(node)).expect("a link");
            let NodeId::Switch(id) = end.node else {
                fates.push(Fate::At(end.node));
                continue;
            };
            if steps > topology.switches.len() {
                fates.push(Fate::Loop);
                continue;
            }
            if topology.switches[id.0 as usize].legacy {
                // It has learnt nothing yet.
                let others = topology.ports(end.node).iter().filter(|(p, _)| *p != end.port);
                open.extend(others.map(|(_, l)| (end.node, *l, packet, steps + 1)));
                continue;
            }
            let table = &self.tables[&topology.switches[id.0 as usize].dpid];
            let (done, _) = outcome(table, end.port, &mut packet);
            let before = open.len() + fates.len();
            for action in done {
                let out = match action {
                    RuleAction::Output(p) if p != end.port => p,
                    RuleAction::Hairpin => end.port,
                    RuleAction::Controller => {
                        fates.push(Fate::Controller);
                        continue;
                    }
                    RuleAction::Output(_) => continue,
                    other => panic!("{other:?}"),
                };
                let next = topology.link_at(end.node, out).expect("a declared port");
                open.push((end.node, next, packet, steps + 1));
            }
            if open.len() + fates.len() == before {
                fates.push(Fate::Dropped(id));
            }
        }
        fates.sort_unstable_by_key(|f| format!("{f:?}"));
        fates
    }

    /// A VM sends to an address.
    pub(crate) fn send(&self, vm: &VmRecord, to: Ipv4Addr) -> Fate {
        self.walk_by(NodeId::Server(vm.server), vm.path_up[0].link, udp(vm.mac, vm.address, to)).0
    }

    /// The VM's gateway sends to it, by the uplink that its path starts with.
    pub(crate) fn receive(&self, vm: &VmRecord) -> Fate {
        let gateway = &self.site.topology.gateways[vm.gateway.0 as usize];
        let packet = udp(gateway.mac, gateway.address, vm.address);
        self.walk_by(NodeId::Gateway(vm.gateway), vm.path_down[0].link, packet).0
    }

    /// The VM and the outside reach each other.
    pub(crate) fn assert_reachable(&self, vm: &VmRecord) {
        let gateway = NodeId::Gateway(vm.gateway);
        let address = self.site.topology.gateways[vm.gateway.0 as usize].address;
        assert_eq!(self.send(vm, address), Fate::At(gateway), "{} to its gateway", vm.id);
        assert_eq!(self.send(vm, Ipv4Addr::new(192, 0, 2, 1)), Fate::At(gateway), "{} to outside", vm.id);
        assert_eq!(self.receive(vm), Fate::At(NodeId::Server(vm.server)), "{} from outside", vm.id);
    }
}

/// With nothing but the plan, every server and every gateway reach each other and every other
/// server, in a tree with many ways.
#[test]
fn declared_machines_reach_each_other_by_the_plan_alone() {
    // Also where servers have two uplinks: no way leads through them.
    for (one_table, uplinks) in [(false, 1), (true, 1), (false, 2)] {
        let text = format!("[topology]\nshape = \"three-tier\"\ngateways = 2\nserver_uplinks = {uplinks}\n");
        let mut world = World::dark(read(&text), Default::default());
        world.one_table = one_table;
        world.connect_all();
        let topology = &world.site.topology;
        for (a, s) in (0u32..).zip(&topology.servers) {
            let from = NodeId::Server(tandem_model::ServerId(a));
            for (b, t) in (0u32..).zip(&topology.servers).filter(|(b, _)| *b != a) {
                let (fate, _) = world.walk(from, udp(s.mac, s.address, t.address));
                assert_eq!(
                    fate,
                    Fate::At(NodeId::Server(tandem_model::ServerId(b))),
                    "{} {}",
                    s.name,
                    t.name
                );
            }
            for (g, t) in (0u32..).zip(&topology.gateways) {
                let gateway = NodeId::Gateway(tandem_model::GatewayId(g));
                let (fate, _) = world.walk(from, udp(s.mac, s.address, t.address));
                assert_eq!(fate, Fate::At(gateway), "{} {}", s.name, t.name);
                let (fate, _) = world.walk(gateway, udp(t.mac, t.address, s.address));
                assert_eq!(fate, Fate::At(from), "{} {}", t.name, s.name);
            }
        }
    }
}

/// A server that borrows its neighbour's address, or another Ethernet address, or an address that
/// nobody has, is not heard.
#[test]
fn a_server_may_send_as_itself_only() {
    let world = World::new(read(SMALL));
    let t = &world.site.topology;
    let gateway = t.gateways[0].address;
    let (me, neighbour) = (&t.servers[0], &t.servers[1]);
    let from = world.node("srv1");
    let edge = world.switch("edge1");
    for packet in [
        udp(me.mac, neighbour.address, gateway),
        udp(neighbour.mac, me.address, gateway),
        udp(neighbour.mac, neighbour.address, gateway),
    ] {
        assert_eq!(world.walk(from, packet).0, Fate::Dropped(edge), "{packet:?}");
    }
    let nobody = Ipv4Addr::new(10, 0, 0, 77);
    assert_eq!(world.walk(from, udp(me.mac, me.address, nobody)).0, Fate::Dropped(edge));
    let arp = Packet { eth_type: ETH_ARP, ..udp(me.mac, me.address, gateway) };
    assert_eq!(world.walk(from, arp).0, Fate::Controller);
}

/// Metadata of three bits, written or matched.
fn label() -> impl Strategy<Value = Option<Metadata>> {
    prop::option::of((0u64..8, 0u64..8).prop_map(|(value, mask)| Metadata::new(value, mask)))
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    (0u8..4, 0u8..4).prop_map(|(a, b)| Ipv4Addr::new(10, 0, a, b))
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 22u8..=32).prop_filter_map("host bits", |(a, len)| Prefix::new(a, len))
}

fn matching() -> impl Strategy<Value = RuleMatch> {
    use prop::option::of as maybe;
    let tag = maybe(prop::sample::select(vec![VlanTag::NoVlan, VlanTag::Untagged, VlanTag::Priority]));
    let (to, tag) = (maybe(0u8..3), tag);
    ((maybe(1u32..4), maybe(0u8..3), to), tag, maybe(prefix()), maybe(prefix()), any::<bool>(), maybe(0u8..2))
        .prop_map(|((port, mac, to), vlan, ip_src, ip_dst, ip, dscp)| RuleMatch {
            eth_dst: to.map(|n| Mac([2, 0, 0, 0, 1, n])),
            vlan,
            in_port: port.map(PortNo),
            eth_src: mac.map(|n| Mac([2, 0, 0, 0, 0, n])),
            eth_type: (ip || ip_src.is_some() || ip_dst.is_some() || dscp.is_some()).then_some(ETH_IPV4),
            ip_dscp: dscp,
            ip_src,
            ip_dst,
            ..RuleMatch::default()
        })
}

proptest! {
    /// Whatever is in two tables as the compiler lays them out, one flattened table does the same
    /// with every packet.
    #[test]
    fn one_table_does_what_two_do(
        first in prop::collection::vec((matching(), 0u8..6, label()), 0..6),
        second in prop::collection::vec((matching(), 0u32..3, label()), 0..6),
        packets in prop::collection::vec((1u32..4, (0u8..3, 0u8..3), any::<bool>(), address(), address(), 0u8..3), 1..20),
    ) {
        let cookie = Cookie::new(Owner::Base, 0);
        let mut two = BTreeMap::new();
        // Priorities are all different: where rules of one priority overlap, the switch may choose.
        for (n, (matching, kind, label)) in (1u16..).zip(first) {
            let mut actions = match kind {
                0 => vec![],
                1 => vec![RuleAction::Controller],
                2 => vec![RuleAction::SetDscp(40), RuleAction::Goto(1)],
                3 => vec![RuleAction::SetQueue(7), RuleAction::Goto(1)],
                4 => vec![RuleAction::SetDscp(40), RuleAction::SetQueue(7), RuleAction::Goto(1)],
                _ => vec![RuleAction::Goto(1)],
            };
            if let (Some(label), true) = (label, actions.contains(&RuleAction::Goto(1))) {
                actions.insert(actions.len() - 1, RuleAction::WriteMetadata(label));
            }
            let key = RuleKey { table: 0, priority: n * STEP, matching };
            two.insert(key, Rule { key, actions, cookie });
        }
        for (n, (mut matching, port, label)) in (1u16..).zip(second) {
            matching.metadata = label;
            // A mark is read in table 0 only: table 1 would see the one that table 0 has set.
            matching.ip_dscp = None;
            let actions = if port == 0 { vec![] } else { vec![RuleAction::Output(PortNo(port))] };
            let key = RuleKey { table: 1, priority: n, matching };
            two.insert(key, Rule { key, actions, cookie });
        }
        let one = flatten(two.values());
        prop_assert!(one.keys().all(|k| k.table == 0 && k.matching.metadata.is_none()));
        let is_written = |a: &RuleAction| matches!(a, RuleAction::WriteMetadata(_));
        prop_assert!(!one.values().flat_map(|r| &r.actions).any(is_written));
        prop_assert!(!one.values().flat_map(|r| &r.actions).any(|a| matches!(a, RuleAction::SetQueue(_))));
        for (port, (mac, to), tagged, src, dst, dscp) in packets {
            let eth_dst = Some(Mac([2, 0, 0, 0, 1, to]));
            let packet = Packet { dscp, eth_dst, tagged, ..udp(Mac([2, 0, 0, 0, 0, mac]), src, dst) };
            let (mut by_two, mut by_one) = (packet, packet);
            let (wanted, done) =
                (outcome(&two, PortNo(port), &mut by_two), outcome(&one, PortNo(port), &mut by_one));
            prop_assert_eq!(&wanted, &done, "{:?} at {}", packet, port);
            if !wanted.0.is_empty() {
                prop_assert_eq!(by_two.dscp, by_one.dscp);
            }
        }
    }
}
