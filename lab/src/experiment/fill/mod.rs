//! A data centre is filled, a VM request a second, under one allocation policy after the other: the
//! first server's link ratio and every server's VMs over time. In every world that there is.
//!
//! Under best fit and worst fit, in its own data centre, it is figure 4.2 of the thesis (Teixeira
//! 2013).

mod policy;
mod report;

pub use policy::{Chosen, PolicyError, choose, with_policy};
pub use report::{deviation, published, table};

use crate::experiment::manifest::Manifest;
use crate::experiment::records::Records;
use crate::experiment::run_folder::RunFolder;
use crate::world::{Start, World};
use anyhow::Context;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};
use tandem_model::{ServerId, Site};

/// The experiment's site file.
pub const SITE: &str = include_str!("../../../sites/figure-4-2.toml");

/// How many VMs fill the data centre: 16 servers of 3.
pub const SECONDS: u64 = 48;

/// When the value of a second is read: it is the last reading that lies wholly within the second.
const READING: Duration = Duration::from_millis(930);

/// One policy's run.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Per second from 0: the first server's link ratio in percent.
    pub ratio: Vec<f64>,
    /// Per second: VMs on each server.
    pub occupation: Vec<Vec<u32>>,
}

/// Runs every chosen policy and fills the run folder; the table for people. `experiment` is what it
/// is called by.
///
/// # Errors
/// With the step that failed; worlds and controllers are then gone.
pub fn run(
    world: &dyn World,
    experiment: &str,
    chosen: &Chosen,
    folder: &mut RunFolder,
    record: bool,
) -> anyhow::Result<String> {
    let started = Instant::now();
    let mut manifest = Manifest::new(experiment, world.kind(), 0, &chosen.site);
    let mut records = Records::default();
    let mut runs = Vec::new();
    for policy in &chosen.policies {
        let csv = folder.statistics(policy)?;
        let recording = record.then(|| folder.recording(policy)).transpose()?;
        let text = with_policy(&chosen.site, policy)?;
        let start =
            Start { name: policy, experiment, text: &text, csv: Some(&csv), record: recording.as_deref() };
        let one = series(world, start, &mut manifest, &mut records);
        runs.push((policy.clone(), one.with_context(|| format!("the run under {policy}"))?));
    }
    let took = started.elapsed();
    report::write(folder, &runs, &manifest)?;
    records.write(folder)?;
    folder.finish(manifest)?;
    let mut text = table(&runs);
    for note in &chosen.replaced {
        let _ = writeln!(text, "{note}");
    }
    if world.is_virtual() {
        let seconds: usize = runs.iter().map(|(_, s)| s.ratio.len().saturating_sub(1)).sum();
        let _ = writeln!(text, "{seconds} simulated seconds took {:.1} ms", took.as_secs_f64() * 1e3);
    }
    Ok(text)
}

/// One policy's run.
///
/// # Errors
/// With the step that failed; the world and its controller are then gone.
pub fn series(
    world: &dyn World,
    start: Start<'_>,
    manifest: &mut Manifest,
    records: &mut Records,
) -> anyhow::Result<Series> {
    let mut progress = Progress::new(world, start.name);
    progress.say("bringing up the world");
    let mut data_centre = world.start(start)?;
    data_centre.describe(manifest);
    data_centre.note("before", records)?;
    let last = filling(data_centre.site());
    let mut series = Series::default();
    for second in 0..=last {
        let at = Duration::from_secs(second);
        if second > 0 {
            data_centre.request_vm_at(at)?;
        }
        data_centre.advance_to(at + READING)?;
        let ratio = data_centre.server_link_ratio(ServerId(0))?;
        series.ratio.push((ratio * 10_000.0).round() / 100.0);
        series.occupation.push(data_centre.occupation()?);
        progress.second(second, last, ratio)?;
    }
    data_centre.note("after", records)?;
    data_centre.finish()?;
    Ok(series)
}

/// What is shown meanwhile where time is real.
struct Progress<'a> {
    shown: bool,
    /// One line that is written over again, instead of one now and then.
    live: bool,
    name: &'a str,
}

impl Progress<'_> {
    fn new<'a>(world: &dyn World, name: &'a str) -> Progress<'a> {
        Progress { shown: !world.is_virtual(), live: std::io::stderr().is_terminal(), name }
    }

    fn say(&self, what: &str) {
        if self.shown {
            eprintln!("{}: {what}", self.name);
        }
    }

    fn second(&mut self, second: u64, last: u64, ratio: f64) -> anyhow::Result<()> {
        let name = self.name;
        let percent = ratio * 100.0;
        if !self.shown {
            return Ok(());
        }
        if self.live {
            eprint!("\r{name}: second {second:>2} of {last}, first server's link {percent:5.1}%");
            std::io::stderr().flush()?;
            if second == last {
                eprintln!();
            }
        } else if second.is_multiple_of(8) {
            eprintln!("{name}: second {second} of {last}, first server's link {percent:.1}%");
        }
        Ok(())
    }
}

/// How many VMs the site's servers hold, but never more than the published figure has.
fn filling(site: &Site) -> u64 {
    let vm = site.vm.default;
    let fits = |has: u64, needs: u64| has.checked_div(needs).unwrap_or(u64::MAX);
    let of = |r: &tandem_model::Resources| {
        fits(r.cpu.into(), vm.cpu.into())
            .min(fits(r.ram.0, vm.ram.0))
            .min(fits(r.disk.0, vm.disk.0))
            .min(fits(r.net.0, vm.net.0))
    };
    site.topology.servers.iter().map(|s| of(&s.capacity)).sum::<u64>().min(SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::site;

    #[test]
    fn the_published_data_centre_is_filled_by_as_many_vms_as_its_figure_has() {
        let site = site::read(SITE, "figure-4-2.toml").expect("the experiment's site");
        assert_eq!(filling(&site), SECONDS);
    }
}
