//! What machines may send, by rule and not by accident: whole frames walked through the flow tables
//! of every product of the rules, two tables of OpenFlow 1.3 and the flattened one of 1.0.

use crate::fabric::{Fabric, SECRET, SERVICE_TAG, Sender, TAG, frame, ipv4, udp_datagram};
use crate::world::{SMALL, World, read};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use tandem_model::{
    ClassId, DhcpRequestKind, ETH_IPV4, ETH_LLDP, Event, LinkId, Mac, NodeId, PortNo, Request, Response,
    RuleAction, Site, VmRecord,
};
use tandem_switch_driver::packets::discovery_frame;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ETH_IPV6: u16 = 0x86dd;
const BEYOND_RFC_2131: &[u8] = &[0; 16];

/// Machines of a small data centre: two VMs on the first server, one beside it, one at the other
/// edge; the first two and the last one are a group.
struct Machines {
    world: World,
    vms: Vec<VmRecord>,
}

impl Machines {
    fn new(one_table: bool, more: &str) -> Machines {
        let mut world = World::dark(read(&format!("{SMALL}{more}")), Default::default());
        world.one_table = one_table;
        world.connect_all();
        world.attach(Vec::new());
        let mut vms: Vec<VmRecord> = (0..2).map(|_| world.vm()).collect();
        for cpu in [7, 8] {
            let mut large = world.request();
            large.resources.cpu = cpu;
            vms.push(world.vm_of(large));
        }
        assert_eq!(vms.iter().map(|v| v.server.0).collect::<Vec<_>>(), [0, 0, 1, 2]);
        let members = [0, 1, 3].map(|n: usize| vms[n].address).to_vec();
        world.ask(Request::CreateGroup { members });
        Machines { world, vms }
    }

    fn vm(&self, n: usize) -> Sender {
        Sender::vm(&self.vms[n])
    }

    fn server(&self, n: u32) -> Sender {
        Sender::server(&self.world.site, n)
    }

    fn gateway(&self) -> Sender {
        Sender::gateway(&self.world.site, 0)
    }

    /// All of them.
    fn all(&self) -> Vec<Sender> {
        let servers = (0..self.world.site.topology.servers.len() as u32).map(|n| self.server(n));
        (0..self.vms.len()).map(|n| self.vm(n)).chain(servers).chain([self.gateway()]).collect()
    }

    fn site(&self) -> &Site {
        &self.world.site
    }
}

/// The classes of a data centre that marks and queues.
const CLASSES: &str = "[[class]]\nname = \"gold\"\nshare = 70\ndscp = 46\n\
                       [[class]]\nname = \"silver\"\nshare = 30\ndscp = 10\ndefault = true\n";

fn products() -> impl Iterator<Item = (bool, &'static str)> {
    [false, true].into_iter().flat_map(|one| ["", CLASSES].map(|classes| (one, classes)))
}

/// From whom to whom something goes: sender, receiver's Ethernet and IP address, receiver.
fn allowed(m: &Machines) -> Vec<(Sender, Mac, Ipv4Addr, NodeId)> {
    let gateway = m.gateway();
    let mut list = Vec::new();
    for n in 0..m.vms.len() {
        let vm = m.vm(n);
        list.push((vm, gateway.mac, gateway.ip, gateway.node));
        list.push((vm, gateway.mac, OUTSIDE, gateway.node));
        list.push((gateway, vm.mac, vm.ip, vm.node));
    }
    for (a, b) in [(0, 1), (1, 0), (0, 3), (3, 0), (1, 3), (3, 1)] {
        let (a, b) = (m.vm(a), m.vm(b));
        list.push((a, b.mac, b.ip, b.node));
    }
    for (a, b) in [(0, 1), (1, 0), (0, 2), (3, 0)] {
        let (a, b) = (m.server(a), m.server(b));
        list.push((a, b.mac, b.ip, b.node));
        list.push((a, gateway.mac, gateway.ip, gateway.node));
        list.push((gateway, b.mac, b.ip, b.node));
    }
    list
}

/// IEEE 802.1Q section 9.6: VID 0 is no VLAN. Such frames go where those without a tag go; no other
/// tag enters, from whomever.
#[test]
fn what_is_of_no_vlan_passes_and_no_vlan_enters() {
    for (one_table, classes) in products() {
        let m = Machines::new(one_table, classes);
        let mut fabric = Fabric::of(&m.world);
        for (from, mac, ip, to) in allowed(&m) {
            for tags in [&[][..], &[(TAG, 0)], &[(TAG, 0xe000)]] {
                let ended = from.sends(&mut fabric, &from.udp(mac, ip, tags));
                assert!(ended.is_at(to), "{from:?} to {ip}, tags {tags:x?}: {ended:?}");
            }
            for tags in [
                &[(TAG, 5)][..],
                &[(TAG, 1)],
                &[(TAG, 0xefff)],
                &[(SERVICE_TAG, 5)],
                &[(TAG, 0), (TAG, 5)],
                &[(TAG, 5), (TAG, 0)],
                &[(TAG, 0), (TAG, 0)],
                &[(SERVICE_TAG, 0), (TAG, 7)],
                &[(TAG, 0), (SERVICE_TAG, 0)],
            ] {
                let ended = from.sends(&mut fabric, &from.udp(mac, ip, tags));
                assert!(ended.is_nowhere(), "{from:?} to {ip}, tags {tags:x?}: {ended:?}");
            }
        }
    }
}

/// ARP and DHCP with VID 0 are the controller's like those without a tag; of a VLAN, or with two
/// tags, they do not even reach it.
#[test]
fn arp_and_dhcp_are_answered_with_vid_0_and_dropped_in_a_vlan() {
    for (one_table, classes) in products() {
        let mut m = Machines::new(one_table, classes);
        let mut fabric = Fabric::of(&m.world);
        let (vm, gateway) = (m.vm(2), m.gateway());
        let asked = m.world.dhcp(m.vms[2].id, DhcpRequestKind::Discover, None);
        // Ethernet, BOOTP with the magic cookie, DHCPDISCOVER, end (RFC 2131 section 2, RFC 2132
        // section 9.6).
        let mut bootp = vec![1, 1, 6, 0, 0, 0, 0, 7];
        bootp.resize(28, 0);
        bootp.extend_from_slice(&vm.mac.0);
        bootp.resize(236, 0);
        bootp.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 255]);
        let discover = |tags: &[(u16, u16)]| {
            let packet =
                ipv4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, 17, 0, &udp_datagram(68, 67, &bootp));
            frame(Mac::BROADCAST, vm.mac, tags, ETH_IPV4, &packet)
        };
        for tags in [&[][..], &[(TAG, 0)], &[(TAG, 0x6000)]] {
            let ended = vm.sends(&mut fabric, &vm.arp(gateway.ip, tags));
            assert!(matches!(ended.events[..], [Event::ArpSeen { .. }]), "{tags:x?}: {ended:?}");
            assert!(ended.at.is_empty());
            let ended = vm.sends(&mut fabric, &discover(tags));
            assert_eq!(ended.events, std::slice::from_ref(&asked), "{tags:x?}");
            // And the core answers what was seen.
            m.world.forget();
            m.world.tell(ended.events[0].clone());
            let answered = |e: &tandem_model::Effect| matches!(e, tandem_model::Effect::SendDhcp { .. });
            assert!(m.world.log.iter().any(answered));
        }
        for tags in [&[(TAG, 5)][..], &[(SERVICE_TAG, 5)], &[(TAG, 0), (TAG, 5)], &[(TAG, 0), (TAG, 0)]] {
            assert!(vm.sends(&mut fabric, &vm.arp(gateway.ip, tags)).is_nowhere(), "{tags:x?}");
            assert!(vm.sends(&mut fabric, &discover(tags)).is_nowhere(), "{tags:x?}");
        }
    }
}

/// A server's own address reaches servers, gateways and the outside, and no VM, wherever that is:
/// at the server's edge or another's, on the server itself, or moved away from the edge whose
/// address it has.
#[test]
fn a_servers_address_reaches_no_vm() {
    for (one_table, classes) in products() {
        let mut m = Machines::new(one_table, classes);
        for moved in [false, true] {
            if moved {
                // To the other edge, with its address.
                let id = m.vms[2].id;
                m.world.migrate(id, Some(3));
                let vm = m.world.stored.vms.iter().find(|v| v.id == id).cloned().expect("it is there");
                assert_eq!(vm.server.0, 3);
                m.vms[2] = vm;
            }
            let mut fabric = Fabric::of(&m.world);
            for n in 0..m.site().topology.servers.len() as u32 {
                let server = m.server(n);
                for vm in (0..m.vms.len()).map(|n| m.vm(n)) {
                    let ended = server.sends(&mut fabric, &server.udp(vm.mac, vm.ip, &[]));
                    assert!(ended.is_nowhere(), "{server:?} to {vm:?}: {ended:?}");
                }
            }
            let (gateway, vm) = (m.gateway(), m.vm(2));
            assert!(gateway.sends(&mut fabric, &gateway.udp(vm.mac, vm.ip, &[])).is_at(vm.node));
            assert!(vm.sends(&mut fabric, &vm.udp(gateway.mac, OUTSIDE, &[])).is_at(gateway.node));
        }
    }
}

/// Whoever sends at a port with an address that is not there reaches nobody: with a neighbour's,
/// the server's, a VM's of elsewhere, one of nobody, or one of the inside from outside.
#[test]
fn a_source_is_bound_to_where_it_enters() {
    for (one_table, classes) in products() {
        let m = Machines::new(one_table, classes);
        let mut fabric = Fabric::of(&m.world);
        let all = m.all();
        let nobody = Ipv4Addr::new(10, 0, 0, 77);
        for at in &all {
            for who in &all {
                for (mac, ip) in [(who.mac, who.ip), (at.mac, who.ip), (who.mac, at.ip), (at.mac, nobody)] {
                    // Machines on one server share its port; a gateway sends for all of the
                    // outside, with any Ethernet address.
                    let is_own = |s: &&Sender| s.node == at.node && s.mac == mac && s.ip == ip;
                    let is_outside = matches!(at.node, NodeId::Gateway(_)) && ip == at.ip;
                    if all.iter().any(|s| is_own(&s)) || is_outside {
                        continue;
                    }
                    let liar = Sender { mac, ip, ..*at };
                    for to in &all {
                        let ended = liar.sends(&mut fabric, &liar.udp(to.mac, to.ip, &[]));
                        assert!(ended.is_nowhere(), "{liar:?} to {to:?}: {ended:?}");
                    }
                    let out = m.gateway().mac;
                    let ended = liar.sends(&mut fabric, &liar.udp(out, OUTSIDE, &[]));
                    assert!(ended.is_nowhere(), "{liar:?} to the outside: {ended:?}");
                }
            }
        }
    }
}

/// RFC 791: only the first fragment has ports. All fragments of a packet go where the packet would
/// have gone, also where a later one looks like DHCP, and where a client speaks from DHCP's port to
/// a server outside.
#[test]
fn fragments_go_where_their_packet_goes() {
    for (one_table, classes) in products() {
        let m = Machines::new(one_table, classes);
        let mut fabric = Fabric::of(&m.world);
        for (from, mac, ip, to) in allowed(&m) {
            for (source, dest) in [(5000, 5001), (68, 67), (67, 68)] {
                let first = udp_datagram(source, dest, BEYOND_RFC_2131);
                let later = udp_datagram(68, 67, BEYOND_RFC_2131);
                for (fragment, payload) in
                    [(0, &first), (0x4000, &first), (0x2000, &first), (0x2003, &later), (0x0006, &later)]
                {
                    let sent = frame(mac, from.mac, &[], ETH_IPV4, &ipv4(from.ip, ip, 17, fragment, payload));
                    let ended = from.sends(&mut fabric, &sent);
                    assert!(ended.is_at(to), "{from:?} to {ip}:{dest}, {fragment:#x}: {ended:?}");
                }
            }
        }
        // A later fragment to where DHCP clients send is for nobody: it is no DHCP, and the address
        // is everybody's.
        let (vm, later) = (m.vm(0), udp_datagram(68, 67, BEYOND_RFC_2131));
        for to in [Ipv4Addr::BROADCAST, m.site().addresses.dhcp] {
            let packet = ipv4(vm.ip, to, 17, 0x0006, &later);
            for mac in [Mac::BROADCAST, m.site().addresses.dhcp_mac, m.gateway().mac] {
                let ended = vm.sends(&mut fabric, &frame(mac, vm.mac, &[], ETH_IPV4, &packet));
                let is_known = to != Ipv4Addr::BROADCAST && ended.is_at(m.gateway().node);
                assert!(ended.is_nowhere() || is_known, "{to} {mac}: {ended:?}");
            }
        }
    }
}

/// Nothing but ARP and DHCP is for more than one machine: neither by its IP address nor by its
/// Ethernet address.
#[test]
fn broadcast_and_multicast_reach_nobody() {
    for (one_table, classes) in products() {
        let m = Machines::new(one_table, classes);
        let mut fabric = Fabric::of(&m.world);
        let many = [
            Mac::BROADCAST,
            Mac([0x01, 0x00, 0x5e, 0, 0, 0xfb]),
            Mac([0x33, 0x33, 0, 0, 0, 1]),
            Mac([0x01, 0x80, 0xc2, 0, 0, 0]),
            Mac([0x03, 2, 3, 4, 5, 6]),
        ];
        let groups = ["255.255.255.255", "224.0.0.1", "224.0.0.251", "239.255.255.250", "240.0.0.1"];
        let prefix = m.site().topology.switches.iter().find_map(|s| s.prefix).expect("an edge");
        let last = [prefix.last(), m.site().addresses.network.last()];
        let unicast: Vec<(Mac, Ipv4Addr)> =
            m.all().iter().map(|s| (s.mac, s.ip)).chain([(m.gateway().mac, OUTSIDE)]).collect();
        for from in m.all() {
            for mac in many {
                let to = unicast.iter().map(|(_, ip)| *ip);
                for ip in to.chain(groups.map(|g| g.parse().expect("an address"))).chain(last) {
                    let ended = from.sends(&mut fabric, &from.udp(mac, ip, &[]));
                    assert!(ended.is_nowhere(), "{from:?} to {mac} {ip}: {ended:?}");
                }
            }
            for ip in groups.map(|g| g.parse().expect("an address")).into_iter().chain(last) {
                for (mac, _) in &unicast {
                    let ended = from.sends(&mut fabric, &from.udp(*mac, ip, &[]));
                    assert!(ended.is_nowhere(), "{from:?} to {mac} {ip}: {ended:?}");
                }
            }
        }
    }
}

/// The first rule for frames of that Ethernet type from a machine, at the switch that it is plugged
/// in at.
fn decides(world: &World, from: Sender, kind: u16) -> Option<&tandem_model::Rule> {
    let topology = &world.site.topology;
    let end = topology.link(from.link).and_then(|l| l.other(from.node)).expect("a link");
    let NodeId::Switch(switch) = end.node else { panic!("{end:?}") };
    let table = world.tables.get(&topology.switch(switch)?.dpid)?;
    let is_for = |rule: &&tandem_model::Rule| {
        let m = &rule.key.matching;
        rule.key.table == 0
            && m.in_port.is_none_or(|p| p == end.port)
            && m.eth_type.is_none_or(|t| t == kind)
            && m.eth_src.is_none_or(|a| a == from.mac)
    };
    table.values().filter(is_for).max_by_key(|rule| rule.key.priority)
}

/// IPv6 is not served yet, nor is anything else that is neither ARP nor IPv4: it is dropped where
/// it enters.
#[test]
fn ipv6_and_other_protocols_reach_nobody() {
    for (one_table, classes) in products() {
        let m = Machines::new(one_table, classes);
        let mut fabric = Fabric::of(&m.world);
        // A router advertisement's header (RFC 4861 section 4.2), from and to link-local addresses.
        let mut advertisement = vec![0x60, 0, 0, 0, 0, 16, 58, 255];
        advertisement.extend_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        advertisement.extend_from_slice(&[0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        advertisement.extend_from_slice(&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        for from in m.all() {
            for kind in [ETH_IPV6, 0x8847] {
                let rule = decides(&m.world, from, kind).expect("a rule, not a miss");
                assert!(rule.actions.is_empty(), "{from:?}, {kind:#x}: {rule:?}");
                assert!(rule.key.matching.in_port.is_some(), "where it enters, and not further in: {rule:?}");
            }
            for to in m.all().iter().map(|s| s.mac).chain([Mac([0x33, 0x33, 0, 0, 0, 1]), Mac::BROADCAST]) {
                for kind in [ETH_IPV6, 0x8847, 0x8863, 0x888e, 0x0842, 0x0026] {
                    for tags in [&[][..], &[(TAG, 0)]] {
                        let ended = from.sends(&mut fabric, &frame(to, from.mac, tags, kind, &advertisement));
                        assert!(ended.is_nowhere(), "{from:?} to {to}, {kind:#x}: {ended:?}");
                    }
                }
            }
        }
    }
}

/// A VM that has seen a discovery frame sends it on at its own port, or has another VM do so: the
/// controller does not even see it, and the core does not believe it. Between switches, discovery
/// works.
#[test]
fn no_machine_speaks_for_links() {
    for (one_table, classes) in products() {
        let mut m = Machines::new(one_table, classes);
        let mut fabric = Fabric::of(&m.world);
        let link = m.world.link("agg1", "edge1");
        let (dpid, port) = m.world.ends(link)[0];
        let genuine = discovery_frame(dpid, port, Mac([2, 9, 0, 0, 0, 1]), SECRET);
        for from in m.all() {
            for tags in [&[][..], &[(TAG, 0)]] {
                let (head, body) = genuine.split_at(14);
                let dst = Mac(head[..6].try_into().expect("six"));
                let ended = from.sends(&mut fabric, &frame(dst, from.mac, tags, ETH_LLDP, body));
                assert!(ended.is_nowhere(), "{from:?}: {ended:?}");
            }
        }
        let ended = fabric.send(m.world.node("agg1"), link, &genuine);
        assert!(matches!(ended.events[..], [Event::LinkSeen { from, .. }] if from == (dpid, port)));
        let at_server = m.world.port_of(m.vms[0].server);
        m.world.forget();
        m.world.tell(Event::LinkSeen { from: (dpid, port), to: at_server });
        assert_eq!(m.world.noticed("link-miswired"), Vec::<&str>::new());
        assert_eq!(m.world.core.snapshot().surprises.len(), 0);
    }
}

/// A data centre with VMs of several sizes, a group of some of them, and perhaps a link that is
/// down.
#[derive(Debug, Clone)]
struct Plan {
    shape: &'static str,
    classes: bool,
    one_table: bool,
    vms: Vec<(u32, bool)>,
    cut: Option<prop::sample::Index>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let shape = prop::sample::select(vec![
        SMALL,
        "[topology]\nshape = \"three-tier\"\ngateways = 2\n",
        "[topology]\nshape = \"fat-tree\"\nk = 4\n",
        "[topology]\nshape = \"linear\"\nswitches = 4\n",
    ]);
    let vms = prop::collection::vec((0u32..4, any::<bool>()), 0..8);
    let cut = prop::option::of(any::<prop::sample::Index>());
    (shape, any::<bool>(), any::<bool>(), vms, cut).prop_map(|(shape, classes, one_table, vms, cut)| Plan {
        shape,
        classes,
        one_table,
        vms,
        cut,
    })
}

fn made(plan: &Plan) -> World {
    let classes = if plan.classes { CLASSES } else { "" };
    let mut world = World::dark(read(&format!("{}{classes}", plan.shape)), Default::default());
    world.one_table = plan.one_table;
    world.connect_all();
    world.attach(Vec::new());
    let mut grouped = Vec::new();
    for (cpu, is_grouped) in &plan.vms {
        let mut request = world.request();
        request.resources.cpu += cpu;
        request.class = (plan.classes && cpu % 2 == 1).then_some(ClassId(0));
        let id = world.ask(Request::RequestVm { request });
        if let Some(Response::VmRunning { vm }) = world.answer(id)
            && *is_grouped
        {
            grouped.push(vm.address);
        }
    }
    if grouped.len() > 1 {
        world.ask(Request::CreateGroup { members: grouped });
    }
    if let Some(cut) = plan.cut {
        world.set_link(LinkId(cut.index(world.site.topology.links.len()) as u32), false);
    }
    world
}

fn sends_back(rule: &tandem_model::Rule) -> bool {
    let back = |port: PortNo| rule.key.matching.in_port == Some(port);
    rule.actions.iter().any(|a| match *a {
        RuleAction::Output(port) | RuleAction::Enqueue { port, .. } => back(port),
        _ => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// OF 1.0 section 5.3.3: whatever is compiled for whatever data centre, no rule sends a packet
    /// out of the port that it matches (except as OFPP_IN_PORT); and what was sent and is read back
    /// from the switch's statistics means the same, so that nothing is repaired.
    #[test]
    fn compiled_rules_are_taken_by_switches_as_they_are(plan in plan()) {
        let world = made(&plan);
        for (dpid, table) in &world.tables {
            for rule in table.values() {
                prop_assert!(!sends_back(rule), "{dpid}: {} {:?}", rule.key.matching, rule.actions);
                prop_assert!(!world.one_table || rule.key.table == 0);
            }
        }
        let mut fabric = Fabric::of(&world);
        for n in 0..world.site.topology.switches.len() as u32 {
            let id = tandem_model::SwitchId(n);
            let table = world.tables.get(&world.site.topology.switches[n as usize].dpid);
            prop_assert_eq!(fabric.flows(id), table.map_or(0, |t| t.len()), "no two rules mean the same");
        }
        prop_assert_eq!(fabric.repairs(3), 0);
    }
}
