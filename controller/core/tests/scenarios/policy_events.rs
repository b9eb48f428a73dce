//! Policies that remember what happened: what they are told, that the choice shows, and that a
//! recorded run is decided the same when it is replayed.

use crate::loads::{Meters, placed};
use crate::world::{START, World};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tandem_core::migration::policies::{
    Candidate, DestinationSelector, Hot, HotspotDetector, HotspotState, ResourceSeries, TransferPathPolicy,
    View, VmSelector, Way,
};
use tandem_core::policy::allocation::{AllocationPolicy, Rank};
use tandem_core::policy::routing::{PathSearch, Route, RoutingPolicy};
use tandem_core::policy::view::{PlacementView, ServerView};
use tandem_core::record_replay::Replay;
use tandem_core::{Core, Policy};
use tandem_model::{BitRate, LinkId, PersistedState, Request, ServerId, Site, SiteEvent, VmId, VmRecord};

/// Four aggregation switches, so that an edge switch has four ways up.
fn site(policy: &str) -> Site {
    let text = format!(
        "[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 4\nedge = 2\nservers_per_edge = 2\n\
         edge_aggregation_links = 4\naggregation_core_links = 1\n\
         [bandwidth]\nedge = \"1 Gbit/s\"\naggregation = \"100 Mbit/s\"\ncore = \"100 Mbit/s\"\n\
         gateway = \"1 Gbit/s\"\n[servers]\ncpu = 64\n[policy]\nallocation = \"first-fit\"\n{policy}\n"
    );
    tandem_core::site::read(&text, "site.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn vm(world: &mut World, rate: u64) -> VmRecord {
    let mut request = world.request();
    request.resources.net = BitRate::mbit(rate);
    world.vm_of(request)
}

/// A link goes down and comes back, and the switches follow.
fn flap(world: &mut World, link: LinkId) {
    world.set_link(link, false);
    world.wait(Duration::from_secs(1));
    world.set_link(link, true);
    world.wait_seen(Duration::from_secs(60));
}

/// The link above the edge switch on a VM's way up.
fn above_edge(vm: &VmRecord) -> LinkId {
    vm.path_up[1].link
}

/// The first of the four links above the first edge switch flaps. After a pause two VMs come that
/// take most of a link each, up and down: by which links they go up.
fn after_a_flap(routing: &str, pause: Duration) -> ([LinkId; 2], World) {
    let mut world = World::new(site(&format!("routing = \"{routing}\"")));
    let flapped = world.link("agg1", "edge1");
    flap(&mut world, flapped);
    world.wait_seen(pause);
    let links = [above_edge(&vm(&mut world, 60)), above_edge(&vm(&mut world, 60))];
    (links, world)
}

/// What has no room on the default path goes by another link than the one that flapped, although
/// that comes first by its id; when all others are full it is taken, for it is alive. A quarter of
/// an hour later nothing counts against it.
#[test]
fn a_link_that_flapped_is_avoided_for_a_quarter_of_an_hour() {
    let ([first, second], mut world) = after_a_flap("avoid-flapping", Duration::ZERO);
    let flapped = world.link("agg1", "edge1");
    assert!(first != flapped && second != flapped && first != second, "{first:?} {second:?}");
    assert_eq!(above_edge(&vm(&mut world, 60)), flapped, "it is alive, and has room");
    let ([default, second], _) = after_a_flap("default-first", Duration::ZERO);
    assert_eq!((default, second), (first, flapped), "another policy does not remember");
    let ([default, second], _) = after_a_flap("avoid-flapping", Duration::from_secs(16 * 60));
    assert_eq!((default, second), (first, flapped), "it is forgotten");
}

/// A recording of a run with a policy that remembers is replayed to the same effects: its state
/// comes from events alone.
#[test]
fn a_policy_s_memory_is_replayed() {
    let (_, mut world) = after_a_flap("avoid-flapping", Duration::ZERO);
    vm(&mut world, 60);
    let mut replay = Replay::new(world.header.clone()).expect("known policies");
    for line in world.lines.clone() {
        replay.line(line).unwrap_or_else(|other| panic!("{other:?}"));
    }
    assert_eq!(replay.events(), world.lines.len());
}

/// A policy of every kind that passes on what it is told, with how many VMs it sees then.
struct Writes(&'static str, Sender<String>);

impl Writes {
    fn write(&self, event: &SiteEvent, vms: usize) {
        let text = format!("{} {} {vms}", self.0, event.name());
        self.1.send(text).expect("somebody listens");
    }
}

impl AllocationPolicy for Writes {
    fn name(&self) -> &str {
        self.0
    }
    fn on_event(&mut self, event: &SiteEvent, view: &dyn PlacementView) {
        assert!(view.now() >= START && view.servers().len() == 4);
        self.write(event, view.vms().len());
    }
    fn rank(&self, _: &ServerView) -> Rank {
        Rank(0)
    }
}

impl RoutingPolicy for Writes {
    fn name(&self) -> &str {
        self.0
    }
    fn on_event(&mut self, event: &SiteEvent, view: &dyn PlacementView) {
        self.write(event, view.vms().len());
    }
    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
        search.default_path()
    }
}

impl HotspotDetector for Writes {
    fn name(&self) -> &str {
        self.0
    }
    fn on_event(&mut self, event: &SiteEvent, view: &View<'_>) {
        self.write(event, view.vms().count());
    }
    fn heat(&self, watched: &ResourceSeries<'_>, _: &View<'_>) -> HotspotState {
        let cpu = watched.resource == tandem_model::Resource::Cpu;
        let used = watched.samples.last().is_some_and(|(_, ratio)| *ratio > 0.5);
        if cpu && used { HotspotState::Hot } else { HotspotState::Cool }
    }
}

impl VmSelector for Writes {
    fn name(&self) -> &str {
        self.0
    }
    fn on_event(&mut self, event: &SiteEvent, view: &View<'_>) {
        self.write(event, view.vms().count());
    }
    fn rank(&self, _: &Candidate<'_>, _: &Hot, _: &View<'_>) -> f64 {
        0.0
    }
}

impl DestinationSelector for Writes {
    fn name(&self) -> &str {
        self.0
    }
    fn on_event(&mut self, event: &SiteEvent, view: &View<'_>) {
        self.write(event, view.vms().count());
    }
}

impl TransferPathPolicy for Writes {
    fn name(&self) -> &str {
        self.0
    }
    fn on_event(&mut self, event: &SiteEvent, view: &View<'_>) {
        self.write(event, view.vms().count());
    }
    fn rank(&self, way: &Way<'_>, _: &View<'_>) -> f64 {
        way.load
    }
}

const KINDS: [&str; 6] = ["allocation", "routing", "detector", "selector", "destination", "transfer"];

/// Every kind of policy is told of a link that goes down and comes back, a hotspot, and a VM that
/// ends, each once, in order and with the data centre as it is after it.
#[test]
fn every_kind_of_policy_is_told_what_happens() {
    let (sender, told) = channel();
    let writes = |kind| Box::new(Writes(kind, sender.clone()));
    let policy = Policy {
        allocation: writes(KINDS[0]),
        routing: writes(KINDS[1]),
        when: writes(KINDS[2]),
        which: writes(KINDS[3]),
        place: writes(KINDS[4]),
        path: writes(KINDS[5]),
    };
    let site = site("[statistics]\nperiod = \"5 s\"\nhistory_weight = 0.0");
    let stored = placed(&site, &[(0, site.vm.default)]);
    let mut world = World::dark(site, PersistedState::default());
    world.core = Core::with_policy(world.site.clone(), stored, world.now, policy);
    world.connect_all();
    world.attach(vec![(VmId(1), ServerId(0))]);
    told.try_iter().for_each(drop);

    let link = world.link("agg1", "edge1");
    world.set_link(link, false);
    world.set_link(link, true);
    let mut meters = Meters::new(&[(1, 40.0)]);
    (0..2).for_each(|_| meters.period(&mut world));
    world.ask(Request::DeleteVm { vm: VmId(1) });

    let told: Vec<String> = told.try_iter().collect();
    for kind in KINDS {
        let of = |text: &&String| text.split(' ').next() == Some(kind);
        let mine: Vec<&str> =
            told.iter().filter(of).map(|text| text.split_once(' ').expect("two words").1).collect();
        let wanted = ["link_down 1", "link_up 1", "hotspot_found 1", "vm_ended 0"];
        let mine: Vec<&str> = mine.into_iter().filter(|text| wanted.contains(text)).collect();
        assert_eq!(mine, wanted, "{kind}: {told:?}");
    }
}
