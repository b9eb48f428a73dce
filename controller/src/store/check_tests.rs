//! Each fault is reported once; valid records have none.

use super::*;
use std::net::Ipv4Addr;
use tandem_model::{
    BitRate, Bytes, ClassId, GatewayId, GroupId, GroupRecord, Mac, PortNo, PortOverride, Resources, Share,
    Time, VmRequest, VmState,
};

const SITE: &str = "name = \"here\"\n[topology]\nshape = \"three-tier\"\n\
                    [[class]]\nname = \"gold\"\nshare = 60\ndscp = 46\n[[class]]\nname = \"rest\"\nshare = 40\ndscp = 0\ndefault = true\n";

fn site(text: &str) -> Site {
    tandem_model::site::read(text, "site.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

/// The shortest path between two nodes.
fn path(site: &Site, from: NodeId, to: NodeId) -> Vec<Hop> {
    let topology = &site.topology;
    let mut ways = std::collections::VecDeque::from([(from, Vec::new())]);
    let mut seen = BTreeSet::from([from]);
    while let Some((at, way)) = ways.pop_front() {
        if at == to {
            return way;
        }
        for (_, link) in topology.ports(at) {
            let l = topology.link(*link).expect("a link");
            let next = l.other(at).expect("its other end").node;
            if seen.insert(next) {
                let hop = l.hop_from(*link, at);
                ways.push_back((next, [way.clone(), vec![hop]].concat()));
            }
        }
    }
    panic!("no path")
}

fn vm(site: &Site, id: u64, server: u32) -> VmRecord {
    let edge = site.topology.edge_of(ServerId(server), 0).expect("an edge");
    let prefix = site.topology.switch(edge).and_then(|s| s.prefix).expect("a prefix");
    let base = u32::from(prefix.address());
    let ends = (NodeId::Server(ServerId(server)), NodeId::Gateway(GatewayId(0)));
    let resources = Resources { cpu: 1, ram: Bytes(1), disk: Bytes(1), net: BitRate(1) };
    VmRecord {
        id: VmId(id),
        request: VmRequest { resources, class: Some(ClassId(0)), ..VmRequest::default() },
        server: ServerId(server),
        uplink: 0,
        gateway: GatewayId(0),
        mac: Mac([2, 0x74, 0, 0, 0, id as u8]),
        address: Ipv4Addr::from(base + 100 + id as u32),
        path_up: path(site, ends.0, ends.1),
        path_down: path(site, ends.1, ends.0),
        pin: None,
        state: VmState::Running,
        placed_at: Time::ZERO,
        running_at: None,
        expires_at: None,
    }
}

fn stored(site: &Site) -> PersistedState {
    PersistedState {
        vms: vec![vm(site, 1, 0), vm(site, 2, 1)],
        groups: vec![GroupRecord { id: GroupId(1), members: vec![VmId(1), VmId(2)], request: None }],
        last_vm: 9,
        last_group: 1,
        drained: vec![ServerId(1)],
        shares: vec![Share { share: 50.0, ceiling: 100.0 }; 2],
        ports: vec![PortOverride {
            switch: tandem_model::SwitchId(0),
            port: PortNo(1),
            up: false,
            since: Time::ZERO,
        }],
        ..PersistedState::default()
    }
}

fn faults(stored: &PersistedState, site: &Site) -> Vec<String> {
    let found = findings(stored, &Layout::of(site), site);
    found.iter().filter(|f| f.severity == Severity::Fault).map(ToString::to_string).collect()
}

#[test]
fn what_fits_is_not_named() {
    let site = site(SITE);
    assert_eq!(faults(&stored(&site), &site), Vec::<String>::new());
}

#[test]
fn every_kind_of_misfit_is_named_by_its_record() {
    let site = site(SITE);
    type Change = fn(&mut PersistedState);
    let cases: [(&str, &str, Change); 19] = [
        ("vm 1", "server", |s| s.vms[0].server = ServerId(9999)),
        ("vm 1", "uplink 7", |s| s.vms[0].uplink = 7),
        ("vm 1", "gateway", |s| s.vms[0].gateway = GatewayId(99)),
        ("vm 1", "class", |s| s.vms[0].request.class = Some(ClassId(9))),
        ("vm 1", "link", |s| s.vms[0].path_up[0].link = LinkId(99_999)),
        ("vm 1", "broken", |s| s.vms[0].path_up[0].down ^= true),
        ("vm 1", "ends at", |s| {
            s.vms[0].path_down.pop();
        }),
        ("vm 1", "prefix", |s| s.vms[0].address = Ipv4Addr::new(192, 0, 2, 1)),
        ("vm 2", "vm1's too", |s| s.vms[1].address = s.vms[0].address),
        ("vm 2", "vm1's too", |s| s.vms[1].mac = s.vms[0].mac),
        ("vm 1", "one of a group", |s| s.vms[0].mac = Mac([3, 0, 0, 0, 0, 1])),
        ("vm 1", "pinned", |s| s.vms[0].pin = Some(vec![tandem_model::SwitchId(999)])),
        ("vm 4294967296", "above", |s| s.vms[0].id = VmId(1 << 32)),
        ("vm_group 1", "never there", |s| s.groups[0].members.push(VmId(77))),
        ("port ", "switch", |s| s.ports[0].switch = tandem_model::SwitchId(999)),
        ("drained 999", "server", |s| s.drained[0] = ServerId(999)),
        ("shares 0", "percentage", |s| s.shares[0].share = f64::NAN),
        ("shares 0", "percentage", |s| s.shares[1].ceiling = -1.0),
        ("vm 1", "'s address", |s| s.vms[0].address = Ipv4Addr::new(10, 0, 0, 1)),
    ];
    for (record, word, change) in cases {
        let mut stored = stored(&site);
        if word == "'s address" {
            stored.vms[0].address = site.topology.servers[0].address;
        } else {
            change(&mut stored);
        }
        let found = faults(&stored, &site);
        assert!(
            found.iter().any(|f| f.starts_with(record) && f.contains(word)),
            "{record} {word}: {found:?}"
        );
    }
    // All faults at once, not only the first.
    let mut all = stored(&site);
    all.vms[0].server = ServerId(9999);
    all.vms[1].gateway = GatewayId(99);
    all.drained[0] = ServerId(999);
    assert!(faults(&all, &site).len() >= 3);
}

#[test]
fn a_site_may_grow_at_its_ends_and_nothing_may_take_anothers_place() {
    let before = site("name = \"here\"\n[topology]\nshape = \"three-tier\"\nservers_per_edge = 2\n");
    let after = site("name = \"here\"\n[topology]\nshape = \"three-tier\"\nservers_per_edge = 3\n");
    let last = before.topology.servers.len() as u32 - 1;
    let stored = PersistedState { vms: vec![vm(&before, 1, last)], last_vm: 1, ..PersistedState::default() };
    let mut stored = stored;
    stored.vms[0].request.class = None;
    let found = findings(&stored, &Layout::of(&before), &after);
    // With three servers at each edge, those after the first edge's are at other indexes.
    let moved = before.topology.servers[last as usize].name != after.topology.servers[last as usize].name
        || before.topology.links != after.topology.links;
    assert!(moved && found.iter().any(|f| f.severity == Severity::Fault), "{found:?}");
    let mut grown = Layout::of(&before);
    grown.servers.pop();
    assert!(
        !findings(&stored, &grown, &before).iter().any(|f| f.what.contains("server")),
        "new ones came after the others"
    );
}

#[test]
fn what_a_killed_controller_leaves_behind_is_left_out_and_said() {
    let site = site(SITE);
    let mut stored = stored(&site);
    stored.groups[0].members.push(VmId(5));
    stored.shares.pop();
    let found = findings(&stored, &Layout::of(&site), &site);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|f| f.severity == Severity::Leftover));
    leave_out(&mut stored);
    assert_eq!(stored.groups[0].members, [VmId(1), VmId(2)]);
}
