//! Agents at switches: what each is told to make, when it is told anew, and what is said about
//! cables whose ends have negotiated differently.

use crate::world::{SMALL, START, World, read};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_core::record_replay::{Recording, ReplayError, replay};
use tandem_model::{
    AgentDesired, AgentSample, AgentSwitch, BitRate, DesiredClass, DesiredPort, Effect, Event, NodeId,
    PortCounters, PortNo, PortSample, QueueSelection, Request, Response, Share, SwitchId,
};

const CLASSES: &str = "[statistics]\nperiod = \"200 ms\"\n\
                       [bandwidth]\nedge = \"10 Mbit/s\"\n\
                       [[class]]\nname = \"gold\"\nshare = 70\ndscp = 46\n\
                       [[class]]\nname = \"silver\"\nshare = 30\nceiling = 60\ndscp = 10\ndefault = true\n";

fn world() -> World {
    World::new(read(&format!("{SMALL}{CLASSES}")))
}

/// A switch of the site with these ports, as an agent with Open vSwitch presents it.
fn presented(name: &str, ports: &[u32]) -> AgentSwitch {
    let ports = ports.iter().map(|n| (PortNo(*n), QueueSelection::Queue)).collect();
    AgentSwitch { name: name.into(), datapath: "ovs (kernel)".into(), ports }
}

fn connect(world: &mut World, agent: &str, switches: Vec<AgentSwitch>) {
    world.tell(Event::AgentUp { agent: agent.into() });
    world.tell(Event::AgentHello { agent: agent.into(), switches });
}

/// What each was told since the last `forget`, in order.
fn told(world: &World) -> Vec<(&str, &AgentDesired)> {
    let orders = world.log.iter().filter_map(|effect| match effect {
        Effect::ConfigureAgent { agent, desired } => Some((agent.as_str(), &**desired)),
        _ => None,
    });
    orders.collect()
}

/// The notices about an agent since the last `forget`.
fn troubles(world: &World) -> Vec<&str> {
    let notices = world.log.iter().filter_map(|effect| match effect {
        Effect::Notice { notice } if notice.kind == "agent-trouble" => Some(notice.text.as_str()),
        _ => None,
    });
    notices.collect()
}

fn set_shares(world: &mut World, gold: f64) -> Option<Response> {
    let share = |share: f64| Share { share, ceiling: 100.0 };
    let id = world.ask(Request::SetShares { shares: vec![share(gold), share(100.0 - gold)] });
    world.answer(id)
}

#[test]
fn an_agent_is_told_what_the_site_says_of_the_switches_that_it_presents() {
    let mut world = world();
    // Port 3 goes to a server and has 10 Mbit/s; the site has no port 99.
    connect(&mut world, "mini1", vec![presented("edge1", &[3, 99]), presented("attic", &[1])]);
    let [("mini1", desired)] = told(&world)[..] else { panic!("{:?}", told(&world)) };
    assert_eq!(desired.report_period, Duration::from_millis(200));
    assert!(
        desired.generation > START.0 / 1_000_000,
        "later than any controller before: {}",
        desired.generation
    );
    let [switch] = &desired.switches[..] else { panic!("{desired:?}") };
    assert_eq!((switch.name.as_str(), switch.dpid), ("edge1", world.dpid("edge1")));
    let class = |rate: u64, ceiling: u64, dscp: u8| DesiredClass {
        rate: BitRate::mbit(rate),
        ceiling: BitRate::mbit(ceiling),
        dscp,
        queue: 50,
    };
    let classes = vec![class(7, 10, 46), class(3, 6, 10)];
    let port = DesiredPort {
        port: PortNo(3),
        rate: BitRate::mbit(10),
        queue: switch.ports[0].queue,
        classes,
        default_class: 1,
    };
    assert_eq!(switch.ports, [port], "what has no link in the site is left out");
    assert_eq!(troubles(&world), ["agent mini1: the site file has no switch \"attic\""]);
}

#[test]
fn a_switch_of_another_kind_than_declared_or_without_openflow_is_said() {
    let more = "[[switch]]\nname = \"edge1\"\ndatapath = \"netfpga\"\n\
                [[legacy]]\nname = \"cellar\"\nbetween = [\"agg1\", \"edge1\"]\n";
    let mut world = World::new(read(&format!("{SMALL}{more}")));
    connect(&mut world, "mini1", vec![presented("edge1", &[3]), presented("cellar", &[1])]);
    let said = troubles(&world);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("edge1 is netfpga in the site file and ovs (kernel) at its agent"), "{said:?}");
    assert!(said[1].contains("cellar is legacy in the site file"), "{said:?}");
    let names: Vec<&str> = told(&world)[0].1.switches.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["edge1"]);
}

#[test]
fn new_shares_are_told_to_all_that_are_connected_and_to_the_others_when_they_are_back() {
    let mut world = world();
    connect(&mut world, "mini1", vec![presented("edge1", &[3])]);
    connect(&mut world, "mini2", vec![presented("edge2", &[3])]);
    let first: Vec<u64> = told(&world).iter().map(|(_, d)| d.generation).collect();
    assert!(first[0] < first[1], "each has its own generation: {first:?}");
    world.tell(Event::AgentDown { agent: "mini2".into(), why: "gone".into() });
    world.forget();
    assert_eq!(set_shares(&mut world, 60.0), Some(Response::Done));
    let gold = |desired: &AgentDesired| desired.switches[0].ports[0].classes[0].rate;
    let [("mini1", desired)] = told(&world)[..] else { panic!("{:?}", told(&world)) };
    assert_eq!(gold(desired), BitRate::mbit(6));
    assert!(desired.generation > first[1]);
    // The same once more is nothing to tell.
    world.forget();
    assert_eq!(set_shares(&mut world, 60.0), Some(Response::Done));
    assert_eq!(told(&world), []);
    connect(&mut world, "mini2", vec![presented("edge2", &[3])]);
    let [("mini2", desired)] = told(&world)[..] else { panic!("{:?}", told(&world)) };
    assert_eq!(gold(desired), BitRate::mbit(6));
    // One that connects again has forgotten, or lost, what it was told.
    world.forget();
    connect(&mut world, "mini2", vec![presented("edge2", &[3])]);
    assert_eq!(told(&world).len(), 1);
}

#[test]
fn shares_that_the_store_did_not_take_are_taken_back_at_the_agents_too() {
    let mut world = world();
    connect(&mut world, "mini1", vec![presented("edge1", &[3])]);
    world.forget();
    world.held.broken = true;
    assert!(matches!(set_shares(&mut world, 60.0), Some(Response::Failed { .. })));
    let gold: Vec<BitRate> =
        told(&world).iter().map(|(_, d)| d.switches[0].ports[0].classes[0].rate).collect();
    assert_eq!(gold, [BitRate::mbit(6), BitRate::mbit(7)]);
}

/// A hello means for rules what a `PortsManaged` for each switch means in recordings of before; its
/// rules follow at once for all switches.
#[test]
fn rules_choose_queues_where_the_hello_says_that_ports_do() {
    let mut by_hello = world();
    let mut by_ports = world();
    let topology = by_hello.site.topology.clone();
    let all: Vec<AgentSwitch> = (0..)
        .map(SwitchId)
        .zip(&topology.switches)
        .map(|(id, switch)| {
            let ports: Vec<u32> = topology.ports(NodeId::Switch(id)).iter().map(|(p, _)| p.0).collect();
            presented(&switch.name, &ports)
        })
        .collect();
    for switch in &all {
        let dpid = by_ports.dpid(&switch.name);
        by_ports.tell(Event::PortsManaged { agent: "a".into(), switch: dpid, ports: switch.ports.clone() });
    }
    assert_ne!(by_hello.tables, by_ports.tables, "queues are in the rules");
    connect(&mut by_hello, "a", all);
    assert_eq!(by_hello.tables, by_ports.tables);
}

/// The port of a switch that goes to another one, and the port at its other end.
fn cable(world: &World, from: &str, to: &str) -> (PortNo, PortNo) {
    let topology = &world.site.topology;
    let node = |name: &str| topology.by_name(name).expect("declared");
    let link = topology.links.iter().find(|l| l.other(node(from)).is_some_and(|e| e.node == node(to)));
    let link = link.expect("a link between both");
    let end = |at: &str| if link.a.node == node(at) { link.a.port } else { link.b.port };
    (end(from), end(to))
}

fn report(world: &mut World, agent: Option<&str>, switch: &str, port: PortNo, mbit: u64, half_duplex: bool) {
    let sample = AgentSample {
        interface: PortSample { port, counters: PortCounters::default() },
        speed: (mbit > 0).then_some(BitRate::mbit(mbit)),
        half_duplex,
        classes: Vec::new(),
        hardware: BTreeMap::new(),
    };
    let switch = world.dpid(switch);
    world.tell(Event::AgentSamples { agent: agent.map(str::to_owned), switch, ports: vec![sample] });
    world.wait(Duration::from_millis(200));
}

#[test]
fn two_ends_of_a_cable_that_have_negotiated_differently_are_said_once() {
    let mut world = world();
    let (up, down) = cable(&world, "edge1", "agg1");
    connect(&mut world, "mini1", vec![presented("edge1", &[up.0])]);
    connect(&mut world, "mini2", vec![presented("agg1", &[down.0])]);
    report(&mut world, Some("mini1"), "edge1", up, 1000, false);
    assert_eq!(troubles(&world), [""; 0], "the other end has said nothing");
    report(&mut world, Some("mini2"), "agg1", down, 0, false);
    assert_eq!(troubles(&world), [""; 0], "the other end does not know");
    report(&mut world, Some("mini2"), "agg1", down, 100, true);
    let said = troubles(&world);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("agent mini2: the two ends of a cable differ"), "{said:?}");
    let ends =
        [format!("agg1.{down} has 100 Mbit/s half duplex"), format!("edge1.{up} has 1 Gbit/s full duplex")];
    assert!(ends.iter().all(|end| said[0].contains(end)), "{said:?}");
    // Whoever says so next, it is the same; another difference is not.
    report(&mut world, Some("mini1"), "edge1", up, 1000, false);
    report(&mut world, Some("mini2"), "agg1", down, 100, true);
    assert_eq!(troubles(&world).len(), 1);
    report(&mut world, Some("mini2"), "agg1", down, 100, false);
    assert_eq!(troubles(&world).len(), 2);
    // Mended, and broken again.
    report(&mut world, Some("mini2"), "agg1", down, 1000, false);
    report(&mut world, Some("mini2"), "agg1", down, 100, false);
    assert_eq!(troubles(&world).len(), 3);
    // When an agent is gone, what it said is not known any more.
    world.forget();
    world.tell(Event::AgentDown { agent: "mini1".into(), why: "gone".into() });
    report(&mut world, Some("mini2"), "agg1", down, 10, false);
    assert_eq!(troubles(&world), [""; 0]);
}

/// In recordings of before nobody says which agent has counted: the comparison was made outside of
/// the core, and its outcome is an event of its own.
#[test]
fn ends_are_not_compared_where_no_agent_is_named() {
    let mut world = world();
    let (up, down) = cable(&world, "edge1", "agg1");
    report(&mut world, None, "edge1", up, 1000, false);
    report(&mut world, None, "agg1", down, 100, true);
    assert_eq!(troubles(&world), [""; 0]);
}

/// What agents are told is in the recording of a run, and a replay checks it.
#[test]
fn a_recorded_run_with_agents_replays_to_the_same_orders_and_not_to_others() {
    let mut world = World::dark(read(&format!("{SMALL}{CLASSES}")), Default::default());
    world.connect_all();
    world.attach(Vec::new());
    connect(&mut world, "mini1", vec![presented("edge1", &[1, 3])]);
    connect(&mut world, "mini2", vec![presented("agg1", &[1])]);
    let (up, down) = cable(&world, "edge1", "agg1");
    report(&mut world, Some("mini1"), "edge1", up, 1000, false);
    report(&mut world, Some("mini2"), "agg1", down, 100, true);
    assert_eq!(set_shares(&mut world, 60.0), Some(Response::Done));
    world.tell(Event::AgentDown { agent: "mini1".into(), why: "gone".into() });
    assert_eq!((told(&world).len(), troubles(&world).len()), (4, 1));

    let mut bytes = Vec::new();
    let mut recording = Recording::new(&mut bytes, &world.header).expect("memory");
    for line in &world.lines {
        recording.line(line.now, &line.event, &line.effects).expect("memory");
    }
    assert_eq!(replay(&bytes[..]).map_err(|e| e.to_string()), Ok(world.lines.len()));
    let text = String::from_utf8(bytes).expect("UTF-8");
    for (recorded, other) in [
        // A class that was told otherwise, and a cable that was said to be otherwise.
        ("\"rate\":6000000,\"ceiling\"", "\"rate\":6000008,\"ceiling\""),
        ("has 100 Mbit/s half duplex", "has 100 Mbit/s full duplex"),
    ] {
        assert!(text.contains(recorded), "{recorded} is recorded");
        let changed = text.replacen(recorded, other, 1);
        assert!(matches!(replay(changed.as_bytes()), Err(ReplayError::Diverged(_))), "{recorded}");
    }
}
