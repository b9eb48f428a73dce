//! `[migration]`, `[hotspot]` and `[keep_policy]`: how VMs are moved, and when by themselves.

use super::faults::Collector;
use super::policy::PolicyNames;
use super::section::Section;
use super::{
    HotLink, HotspotConfig, KeepOrder, KeepPlanner, KeepPolicyConfig, MigrationConfig, ServiceClass,
};
use crate::{BitRate, ClassId, MigrationMode};
use std::time::Duration;

pub(super) fn read_migration(
    root: &mut Section<'_>,
    c: &mut Collector<'_>,
    classes: &[ServiceClass],
    known: &PolicyNames<'_>,
) -> MigrationConfig {
    let hotspot = read_hotspot(root, c);
    let keep_policy = read_keep_policy(root, c);
    let mut m = root.section(c, "migration");
    let named = m.text(c, "class");
    let found = named
        .as_ref()
        .map(|name| (0u16..).zip(classes).find(|(_, k)| k.name == *name).map(|(n, _)| ClassId(n)));
    if let (Some(name), Some(None)) = (&named, &found) {
        m.fault(c, "class", format!("there is no class {name:?}"), "name one of the [[class]] tables");
    }
    let cfg = MigrationConfig {
        manner: m
            .word(c, "manner", &[("live", MigrationMode::Live), ("cold", MigrationMode::Cold)])
            .unwrap_or(MigrationMode::Live),
        rate: m.rate(c, "rate").unwrap_or(BitRate::mbit(1000)),
        class: found.flatten(),
        at_once: m.count(c, "at_once", 1..=10_000).unwrap_or(4),
        per_server: m.count(c, "per_server", 1..=1000).unwrap_or(1),
        downtime: m.duration(c, "downtime").unwrap_or(Duration::from_millis(300)),
        rounds: m.count(c, "rounds", 1..=1000).unwrap_or(30),
        timeout: m.duration(c, "timeout").unwrap_or(Duration::from_secs(300)),
        dirty_rate: m.rate(c, "dirty_rate").unwrap_or(BitRate::mbit(1)),
        detector: m.name(c, "detector", known.detector).unwrap_or_default(),
        selector: m.name(c, "selector", known.selector).unwrap_or_default(),
        destination: m.name(c, "destination", known.destination).unwrap_or_default(),
        transfer_path: m.name(c, "transfer_path", known.transfer_path).unwrap_or_default(),
        hot_link: m
            .word(c, "hot_link", &[("move", HotLink::Move), ("reroute-first", HotLink::RerouteFirst)])
            .unwrap_or_default(),
        hotspot,
        keep_policy,
    };
    super::read::check_rate(&m, c, "rate", cfg.rate);
    if cfg.downtime.is_zero() {
        m.fault(c, "downtime", "no VM moves without a pause", "write at least \"1 ms\"");
    }
    if cfg.timeout < Duration::from_secs(1) {
        m.fault(c, "timeout", "shorter than a second", "write at least \"1 s\"");
    }
    m.finish(c);
    cfg
}

fn read_hotspot(root: &mut Section<'_>, c: &mut Collector<'_>) -> HotspotConfig {
    let mut h = root.section(c, "hotspot");
    let cfg = HotspotConfig {
        relieve: h.flag(c, "relieve").unwrap_or(false),
        server: h.fraction(c, "server", 0.01, 10.0).unwrap_or(0.9),
        link: h.fraction(c, "link", 0.01, 10.0).unwrap_or(0.9),
        cool: h.fraction(c, "cool", 0.01, 1.0).unwrap_or(0.9),
        over: h.count(c, "over", 1..=100).unwrap_or(3),
        of: h.count(c, "of", 1..=100).unwrap_or(5),
        horizon: h.duration(c, "horizon").unwrap_or(Duration::ZERO),
    };
    if cfg.over > cfg.of {
        let problem = format!("{} samples out of {} cannot be over the threshold", cfg.over, cfg.of);
        h.fault(c, "over", problem, "write at most as many as `of`");
    }
    h.finish(c);
    cfg
}

fn read_keep_policy(root: &mut Section<'_>, c: &mut Collector<'_>) -> KeepPolicyConfig {
    let mut k = root.section(c, "keep_policy");
    let cfg = KeepPolicyConfig {
        period: k.duration(c, "period"),
        moves: k.count(c, "moves", 1..=1_000_000).unwrap_or(10),
        gain: k.fraction(c, "gain", 0.0, 1000.0).unwrap_or(0.0),
        order: k
            .word(
                c,
                "order",
                &[
                    ("as-is", KeepOrder::AsIs),
                    ("emptiest-first", KeepOrder::EmptiestFirst),
                    ("largest-first", KeepOrder::LargestFirst),
                ],
            )
            .unwrap_or_default(),
        planner: k
            .word(
                c,
                "planner",
                &[("one-by-one", KeepPlanner::OneByOne), ("fewest-moves", KeepPlanner::FewestMoves)],
            )
            .unwrap_or_default(),
    };
    if cfg.gain > 0.0 && cfg.planner == KeepPlanner::FewestMoves {
        k.fault(
            c,
            "gain",
            "a gain is weighed move by move, but fewest-moves takes a packing as a whole",
            "leave `gain` out, or write planner = \"one-by-one\"",
        );
    }
    if cfg.period.is_some_and(|p| p < Duration::from_secs(1)) {
        k.fault(c, "period", "shorter than a second", "write at least \"1 s\", or leave it out");
    }
    k.finish(c);
    cfg
}
