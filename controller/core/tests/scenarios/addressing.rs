//! ARP and DHCP as the controller answers them: who may ask what, and who may be whom.

use crate::packets::Fate;
use crate::world::{SMALL, World, read};
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, DhcpReply, DhcpReplyKind, DhcpRequestKind, Dpid, Effect, Event, Mac, PortNo, ServerId,
};

fn arp(op: ArpOp, sender_mac: Mac, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Arp {
    Arp { op, eth_dst: Mac::BROADCAST, sender_mac, sender_ip, target_mac: Mac([0; 6]), target_ip }
}

/// Somebody asks at a port; what is answered, and where.
fn ask(world: &mut World, at: (Dpid, PortNo), arp: Arp) -> Vec<(Dpid, PortNo, Arp)> {
    world.forget();
    world.tell(Event::ArpSeen { switch: at.0, port: at.1, arp });
    world
        .log
        .iter()
        .filter_map(|e| match e {
            Effect::SendArp { switch, port, arp } => Some((*switch, *port, *arp)),
            _ => None,
        })
        .collect()
}

/// RFC 826: the answer goes to whoever asked, by the port where they asked, with the address asked
/// for.
#[test]
fn a_vm_learns_its_gateway_and_the_dhcp_server_and_no_server() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let at = world.port_of(vm.server);
    let gateway = world.site.topology.gateways[0].clone();
    let answers = ask(&mut world, at, arp(ArpOp::Request, vm.mac, vm.address, gateway.address));
    let wanted = Arp {
        op: ArpOp::Reply,
        eth_dst: vm.mac,
        sender_mac: gateway.mac,
        sender_ip: gateway.address,
        target_mac: vm.mac,
        target_ip: vm.address,
    };
    assert_eq!(answers, [(at.0, at.1, wanted)]);
    let plan = world.site.addresses.clone();
    let answers = ask(&mut world, at, arp(ArpOp::Request, vm.mac, vm.address, plan.dhcp));
    assert_eq!(answers[0].2.sender_mac, plan.dhcp_mac);
    let server = world.site.topology.servers[0].address;
    let nobody = Ipv4Addr::new(10, 0, 0, 200);
    for ip in [server, nobody, vm.address] {
        assert_eq!(ask(&mut world, at, arp(ArpOp::Request, vm.mac, vm.address, ip)), [], "{ip}");
    }
    let reply = arp(ArpOp::Reply, vm.mac, vm.address, gateway.address);
    assert_eq!(ask(&mut world, at, reply), [], "a reply is no question");
}

#[test]
fn the_gateway_learns_vms_and_servers() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let at = world.gateway_port();
    let gateway = world.site.topology.gateways[0].clone();
    let server = world.site.topology.servers[1].clone();
    for (ip, mac) in [(vm.address, vm.mac), (server.address, server.mac)] {
        let answers = ask(&mut world, at, arp(ArpOp::Request, gateway.mac, gateway.address, ip));
        assert_eq!(answers.len(), 1, "{ip}");
        assert_eq!(answers[0].2.sender_mac, mac);
    }
}

/// A gateway with two uplinks asks at both and is answered at the one by which the VM's path
/// starts.
#[test]
fn a_gateway_with_several_uplinks_is_answered_at_the_right_one() {
    let mut world = World::new(read("[topology]\nshape = \"three-tier\"\n"));
    let vm = world.vm();
    let gateway = world.site.topology.gateways[0].clone();
    assert_eq!(gateway.uplinks.len(), 2);
    let mut answered = Vec::new();
    for link in &gateway.uplinks {
        let at = world.ends(*link)[0];
        let request = arp(ArpOp::Request, gateway.mac, gateway.address, vm.address);
        answered.extend(ask(&mut world, at, request).iter().map(|_| *link));
    }
    assert_eq!(answered, [vm.path_down[0].link]);
}

/// RFC 5227 2.1.1: a probe for its own address must not be answered, or the VM would not use it;
/// one for somebody else's is.
#[test]
fn address_probes() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let at = world.port_of(vm.server);
    let probe = |ip| arp(ArpOp::Request, vm.mac, Ipv4Addr::UNSPECIFIED, ip);
    assert_eq!(ask(&mut world, at, probe(vm.address)), []);
    let gateway = world.site.topology.gateways[0].address;
    assert_eq!(ask(&mut world, at, probe(gateway)).len(), 1);
}

/// A VM that speaks with an address or a MAC that is not its own, or from another server's port, is
/// not answered, not believed, named once a minute, and what it sends is dropped.
#[test]
fn spoofers_are_not_believed_and_named_once_a_minute() {
    let mut world = World::new(read(SMALL));
    let (a, b) = (world.vm(), world.vm());
    let at = world.port_of(a.server);
    let elsewhere = world.port_of(ServerId(3));
    let gateway = world.site.topology.gateways[0].clone();
    for (mac, ip, at) in [
        (a.mac, b.address, at),
        (b.mac, a.address, at),
        (a.mac, gateway.address, at),
        (gateway.mac, gateway.address, at),
        (Mac([2, 9, 9, 9, 9, 9]), a.address, at),
        (a.mac, a.address, elsewhere),
    ] {
        assert_eq!(ask(&mut world, at, arp(ArpOp::Request, mac, ip, gateway.address)), [], "{mac} {ip}");
    }
    assert_eq!(world.noticed("spoofed").len(), 1, "the last one is at another port");
    let bad = arp(ArpOp::Request, a.mac, b.address, gateway.address);
    ask(&mut world, at, bad);
    assert_eq!(world.noticed("spoofed"), Vec::<&str>::new(), "within the minute");
    world.wait_seen(Duration::from_secs(60));
    ask(&mut world, at, bad);
    assert_eq!(world.noticed("spoofed").len(), 1);
    let edge = world.switch("edge1");
    let from = tandem_model::NodeId::Server(a.server);
    let packet = crate::packets::udp(a.mac, b.address, gateway.address);
    assert_eq!(world.walk(from, packet).0, Fate::Dropped(edge));
    world.assert_reachable(&a);
}

fn replies(world: &World) -> Vec<DhcpReply> {
    let reply = |e: &Effect| match e {
        Effect::SendDhcp { dhcp, .. } => Some(dhcp.clone()),
        _ => None,
    };
    world.log.iter().filter_map(reply).collect()
}

/// RFC 2131 3.1: discover, offer, request, ack; only then the VM runs.
#[test]
fn a_vm_gets_its_address_by_dhcp() {
    let mut world = World::new(read(&format!("{SMALL}[addresses]\ndns = [\"10.255.255.254\"]\n")));
    world.held.dhcp = true;
    let id = world.ask_vm();
    let vm = tandem_model::VmId(1);
    assert_eq!(replies(&world), []);
    world.tell(world.dhcp(vm, DhcpRequestKind::Discover, None));
    let offer = replies(&world)[0].clone();
    let plan = world.site.addresses.clone();
    assert_eq!(offer.kind, DhcpReplyKind::Offer);
    assert_eq!((offer.server, offer.xid, offer.lease), (plan.dhcp, 7, plan.lease));
    assert_eq!(offer.router, Some(world.site.topology.gateways[0].address));
    assert_eq!((offer.dns, offer.prefix_len), (plan.dns, plan.network.len()));
    assert!(world.answer(id).is_none(), "offered is not taken");
    world.tell(world.dhcp(vm, DhcpRequestKind::Request, Some(offer.address)));
    assert_eq!(replies(&world)[1].kind, DhcpReplyKind::Ack);
    assert!(world.answer(id).is_some());
}

/// RFC 2131 4.3.2: a wrong address gets a NAK by broadcast, a request to another server silence;
/// 4.3.5: INFORM gets no address.
#[test]
fn dhcp_answers_by_the_book() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    world.forget();
    world.tell(world.dhcp(vm.id, DhcpRequestKind::Request, Some(Ipv4Addr::new(10, 0, 0, 99))));
    let nak = replies(&world)[0].clone();
    assert_eq!((nak.kind, nak.address, nak.broadcast), (DhcpReplyKind::Nak, Ipv4Addr::UNSPECIFIED, true));
    world.forget();
    world.tell(world.dhcp(vm.id, DhcpRequestKind::Inform, None));
    let inform = replies(&world)[0].clone();
    assert_eq!((inform.kind, inform.address), (DhcpReplyKind::Ack, Ipv4Addr::UNSPECIFIED));
    assert_eq!(inform.lease, Duration::ZERO);
    world.forget();
    let mut other = world.dhcp(vm.id, DhcpRequestKind::Request, Some(vm.address));
    if let Event::DhcpSeen { dhcp, .. } = &mut other {
        dhcp.server = Some(Ipv4Addr::new(10, 9, 9, 9));
    }
    world.tell(other);
    world.tell(world.dhcp(vm.id, DhcpRequestKind::Release, None));
    assert_eq!(replies(&world), []);
    world.tell(world.dhcp(vm.id, DhcpRequestKind::Decline, None));
    assert_eq!(world.noticed("dhcp-declined").len(), 1);
    assert!(world.core.vm(vm.id).is_some_and(|v| v.state == tandem_model::VmState::Running));
}

/// Who is not a declared machine at its place gets nothing: an unknown MAC, a forged Ethernet
/// source, another server's port.
#[test]
fn dhcp_is_for_those_who_belong_there() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    world.forget();
    let good = world.dhcp(vm.id, DhcpRequestKind::Discover, None);
    let elsewhere = world.port_of(ServerId(3));
    let change = |f: &dyn Fn(&mut tandem_model::DhcpRequest, &mut Dpid, &mut PortNo)| {
        let mut event = good.clone();
        if let Event::DhcpSeen { switch, port, dhcp } = &mut event {
            f(dhcp, switch, port);
        }
        event
    };
    let other = Mac([2, 9, 9, 9, 9, 9]);
    let bad = [
        change(&|d, _, _| (d.mac, d.eth_src) = (other, other)),
        change(&|d, _, _| d.eth_src = other),
        change(&|_, s, p| (*s, *p) = elsewhere),
        change(&|_, s, _| *s = Dpid(0xdead)),
    ];
    for event in bad {
        world.tell(event.clone());
        assert_eq!(replies(&world), [], "{event:?}");
    }
    world.tell(good);
    assert!(!replies(&world).is_empty());
}

/// A host that falls silent is asked by ARP, three times a second apart, then it is not there any
/// more; a counter that moves or an answer keeps it.
#[test]
fn a_silent_host_is_probed_then_lost_then_found_again() {
    let mut world = World::new(read(&format!("{SMALL}[discovery]\nhost_timeout = \"60 s\"\n")));
    let server = world.site.topology.servers[0].clone();
    let (switch, port) = world.port_of(ServerId(0));
    let alive = Event::HostSeen { switch, port, mac: server.mac, ip: server.address };
    world.tell(alive.clone());
    assert_eq!(world.noticed("host-joined").len(), 1);
    let probes = |w: &World| {
        let ours = |e: &&Effect| matches!(e, Effect::SendArp { arp, .. } if arp.target_ip == server.address);
        w.log.iter().filter(ours).count()
    };
    world.forget();
    world.wait(Duration::from_secs(59));
    assert_eq!(probes(&world), 0);
    world.wait(Duration::from_secs(1));
    assert_eq!(probes(&world), 1);
    world.tell(alive.clone());
    world.wait(Duration::from_secs(59));
    assert_eq!((probes(&world), world.noticed("host-lost").len()), (1, 0), "it answered");
    world.wait(Duration::from_secs(10));
    assert_eq!((probes(&world), world.noticed("host-lost").len()), (4, 1));
    let there =
        |w: &mut World| w.core.snapshot().hosts.iter().any(|h| h.address == server.address && h.at.is_some());
    assert!(!there(&mut world));
    world.tell(alive);
    assert_eq!(world.noticed("host-joined").len(), 1);
    assert!(there(&mut world));
}
