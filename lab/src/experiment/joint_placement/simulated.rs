//! A run in virtual time.

use super::requests::{self, Arrival};
use super::series::{MOMENTS, Row, Run};
use super::{Options, Variant};
use anyhow::bail;
use std::sync::Arc;
use std::time::Duration;
use tandem_model::{Request, Response, SwitchId, Time};
use tandem_sim::Simulation;

/// Runs one of the six.
///
/// # Errors
/// When the site has faults, or a request is answered as it must not be.
pub fn run(text: &str, variant: Variant, options: &Options) -> anyhow::Result<Run> {
    let scale = requests::scale(options);
    let site = Arc::new(super::site(text, variant, scale)?);
    let arrivals = requests::plan(&site, options)?;
    let mut run = Run::new(variant, &site, scale, requests::holding(&site, options));
    let sim = Simulation::new(site, Time::ZERO, None)?;
    let mut world = DataCentre { sim, next: arrivals.into_iter().peekable(), rejected: 0 };
    let step = requests::length(options) / MOMENTS;
    for moment in 0..=MOMENTS {
        let at = step * moment;
        world.until(at)?;
        run.rows.push(world.row(at));
    }
    Ok(run)
}

struct DataCentre {
    sim: Simulation,
    next: std::iter::Peekable<std::vec::IntoIter<Arrival>>,
    rejected: u32,
}

impl DataCentre {
    fn until(&mut self, at: Duration) -> anyhow::Result<()> {
        let until = Time::ZERO + at;
        while let Some(arrival) = self.next.next_if(|a| Time::ZERO + a.at <= until) {
            self.sim.ask(Time::ZERO + arrival.at, Request::RequestVm { request: arrival.request });
        }
        self.sim.run_until(until)?;
        for (_, _, answer) in self.sim.take_answers() {
            match answer {
                Response::VmRunning { .. } => {}
                Response::Rejected { .. } => self.rejected += 1,
                other => bail!("a request was answered {other:?}"),
            }
        }
        self.sim.take_events();
        Ok(())
    }

    fn row(&mut self, at: Duration) -> Row {
        let vms = self.sim.loads().occupation().iter().sum();
        let core = self.sim.core();
        let switches = core.site().topology.switches.len() as u32;
        let ratio = (0..switches).map(|n| core.switch_ratio(SwitchId(n))).collect();
        Row { at, vms, rejected: self.rejected, ratio }
    }
}
