//! The joint placement of VMs and paths (Adami et al., IM 2013): how full switches are over time, by
//! level, where the server is chosen first and where the network is, each by first fit, best fit and
//! worst fit.
//!
//! All six runs get the same requests, by a seed. In the simulated world time is virtual; where
//! packets are real, `--scale 20` makes it a twentieth: VMs live a twentieth as long, so that a
//! twentieth of them is there at a time, and each asks for twenty times as much, so that switches
//! and servers are as full.

pub mod packets;
pub mod report;
pub mod requests;
pub mod series;
pub mod simulated;

use crate::experiment::manifest::Manifest;
use crate::experiment::run_folder::RunFolder;
use crate::world::packets::PacketWorld;
use anyhow::{Context, anyhow, bail, ensure};
use series::Run;
use std::time::{Duration, Instant};
use tandem_model::{Allocation, Site};

/// The experiment's site file.
pub const SITE: &str = include_str!("../../../sites/joint-placement.toml");

/// Options of the command line, beside the world's.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Options {
    /// How long requests come, in the paper's minutes: divided by the scale where it is not 1. VMs
    /// live 85 of them, so that the second half of 170 has as many VMs as there will be.
    #[arg(long, default_value_t = 170, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub minutes: u32,
    /// A VM lives this part of the time and asks for this many times as much; 1 in the simulated
    /// world and 20 where packets are real, if it is not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub scale: Option<u32>,
    /// Only this run, such as network-driven/worst-fit; may be given several times.
    #[arg(long = "run", value_name = "PLACEMENT/FIT", value_parser = Variant::read)]
    pub runs: Vec<Variant>,
    /// The same seed requests the same VMs at the same moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { minutes: 170, scale: None, runs: Vec::new(), seed: 1 }
    }
}

/// What is chosen first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The server, then the path.
    ServerDriven,
    /// Core, aggregation and edge switch, then the server.
    NetworkDriven,
}

impl Placement {
    /// The name of its allocation policy.
    pub fn name(self) -> &'static str {
        match self {
            Placement::ServerDriven => "server-driven",
            Placement::NetworkDriven => "network-driven",
        }
    }
}

/// One of the six.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// What is chosen first.
    pub placement: Placement,
    /// By what each level is chosen.
    pub fit: Allocation,
}

impl Variant {
    /// All six, in the order of the table.
    pub fn all() -> Vec<Variant> {
        let fits = [Allocation::FirstFit, Allocation::BestFit, Allocation::WorstFit];
        let of = |placement| fits.map(|fit| Variant { placement, fit });
        [Placement::ServerDriven, Placement::NetworkDriven].into_iter().flat_map(of).collect()
    }

    /// As it is written on the command line and in figures.
    pub fn name(self) -> String {
        format!("{}/{}", self.placement.name(), self.fit.name())
    }

    fn read(text: &str) -> Result<Variant, String> {
        let names = || Variant::all().into_iter().map(Variant::name).collect::<Vec<_>>().join(", ");
        let found = Variant::all().into_iter().find(|variant| variant.name() == text);
        found.ok_or_else(|| format!("{text:?} is none of {}", names()))
    }
}

/// The site file's text with the policies of a run, whatever it said of them before.
///
/// # Errors
/// When the text is no site file.
pub fn site_text(text: &str, variant: Variant, scale: u32) -> anyhow::Result<String> {
    let mut file: toml::Table = text.parse().context("the experiment's site is no TOML")?;
    let mut section = |name: &str| -> anyhow::Result<toml::Table> {
        match file.remove(name) {
            None => Ok(toml::Table::new()),
            Some(toml::Value::Table(table)) => Ok(table),
            Some(_) => bail!("the site's {name} is not a section"),
        }
    };
    let mut policy = section("policy")?;
    let mut statistics = section("statistics")?;
    let fit = || toml::Value::from(variant.fit.name());
    let joint = ["core", "aggregation", "edge", "server"].map(|level| (level.to_owned(), fit()));
    policy.insert("allocation".into(), variant.placement.name().into());
    policy.insert("routing".into(), "by-level".into());
    policy.insert("joint".into(), toml::Value::Table(joint.into_iter().collect()));
    file.insert("policy".into(), policy.into());
    if scale > 1 {
        // Counters are read as often in a VM's life.
        let period = tandem_core::site::read(text, "the experiment's site")?.statistics.period;
        let period = (period / scale).max(Duration::from_secs(1));
        statistics.insert("period".into(), format!("{} ms", period.as_millis()).into());
    }
    file.insert("statistics".into(), statistics.into());
    Ok(toml::to_string(&file)?)
}

/// The site of a run.
///
/// # Errors
/// When the text has faults.
pub fn site(text: &str, variant: Variant, scale: u32) -> anyhow::Result<Site> {
    let text = site_text(text, variant, scale)?;
    Ok(tandem_core::site::read(&text, "the experiment's site")?)
}

/// All runs that are asked for, in virtual time; as many at once as there are processors.
///
/// # Errors
/// When the site has faults, or a request is answered as it must not be.
pub fn simulate(text: &str, options: &Options) -> anyhow::Result<Vec<Run>> {
    let variants = if options.runs.is_empty() { Variant::all() } else { options.runs.clone() };
    let at_once = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut runs = Vec::new();
    for chunk in variants.chunks(at_once) {
        let some: Vec<anyhow::Result<Run>> = std::thread::scope(|scope| {
            let started: Vec<_> = chunk
                .iter()
                .map(|variant| scope.spawn(move || simulated::run(text, *variant, options)))
                .collect();
            let ended = started.into_iter().map(|run| run.join().map_err(|_| anyhow!("a run broke off"))?);
            ended.collect()
        });
        for run in some {
            runs.push(run?);
        }
    }
    Ok(runs)
}

/// What is to be run.
pub struct Job<'a> {
    /// The site file's text.
    pub text: &'a str,
    /// It is not the experiment's own.
    pub is_given: bool,
    /// The rest.
    pub options: Options,
}

impl Job<'_> {
    /// Fills the run folder; the table for people.
    fn write(&self, folder: &mut RunFolder, manifest: Manifest, runs: &[Run]) -> anyhow::Result<String> {
        report::write(folder, runs, &manifest.place())?;
        folder.finish(manifest)?;
        let mut text = report::table(runs);
        if self.is_given {
            text += "replaced: of the site's [policy], allocation, routing and [policy.joint] are what each run sets; \
                     the rest is the site's\n";
        }
        Ok(text)
    }
}

/// All runs in virtual time: the run folder, and the table for people.
///
/// # Errors
/// See [`simulate`]; also when a file cannot be written.
pub fn run_simulated(job: &Job<'_>, folder: &mut RunFolder) -> anyhow::Result<String> {
    let started = Instant::now();
    let runs = simulate(job.text, &job.options)?;
    let took = started.elapsed();
    let manifest = Manifest::new("joint-placement", "simulated", job.options.seed, job.text);
    let text = job.write(folder, manifest, &runs)?;
    let seconds: u64 = runs.iter().map(|run| run.length().as_secs()).sum();
    Ok(format!(
        "{text}{} runs of {seconds} simulated seconds in sum took {:.1} s\n",
        runs.len(),
        took.as_secs_f64()
    ))
}

/// All runs with real packets, one after the other: the run folder, and the table for people.
///
/// # Errors
/// With the step that failed; nothing of the world is then left.
pub fn run_packets(world: &dyn PacketWorld, job: &Job<'_>, folder: &mut RunFolder) -> anyhow::Result<String> {
    let options = Options { scale: Some(job.options.scale.unwrap_or(20)), ..job.options.clone() };
    let variants = if options.runs.is_empty() { Variant::all() } else { options.runs.clone() };
    let each = requests::length(&options);
    ensure!(each >= Duration::from_secs(5), "a run of {each:?} is too short; give more --minutes");
    eprintln!(
        "{} runs of {:.0} s each: about {:.0} minutes",
        variants.len(),
        each.as_secs_f64(),
        each.as_secs_f64() * variants.len() as f64 / 60.0
    );
    let mut manifest = Manifest::new("joint-placement", world.kind(), options.seed, job.text);
    let mut runs = Vec::new();
    for variant in variants {
        let run = packets::run(world, job.text, variant, &options, &mut manifest);
        runs.push(run.with_context(|| format!("the run {}", variant.name()))?);
    }
    job.write(folder, manifest, &runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_its_policies_and_the_rest_of_the_site() {
        let own = tandem_core::site::read(SITE, "joint-placement.toml").expect("the experiment's site");
        for variant in Variant::all() {
            let site = site(SITE, variant, 1).expect("a good site");
            assert_eq!(site.policy.allocation.0, variant.placement.name());
            let joint = site.policy.joint;
            assert!([joint.core, joint.aggregation, joint.edge, joint.server] == [variant.fit; 4]);
            assert_eq!(site.policy.switch_margin, own.policy.switch_margin);
            assert_eq!((&site.topology, &site.statistics), (&own.topology, &own.statistics));
            assert_eq!(Variant::read(&variant.name()), Ok(variant));
        }
        let scaled = site(SITE, Variant::all()[0], 20).expect("a good site");
        assert_eq!(scaled.statistics.period * 20, own.statistics.period);
        let none = Variant::read("network-driven").expect_err("no fit");
        assert!(none.contains("network-driven/worst-fit"), "{none}");
        assert!(site_text("policy = 3", Variant::all()[0], 1).is_err());
    }
}
