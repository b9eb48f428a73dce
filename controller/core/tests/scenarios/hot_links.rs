//! A hot link under `[migration] hot_link = "reroute-first"`: VMs get another path before any
//! moves.

use crate::hotspots::site;
use crate::loads::{Meters, with_vms};
use crate::plans::planned;
use crate::world::World;
use std::collections::BTreeMap;
use tandem_model::{
    BitRate, Cause, Effect, Event, LinkId, MoveOptions, PlanGoal, PortCounters, PortSample, Request,
    Resources, Response, ServerId, VmId, VmRecord,
};

const MBIT: u64 = 1_000_000;

/// Two VMs on srv1 whose traffic comes down the same link of 10 Mbit/s between an aggregation and
/// an edge switch; the other one of that edge switch is empty.
struct Story {
    world: World,
    meters: Meters,
    /// Bytes that each link's lower end has got.
    bytes: BTreeMap<LinkId, u64>,
    hot: LinkId,
}

impl Story {
    fn new(more: &str) -> Story {
        let site = site(&format!(
            "[hotspot]\nrelieve = true\n[bandwidth]\naggregation = \"10 Mbit/s\"\nedge = \"100 Mbit/s\"\n{more}"
        ));
        let size = Resources { net: BitRate(500_000), ..site.vm.default };
        let world = with_vms(site, &[(0, size), (0, size)]);
        let hot = world.core.vm(VmId(1)).expect("it runs").path_down[2].link;
        let mut meters = Meters::new(&[]);
        meters.use_of.extend([(VmId(1), (0.1, 5 * MBIT)), (VmId(2), (0.1, 9 * MBIT / 2))]);
        Story { world, meters, bytes: BTreeMap::new(), hot }
    }

    fn vm(&self, id: u64) -> VmRecord {
        self.world.core.vm(VmId(id)).expect("it runs").clone()
    }

    fn crosses(&self, id: u64, link: LinkId) -> bool {
        self.vm(id).path_down.iter().any(|hop| hop.link == link)
    }

    /// A period: servers tell what VMs get, and switches what goes down the links between
    /// aggregation and edge.
    fn period(&mut self) {
        self.meters.period(&mut self.world);
        let links: Vec<LinkId> = [("agg1", "edge1"), ("agg2", "edge1"), ("agg1", "edge2"), ("agg2", "edge2")]
            .iter()
            .map(|(a, b)| self.world.link(a, b))
            .collect();
        for link in links {
            for (vm, (_, rate)) in &self.meters.use_of {
                let crosses =
                    self.world.core.vm(*vm).is_some_and(|v| v.path_down.iter().any(|h| h.link == link));
                *self.bytes.entry(link).or_default() += if crosses { rate / 8 * 5 } else { 0 };
            }
            let (switch, port) = self.world.ends(link)[0];
            let counters = PortCounters {
                rx_bytes: Some(0),
                tx_bytes: self.bytes.get(&link).copied(),
                ..PortCounters::default()
            };
            let ports = vec![PortSample { port, counters }];
            self.world.tell(Event::Samples { switch, ports, flows: Vec::new(), rules: Vec::new() });
        }
    }

    fn periods(&mut self, count: usize) {
        (0..count).for_each(|_| self.period());
    }

    fn moves(&self) -> usize {
        self.world.log.iter().filter(|e| matches!(e, Effect::MigrateVm { .. })).count()
    }
}

/// One VM's traffic takes the other link above the edge switch, the hot one cools, and no VM moves.
/// The plan says which VM, why, and by which switches; every VM is reached all the while.
#[test]
fn a_hot_link_is_cooled_by_another_path() {
    let mut story = Story::new("[migration]\nhot_link = \"reroute-first\"\n");
    assert!(story.crosses(1, story.hot) && story.crosses(2, story.hot));
    story.periods(12);
    assert_eq!(story.world.noticed("hotspot").len(), 1, "{:?}", story.world.noticed("hotspot"));
    assert_eq!(story.world.noticed("hotspot-cool").len(), 1);
    assert_eq!(story.moves(), 0, "nothing is sent");
    let over = [1, 2].into_iter().filter(|vm| story.crosses(*vm, story.hot)).count();
    assert_eq!(over, 1);
    let plan = story.world.core.snapshot().plans[0].plan.clone();
    assert!(plan.moves.is_empty() && plan.reroutes.len() == 1, "{plan:?}");
    let why = &plan.reroutes[0].why;
    assert!(why.contains("uses 95% of its link capacity") && why.contains("; now by edge1 - agg"), "{why}");
    let rerouted = story.world.noticed("vm-rerouted");
    assert!(rerouted.len() == 1 && rerouted[0].contains(why.as_str()), "{rerouted:?}");
    let ended = story.world.noticed("plan-ended");
    assert_eq!(ended, ["plan1 (relieve) has ended: 1 VMs got another path"]);
    for id in [1, 2] {
        assert_eq!(story.vm(id).server, ServerId(0));
        story.world.assert_reachable(&story.vm(id));
    }
}

/// Without the word a VM moves, as ever.
#[test]
fn by_default_a_vm_moves() {
    let mut story = Story::new("");
    story.periods(12);
    assert_eq!(story.moves(), 1);
    assert_eq!(story.world.core.snapshot().migrations[0].record.cause, Cause::HotLink);
    assert!(story.world.core.snapshot().plans[0].plan.reroutes.is_empty());
}

/// The other path would get hot, too: nobody is rerouted, and a VM moves to another edge switch.
#[test]
fn where_no_other_path_stays_cool_a_vm_moves() {
    let mut story = Story::new("[migration]\nhot_link = \"reroute-first\"\n");
    let other = if story.world.link("agg1", "edge1") == story.hot { "agg2" } else { "agg1" };
    let other = story.world.link(other, "edge1");
    // 6 Mbit/s of somebody else's: with 4.5 Mbit/s more it would be above 81 %.
    let mut foreign = 0;
    for _ in 0..12 {
        foreign += 6 * MBIT / 8 * 5;
        *story.bytes.entry(other).or_default() += 6 * MBIT / 8 * 5;
        story.period();
    }
    assert!(foreign > 0 && story.world.noticed("vm-rerouted").is_empty());
    assert_eq!(story.moves(), 1, "{:?}", story.world.noticed("hotspot"));
}

/// A pinned path is the operator's: the other VM is rerouted, whichever the policy would take.
#[test]
fn a_pinned_path_stays() {
    let mut story = Story::new("[migration]\nhot_link = \"reroute-first\"\n");
    for id in [1, 2] {
        let topology = &story.world.site.topology;
        let nodes = tandem_model::paths::nodes(
            topology,
            tandem_model::NodeId::Server(ServerId(0)),
            &story.vm(id).path_up,
        );
        let via = nodes.iter().filter_map(|n| match n {
            tandem_model::NodeId::Switch(id) => Some(*id),
            _ => None,
        });
        let via = via.collect();
        let ask = story.world.ask(Request::PinPath { vm: VmId(id), via });
        assert_eq!(story.world.answer(ask), Some(Response::Done));
    }
    story.world.forget();
    story.periods(12);
    assert!(story.world.noticed("vm-rerouted").is_empty(), "{:?}", story.world.noticed("vm-rerouted"));
}

/// A switch refuses the rules of the other path: the VM goes back to the one that it had, whose
/// rules have stayed, and is never without one. It is not tried again soon; another VM is, and when
/// none is left a VM moves.
#[test]
fn a_refused_path_is_taken_back_and_then_a_vm_moves() {
    let mut story = Story::new("[migration]\nhot_link = \"reroute-first\"\n");
    story.period();
    story.world.held.switches = true;
    let mut refused = 0;
    for _ in 0..30 {
        story.period();
        while story.world.is_waiting() {
            // Every switch refuses what would bring a VM another path, until one moves.
            let rerouted = story.world.noticed("vm-rerouted").len();
            if rerouted > refused && story.moves() == 0 {
                refused = rerouted;
                story.world.refuse_first("the table is full");
            } else {
                story.world.confirm(|_| 0);
            }
        }
        assert!(
            [1, 2]
                .into_iter()
                .all(|id| story.vm(id).state == tandem_model::VmState::Running || story.moves() > 0)
        );
        if story.moves() > 0 {
            break;
        }
    }
    assert_eq!(refused, 2, "each VM was tried once: {:?}", story.world.noticed("vm-rerouted"));
    assert_eq!(story.world.noticed("reroute-refused").len(), 2);
    assert!(story.world.noticed("vm-cut").is_empty());
    assert_eq!(story.moves(), 1, "then one moves");
    story.world.held.switches = false;
    story.world.confirm_all();
    [1, 2].into_iter().for_each(|id| story.world.assert_reachable(&story.vm(id)));
}

/// A plan that was asked for shows the reroutes and changes nothing; carried out later, it is
/// refused if the path has broken meanwhile.
#[test]
fn a_plan_shows_its_reroutes_and_holds_only_while_they_do() {
    let mut story = Story::new("[migration]\nhot_link = \"reroute-first\"\n");
    let mut site = (*story.world.site).clone();
    site.migration.hotspot.relieve = false;
    let size = story.vm(1).request.resources;
    story.world = with_vms(site, &[(0, size), (0, size)]);
    story.periods(5);
    let ask = Request::Plan { aim: PlanGoal::Relieve, options: MoveOptions::default() };
    let plan = planned(&mut story.world, ask);
    assert_eq!((plan.reroutes.len(), plan.moves.len()), (1, 0), "{:?}", plan.left);
    assert!(story.crosses(1, story.hot) && story.crosses(2, story.hot), "nothing has changed");
    let new = plan.reroutes[0].to.path_down.iter().find(|hop| !story.vm(1).path_down.contains(hop));
    let broken = new.expect("another hop").link;
    story.world.set_link(broken, false);
    let ask = story.world.ask(Request::ApplyPlan { plan: plan.id });
    let Some(Response::Conflict { why }) = story.world.answer(ask) else { panic!("it was begun") };
    assert!(why.contains("no room any more, or is broken"), "{why}");
    story.world.set_link(broken, true);
    let ask = Request::Plan { aim: PlanGoal::Relieve, options: MoveOptions::default() };
    let plan = planned(&mut story.world, ask);
    planned(&mut story.world, Request::ApplyPlan { plan: plan.id });
    assert_eq!(story.world.noticed("vm-rerouted").len(), 1);
    let vm = story.vm(plan.reroutes[0].vm.0);
    assert_eq!(vm.path_down, plan.reroutes[0].to.path_down);
    story.world.assert_reachable(&vm);
}
