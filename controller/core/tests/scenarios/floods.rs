//! What machines and switches can do by sending as often as they like, with what addresses they
//! like: nothing to others, and little to the controller.

use crate::world::{SMALL, World, port, read};
use std::net::Ipv4Addr;
use std::time::Duration;
use tandem_model::{
    Arp, ArpOp, DhcpReplyKind, DhcpRequestKind, Dpid, Effect, Event, LinkId, Mac, NodeId, PortNo, ServerId,
};

fn arp(mac: Mac, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Arp {
    Arp {
        op: ArpOp::Request,
        eth_dst: Mac::BROADCAST,
        sender_mac: mac,
        sender_ip,
        target_mac: Mac([0; 6]),
        target_ip,
    }
}

fn says(world: &mut World, at: (Dpid, PortNo), mac: Mac, ip: Ipv4Addr) {
    let gateway = world.site.topology.gateways[0].address;
    world.tell(Event::ArpSeen { switch: at.0, port: at.1, arp: arp(mac, ip, gateway) });
}

/// A VM says with the Ethernet addresses of VMs that are still to come, and with their IP
/// addresses, that it is them; from its own port, from the gateway's, and from one that the site
/// does not declare. The VMs that come then get their address all the same.
#[test]
fn vms_to_come_are_not_taken_off_the_network_beforehand() {
    let mut world = World::new(read(SMALL));
    let first = world.vm();
    let (edge, own) = world.port_of(first.server);
    let outside = [Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(10, 255, 255, 77)];
    for at in [(edge, own), world.gateway_port(), (edge, PortNo(99))] {
        for n in 1..40u8 {
            let to_come = Mac([2, 0x10, 0, 0, 0, n]);
            let inside = Ipv4Addr::from_bits(first.address.to_bits() + u32::from(n));
            for ip in [inside, first.address, outside[0], outside[1]] {
                says(&mut world, at, to_come, ip);
            }
            says(&mut world, at, Mac([6, 0, 0, 0, 0, n]), inside);
        }
    }
    let hosts = world.core.snapshot().hosts.clone();
    let listed = hosts.iter().filter(|h| h.kind == "unknown" || h.mac.0[1] == 0x10);
    assert_eq!(listed.map(|h| h.name.as_str()).collect::<Vec<_>>(), ["vm1"]);
    for _ in 0..8 {
        let vm = world.vm();
        world.assert_reachable(&vm);
        world.forget();
        world.tell(world.dhcp(vm.id, DhcpRequestKind::Discover, None));
        let offered =
            |e: &Effect| matches!(e, Effect::SendDhcp { dhcp, .. } if dhcp.kind == DhcpReplyKind::Offer);
        assert!(world.log.iter().any(offered), "{}", vm.id);
    }
    world.assert_reachable(&first);
}

/// The notice says whose addresses are used, at which port, and who may be there.
#[test]
fn a_spoofer_is_named_by_its_port_and_its_victims_by_what_is_used() {
    let mut world = World::new(read(SMALL));
    let (a, b) = (world.vm(), world.vm());
    let (edge, number) = world.port_of(a.server);
    let wait = Duration::from_secs(61);
    let beside = world.site.topology.by_name("edge1").is_some();
    assert!(beside);
    let mut notice = |mac: Mac, ip: Ipv4Addr, at: (Dpid, PortNo)| {
        world.wait_seen(wait);
        world.forget();
        says(&mut world, at, mac, ip);
        world.noticed("spoofed").concat()
    };
    let here = (edge, number);
    let who = format!("edge1.{number} (the port of srv1, {}, {})", a.id, b.id);
    let text = notice(a.mac, b.address, here);
    let what = format!("{} of {} with the Ethernet address {} of {}", b.address, b.id, a.mac, a.id);
    assert!(text.contains(&who) && text.contains(&what), "{text}");
    let text = notice(Mac([6, 0, 0, 0, 0, 1]), b.address, here);
    assert!(
        text.contains(&format!("{} of {} with", b.address, b.id)) && text.contains("of nobody"),
        "{text}"
    );
    let text = notice(Mac([6, 0, 0, 0, 0, 1]), Ipv4Addr::new(192, 0, 2, 1), here);
    assert!(text.contains("which no machine has there") && text.contains(&who), "{text}");
    let elsewhere = (edge, PortNo(99));
    let text = notice(a.mac, a.address, elsewhere);
    assert!(text.contains(&format!("both are of {}", a.id)), "{text}");
    assert!(text.contains("edge1.99 (a port that the site does not declare)"), "{text}");
}

/// A machine invents a hundred thousand senders, at its server's port and outside. Hosts, notices,
/// effects and what is published stay as they were, but for so many unknown hosts outside; and another
/// port's questions are answered meanwhile.
#[test]
fn invented_senders_have_a_bound() {
    let mut world = World::new(read(SMALL));
    let vm = world.vm();
    let at = world.port_of(ServerId(3));
    let gateway = world.gateway_port();
    let declared = world.core.snapshot().hosts.len();
    world.forget();
    world.lines.clear();
    let mut published = 0;
    for n in 0..100_000u32 {
        let [w, x, y, z] = n.to_be_bytes();
        let (mac, ip) = (Mac([6, 1, w, x, y, z]), Ipv4Addr::from_bits(0xc612_0000 + n));
        says(&mut world, if n % 2 == 0 { at } else { gateway }, mac, ip);
        if n % 256 == 0 {
            let before = world.core.snapshot();
            says(&mut world, gateway, Mac([6, 2, w, x, y, z]), ip);
            published += world.core.snapshot().hosts.pages_apart(&before.hosts);
        }
        if n % 1000 == 0 {
            world.now = world.now + Duration::from_millis(100);
        }
        world.lines.clear();
    }
    assert!(published <= 64, "{published} pages");
    let hosts = world.core.snapshot().hosts.len();
    assert_eq!(hosts, declared + tandem_core::network::host_tracker::UNKNOWN_PER_PORT);
    assert!(world.notices().len() <= 6, "{:?}", world.notices());
    assert!(world.log.len() <= 6 + 2 * hosts, "{} effects", world.log.len());
    world.forget();
    let from = world.port_of(vm.server);
    says(&mut world, from, vm.mac, vm.address);
    assert!(world.log.iter().any(|e| matches!(e, Effect::SendArp { port, .. } if *port == from.1)));
    // Ten minutes on, unknown hosts that do not answer are forgotten, and no probe or timer is left
    // over.
    world.forget();
    world.wait_seen(Duration::from_secs(3600));
    assert!(world.core.snapshot().hosts.len() <= declared);
    let probes = world.log.iter().filter(|e| matches!(e, Effect::SendArp { .. })).count();
    assert!(probes <= 4 * hosts * 60, "{probes} probes");
}

/// A VM that asks as fast as it can is answered so often a second, and not published anew each
/// time; its neighbour is answered as ever.
#[test]
fn a_port_has_so_many_packets_a_second_looked_at() {
    let mut world = World::new(read(SMALL));
    let (vm, other) = (
        world.vm(),
        world.vm_of({
            let mut large = world.request();
            large.resources.cpu = 8;
            large
        }),
    );
    let (at, elsewhere) = (world.port_of(vm.server), world.port_of(other.server));
    assert_ne!(at, elsewhere);
    for (at, vm) in [(at, &vm), (elsewhere, &other)] {
        says(&mut world, at, vm.mac, vm.address);
    }
    world.wait_seen(Duration::from_secs(2));
    let answers = |world: &World, port| {
        world.log.iter().filter(|e| matches!(e, Effect::SendArp { port: p, .. } if *p == port)).count()
    };
    world.forget();
    let before = world.core.snapshot();
    for _ in 0..20_000 {
        says(&mut world, at, vm.mac, vm.address);
        world.lines.clear();
    }
    assert!((1..=1000).contains(&answers(&world, at.1)), "{} answers", answers(&world, at.1));
    let pages = world.core.snapshot().hosts.pages_apart(&before.hosts);
    assert_eq!(pages, 0, "nothing that is shown of a host has changed");
    says(&mut world, elsewhere, other.mac, other.address);
    assert_eq!(answers(&world, elsewhere.1), 1);
}

fn edge_link(world: &World) -> (LinkId, (Dpid, PortNo)) {
    let link = world.link("edge1", "agg1");
    let edge = world.dpid("edge1");
    let end = world.ends(link).into_iter().find(|(d, _)| *d == edge).expect("its end");
    (link, end)
}

/// Fifteen thousand flaps a second for three seconds: a handful of notices and changes of rules,
/// the port counts as down meanwhile, and what it said last counts soon after.
#[test]
fn a_flapping_port_is_damped_and_its_last_state_wins() {
    for last in [true, false] {
        let mut world = World::new(read(SMALL));
        let vm = world.vm();
        let (link, (switch, number)) = edge_link(&world);
        world.forget();
        for n in 0..45_000u32 {
            let up = n % 2 == 1;
            world.tell(Event::PortChanged { switch, port: port(number, up), removed: false });
            world.lines.clear();
            if n % 15 == 0 {
                world.now = world.now + Duration::from_millis(1);
            }
        }
        world.tell(Event::PortChanged { switch, port: port(number, last), removed: false });
        assert!(!world.core.is_usable(link), "it is not trusted yet");
        assert!(world.notices().len() <= 12, "{:?}", world.notices());
        assert_eq!(world.noticed("port-flapping").len(), 1);
        let changes = world.log.iter().filter(|e| matches!(e, Effect::ApplyRules { .. })).count();
        assert!(changes <= 60, "{changes} changes of rules");
        world.wait_seen(Duration::from_secs(17));
        assert_eq!(world.core.is_usable(link), last);
        let view = world.core.snapshot().switches[world.switch("edge1").0 as usize].clone();
        assert_eq!(view.ports.iter().find(|p| p.port == number).map(|p| p.up), Some(last));
        world.assert_reachable(&vm);
    }
}

/// A switch that reports ports which nobody declared, one after the other, is listened to up to a
/// bound; declared ports still count.
#[test]
fn invented_ports_do_not_grow_anything() {
    let mut world = World::new(read(SMALL));
    let switch = world.dpid("edge1");
    let known = |w: &mut World| {
        let id = w.switch("edge1");
        w.core.snapshot().switches[id.0 as usize].ports.len()
    };
    let before = known(&mut world);
    world.forget();
    for n in 1000..21_000 {
        world.tell(Event::PortChanged { switch, port: port(PortNo(n), true), removed: false });
    }
    assert!(known(&mut world) <= before + 64);
    // Nor when those that were damped have kept still.
    world.wait_seen(Duration::from_secs(20));
    assert!(known(&mut world) <= before + 64, "{} ports", known(&mut world));
    // Those that are gone again make room for others.
    for n in 1000..1100 {
        world.tell(Event::PortChanged { switch, port: port(PortNo(n), false), removed: true });
    }
    world.wait_seen(Duration::from_secs(61));
    for n in 5000..5003 {
        world.tell(Event::PortChanged { switch, port: port(PortNo(n), true), removed: false });
    }
    assert_eq!(known(&mut world), before + 3);
    assert!(world.notices().len() <= 3, "{:?}", world.notices());
    let (link, (switch, number)) = edge_link(&world);
    world.tell(Event::PortChanged { switch, port: port(number, false), removed: false });
    assert!(!world.core.is_usable(link));
    let _ = NodeId::Switch(world.switch("edge1"));
}
