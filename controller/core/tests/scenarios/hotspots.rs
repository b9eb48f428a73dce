//! Hotspots: when a server or a link is taken for hot, when for cool again, and what is expected.

use crate::loads::{Meters, with_vms};
use crate::world::{SMALL, World, read};
use std::time::Duration;
use tandem_core::migration::policies::{HotspotDetector, HotspotState, ResourceSeries, View};
use tandem_core::policy::BestFit;
use tandem_core::{Core, Policy};
use tandem_model::{
    BitRate, Event, MoveOptions, PersistedState, PlanGoal, PortCounters, PortSample, Resource, Resources,
    ServerId, Site, VmId,
};

/// Four servers of 8 cores; samples every 5 s, of which the last one counts alone.
pub(crate) fn site(more: &str) -> Site {
    read(&format!("{SMALL}[statistics]\nperiod = \"5 s\"\nhistory_weight = 0.0\n[servers]\ncpu = 8\n{more}"))
}

fn one_core(site: &Site) -> Resources {
    Resources { cpu: 1, net: BitRate(1000), ..site.vm.default }
}

/// VM 1 on srv1 uses so many cores, sample by sample; the notices of it.
fn run(world: &mut World, meters: &mut Meters, cores: &[f64]) -> Vec<String> {
    world.forget();
    for cores in cores {
        meters.use_of.insert(VmId(1), (*cores, 0));
        meters.period(world);
    }
    let hot = |n: &&&tandem_model::Notice| n.kind.starts_with("hotspot");
    world.notices().iter().filter(hot).map(|n| format!("{}: {}", n.kind, n.text)).collect()
}

fn one_vm(more: &str) -> (World, Meters) {
    let site = site(more);
    let size = one_core(&site);
    let mut world = with_vms(site, &[(0, size)]);
    let mut meters = Meters::default();
    run(&mut world, &mut meters, &[0.0]);
    (world, meters)
}

/// Three of the last five samples over 90% make a server hot; below 81% (0.9 of it) it is cool
/// again. In between nothing changes, so that a load around the threshold is one hotspot and not
/// many.
#[test]
fn k_of_n_samples_make_it_hot_and_hysteresis_keeps_it_so() {
    let (mut world, mut meters) = one_vm("");
    assert_eq!(
        run(&mut world, &mut meters, &[7.6, 1.0, 7.6, 1.0, 1.0, 7.6]),
        [""; 0],
        "two of any five are a peak"
    );
    assert_eq!(
        run(&mut world, &mut meters, &[7.6]),
        ["hotspot: srv1 is hot: it uses 95% of its CPU"],
        "95 12 12 95 95% are three of five"
    );
    let hotspots = world.core.snapshot().hotspots.clone();
    assert_eq!(hotspots.len(), 1);
    assert_eq!(
        (hotspots[0].place.as_str(), hotspots[0].resource, hotspots[0].expected),
        ("srv1", Resource::Cpu, false)
    );
    assert!((hotspots[0].ratio - 0.95).abs() < 1e-6);
    assert_eq!(
        run(&mut world, &mut meters, &[6.6, 7.6, 6.6, 6.6, 6.6, 6.6, 6.6]),
        [""; 0],
        "82% is not cool"
    );
    assert_eq!(world.core.snapshot().hotspots[0].since, hotspots[0].since);
    assert_eq!(run(&mut world, &mut meters, &[6.4]), ["hotspot-cool: srv1 is cool again: 80% of its CPU"]);
    assert!(world.core.snapshot().hotspots.is_empty());
    assert_eq!(
        run(&mut world, &mut meters, &[6.6, 6.6, 6.6, 7.6, 7.6]),
        [""; 0],
        "and it starts from nothing"
    );
}

/// A trend that reaches the threshold within the horizon is told before it is hot; without a
/// horizon nobody looks ahead.
#[test]
fn a_trend_is_told_ahead() {
    let rising = [1.0, 2.0, 3.0, 4.0, 5.0, 5.5];
    let (mut world, mut meters) = one_vm("");
    assert_eq!(run(&mut world, &mut meters, &rising), [""; 0]);
    let (mut world, mut meters) = one_vm("[hotspot]\nhorizon = \"15 s\"\n");
    let said = run(&mut world, &mut meters, &rising);
    assert_eq!(
        said,
        ["hotspot: srv1 is expected to use 100% of its CPU within 15s"],
        "a core a sample: 8 in three"
    );
    assert!(world.core.snapshot().hotspots[0].expected);
    let said = run(&mut world, &mut meters, &[7.6, 7.6, 7.6]);
    assert_eq!(said, ["hotspot: srv1 is hot: it uses 95% of its CPU"], "what was expected has come");
    assert!(!world.core.snapshot().hotspots[0].expected);
    let said = run(&mut world, &mut meters, &[4.0]);
    assert_eq!(said, ["hotspot-cool: srv1 is cool again: 50% of its CPU"]);
}

/// A link is hot by what its switches count, and is looked at once a period although both ends
/// tell.
#[test]
fn a_link_is_hot_by_what_is_measured_on_it() {
    let mut world = World::new(site("[bandwidth]\naggregation = \"10 Mbit/s\"\n"));
    let link = world.link("agg1", "edge1");
    let ends = world.ends(link);
    let mut bytes = 0;
    for sample in 0..4u32 {
        world.wait(Duration::from_secs(5));
        if sample > 0 {
            bytes += 9_500_000 / 8 * 5;
        }
        for (n, (switch, port)) in ends.iter().enumerate() {
            // The upper end sends, the lower one gets.
            let (tx_bytes, rx_bytes) = if n == 0 { (bytes, 0) } else { (0, bytes) };
            let port = PortSample {
                port: *port,
                counters: PortCounters {
                    rx_packets: Some(0),
                    tx_packets: Some(0),
                    rx_bytes: Some(rx_bytes),
                    tx_bytes: Some(tx_bytes),
                    rx_dropped: Some(0),
                    tx_dropped: Some(0),
                    rx_errors: Some(0),
                    tx_errors: Some(0),
                    ..PortCounters::default()
                },
            };
            world.tell(Event::Samples {
                switch: *switch,
                ports: vec![port],
                flows: Vec::new(),
                rules: Vec::new(),
            });
        }
        let hot = world.noticed("hotspot").len();
        assert_eq!(hot, usize::from(sample >= 3), "after {sample} rates");
    }
    let name = world.core.snapshot().links[link.0 as usize].name.clone();
    assert_eq!(world.noticed("hotspot"), [format!("{name} is hot: it uses 95% of its link capacity")]);
}

/// A server that tells nothing any more is not hot by what it told before.
#[test]
fn silence_ends_a_hotspot() {
    let (mut world, mut meters) = one_vm("");
    run(&mut world, &mut meters, &[7.6, 7.6, 7.6]);
    assert_eq!(world.core.snapshot().hotspots.len(), 1);
    world.wait(Duration::from_secs(16));
    assert!(world.core.snapshot().hotspots.is_empty());
}

/// Without `relieve` hotspots are told and nothing moves; what would be done can be asked for: of
/// three VMs that keep a server hot the one with the least memory per load goes, to where the
/// policy wants it and everything stays cool.
#[test]
fn a_relief_can_be_asked_for() {
    let site = site("");
    let (small, big) = (one_core(&site), Resources { ram: tandem_model::Bytes(4 << 30), ..one_core(&site) });
    let mut world = with_vms(site, &[(0, big), (0, small), (0, small), (1, small), (2, small)]);
    // srv2 is fuller by reservations, but would get hot; srv3 takes it.
    let mut meters = Meters::new(&[(1, 3.0), (2, 3.0), (3, 1.5), (4, 5.0), (5, 1.0)]);
    (0..5).for_each(|_| meters.period(&mut world));
    assert_eq!(world.noticed("hotspot"), ["srv1 is hot: it uses 94% of its CPU"]);
    assert!(world.noticed("plan-begun").is_empty());
    let ask = tandem_model::Request::Plan { aim: PlanGoal::Relieve, options: MoveOptions::default() };
    let plan = crate::plans::planned(&mut world, ask);
    let moves: Vec<(u64, u32)> = plan.moves.iter().map(|m| (m.vm.0, m.to.0)).collect();
    assert_eq!(moves, [(2, 2)], "{:?}", plan.left);
    assert_eq!(plan.moves[0].why, "srv1 uses 94% of its CPU, 38% by this VM");
    assert_eq!(plan.moves[0].cause, tandem_model::Cause::HotServer);
}

/// Nowhere cool: it is said once, and nothing moves.
#[test]
fn what_cannot_be_relieved_is_said_once() {
    let site = site("[hotspot]\nrelieve = true\n");
    let size = one_core(&site);
    let vms: Vec<(u32, Resources)> = (0..4).flat_map(|s| [(s, size), (s, size)]).collect();
    let mut world = with_vms(site, &vms);
    let mut meters = Meters::new(&[1, 2, 3, 4, 5, 6, 7, 8].map(|vm| (vm, 3.7)));
    (0..40).for_each(|_| meters.period(&mut world));
    let said: Vec<&str> = world.noticed("hotspot");
    assert_eq!(said.iter().filter(|t| t.contains("cannot be relieved")).count(), 4, "{said:?}");
    assert_eq!(said.len(), 8, "each of four servers is hot once: {said:?}");
    assert!(world.core.snapshot().plans.is_empty());
}

/// A researcher's own "when": any use of a server at all.
struct Always;

impl HotspotDetector for Always {
    fn name(&self) -> &str {
        "always"
    }
    fn heat(&self, watched: &ResourceSeries<'_>, view: &View<'_>) -> HotspotState {
        let used = watched.resource == Resource::Cpu && watched.samples.last().is_some_and(|(_, r)| *r > 0.0);
        assert!(view.servers().len() == 4 && view.now() > tandem_model::Time::ZERO);
        if used { HotspotState::Hot } else { HotspotState::Cool }
    }
}

#[test]
fn when_is_a_policy() {
    let site = site("");
    let size = one_core(&site);
    let stored = crate::loads::placed(&site, &[(0, size)]);
    let mut world = World::dark(site, PersistedState::default());
    let policy = Policy { when: Box::new(Always), ..Policy::new(Box::new(BestFit)) };
    world.core = Core::with_policy(world.site.clone(), stored, world.now, policy);
    world.connect_all();
    world.attach(vec![(VmId(1), ServerId(0))]);
    let mut meters = Meters::new(&[(1, 0.1)]);
    (0..2).for_each(|_| meters.period(&mut world));
    assert_eq!(world.noticed("hotspot"), ["srv1 is hot: it uses 1% of its CPU"]);
}
