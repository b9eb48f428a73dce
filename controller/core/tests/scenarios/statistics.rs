//! From counters to what the operator sees: rates, ratios, wraps, resets, polls on demand.

use crate::world::{SMALL, World, read};
use std::time::Duration;
use tandem_core::export::{FLOWS_HEADER, WrittenReadings};
use tandem_model::{
    BitRate, Cookie, Dpid, Effect, Event, FlowSample, Owner, PortCounters, PortNo, PortSample, Request,
    Response, RuleCounters, RuleSample,
};

fn sample(port: PortNo, rx: u64, tx: u64) -> PortSample {
    PortSample {
        port,
        counters: PortCounters {
            rx_packets: Some(rx / 1000),
            tx_packets: Some(tx / 1000),
            rx_bytes: tandem_model::counted(rx),
            tx_bytes: tandem_model::counted(tx),
            rx_dropped: Some(0),
            tx_dropped: Some(0),
            rx_errors: Some(0),
            tx_errors: Some(0),
            ..PortCounters::default()
        },
    }
}

fn tell(world: &mut World, at: (Dpid, PortNo), rx: u64, tx: u64) {
    world.tell(Event::Samples {
        switch: at.0,
        ports: vec![sample(at.1, rx, tx)],
        flows: Vec::new(),
        rules: Vec::new(),
    });
}

fn site(history: f64) -> tandem_model::Site {
    read(&format!("{SMALL}[statistics]\nhistory_weight = {history}\n"))
}

/// 1 Mbit/s to a server over its link of 10 Mbit/s is a ratio of a tenth; what the server sends is
/// counted where it comes in.
#[test]
fn a_servers_link_ratio_is_the_measured_rate_over_its_capacity() {
    let mut world = World::new(site(0.0));
    let at = world.port_of(tandem_model::ServerId(0));
    tell(&mut world, at, 0, 0);
    world.wait(Duration::from_secs(1));
    tell(&mut world, at, 250_000, 125_000);
    let link = world.link("edge1", "srv1");
    let view = world.core.snapshot().links[link.0 as usize].clone();
    assert_eq!((view.down, view.up), (BitRate::mbit(1), BitRate::mbit(2)));
    assert!((world.core.server_link_ratio(tandem_model::ServerId(0)) - 0.2).abs() < 1e-9);
}

/// `history * old + (1 - history) * new`, the thesis' formula; the first measurement has no past.
#[test]
fn the_history_weight_smooths() {
    let mut world = World::new(site(0.5));
    let at = world.port_of(tandem_model::ServerId(0));
    let mut bytes = 0;
    let mut seen = Vec::new();
    tell(&mut world, at, 0, 0);
    for mbit in [8, 0, 4] {
        world.wait(Duration::from_secs(1));
        bytes += mbit * 125_000;
        tell(&mut world, at, bytes, 0);
        seen.push(world.core.server_link_ratio(tandem_model::ServerId(0)));
    }
    assert_eq!(seen, [0.8, 0.4, 0.4]);
}

/// Counters of 32 bits wrap, those of 64 bits too, and one that starts anew costs one measurement,
/// never a peak.
#[test]
fn wrapped_and_reset_counters_make_no_peaks() {
    let top32 = u64::from(u32::MAX) + 1;
    for (before, after, wanted) in
        [(top32 - 100_000, 25_000, 0.1), (u64::MAX - 100_000, 24_999, 0.1), (1 << 50, 10, 0.0)]
    {
        let mut world = World::new(site(0.0));
        let at = world.port_of(tandem_model::ServerId(0));
        tell(&mut world, at, before, before);
        world.wait(Duration::from_secs(1));
        tell(&mut world, at, after, after);
        let ratio = world.core.server_link_ratio(tandem_model::ServerId(0));
        assert!((ratio - wanted).abs() < 1e-9, "{before} to {after}: {ratio}");
        world.wait(Duration::from_secs(1));
        tell(&mut world, at, after + 125_000, after);
        let ratio = world.core.server_link_ratio(tandem_model::ServerId(0));
        assert!((ratio - 0.1).abs() < 1e-9, "and goes on: {ratio}");
    }
}

/// A switch that was restarted counts from zero: its counters of before are not compared with those
/// after.
#[test]
fn a_reconnected_switch_starts_anew() {
    let mut world = World::new(site(0.0));
    let at = world.port_of(tandem_model::ServerId(0));
    tell(&mut world, at, 0, 4_000_000_000);
    world.switch_down("edge1");
    world.connect(world.switch("edge1"));
    world.wait(Duration::from_secs(1));
    tell(&mut world, at, 0, 100);
    assert_eq!(world.core.server_link_ratio(tandem_model::ServerId(0)), 0.0);
}

/// Admission takes the larger of reserved and measured: traffic that nobody reserved takes room
/// too.
#[test]
fn measured_traffic_takes_room() {
    let mut world = World::new(site(0.0));
    let at = world.port_of(tandem_model::ServerId(0));
    tell(&mut world, at, 0, 0);
    world.wait(Duration::from_secs(1));
    tell(&mut world, at, 0, 1_200_000);
    let vm = world.vm();
    assert_eq!(vm.server.0, 1, "server 1's link carries 9.6 of 10 Mbit/s already");
}

/// A VM's rate is that of its own flows at its own edge; a report from elsewhere, or of an older
/// set of rules, is not mixed in.
#[test]
fn a_vms_rate_comes_from_its_edge() {
    let mut world = World::new(site(0.0));
    let vm = world.vm();
    let flow = |n: u64| FlowSample {
        cookie: Cookie::new(Owner::Vm(vm.id.0 as u32), 0),
        flows: 3,
        packets: Some(n),
        bytes: Some(n * 1000),
    };
    let rate = |w: &mut World| w.core.snapshot().vms[0].rate;
    for (switch, n) in [("edge1", 0), ("edge2", 5_000), ("edge1", 125)] {
        let switch = world.dpid(switch);
        world.tell(Event::Samples { switch, ports: Vec::new(), flows: vec![flow(n)], rules: Vec::new() });
        world.wait(Duration::from_millis(500));
    }
    assert_eq!(rate(&mut world), BitRate::mbit(1));
    let foreign = FlowSample { cookie: Cookie(5), ..flow(1_000_000) };
    let switch = world.dpid("edge1");
    world.tell(Event::Samples { switch, ports: Vec::new(), flows: vec![foreign], rules: Vec::new() });
    assert_eq!(rate(&mut world), BitRate::mbit(1));
}

/// Counters of a rule are shown beside it as of the last reading, and none where the switch has
/// told none.
#[test]
fn what_a_switch_has_counted_of_each_rule_is_in_the_snapshot_until_it_starts_anew() {
    let mut world = World::new(site(0.0));
    let (id, switch) = (world.switch("edge1"), world.dpid("edge1"));
    let rules = world.core.snapshot().rules_of("edge1").expect("the switch").clone();
    let read = |world: &mut World, packets: u64, age: u64| {
        let counters =
            RuleCounters { packets: Some(packets), bytes: None, age: Some(Duration::from_secs(age)) };
        let samples = rules.iter().map(|r| RuleSample { key: r.key, counters }).collect();
        world.tell(Event::Samples { switch, ports: Vec::new(), flows: Vec::new(), rules: samples });
        let reading = world.core.snapshot().rule_reading(id).expect("the switch").clone();
        (reading.at, reading.of(&rules[0].key).copied())
    };
    let nothing = world.core.snapshot().rule_reading(id).expect("the switch").clone();
    assert_eq!((nothing.at, nothing.rules.len()), (None, 0));
    read(&mut world, 5, 10);
    world.wait(Duration::from_secs(5));
    read(&mut world, 6, 15);
    world.wait(Duration::from_secs(5));
    let (at, count) = read(&mut world, 6, 20);
    let count = count.expect("it is counted");
    assert_eq!((at, count.idle), (Some(world.now), Some(Duration::from_secs(5))));
    assert_eq!((count.counters.packets, count.counters.bytes), (Some(6), None));
    world.tell(Event::Samples { switch, ports: Vec::new(), flows: Vec::new(), rules: Vec::new() });
    assert!(
        world.core.snapshot().rule_reading(id).is_some_and(|r| r.at.is_some()),
        "ports alone say nothing"
    );
    world.switch_down("edge1");
    world.connect(id);
    assert_eq!(world.core.snapshot().rule_reading(id).expect("the switch").at, None);
    // A recording has none: most of it would be counters, by which nothing is decided.
    let line =
        world.lines.iter().find(|l| matches!(&l.event, Event::Samples { rules, .. } if !rules.is_empty()));
    let text = serde_json::to_string(line.expect("a reading")).expect("JSON");
    assert!(!text.contains("counters"), "{text}");
}

/// A line for what has counted since the last reading, and nothing for what rests.
#[test]
fn flowstats_has_a_line_for_each_rule_that_has_counted() {
    let mut world = World::new(site(0.0));
    let (switch, dpid) = (world.dpid("edge1"), world.dpid("edge1"));
    let key = world.core.snapshot().rules_of("edge1").expect("the switch")[0].key;
    let mut written = WrittenReadings::default();
    let mut read = |world: &mut World, packets: u64| {
        let counters =
            RuleCounters { packets: Some(packets), bytes: None, age: Some(Duration::from_secs(90)) };
        let rules = vec![RuleSample { key, counters }];
        world.tell(Event::Samples { switch, ports: Vec::new(), flows: Vec::new(), rules });
        let lines = written.lines(&world.core.snapshot(), 5.0);
        world.wait(Duration::from_secs(5));
        lines
    };
    assert_eq!(read(&mut world, 0), "", "it has matched nothing");
    let line = read(&mut world, 7);
    let cells: Vec<&str> = line.trim_end().split(';').collect();
    let columns = FLOWS_HEADER.split(';').count();
    assert_eq!(cells.len(), columns, "{line}");
    assert_eq!((cells[0], cells[1]), ("5.000", dpid.to_string().as_str()));
    assert_eq!(cells[6..], ["7", "", "90.000", "0.000"], "bytes are not counted");
    assert_eq!(read(&mut world, 7), "", "it rests");
    assert_ne!(read(&mut world, 8), "");
    assert_eq!(written.lines(&world.core.snapshot(), 6.0), "", "the same reading is not written twice");
}

/// A poll on demand is answered when every connected switch has told, or after two seconds; a
/// switch that goes away is not waited for.
#[test]
fn a_poll_on_demand_waits_for_all_switches_but_not_for_ever() {
    let mut world = World::new(site(0.0));
    world.forget();
    let id = world.ask(Request::PollNow);
    let asked: Vec<Dpid> = world
        .log
        .iter()
        .filter_map(|e| match e {
            Effect::PollNow { switch } => Some(*switch),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), world.site.topology.switches.len());
    for switch in &asked[1..] {
        world.tell(Event::Samples {
            switch: *switch,
            ports: Vec::new(),
            flows: Vec::new(),
            rules: Vec::new(),
        });
    }
    assert_eq!(world.answer(id), None);
    world.tell(Event::SwitchDown { switch: asked[0], why: "gone".into() });
    assert_eq!(world.answer(id), Some(Response::Done), "the one still waited for is gone");
    let id = world.ask(Request::PollNow);
    world.wait(Duration::from_millis(1999));
    assert_eq!(world.answer(id), None);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.answer(id), Some(Response::Done));
}

/// Switches that were asked for their counters since the last [`World::forget`].
fn polled(world: &World) -> Vec<Dpid> {
    let asked = world.log.iter().filter_map(|effect| match effect {
        Effect::PollNow { switch } => Some(*switch),
        _ => None,
    });
    asked.collect()
}

fn told(world: &mut World, switch: Dpid) {
    world.tell(Event::Samples { switch, ports: Vec::new(), flows: Vec::new(), rules: Vec::new() });
}

/// Where the site says so, a request waits until candidates' switches whose readings are too old have
/// been read, and is decided by what they say.
#[test]
fn a_request_is_decided_by_fresh_readings_where_the_site_says_so() {
    let text = format!(
        "{SMALL}[statistics]\nperiod = \"off\"\non_request = true\nmax_age = \"3 s\"\nhistory_weight = 0.0\n\
         [policy]\nallocation = \"least-loaded-edge\"\n"
    );
    let mut world = World::new(read(&text));
    world.forget();
    let first = world.ask_vm();
    let asked = polled(&world);
    assert_eq!(asked.len(), world.site.topology.switches.len(), "nothing was ever read");
    let second = world.ask_vm();
    assert_eq!(polled(&world).len(), asked.len(), "what is on its way is not asked for again");
    for switch in &asked[1..] {
        told(&mut world, *switch);
    }
    assert_eq!((world.answer(first), world.answer(second)), (None, None));
    told(&mut world, asked[0]);
    let placed = |world: &World, id| match world.answer(id) {
        Some(Response::VmRunning { vm }) => vm.id.0,
        other => panic!("{other:?}"),
    };
    assert_eq!((placed(&world, first), placed(&world, second)), (1, 2), "in the order in which they came");

    world.forget();
    world.wait(Duration::from_secs(3));
    let third = world.ask_vm();
    assert_eq!((polled(&world), placed(&world, third)), (Vec::new(), 3), "fresh enough");

    // What is read meanwhile counts: edge1's links are busy now.
    world.wait(Duration::from_secs(2));
    world.forget();
    let fourth = world.ask_vm();
    assert_eq!(polled(&world).len(), asked.len());
    for (upper, lower) in [("agg1", "edge1"), ("agg2", "edge1")] {
        let link = world.link(upper, lower);
        let (switch, port) = world.ends(link)[0];
        let counters =
            |bytes| PortCounters { rx_bytes: Some(0), tx_bytes: Some(bytes), ..PortCounters::default() };
        let ports = |bytes| vec![PortSample { port, counters: counters(bytes) }];
        world.tell(Event::Samples { switch, ports: ports(0), flows: Vec::new(), rules: Vec::new() });
        world.wait(Duration::from_millis(100));
        world.tell(Event::Samples { switch, ports: ports(125_000), flows: Vec::new(), rules: Vec::new() });
    }
    for switch in &asked {
        told(&mut world, *switch);
    }
    let edge = match world.answer(fourth) {
        Some(Response::VmRunning { vm }) => world.site.topology.edge_of(vm.server, 0),
        other => panic!("{other:?}"),
    };
    assert_eq!(edge, Some(world.switch("edge2")));
}

/// A switch that does not answer is waited for two seconds, one that goes away not at all, and a
/// request that no server has room for asks nobody.
#[test]
fn readings_that_do_not_come_hold_a_request_up_for_two_seconds_at_most() {
    let text = format!("{SMALL}[statistics]\non_request = true\n");
    let mut world = World::new(read(&text));
    world.forget();
    let id = world.ask_vm();
    world.wait(Duration::from_millis(1999));
    assert_eq!(world.answer(id), None);
    world.wait(Duration::from_millis(1));
    assert!(matches!(world.answer(id), Some(Response::VmRunning { .. })), "{:?}", world.answer(id));

    world.forget();
    let id = world.ask_vm();
    let asked = polled(&world);
    for switch in &asked[1..] {
        told(&mut world, *switch);
    }
    assert_eq!(world.answer(id), None);
    world.tell(Event::SwitchDown { switch: asked[0], why: "gone".into() });
    assert!(world.answer(id).is_some(), "the one still waited for is gone");

    world.wait(Duration::from_secs(60));
    world.forget();
    let mut request = world.request();
    request.resources.cpu = 1000;
    let id = world.ask(Request::RequestVm { request });
    assert!(matches!(world.answer(id), Some(Response::Rejected { .. })));
    assert_eq!(polled(&world), []);
}

/// A legacy switch between an edge and its server counts nothing: what the edge counts is what is
/// on both of its cables.
#[test]
fn the_link_beyond_a_legacy_switch_has_the_load_that_is_measured_before_it() {
    let text = format!(
        "{SMALL}[[legacy]]\nname = \"desk\"\nbetween = [\"edge1\", \"srv1\"]\n[statistics]\nhistory_weight = 0.0\n"
    );
    let mut world = World::new(read(&text));
    let (near, far) = (world.link("edge1", "desk"), world.link("desk", "srv1"));
    let topology = world.site.topology.clone();
    let edge = topology.by_name("edge1").expect("declared");
    let port = topology.ports(edge).iter().find(|(_, l)| *l == near).map(|(p, _)| *p).expect("a port");
    let at = (world.dpid("edge1"), port);
    tell(&mut world, at, 0, 0);
    world.wait(Duration::from_secs(1));
    tell(&mut world, at, 250_000, 125_000);
    let links = world.core.snapshot().links.clone();
    for link in [near, far] {
        let view = &links[link.0 as usize];
        let mut rates = [view.up, view.down];
        rates.sort_unstable();
        assert_eq!(rates, [BitRate::mbit(1), BitRate::mbit(2)], "{}", view.name);
    }
    assert!((world.core.server_link_ratio(tandem_model::ServerId(0)) - 0.2).abs() < 1e-9);
}

/// OF 1.0 section 5.3.5: all ones are "not supported". A link of which nobody counts the bytes has
/// no rate and an empty cell.
#[test]
fn what_no_switch_counts_has_no_rate_and_an_empty_cell() {
    let mut world = World::new(site(0.0));
    let at = world.port_of(tandem_model::ServerId(0));
    let link = world.link("edge1", "srv1");
    let cell = |world: &mut World| {
        let snapshot = world.core.snapshot();
        let view = &snapshot.links[link.0 as usize];
        let files = tandem_core::export::csv(&snapshot);
        let hosts = files.iter().find(|f| f.file == "hoststats.csv").expect("a file of servers' links");
        let column = hosts.columns.iter().position(|c| *c == view.column).expect("a column");
        (view.uncounted, hosts.values[column])
    };
    tell(&mut world, at, 0, 0);
    world.wait(Duration::from_secs(1));
    tell(&mut world, at, 250_000, 125_000);
    assert!(matches!(cell(&mut world), (false, Some(percent)) if percent > 0.0));
    world.wait(Duration::from_secs(1));
    tell(&mut world, at, u64::MAX, u64::MAX);
    assert_eq!(cell(&mut world), (true, None));
    let view = world.core.snapshot().links[link.0 as usize].clone();
    assert_eq!((view.down, view.up), (BitRate(0), BitRate(0)));
}
