//! The table of hosts against a naive one that has no index, under random declarations and random
//! frames.

use super::*;
use proptest::prelude::*;

/// A host as the naive table has it.
#[derive(Debug, Clone, PartialEq)]
struct Declared {
    kind: HostKind,
    mac: Mac,
    expected: Vec<Place>,
    at: Option<Place>,
}

fn plan() -> AddressPlan {
    let site = tandem_model::site::read("[topology]\nshape = \"three-tier\"\n", "site.toml");
    site.unwrap_or_else(|faults| panic!("{faults}")).addresses
}

/// VMs' addresses, some beside the gateways, some outside.
fn ips() -> Vec<Ipv4Addr> {
    let outside = (1..=40).map(|n| Ipv4Addr::new(192, 0, 2, n));
    let inside = [[10, 0, 0, 3], [10, 0, 0, 4], [10, 0, 0, 5], [10, 255, 255, 1], [10, 255, 255, 9]];
    inside.into_iter().map(Ipv4Addr::from).chain(outside).collect()
}

/// VMs' Ethernet addresses (which any frame may carry before its VM exists), a gateway's, and some
/// of nobody.
fn macs() -> Vec<Mac> {
    let vm = |n| Mac([2, 0x10, 0, 0, 0, n]);
    let nobody = |n| Mac([6, 0, 0, 0, 0, n]);
    [vm(1), vm(2), vm(3), Mac([2, 1, 0, 0, 0, 1])].into_iter().chain((0..40).map(nobody)).collect()
}

fn place(n: usize) -> Place {
    (SwitchId((n / 2) as u32), PortNo((n % 2) as u32))
}

#[derive(Debug, Clone)]
enum Op {
    Declare(usize, usize, usize),
    Move(usize, usize),
    Forget(usize),
    Lost(usize),
    Alive(usize),
    Frame { ip: usize, mac: usize, at: usize, outside: bool },
    Publish,
}

fn op() -> impl Strategy<Value = Op> {
    let (ip, mac, at) = (0usize..45, 0usize..44, 0usize..6);
    prop_oneof![
        1 => (0usize..5, 0usize..4, at.clone()).prop_map(|(ip, mac, at)| Op::Declare(ip, mac, at)),
        1 => (0usize..5, at.clone()).prop_map(|(ip, at)| Op::Move(ip, at)),
        1 => ip.clone().prop_map(Op::Forget),
        1 => ip.clone().prop_map(Op::Lost),
        1 => ip.clone().prop_map(Op::Alive),
        1 => Just(Op::Publish),
        1 => (0usize..5, 0usize..5, at.clone(), any::<bool>())
            .prop_map(|(ip, mac, at, outside)| Op::Frame { ip, mac, at, outside }),
        8 => (ip, mac, at, any::<bool>())
            .prop_map(|(ip, mac, at, outside)| Op::Frame { ip, mac, at, outside }),
    ]
}

/// Every index is what is derived from the table, no port has more unknown hosts than it may, and none
/// has an address of the plan.
fn check(hosts: &Hosts) {
    let mut by_mac: BTreeMap<Mac, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    let mut unknown: BTreeMap<PortKey, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for (ip, host) in &hosts.by_ip {
        by_mac.entry(host.mac).or_default().insert(*ip);
        assert_eq!(host.counted.is_some(), host.is_unknown());
        if let Some(port) = host.counted {
            unknown.entry(port).or_default().insert(*ip);
            assert!(!hosts.is_reserved(*ip, host.mac), "{ip} {host:?}");
        }
    }
    assert_eq!(hosts.by_mac, by_mac);
    assert_eq!(hosts.unknown, unknown);
    assert!(unknown.values().all(|s| s.len() <= UNKNOWN_PER_PORT));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn frames_change_nothing_but_where_a_host_was_seen(ops in prop::collection::vec(op(), 0..200)) {
        let (ips, macs) = (ips(), macs());
        let mut hosts = Hosts::new(&plan());
        let mut naive: BTreeMap<Ipv4Addr, Declared> = BTreeMap::new();
        let mut published: BTreeMap<Ipv4Addr, Host> = BTreeMap::new();
        let kinds = [
            HostKind::Vm(VmId(1)), HostKind::Vm(VmId(2)), HostKind::Vm(VmId(3)),
            HostKind::Gateway(GatewayId(0)),
        ];
        for (n, op) in ops.into_iter().enumerate() {
            let now = Time::from_secs(n as u64);
            match op {
                Op::Declare(ip, mac, at) => {
                    let (kind, mac, expected) = (kinds[mac], macs[mac], vec![place(at)]);
                    hosts.declare(ips[ip], kind, mac, expected.clone());
                    naive.insert(ips[ip], Declared { kind, mac, expected, at: None });
                }
                Op::Move(ip, at) => {
                    hosts.move_to(ips[ip], vec![place(at)]);
                    if let Some(host) = naive.get_mut(&ips[ip]) {
                        host.expected = vec![place(at)];
                    }
                }
                Op::Forget(ip) => {
                    hosts.forget(ips[ip]);
                    naive.remove(&ips[ip]);
                }
                Op::Lost(ip) => {
                    hosts.lost(ips[ip]);
                    if let Some(host) = naive.get_mut(&ips[ip]) {
                        host.at = None;
                    }
                }
                Op::Alive(ip) => hosts.alive(ips[ip], now),
                Op::Publish => {
                    for ip in hosts.take_changed() {
                        match hosts.get(ip) {
                            Some(host) => published.insert(ip, host.clone()),
                            None => published.remove(&ip),
                        };
                    }
                    let shown = |h: &Host| (h.kind, h.mac, h.at);
                    let all: Vec<_> = hosts.iter().map(|(ip, h)| (ip, shown(h))).collect();
                    prop_assert_eq!(published.iter().map(|(ip, h)| (*ip, shown(h))).collect::<Vec<_>>(), all);
                }
                Op::Frame { ip, mac, at, outside } => {
                    let (ip, mac, at) = (ips[ip], macs[mac], place(at));
                    let key = outside.then_some((at.0, Some(at.1)));
                    let sighting = hosts.sighted(ip, mac, at, key, now);
                    let ip_of = naive.get(&ip).map(|h| h.kind);
                    let mac_of = naive.iter().find(|(_, h)| h.mac == mac).map(|(_, h)| h.kind);
                    match naive.get_mut(&ip) {
                        Some(host) if host.mac == mac && host.expected.contains(&at) => {
                            let refused = matches!(sighting, HostEvent::Spoofed { .. } | HostEvent::Full);
                            prop_assert!(!refused);
                            prop_assert_eq!(sighting == HostEvent::Joined, host.at.is_none());
                            host.at = Some(at);
                        }
                        _ if ip_of.is_some() || mac_of.is_some() || !outside => {
                            prop_assert_eq!(sighting, HostEvent::Spoofed { mac_of, ip_of });
                        }
                        _ if hosts.is_reserved(ip, mac) => {
                            prop_assert_eq!(sighting, HostEvent::Spoofed { mac_of: None, ip_of: None });
                        }
                        _ => {
                            let refused = matches!(sighting, HostEvent::Spoofed { .. });
                            prop_assert!(!refused);
                        }
                    }
                }
            }
            check(&hosts);
            let declared: BTreeMap<Ipv4Addr, Declared> = hosts
                .iter()
                .filter(|(_, h)| !h.is_unknown())
                .map(|(ip, h)| {
                    let Host { kind, mac, expected, at, .. } = h.clone();
                    (ip, Declared { kind, mac, expected, at })
                })
                .collect();
            prop_assert_eq!(&declared, &naive);
            for host in naive.values() {
                let is_taken_for = |h: &Host| h.is_unknown() && h.mac == host.mac;
                prop_assert!(!hosts.iter().any(|(_, h)| is_taken_for(h)), "an unknown host that was taken for it");
                let found = hosts.by_mac(host.mac).map(|(_, h)| h.kind);
                let all: Vec<_> = naive.values().filter(|h| h.mac == host.mac).map(|h| h.kind).collect();
                prop_assert!(found.is_some_and(|kind| all.contains(&kind)));
            }
        }
    }
}

/// A machine outside invents addresses as fast as it likes: its port has so many unknown hosts, and
/// another port's are left alone.
#[test]
fn invented_addresses_make_a_bounded_number_of_unknown_hosts() {
    let mut hosts = Hosts::new(&plan());
    let (a, b) = ((SwitchId(0), PortNo(1)), (SwitchId(0), PortNo(2)));
    let honest = Ipv4Addr::new(192, 0, 2, 1);
    let of = |p: Place| Some((p.0, Some(p.1)));
    assert_eq!(hosts.sighted(honest, Mac([6, 0, 0, 0, 0, 1]), b, of(b), Time::ZERO), HostEvent::Joined);
    for n in 0u32..10_000 {
        let [w, x, y, z] = n.to_be_bytes();
        let ip = Ipv4Addr::from_bits(0xc633_0000 + n);
        hosts.sighted(ip, Mac([6, 1, w, x, y, z]), a, of(a), Time::ZERO);
    }
    assert_eq!(hosts.iter().count(), UNKNOWN_PER_PORT + 1);
    assert_eq!(hosts.get(honest).and_then(|h| h.at), Some(b));
    check(&hosts);
}
