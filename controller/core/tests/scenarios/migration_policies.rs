//! The migration policies that a site file names: in each test the choice of one shows beside that
//! of the default.

use crate::hotspots::site;
use crate::loads::{Meters, with_vms};
use crate::plans::planned;
use crate::world::World;
use std::collections::BTreeSet;
use tandem_core::migration::registry::{DESTINATIONS, DETECTORS, SELECTORS, TRANSFER_PATHS};
use tandem_core::policy::registry::names;
use tandem_core::{Core, UnknownPolicy};
use tandem_model::{
    BitRate, Bytes, Effect, MoveOptions, PersistedState, Plan, PlanGoal, PolicyName, Request, Resources,
    ServerId, Site, Time, VmId,
};

fn relief(world: &mut World) -> Plan {
    planned(world, Request::Plan { aim: PlanGoal::Relieve, options: MoveOptions::default() })
}

fn moves(plan: &Plan) -> Vec<(u64, u32)> {
    plan.moves.iter().map(|m| (m.vm.0, m.to.0)).collect()
}

/// Every key of `[migration]` takes every name of its table, the names of a table differ, and a
/// word that is in none is a fault that guesses and lists.
#[test]
fn every_migration_policy_has_a_name_of_its_own() {
    let tables = [
        ("detector", names(DETECTORS)),
        ("selector", names(SELECTORS)),
        ("destination", names(DESTINATIONS)),
        ("transfer_path", names(TRANSFER_PATHS)),
    ];
    for (key, names) in tables {
        assert!(names.len() >= 2, "{key}: {names:?}");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "all differ: {names:?}");
        let text = |name: &str| format!("[topology]\nshape = \"linear\"\n[migration]\n{key} = \"{name}\"\n");
        for name in &names {
            let site = tandem_core::site::read(&text(name), "site.toml");
            let site = site.unwrap_or_else(|faults| panic!("{faults}"));
            assert!(Core::new(site.into(), PersistedState::default(), Time::from_secs(1)).is_ok());
        }
        let faults = tandem_core::site::read(&text(&format!("{}s", names[1])), "site.toml");
        let report = faults.expect_err("nobody knows it").to_string();
        assert!(report.contains(&format!("did you mean {:?}?", names[1])), "{report}");
        assert!(names.iter().all(|name| report.contains(name)), "{report}");
    }
}

/// One of the names of policies that a site has.
type OfSite = fn(&mut Site) -> &mut PolicyName;

/// A site whose policy nobody knows, as a recording of another version may have it, makes no core;
/// the error says which key and which names there are.
#[test]
fn a_core_with_an_unknown_policy_is_not_made() {
    let keys: [(&str, OfSite); 6] = [
        ("policy.allocation", |site| &mut site.policy.allocation),
        ("policy.routing", |site| &mut site.policy.routing),
        ("migration.detector", |site| &mut site.migration.detector),
        ("migration.selector", |site| &mut site.migration.selector),
        ("migration.destination", |site| &mut site.migration.destination),
        ("migration.transfer_path", |site| &mut site.migration.transfer_path),
    ];
    for (wanted, of) in keys {
        let mut site = site("");
        of(&mut site).0 = "of-tomorrow".into();
        let made = Core::new(site.into(), PersistedState::default(), Time::from_secs(1));
        let Err(why) = made else { panic!("{wanted}: a core was made") };
        let UnknownPolicy { key, name, known } = &why;
        assert_eq!((*key, name.as_str()), (wanted, "of-tomorrow"));
        assert!(known.iter().all(|name| why.to_string().contains(name)), "{why}");
    }
}

/// One VM on srv1 that uses so many of its 8 cores, sample by sample; how often it became hot.
fn hot_after(detector: &str, cores: &[f64]) -> Option<usize> {
    let site = site(&format!("[migration]\ndetector = \"{detector}\"\n"));
    let size = Resources { cpu: 1, net: BitRate(1000), ..site.vm.default };
    let mut world = with_vms(site, &[(0, size)]);
    let mut meters = Meters::new(&[(1, 0.0)]);
    meters.period(&mut world);
    cores.iter().position(|cores| {
        meters.use_of.insert(VmId(1), (*cores, 0));
        meters.period(&mut world);
        !world.noticed("hotspot").is_empty()
    })
}

/// An uneven load: it varies by a quarter of the server, so the next peak may well be too much.
/// The median deviation lowers its threshold and takes it for hot; the Sandpiper rule waits until
/// the threshold itself is passed. An even load of the same height is hot for neither.
#[test]
fn an_uneven_load_is_hot_by_its_median_deviation() {
    let uneven = [2.4, 4.4, 5.6, 6.8, 6.4];
    assert_eq!(hot_after("median-deviation", &uneven), Some(4), "with a whole window of five");
    assert_eq!(hot_after("sandpiper", &uneven), None, "never above 7.2 cores");
    let even = [6.4; 8];
    assert_eq!(hot_after("median-deviation", &even), None);
    assert_eq!(hot_after("sandpiper", &even), None);
    let high = [7.6; 6];
    assert!(hot_after("median-deviation", &high).is_some(), "an even load has the site's threshold");
}

/// Three VMs keep srv1 at 94 % of 8 cores; 81 % is cool. The first uses the most for its memory,
/// the second has the least memory, the third alone is just enough.
fn selected(selector: &str) -> Vec<u64> {
    let site = site(&format!("[migration]\nselector = \"{selector}\"\n"));
    let sized = |gib: u64| Resources { cpu: 1, ram: Bytes(gib << 28), net: BitRate(1000), ..site.vm.default };
    let vms = [(0, sized(2)), (0, sized(1)), (0, sized(8))];
    let mut world = with_vms(site, &vms);
    let mut meters = Meters::new(&[(1, 5.4), (2, 0.4), (3, 1.7)]);
    (0..5).for_each(|_| meters.period(&mut world));
    let plan = relief(&mut world);
    assert!(plan.left.is_empty(), "{:?}", plan.left);
    plan.moves.iter().map(|m| m.vm.0).collect()
}

#[test]
fn selectors_take_different_vms_from_a_hot_server() {
    assert_eq!(selected("volume-size-ratio"), [1], "the most load for its memory");
    assert_eq!(selected("minimum-migration-time"), [2, 1], "the least memory, and then it is not enough");
    assert_eq!(selected("fewest-moves"), [3], "one is enough, and it is the smallest that is");
}

/// Where a VM goes: best fit to the server with the most reserved, by the lowest volume to the one
/// where the least is in use.
#[test]
fn destinations_go_by_reservations_or_by_what_is_measured() {
    let to = |destination: &str| {
        let site = site(&format!("[migration]\ndestination = \"{destination}\"\n"));
        let size = |cpu| Resources { cpu, net: BitRate(1000), ..site.vm.default };
        let vms = [(0, size(1)), (0, size(1)), (1, size(5)), (2, size(1)), (3, size(2))];
        let mut world = with_vms(site, &vms);
        // srv2 has the most reserved, srv4 uses the least.
        let mut meters = Meters::new(&[(1, 4.0), (2, 3.5), (3, 2.0), (4, 1.5), (5, 0.1)]);
        (0..5).for_each(|_| meters.period(&mut world));
        moves(&relief(&mut world))[0].1
    };
    assert_eq!(to("as-allocated"), 1, "the fullest with room that stays cool");
    assert_eq!(to("lowest-volume"), 3, "the one that uses the least");
}

/// Two shortest paths between two edge switches: one of 100 Mbit/s with nothing on it but the VM's
/// own reservation, and one of 1 Gbit/s that carries 300 Mbit/s. By load the first one is taken, by
/// width the second.
#[test]
fn transfers_take_the_emptier_or_the_wider_way() {
    let way = |transfer_path: &str| {
        let text = format!(
            "{}[bandwidth]\nedge = \"1 Gbit/s\"\naggregation = \"100 Mbit/s\"\ncore = \"1 Gbit/s\"\n\
             [[link]]\nbetween = [\"agg2\", \"edge1\"]\nrate = \"1 Gbit/s\"\n\
             [[link]]\nbetween = [\"agg2\", \"edge2\"]\nrate = \"1 Gbit/s\"\n\
             [migration]\ntransfer_path = \"{transfer_path}\"\n",
            crate::world::SMALL
        );
        let site = tandem_core::site::read(&text, "site.toml").unwrap_or_else(|faults| panic!("{faults}"));
        let size = Resources { net: BitRate::mbit(1), ..site.vm.default };
        let mut world = with_vms(site, &[(0, size)]);
        // 300 Mbit/s of 1 Gbit/s on the wide way, nothing on the narrow one.
        let wide = world.link("agg2", "edge1");
        let (switch, port) = world.ends(wide)[1];
        for bytes in [0u64, 187_500_000, 375_000_000] {
            world.wait(world.site.statistics.period);
            let counters = tandem_model::PortCounters {
                rx_packets: Some(0),
                tx_packets: Some(0),
                rx_bytes: Some(0),
                tx_bytes: Some(bytes),
                ..tandem_model::PortCounters::default()
            };
            let ports = vec![tandem_model::PortSample { port, counters }];
            world.tell(tandem_model::Event::Samples { switch, ports, flows: Vec::new(), rules: Vec::new() });
        }
        world.held.moves = true;
        let ask = Request::MigrateVm { vm: VmId(1), to: Some(ServerId(2)), options: MoveOptions::default() };
        world.ask(ask);
        let Effect::MigrateVm { rate, .. } = world.order() else { panic!("no order") };
        rate
    };
    assert_eq!(way("least-loaded"), BitRate::mbit(99), "all but the VM's own of the empty one of 100");
    assert_eq!(way("widest"), BitRate::mbit(700), "what the wide one has left");
}
