//! For this folder's tests: a small data centre with VMs where a test wants them, whose switches
//! are connected.

use crate::compute::ipam;
use crate::engine::Core;
use crate::migration::policy_set::Policy;
use std::sync::Arc;
use tandem_model::{
    BitRate, Bytes, Event, GatewayId, MoveOptions, MovePriority, NodeId, PersistedState, PortInfo, Resources,
    ServerId, SwitchCaps, SwitchId, Time, VmId, VmRecord, VmRequest, VmState, site,
};

pub(crate) const LIVE: MoveOptions =
    MoveOptions { manner: None, force: false, priority: MovePriority::Normal };

/// `cpu` cores and so many GiB and Mbit/s.
pub(crate) fn size(n: u32) -> Resources {
    Resources {
        cpu: n,
        ram: Bytes(u64::from(n) << 30),
        disk: Bytes(1 << 30),
        net: BitRate::mbit(u64::from(n)),
    }
}

/// VMs `1..`, each on its server.
pub(crate) fn core(text: &str, policy: impl Into<Policy>, vms: &[(u32, Resources)]) -> Core {
    let site = Arc::new(site::read(text, "test").unwrap_or_else(|f| panic!("{f}")));
    let now = Time::from_secs(1);
    let ways = Core::new(site.clone(), PersistedState::default(), now).expect("known policies");
    let mut stored = PersistedState::default();
    for (n, (server, resources)) in (1u64..).zip(vms) {
        let server = ServerId(*server);
        let (path_up, path_down) =
            ways.read().network().default_ways(server, 0, GatewayId(0)).expect("a way");
        stored.vms.push(VmRecord {
            id: VmId(n),
            request: VmRequest { resources: *resources, class: None, timeout: None, name: None, image: None },
            server,
            uplink: 0,
            gateway: GatewayId(0),
            mac: ipam::vm_mac(VmId(n)),
            address: std::net::Ipv4Addr::from_bits(0x0A00_0100 + n as u32),
            path_up,
            path_down,
            pin: None,
            state: VmState::Running,
            placed_at: now,
            running_at: Some(now),
            expires_at: None,
        });
    }
    let mut core = Core::with_policy(site.clone(), stored, now, policy);
    for (n, switch) in (0u32..).zip(&site.topology.switches) {
        let port = |port| PortInfo {
            port,
            name: String::new(),
            mac: tandem_model::Mac([0; 6]),
            up: true,
            speed: None,
        };
        let ports = site.topology.ports(NodeId::Switch(SwitchId(n))).iter().map(|(p, _)| port(*p)).collect();
        let caps =
            SwitchCaps { version: "1.3".into(), tables: 2, description: String::new(), peer: String::new() };
        core.handle(Event::SwitchUp { switch: switch.dpid, ports, caps }, now);
    }
    core
}
