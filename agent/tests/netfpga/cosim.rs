//! A card behind a socket: restarts, a second agent, and a card that dies, hangs, loses its rows or
//! is replaced.

use crate::frame;
use crate::host::{Agent, Host, now};
use crate::peer::{Bench, Peer};
use crate::support::{Talk, is_root, wait};
use crate::talk::{across, flow};
use tandem_openflow::of13::{Field, FlowMod};

fn configure(host: &Host, name: &str, options: &str) {
    let card = host.path("card.sock");
    host.configure(name, &format!("device = \"cosim:{}\"\n{options}", card.display()));
}

/// A host, its card, its agent, and flows between its ports.
fn up(options: &str) -> (Host, Peer, Agent, Talk) {
    let host = Host::new();
    let peer = Peer::listen(&host.path("card.sock"));
    configure(&host, "a", options);
    let agent = host.start("a");
    assert_eq!(host.applied("a"), serde_json::json!([]));
    let mut talk = host.talk("a");
    talk.install([across(1, 2), across(2, 1), across(3, 4), across(4, 3)]);
    // The rows are written before the barrier is answered.
    assert_eq!(peer.bench().used(), 1 + 2 + 4, "the guard, two flows, to and from software for two ports");
    host.reach(1, 2);
    (host, peer, agent, talk)
}

fn in_hardware(host: &Host, name: &str) {
    wait("its flows in the card", || {
        let places = host.places(name);
        [12, 21].iter().all(|f| places.get(f).is_some_and(|p| p.starts_with("hardware row "))).then_some(())
    });
}

#[test]
fn a_killed_agent_finds_its_rows_and_writes_none() {
    if !is_root() {
        return;
    }
    let (host, peer, agent, talk) = up("");
    let kept = || std::fs::metadata(host.path("a.state/netfpga/core1.flows")).is_ok_and(|m| m.len() > 200);
    wait("its flows are kept", || kept().then_some(()));
    drop((agent, talk));
    let rows = peer.bench().rows();
    let commits = peer.bench().commits;
    let hits: u32 = (0..32).map(|at| peer.bench().hits(at)).sum();
    assert!(hits >= 4, "{hits}");

    let agent = host.start("a");
    in_hardware(&host, "a");
    host.reach(1, 2);
    let mut talk = host.talk("a");
    // Several counter reads later.
    let counted = talk.packets(12);
    host.ping(1, 2, 10);
    wait("counters of adopted rows", || (talk.packets(12) >= counted + 10).then_some(()));
    assert_eq!(peer.bench().commits, commits, "a row was written again");
    assert_eq!(peer.bench().exact, 0);
    assert_eq!(peer.bench().rows(), rows);
    let after: u32 = (0..32).map(|at| peer.bench().hits(at)).sum();
    assert!(after > hits, "the rows count on: {hits}, {after}");
    // The counts before belong to the former process.
    assert!(talk.packets(12) < u64::from(after), "{after}");

    // Stopped as a service the agent leaves the card forwarding, with its watchdog off; after a
    // release, the card forwards nothing.
    let dog = tandem_fpga_config::profile::builtin::named("openflow-switch").expect("a profile").watchdog;
    let dog = dog.expect("a watchdog");
    let enabled = |peer: &Peer| {
        tandem_fpga_config::registers::Registers::read32(&mut peer.bench().card, dog.enable)
            .expect("a register")
    };
    assert_eq!(enabled(&peer), 1);
    drop(talk);
    agent.stop();
    assert_eq!(enabled(&peer), 0);
    assert_eq!(peer.bench().rows(), rows);
    let (good, text) = host.say("a", &["release"]);
    assert!(good, "{text}");
    assert_eq!(peer.bench().used(), 0);
}

#[test]
fn a_card_that_dies_is_said_and_has_its_rows_when_it_is_back() {
    if !is_root() {
        return;
    }
    let (host, peer, _agent, mut talk) = up("");
    let before = talk.port(1).rx_dropped;
    peer.die();
    let why = host.shows("a", "closed the connection");
    assert!(!why.is_empty());
    wait("the flows' places", || {
        (host.places("a")[&12] == "software: the card cannot be asked").then_some(())
    });
    assert_eq!(host.ping(1, 2, 2), 0);
    wait("what is lost at the port", || (talk.port(1).rx_dropped > before).then_some(()));
    // Ports that are not the card's forward, and orders are executed.
    assert_eq!(host.ping(3, 4, 3), 3);
    talk.install([flow(13, 90, vec![Field::InPort(1), Field::EthType(0x88b5)], 3)]);
    host.hears(4, &frame(4), || talk.packet_out(4, &frame(4)));
    host.shows("a", "opening the card cosim:");

    peer.come_back();
    host.reach(1, 2);
    in_hardware(&host, "a");
    assert!(peer.bench().commits >= 6);
    let places = host.places("a");
    assert!(places[&13].starts_with("software: it sends to port 3"), "{places:?}");
    wait("no more trouble", || (host.view("a").about.len() == 1).then_some(()));
}

#[test]
fn a_card_that_hangs_holds_up_nobody() {
    if !is_root() {
        return;
    }
    let (host, peer, _agent, mut talk) = up("");
    peer.bench().hangs = true;
    let why = host.shows("a", "within");
    assert!(why.contains("2s"), "{why}");
    talk.barrier();
    // It is opened again and again, on a thread of its own.
    for _ in 0..4 {
        assert_eq!(host.ping(3, 4, 10), 10, "plain NICs do not wait for the card");
    }
    peer.die();
    peer.come_back();
    host.reach(1, 2);
    in_hardware(&host, "a");
}

#[test]
fn rows_lost_behind_its_back_are_written_again() {
    if !is_root() {
        return;
    }
    let (host, peer, _agent, mut talk) = up("");
    for times in 1..=2 {
        peer.bench().flush();
        host.reach(1, 2);
        host.shows("a", &format!("lost its rows {times} time"));
        wait("all rows", || (peer.bench().used() == 7).then_some(()));
    }
    in_hardware(&host, "a");
    assert!(host.log("a").contains("has lost its rows"), "{}", host.log("a"));
    let counted = talk.packets(12);
    assert!(counted < 1000, "counters that began anew are no wraps: {counted}");
}

#[test]
fn a_second_agent_on_the_same_card_is_refused_until_the_first_is_gone() {
    if !is_root() {
        return;
    }
    let (host, peer, agent, talk) = up("");
    let commits = peer.bench().commits;
    configure(&host, "b", "");
    let _second = host.start("b");
    let faults = host.applied("b").to_string();
    for words in ["one writer per card", "tandem-agent, switch core1", "process"] {
        assert!(faults.contains(words), "{words:?} in {faults}");
    }
    assert_eq!(host.ping(1, 2, 3), 3, "the first goes on");
    assert_eq!(peer.bench().commits, commits);
    drop((agent, talk));
    // The agent tries again by itself.
    host.talk("b").install([across(1, 2), across(2, 1)]);
    host.reach(1, 2);
    in_hardware(&host, "b");
}

#[test]
fn what_is_no_card_or_another_one_is_named() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let socket = host.path("card.sock");
    configure(&host, "a", "");
    let agent = host.start("a");
    let faults = host.applied("a").to_string();
    assert!(faults.contains("opening the card cosim:") && faults.contains("No such file"), "{faults}");
    // The agent finds the card when it appears.
    let peer = Peer::listen(&socket);
    host.talk("a").install([across(1, 2), across(2, 1)]);
    host.reach(1, 2);
    drop(agent);

    configure(&host, "b", "profile = \"reference-nic\"\n");
    let agent = host.start("b");
    let faults = host.applied("b").to_string();
    for words in ["answers to no register map with a flow table", "tandem-fpga load", "openflow-switch"] {
        assert!(faults.contains(words), "{words:?} in {faults}");
    }
    drop(agent);
    let commits = peer.bench().commits;
    configure(&host, "c", "profile = \"nothing\"\n");
    let agent = host.start("c");
    let faults = host.applied("c").to_string();
    assert!(faults.contains("nothing"), "{faults}");
    drop(agent);
    assert_eq!(peer.bench().commits, commits, "nothing was written to it");
}

#[test]
fn a_simulation_without_packets_is_a_card_all_the_same() {
    if !is_root() {
        return;
    }
    let (host, peer, _agent, mut talk) = up("");
    peer.bench().no_packets = true;
    assert_eq!(host.ping(1, 2, 2), 0);
    host.shows("a", "the card takes no frames");
    assert!(host.view("a").about[0].starts_with("card cosim:"), "{:?}", host.view("a").about);
    assert!(talk.port(1).rx_dropped > 0);
    // The card is not opened again for that, and keeps its rows.
    talk.install([flow(23, 90, vec![Field::InPort(2), Field::EthType(0x88b5)], 3)]);
    in_hardware(&host, "a");
    peer.bench().no_packets = false;
    host.reach(1, 2);
    assert_eq!(host.view("a").about.len(), 1);
}

/// An agent on a card behind a socket that was prepared, with flows between ports 1 and 2 that have
/// this idle time-out.
fn prepared(options: &str, idle: u16, prepare: impl FnOnce(&mut Bench)) -> (Host, Peer, Agent, Talk) {
    let host = Host::new();
    let peer = Peer::listen(&host.path("card.sock"));
    prepare(&mut peer.bench());
    configure(&host, "a", options);
    let agent = host.start("a");
    assert_eq!(host.applied("a"), serde_json::json!([]));
    let mut talk = host.talk("a");
    let flows = [across(1, 2), across(2, 1)].map(|f| FlowMod { idle_timeout: idle, flags: 1, ..f });
    talk.install(flows.into_iter().chain([across(3, 4), across(4, 3)]));
    in_hardware(&host, "a");
    (host, peer, agent, talk)
}

#[test]
fn what_a_slow_card_forwards_is_not_idle_by_its_own_clock() {
    if !is_root() {
        return;
    }
    let slow = |bench: &mut Bench| bench.slow = Some(now());
    let (host, _peer, _agent, mut talk) = prepared("clock = \"card\"\n", 2, slow);
    // 6 s, during which the card's clock advances by less than one; the idle time-out is 2 s.
    assert_eq!(host.ping(3, 4, 30), 30);
    assert_eq!(talk.flows().len(), 4);
    // By this machine's clock the flows have expired by then.
    let (host, _peer, _agent, mut talk) = prepared("", 2, slow);
    assert_eq!(host.ping(3, 4, 30), 30);
    assert_eq!(talk.flows().len(), 2);
}

#[test]
fn row_counters_that_reading_clears_are_summed_where_the_agent_is_told() {
    if !is_root() {
        return;
    }
    let clearing = |bench: &mut Bench| {
        let model = bench.card.model.clone();
        bench.card.model = model.clearing_row_counters();
    };
    let (host, _peer, _agent, mut talk) = prepared("row_counters = \"clear-on-read\"\n", 0, clearing);
    // Fewer packets each time: a counter taken as cumulative would seem to have wrapped.
    let mut counted = 0;
    for count in [9, 5, 2] {
        assert_eq!(host.ping(1, 2, count), count);
        counted = talk.agree(12, 1, counted + u64::from(count));
        assert!(counted < 1000, "{counted}");
    }
}
