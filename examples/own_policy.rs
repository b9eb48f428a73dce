//! A routing policy of your own, compared with built-in ones in a simulated data centre.
//!
//! `cargo run -p tandem-sim --example own_policy` prints how full the fullest link between switches
//! gets under each. Nothing but this file is needed: the policy is handed to the core. How one gets
//! a name in site files is in `docs/howto/add-a-routing-policy.md`.

use std::sync::Arc;
use std::time::Duration;
use tandem_core::policy::registry::{ROUTING, find};
use tandem_core::policy::routing::{PathSearch, Route, RoutingPolicy};
use tandem_core::policy::view::PlacementView;
use tandem_core::{Policy, site};
use tandem_model::{BitRate, Hop, LinkId, NodeId, Request, Site, SiteEvent, Time, VmRequest};
use tandem_sim::Simulation;

/// The shortest paths in turn: each VM that starts sends the next one over the next path.
///
/// What a policy remembers comes from events only, so that a recorded run is decided the same when
/// it is replayed.
#[derive(Debug, Clone, Copy, Default)]
struct InTurn {
    started: usize,
}

impl RoutingPolicy for InTurn {
    fn name(&self) -> &str {
        "in-turn"
    }

    fn on_event(&mut self, event: &SiteEvent, _view: &dyn PlacementView) {
        if let SiteEvent::VmStarted { .. } = event {
            self.started += 1;
        }
    }

    fn choose<'s>(&self, search: &'s dyn PathSearch) -> Option<Route<'s>> {
        let mut routes = search.shortest();
        if routes.is_empty() {
            return search.by_residual();
        }
        Some(routes.swap_remove(self.started % routes.len()))
    }
}

/// Two core and two aggregation switches, so that there are several shortest paths up.
const SITE: &str = r#"
[topology]
shape = "three-tier"
core = 2
aggregation = 2
edge = 2
servers_per_edge = 2

[bandwidth]
edge = "100 Mbit/s"
aggregation = "100 Mbit/s"
core = "100 Mbit/s"
gateway = "1 Gbit/s"

[servers]
cpu = 16

[policy]
allocation = "first-fit"
"#;

/// How full the fullest link between switches is, as a share, after eight VMs of 10 Mbit/s have
/// sent for a minute.
fn fullest_link(
    site: &Arc<Site>,
    routing: Box<dyn RoutingPolicy>,
) -> Result<f64, Box<dyn std::error::Error>> {
    let policy = Policy { routing, ..Policy::of_site(site)? };
    let mut simulation = Simulation::with_policy(site.clone(), Time::ZERO, None, policy);
    let mut now = Time::ZERO;
    for _ in 0..8 {
        now = now + Duration::from_secs(10);
        simulation.run_until(now)?;
        let mut resources = site.vm.default;
        resources.net = BitRate::mbit(10);
        let request = VmRequest { resources, ..VmRequest::default() };
        simulation.ask(now, Request::RequestVm { request });
    }
    simulation.run_until(now + Duration::from_secs(60))?;
    let core = simulation.core();
    let mut fullest: f64 = 0.0;
    for (id, link) in (0u32..).zip(&site.topology.links) {
        let between_switches = [link.a, link.b].iter().all(|end| matches!(end.node, NodeId::Switch(_)));
        for down in [false, true].into_iter().filter(|_| between_switches) {
            let measured = core.measured(Hop { link: LinkId(id), down });
            fullest = fullest.max(measured.0 as f64 / link.cfg.rate.0 as f64);
        }
    }
    Ok(fullest)
}

/// Each policy's name, and how full the fullest link gets under it.
pub(crate) fn compare() -> Result<Vec<(String, f64)>, Box<dyn std::error::Error>> {
    let site = Arc::new(site::read(SITE, "the example's site")?);
    let built_in = |name: &str| find(ROUTING, name).ok_or_else(|| format!("there is no policy {name}"));
    let policies = [built_in("default-first")?, built_in("widest-shortest")?, Box::new(InTurn::default())];
    let mut rows = Vec::new();
    for policy in policies {
        let name = policy.name().to_owned();
        rows.push((name, fullest_link(&site, policy)?));
    }
    Ok(rows)
}

#[allow(dead_code, reason = "the test of this example has a main of its own")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, fullest) in compare()? {
        println!("{name:<16} fullest link {:>3.0} %", fullest * 100.0);
    }
    Ok(())
}
