//! What agents count at ports: rates with the history weight, wraps and new starts, and that it is
//! forgotten with whoever counts.

use crate::world::{SMALL, World, read};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_core::export;
use tandem_core::snapshot::PortView;
use tandem_model::{
    AgentSample, BitRate, ClassSample, Event, PortCounters, PortNo, PortSample, QueueSelection,
};

const CLASSES: &str = "[statistics]\nhistory_weight = 0.5\n[[class]]\nname = \"gold\"\nshare = 70\ndscp = 46\n\
                       [[class]]\nname = \"silver\"\nshare = 30\ndscp = 10\ndefault = true\n";
/// A port to a server: 10 Mbit/s.
const PORT: PortNo = PortNo(3);

fn world() -> World {
    let mut world = World::new(read(&format!("{SMALL}{CLASSES}")));
    let switch = world.dpid("edge1");
    let ports = vec![(PORT, QueueSelection::Dscp)];
    world.tell(Event::PortsManaged { agent: "host1".into(), switch, ports });
    world
}

fn sample(out: u64, classes: [u64; 2]) -> AgentSample {
    let class = |bytes: u64| ClassSample { bytes, packets: bytes / 1000, drops: 4, queued: 2 };
    AgentSample {
        interface: PortSample {
            port: PORT,
            counters: PortCounters {
                rx_packets: Some(1),
                tx_packets: Some(2),
                rx_bytes: Some(0),
                tx_bytes: Some(out),
                rx_dropped: Some(3),
                tx_dropped: Some(4),
                rx_errors: Some(5),
                tx_errors: Some(6),
                ..PortCounters::default()
            },
        },
        speed: Some(BitRate::mbit(1000)),
        half_duplex: false,
        classes: classes.map(class).to_vec(),
        hardware: BTreeMap::from([("rx_crc_errors".to_owned(), 7), ("odd;name".to_owned(), 8)]),
    }
}

fn tell(world: &mut World, out: u64, classes: [u64; 2]) {
    let switch = world.dpid("edge1");
    world.tell(Event::AgentSamples { agent: None, switch, ports: vec![sample(out, classes)] });
    world.wait(Duration::from_secs(1));
}

fn seen(world: &mut World) -> PortView {
    let snapshot = world.core.snapshot();
    let switch = snapshot.switches.iter().find(|s| s.name == "edge1").expect("declared");
    switch.ports.iter().find(|p| p.port == PORT).cloned().expect("a port")
}

fn rates(world: &mut World) -> (u64, [u64; 2]) {
    let port = seen(world);
    let out = port.agent.as_ref().map_or(0, |a| a.tx.0);
    (out, [0, 1].map(|n: usize| port.classes.get(n).map_or(0, |c| c.rate.0)))
}

#[test]
fn interface_and_class_rates_are_smoothed_like_those_of_ports() {
    let mut world = world();
    tell(&mut world, 0, [0, 0]);
    assert_eq!(rates(&mut world), (0, [0, 0]), "one sample makes no rate");
    tell(&mut world, 1_000_000, [875_000, 125_000]);
    assert_eq!(rates(&mut world), (8_000_000, [7_000_000, 1_000_000]), "the first rate has no past");
    tell(&mut world, 1_000_000, [875_000, 125_000]);
    assert_eq!(rates(&mut world), (4_000_000, [3_500_000, 500_000]), "half of it is history");
    let port = seen(&mut world);
    let classes = &port.classes;
    assert_eq!((classes[0].share, classes[1].share), (35.0, 5.0), "percent of the port's 10 Mbit/s");
    assert_eq!((classes[0].guaranteed, classes[1].guaranteed), (BitRate::mbit(7), BitRate::mbit(3)));
    assert_eq!((classes[0].sample.drops, classes[0].sample.queued), (4, 2));
    let agent = port.agent.expect("an agent");
    assert_eq!((agent.speed, agent.half_duplex), (Some(BitRate::mbit(1000)), false));
    assert_eq!(agent.hardware["rx_crc_errors"], 7);
    assert_eq!((agent.interface.counters.rx_errors, agent.interface.counters.tx_dropped), (Some(5), Some(4)));
}

#[test]
fn a_counter_that_steps_back_has_wrapped_or_started_again() {
    let mut world = world();
    let top = u64::from(u32::MAX);
    tell(&mut world, top - 499_999, [126_000, 0]);
    tell(&mut world, 500_000, [10, 125_000]);
    let (out, [gold, silver]) = rates(&mut world);
    assert_eq!(out, 8_000_000, "a card's 32 bits have wrapped");
    assert_eq!((gold, silver), (0, 1_000_000), "34 Gbit/s over 10 Mbit/s: gold was made anew");
    tell(&mut world, 500_000, [125_010, 125_000]);
    assert_eq!(rates(&mut world), (4_000_000, [1_000_000, 500_000]), "and counts on from there");
    // A second report of the same moment changes nothing.
    let switch = world.dpid("edge1");
    world.tell(Event::AgentSamples {
        agent: None,
        switch,
        ports: vec![sample(1_500_000, [125_010, 125_000])],
    });
    let before = rates(&mut world);
    world.tell(Event::AgentSamples { agent: None, switch, ports: vec![sample(9_000_000, [0, 0])] });
    assert_eq!(rates(&mut world), before);
}

#[test]
fn what_is_counted_goes_with_the_agent_or_the_switch_that_counts() {
    let mut world = world();
    let fill = |world: &mut World| {
        tell(world, 0, [0, 0]);
        tell(world, 1_000_000, [875_000, 125_000]);
        assert!(seen(world).agent.is_some() && seen(world).classes.len() == 2);
    };
    fill(&mut world);
    world.tell(Event::AgentDown { agent: "another".into(), why: "gone".into() });
    assert!(seen(&mut world).agent.is_some(), "somebody else's");
    world.tell(Event::AgentDown { agent: "host1".into(), why: "gone".into() });
    let port = seen(&mut world);
    assert!(port.agent.is_none() && port.classes.is_empty());
    assert_eq!(port.selection, Some(QueueSelection::Dscp), "its queues go on working");
    // It is back: what it says is a new start, not a rate over the time that it was away.
    tell(&mut world, 5_000_000, [5_000_000, 0]);
    assert_eq!(rates(&mut world), (0, [0, 0]));
    fill(&mut world);
    world.switch_down("edge1");
    assert!(seen(&mut world).agent.is_none());
    // A switch that the site does not know is nobody's.
    let ports = vec![sample(0, [0, 0])];
    world.tell(Event::AgentSamples { agent: None, switch: tandem_model::Dpid(0xdead), ports });
}

#[test]
fn the_files_of_classes_queues_and_cards_have_their_form() {
    let mut world = world();
    let snapshot = world.core.snapshot();
    assert_eq!(export::hardware_lines(&snapshot, 0.0), "");
    let tables = export::class_csv(&snapshot);
    assert!(tables[0].values.iter().all(Option::is_none), "nobody has counted yet");
    tell(&mut world, 0, [0, 0]);
    tell(&mut world, 1_000_000, [875_000, 125_000]);
    let snapshot = world.core.snapshot();
    let [rates, queues] = &export::class_csv(&snapshot)[..] else { panic!("two files") };
    assert_eq!((rates.file, queues.file), ("classstats.csv", "queuestats.csv"));
    assert_eq!(rates.header(), tables[0].header(), "columns never change");
    let dpid = world.dpid("edge1");
    let at = |table: &export::Table, column: String| {
        let place = table.columns.iter().position(|c| *c == column).expect("a column");
        let header: Vec<String> = table.header().split(';').map(str::to_owned).collect();
        assert_eq!(header[place + 1], column);
        table.line(1.5).split(';').nth(place + 1).map(str::to_owned)
    };
    assert_eq!(at(rates, format!("{dpid}.{PORT}.gold")).as_deref(), Some("7000000"));
    assert_eq!(at(rates, format!("{dpid}.1.gold")).as_deref(), Some(""), "a port that nobody counts at");
    assert_eq!(at(queues, format!("{dpid}.{PORT}.silver.drops")).as_deref(), Some("4"));
    assert_eq!(at(queues, format!("{dpid}.{PORT}.silver.queued")).as_deref(), Some("2"));
    let hardware = export::hardware_lines(&snapshot, 1.5);
    assert_eq!(
        hardware,
        format!("1.500;{dpid}.{PORT};\"odd;name\";8\n1.500;{dpid}.{PORT};rx_crc_errors;7\n")
    );
    assert_eq!(export::csv(&snapshot).len(), 7, "the thesis' own files are as they were");
    let plain = World::new(read(SMALL)).core.snapshot();
    assert!(export::class_csv(&plain).is_empty());
}
