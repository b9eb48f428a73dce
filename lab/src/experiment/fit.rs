//! The seed's figure 4.2: the first server's link ratio under best fit and worst fit, a VM request a second.

use super::{manifest::Manifest, plot};
use crate::record;
use crate::sim::Simulation;
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tandem_core::record_replay::Header;
use tandem_core::{Snapshot, export};
use tandem_model::{Allocation, PersistedState, Request, Response, ServerId, Site, Time, VmRequest, site};

/// The experiment's site file.
pub const SITE: &str = include_str!("../../sites/figure-4-2.toml");

/// How many VMs fill the data centre: 16 servers of 3.
pub const SECONDS: u64 = 48;

/// One policy's run.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Per second from 0: the first server's link ratio in percent.
    pub ratio: Vec<f64>,
    /// Per second: VMs on each server.
    pub occupation: Vec<Vec<u32>>,
    /// The statistics' CSV files: name and text.
    pub statistics: Vec<(String, String)>,
}

/// The seed's series (its raw data of figure 4.2), in percent at a second.
pub fn seed(policy: Allocation, second: u64) -> f64 {
    match (policy, second) {
        (_, 0) => 0.0,
        (Allocation::WorstFit, 1..=16) => 33.0,
        (Allocation::WorstFit, 17..=32) => 66.0,
        (Allocation::WorstFit, _) => 100.0,
        (_, 1) => 33.0,
        (_, 2) => 66.0,
        _ => 100.0,
    }
}

/// The experiment's site under a policy.
///
/// # Errors
/// When the site file has faults.
pub fn site(text: &str, policy: Allocation) -> anyhow::Result<Site> {
    let mut site = site::read(text, "figure-4-2.toml")?;
    site.policy.allocation = policy;
    Ok(site)
}

/// A request for the site's default VM.
pub fn request(site: &Site) -> VmRequest {
    VmRequest { resources: site.vm.default, class: None, timeout: None, name: None, image: None }
}

/// Collects a run's statistics from snapshots.
#[derive(Debug, Default)]
pub struct Collected {
    series: Series,
    csv: Vec<(String, String)>,
}

impl Collected {
    /// Adds the state at `second`.
    pub fn add(&mut self, second: u64, ratio: f64, snapshot: &Snapshot) {
        self.series.ratio.push((ratio * 10_000.0).round() / 100.0);
        self.series.occupation.push(snapshot.servers.iter().map(|s| s.vms.len() as u32).collect());
        self.statistics(second as f64, snapshot);
    }

    fn statistics(&mut self, seconds: f64, snapshot: &Snapshot) {
        for csv in export::csv(snapshot) {
            if !self.csv.iter().any(|(file, _)| file == csv.file) {
                self.csv.push((csv.file.to_owned(), csv.header() + "\n"));
            }
            if let Some((_, text)) = self.csv.iter_mut().find(|(file, _)| file == csv.file) {
                let _ = writeln!(text, "{}", csv.line(seconds));
            }
        }
    }

    /// The run as collected.
    pub fn finish(mut self) -> Series {
        self.series.statistics = self.csv;
        self.series
    }
}

/// Runs one policy in virtual time.
///
/// # Errors
/// When the recording cannot be written or a VM is not placed.
pub fn simulate(site: Site, recording: Option<&Path>) -> anyhow::Result<Series> {
    let site = Arc::new(site);
    let start = Time::from_secs(0);
    let recorder = recording
        .map(|path| {
            let header = Header {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                policy: format!("{:?}", site.policy.allocation),
                seed: 0,
                site: (*site).clone(),
                stored: PersistedState::default(),
                started: start,
            };
            record::create(path, &header)
        })
        .transpose()?;
    let mut sim = Simulation::new(site.clone(), start, recorder)?;
    let mut collected = Collected::default();
    // A reading that lies wholly within second n is taken just before second n + 1.
    let before_next = Duration::from_millis(900);
    sim.run_until(start + before_next)?;
    for second in 0..=SECONDS {
        let at = Time::from_secs(second);
        if second > 0 {
            sim.ask(at, Request::RequestVm { request: request(&site) });
        }
        sim.run_until(at + before_next)?;
        for (_, _, answer) in sim.take_answers() {
            if !matches!(answer, Response::VmRunning { .. }) {
                bail!("second {second}: the VM was not placed: {answer:?}");
            }
        }
        let ratio = sim.core().server_link_ratio(ServerId(0));
        let snapshot = sim.core().snapshot();
        collected.add(second, ratio, &snapshot);
    }
    Ok(collected.finish())
}

/// Writes the run folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write(out: &Path, best: &Series, worst: &Series, manifest: &Manifest) -> anyhow::Result<()> {
    let put = |path: PathBuf, text: &str| {
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    for (name, series) in [("best-fit", best), ("worst-fit", worst)] {
        let folder = out.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for (file, text) in &series.statistics {
            put(folder.join(file), text)?;
        }
    }
    let mut csv = "second;best_fit;worst_fit\n".to_owned();
    for (second, (b, w)) in best.ratio.iter().zip(&worst.ratio).enumerate() {
        let _ = writeln!(csv, "{second};{};{}", number(*b), number(*w));
    }
    put(out.join("series.csv"), &csv)?;
    let points = |s: &Series| s.ratio.iter().enumerate().map(|(n, r)| (n as f64, *r)).collect::<Vec<_>>();
    let seed_points = |p| (0..=SECONDS).map(|n| (n as f64, seed(p, n))).collect::<Vec<_>>();
    plot::lines(
        &out.join("figure.svg"),
        "First server's link ratio (figure 4.2)",
        ("second (a VM request each)", SECONDS as f64),
        ("link ratio (%)", 110.0),
        &[
            plot::Line {
                name: "seed, best fit",
                color: plot::SEED,
                dashed: true,
                points: seed_points(Allocation::BestFit),
            },
            plot::Line {
                name: "seed, worst fit",
                color: plot::SEED,
                dashed: true,
                points: seed_points(Allocation::WorstFit),
            },
            plot::Line { name: "best fit", color: plot::COLORS[0], dashed: false, points: points(best) },
            plot::Line { name: "worst fit", color: plot::COLORS[1], dashed: false, points: points(worst) },
        ],
    )?;
    let servers = best.occupation.first().map_or(0, Vec::len);
    let most = best.occupation.iter().chain(&worst.occupation).flatten().copied().max().unwrap_or(1);
    let panels = [("best fit", &best.occupation[..]), ("worst fit", &worst.occupation[..])];
    plot::occupation(&out.join("occupation.svg"), &panels, servers, most)?;
    manifest.write(out)
}

fn number(n: f64) -> String {
    let text = format!("{n:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The table for the terminal: the seconds at which the seed's curves step, beside the seed's numbers.
pub fn table(best: &Series, worst: &Series) -> String {
    let mut text =
        format!("{:>8} {:>12} {:>8} {:>12} {:>8}\n", "second", "best fit", "seed", "worst fit", "seed");
    for second in [0u64, 1, 2, 3, 16, 17, 32, 33, 48] {
        let at = |s: &Series| s.ratio.get(second as usize).map_or("-".to_owned(), |r| format!("{r:.1}%"));
        let _ = writeln!(
            text,
            "{second:>8} {:>12} {:>7}% {:>12} {:>7}%",
            at(best),
            seed(Allocation::BestFit, second),
            at(worst),
            seed(Allocation::WorstFit, second)
        );
    }
    let gap = |s: &Series, p| {
        let off = s.ratio.iter().enumerate().map(|(n, r)| deviation(*r, p, n as u64));
        off.fold(0.0, f64::max)
    };
    let _ = writeln!(
        text,
        "largest difference from the seed, one second of lag allowed: best fit {:.1} points, worst fit {:.1} points",
        gap(best, Allocation::BestFit),
        gap(worst, Allocation::WorstFit)
    );
    text
}

/// How far a measured ratio is from the seed's, percent rounded down as the seed has it, allowing a second of lag.
pub fn deviation(ratio: f64, policy: Allocation, second: u64) -> f64 {
    let now = (ratio - seed(policy, second)).abs();
    let lagging = second.checked_sub(1).map_or(now, |before| (ratio - seed(policy, before)).abs());
    now.min(lagging)
}
