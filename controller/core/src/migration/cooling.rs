//! How much a VM's leaving cools a hot place, and what its coming would heat, on paper.

use crate::migration::MigrationRef;
use crate::migration::policies::{Candidate, Hot, Place};
use crate::migration::what_if::{PlanningState, WATCHED, traffic_of, use_of};
use crate::network::place::Placement;
use tandem_model::{BitRate, Hop, LinkId, VmRecord};

/// Measured over capacity of a place, on paper.
pub(crate) fn ratio(paper: &PlanningState<'_>, hot: &Hot) -> f64 {
    match hot.place {
        Place::Server(server) => paper.share(server, hot.resource).unwrap_or(0.0),
        Place::Link(link) => paper.links.ratio(link),
    }
}

/// The busier direction of a link.
fn busier(core: MigrationRef<'_>, link: LinkId) -> Hop {
    let (up, down) = (Hop { link, down: false }, Hop { link, down: true });
    if core.net.links.measured(up) > core.net.links.measured(down) { up } else { down }
}

/// By how much the hot place's ratio falls without a VM; 0 for one that has no part in it.
pub(crate) fn relief(paper: &PlanningState<'_>, vm: &VmRecord, at: &Placement, hot: &Hot) -> f64 {
    let core = paper.core;
    match hot.place {
        Place::Server(server) if at.server == server => {
            let slot = WATCHED.iter().position(|r| *r == hot.resource);
            let has = core.has(server, hot.resource);
            slot.filter(|_| has > 0.0).map_or(0.0, |slot| use_of(core, vm)[slot] / has)
        }
        Place::Server(_) => 0.0,
        Place::Link(link) => {
            let hop = busier(core, link);
            let (up, down) = traffic_of(core, vm.id);
            let part = |path: &[Hop], rate: BitRate| if path.contains(&hop) { rate.0 } else { 0 };
            let rate = part(&at.path_up, up) + part(&at.path_down, down);
            let capacity = core.cx.site.topology.link(link).map_or(0, |l| l.cfg.rate.0);
            if capacity == 0 { 0.0 } else { rate as f64 / capacity as f64 }
        }
    }
}

/// True when a place's paths stay cool with a VM, hops that it has already apart.
pub(crate) fn stays_cool(paper: &PlanningState<'_>, vm: &VmRecord, from: &Placement, to: &Placement) -> bool {
    too_warm(paper, vm, from, to).is_none()
}

/// The first hop of a place's paths that would not stay cool with a VM, hops that it has already
/// apart.
pub(crate) fn too_warm(
    paper: &PlanningState<'_>,
    vm: &VmRecord,
    from: &Placement,
    to: &Placement,
) -> Option<Hop> {
    let core = paper.core;
    let cfg = &core.cx.site.migration.hotspot;
    let (up, down) = traffic_of(core, vm.id);
    let warm = |path: &[Hop], old: &[Hop], rate: BitRate| {
        path.iter().copied().filter(|hop| !old.contains(hop)).find(|hop| {
            let capacity = core.cx.site.topology.link(hop.link).map_or(0, |l| l.cfg.rate.0) as f64;
            let ratio = (paper.links.measured(*hop).0 + rate.0) as f64 / capacity.max(1.0);
            core.migration.hotspots.is_hot(Place::Link(hop.link)) || ratio > cfg.link * cfg.cool
        })
    };
    warm(&to.path_up, &from.path_up, up).or_else(|| warm(&to.path_down, &from.path_down, down))
}

/// Why a VM leaves a hot place.
pub(crate) fn reason(paper: &PlanningState<'_>, hot: &Hot, candidate: &Candidate<'_>) -> String {
    let name = paper.core.cx.place_name(hot.place);
    let (all, part) = (hot.ratio * 100.0, candidate.relief * 100.0);
    format!("{name} uses {all:.0}% of its {}, {part:.0}% by this VM", hot.resource)
}
