//! `tandem-lab fuzz-core` in small: what must hold holds, the core decides as it did before, and
//! the harness finds what is planted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tandem_lab::fuzz::{Planted, Report, Which, one, parse_hashes, shrink};

/// Hashes of what the core decided. After a change that is meant to decide otherwise, write them
/// anew and say why in the commit: `cargo run --release -p tandem-lab -- fuzz-core --seeds 200
/// --events 300 --hashes lab/tests/fuzz/hashes.txt`.
const RECORDED: &str = include_str!("fuzz/hashes.txt");
/// Events of each schedule.
const EVENTS: u64 = 300;

/// Runs these seeds on all cores.
fn all(seeds: &[u64]) -> BTreeMap<u64, Report> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(BTreeMap::new());
    let jobs = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = one(*seed, EVENTS, Which::Until(EVENTS), Planted::Nothing, false);
                    reports.lock().expect("no run panics").insert(*seed, report);
                }
            });
        }
    });
    reports.into_inner().expect("no run panics")
}

#[test]
fn two_hundred_schedules_of_faults_keep_what_must_hold_and_are_decided_as_recorded() {
    let recorded = parse_hashes(RECORDED).expect("a file of hashes");
    assert_eq!(recorded.len(), 200);
    let seeds: Vec<u64> = recorded.keys().copied().collect();
    let reports = all(&seeds);
    let repeat = format!("repeat one with `tandem-lab fuzz-core --seeds 1 --events {EVENTS} --first SEED`");
    let broken =
        reports.iter().filter_map(|(seed, r)| Some(format!("seed {seed}: {}", r.violation.as_ref()?)));
    let broken: Vec<String> = broken.collect();
    assert!(broken.is_empty(), "{}\n{repeat}", broken.join("\n"));
    let differing: Vec<&u64> = seeds.iter().filter(|seed| reports[seed].hash != recorded[seed]).collect();
    assert!(differing.is_empty(), "decided otherwise than recorded: {differing:?}\n{repeat}");
}

/// Seeds whose sites place server and path together and whose switches have a margin.
#[test]
fn sites_with_joint_placement_and_margins_of_switches_keep_what_must_hold() {
    let seeds: Vec<u64> = (50_000..50_030).collect();
    let reports = all(&seeds);
    let broken: Vec<String> = reports
        .iter()
        .filter_map(|(seed, r)| Some(format!("seed {seed}: {}", r.violation.as_ref()?)))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_seed_leads_to_the_same_decisions_each_time() {
    for seed in 1000..1004 {
        let run = || one(seed, 200, Which::Until(200), Planted::Nothing, false);
        let (first, second) = (run(), run());
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
    }
}

/// What is planted shows within a few seeds, and shrinks to the few actions that it takes.
fn is_found(planted: Planted, invariant: &str, most: usize) {
    let failing = (0..40).find_map(|seed| {
        let report = one(seed, EVENTS, Which::Until(EVENTS), planted, false);
        let violation = report.violation.filter(|v| v.invariant.contains(invariant))?;
        Some((seed, report.actions, violation))
    });
    let (seed, actions, violation) = failing.expect("one of 40 seeds shows it");
    let shortest = shrink(seed, EVENTS, actions, planted, 400).expect("it fails again");
    assert_eq!(shortest.violation.invariant, violation.invariant);
    let count = shortest.kept.len();
    assert!(count <= most, "seed {seed}: {count} of {actions} actions are left after {} runs", shortest.runs);
    // What is left is what it takes: the printed command fails in the same way.
    let again = one(seed, EVENTS, Which::Only(&shortest.kept), planted, false);
    assert_eq!(again.violation, Some(shortest.violation));
    assert_eq!(one(seed, EVENTS, Which::Only(&[]), Planted::Nothing, false).violation, None);
}

#[test]
fn switches_that_keep_flows_are_found_and_shrunk_to_a_few_actions() {
    is_found(Planted::KeptFlows, "everything comes to an end", 4);
}

#[test]
fn a_store_that_forgets_deletions_is_found_and_shrunk_to_a_few_actions() {
    is_found(Planted::ForgottenDeletions, "what was answered is in the store", 4);
}
