//! The allocation policy `weighted`: each cost alone decides where a VM goes, and costs are weighed
//! against each other.

use crate::world::World;
use tandem_model::{BitRate, Event, GatewayId, NodeId, PortCounters, PortSample, ServerId};

/// Two edge switches of two servers each.
const SITE: &str = "[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = 2\n\
                    servers_per_edge = 2\naggregation_core_links = 1\n\
                    [bandwidth]\nedge = \"100 Mbit/s\"\naggregation = \"100 Mbit/s\"\n\
                    core = \"100 Mbit/s\"\ngateway = \"1 Gbit/s\"\n\
                    [servers]\ncpu = 8\nram = \"64 GiB\"\ndisk = \"64 GiB\"\n\
                    [policy]\nallocation = \"weighted\"\n";

fn world(weights: &str) -> World {
    let text = format!("{SITE}[policy.weighted]\n{weights}\n");
    World::new(tandem_core::site::read(&text, "site.toml").unwrap_or_else(|faults| panic!("{faults}")))
}

/// The servers of VMs of so many cores and Mbit/s, requested one after the other.
fn places(world: &mut World, vms: &[(u32, u64)]) -> Vec<u32> {
    let mut places = Vec::new();
    for (cores, rate) in vms {
        let mut request = world.request();
        request.resources.cpu = *cores;
        request.resources.net = BitRate::mbit(*rate);
        places.push(world.vm_of(request).server.0);
    }
    places
}

/// `server` alone spreads VMs over the emptiest servers; `energy` alone switches no server on
/// while one that runs has room.
#[test]
fn server_spreads_and_energy_gathers() {
    let four = [(2, 1); 4];
    assert_eq!(places(&mut world("server = 1.0"), &four), [0, 1, 2, 3], "each to an empty server");
    assert_eq!(places(&mut world("energy = 1.0"), &four), [0, 0, 0, 0], "8 cores of one server");
    let mut world = world("energy = 1.0");
    assert_eq!(places(&mut world, &[(2, 1); 5])[4], 1, "the fifth needs another server");
}

/// Weighed against each other: a server is switched on once the one that runs is so full that its
/// share outweighs the idle power of an empty one.
#[test]
fn a_server_is_switched_on_when_the_share_outweighs_its_idle_power() {
    let mut world = world("server = 1.0\nenergy = 0.4");
    // After two VMs a quarter of 8 cores each, srv1 costs 0.5, an empty server 0.4.
    assert_eq!(places(&mut world, &[(2, 1), (2, 1), (2, 1)]), [0, 0, 1]);
}

/// `edge` sends VMs behind the edge switch whose uplinks are emptier, whatever its servers have.
#[test]
fn edge_avoids_the_fuller_uplinks() {
    let mut world = world("edge = 1.0");
    let places = places(&mut world, &[(1, 10), (1, 20), (1, 1)]);
    let edges: Vec<&str> = places
        .iter()
        .map(|server| {
            let topology = &world.site.topology;
            let edge = topology.edge_of(ServerId(*server), 0).expect("an edge");
            topology.name(NodeId::Switch(edge))
        })
        .collect();
    assert_eq!(edges, ["edge1", "edge2", "edge1"], "10 Mbit/s there, 20 Mbit/s here");
}

/// `path` sees what `edge` does not: traffic on a link further up, which is no edge switch's own
/// and which the default path of one of them crosses.
#[test]
fn path_sees_the_fullest_link_up_to_the_gateway() {
    let first = |weights: &str| {
        let mut world = world(weights);
        let way = world.core.default_ways(ServerId(0), 0, GatewayId(0)).expect("a way").0;
        let above = way[2];
        let (switch, port) = world.ends(above.link)[1];
        for bytes in [0u64, 40_000_000, 80_000_000] {
            world.wait(world.site.statistics.period);
            let counters =
                PortCounters { rx_bytes: Some(0), tx_bytes: Some(bytes), ..PortCounters::default() };
            let ports = vec![PortSample { port, counters }];
            world.tell(Event::Samples { switch, ports, flows: Vec::new(), rules: Vec::new() });
        }
        assert!(world.core.measured(above) > BitRate::mbit(30), "{}", world.core.measured(above));
        places(&mut world, &[(1, 1)])[0]
    };
    assert_eq!(first("edge = 1.0"), 0, "the edge switches' own links are all empty");
    assert_eq!(first("path = 1.0"), 2, "the other edge switch has an empty path");
}

/// A site file without the section has the default weights.
#[test]
fn the_default_weights_place_vms() {
    let mut world =
        World::new(tandem_core::site::read(SITE, "site.toml").unwrap_or_else(|faults| panic!("{faults}")));
    let places = places(&mut world, &[(1, 1); 8]);
    assert_eq!(world.core.vms().count(), 8, "{places:?}");
}
