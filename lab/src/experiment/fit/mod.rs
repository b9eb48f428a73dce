//! Figure 4.2 of the thesis (Teixeira 2013): the first server's link ratio under best fit and worst
//! fit, a VM request a second. In every world that there is.

mod report;

pub use report::{deviation, published, table, write};

use crate::experiment::manifest::Manifest;
use crate::experiment::records::Records;
use crate::world::{Start, World};
use anyhow::{Context, ensure};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tandem_model::{Allocation, ServerId, Site, site};

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

/// Runs both policies, writes the run folder and prints the table.
///
/// # Errors
/// With the step that failed; worlds and controllers are then gone.
pub fn run(world: &dyn World, text: &str, out: &Path, record: bool) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut manifest = Manifest::new("best-vs-worst-fit", world.kind(), 0, text);
    let mut records = Records::default();
    let mut measure = |policy, name: &str| {
        let csv = out.join(name);
        std::fs::create_dir_all(&csv).with_context(|| format!("cannot create {}", csv.display()))?;
        forget_csv(&csv)?;
        let recording = out.join(format!("{name}.jsonl"));
        let start = Start {
            name,
            experiment: "best-vs-worst-fit",
            text: &with_policy(text, policy)?,
            csv: Some(&csv),
            record: record.then_some(recording.as_path()),
        };
        series(world, start, &mut manifest, &mut records).with_context(|| format!("the run under {name}"))
    };
    let best = measure(Allocation::BestFit, "best-fit")?;
    let worst = measure(Allocation::WorstFit, "worst-fit")?;
    let took = started.elapsed();
    write(out, &best, &worst, &manifest)?;
    if !records.is_empty() {
        records.write(out)?;
    }
    println!("{}", table(&best, &worst));
    if world.is_virtual() {
        let seconds = best.ratio.len() + worst.ratio.len() - 2;
        print!("{seconds} simulated seconds took {:.1} ms; ", took.as_secs_f64() * 1e3);
    }
    println!("everything is in {}", out.display());
    Ok(())
}

/// A controller appends to the files that it finds, since it may have been restarted; a run begins
/// anew.
fn forget_csv(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "csv") {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// The site file's text under another policy.
///
/// # Errors
/// When the site has faults, or its `[policy]` is not written as a section.
pub fn with_policy(text: &str, policy: Allocation) -> anyhow::Result<String> {
    let name = match policy {
        Allocation::FirstFit => "first-fit",
        Allocation::BestFit => "best-fit",
        Allocation::WorstFit => "worst-fit",
    };
    let wanted = format!("allocation = \"{name}\"");
    let mut text = ["best-fit", "worst-fit", "first-fit"]
        .iter()
        .fold(text.to_owned(), |t, p| t.replace(&format!("allocation = \"{p}\""), &wanted));
    if !text.contains(&wanted) {
        text = if text.contains("[policy]\n") {
            text.replacen("[policy]\n", &format!("[policy]\n{wanted}\n"), 1)
        } else {
            format!("{text}\n[policy]\n{wanted}\n")
        };
    }
    ensure!(
        site::read(&text, "the experiment's site")?.policy.allocation == policy,
        "the site file must say allocation = \"best-fit\" or \"worst-fit\" under [policy]"
    );
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

    #[test]
    fn the_published_data_centre_is_filled_by_as_many_vms_as_its_figure_has() {
        let site = site::read(SITE, "figure-4-2.toml").expect("the experiment's site");
        assert_eq!(filling(&site), SECONDS);
    }

    #[test]
    fn a_site_gets_another_policy_whether_it_names_one_or_not() {
        let topology = "[topology]\nshape = \"linear\"\n";
        for text in [SITE.to_owned(), topology.to_owned(), format!("{topology}[policy]\nlink_margin = 1.5\n")]
        {
            for policy in [Allocation::BestFit, Allocation::WorstFit] {
                let changed = with_policy(&text, policy).expect("a good site");
                let site = site::read(&changed, "x").expect("a good site");
                assert_eq!(site.policy.allocation, policy);
            }
        }
    }
}
