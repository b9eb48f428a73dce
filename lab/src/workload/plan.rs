//! Which requests are made, and when: by the options and the seed alone.

use super::Options;
use super::distribution::{Values, bits, bytes, seconds};
use super::trace::{self, Arrival, Texts};
use anyhow::{Context, bail};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::time::Duration;
use tandem_api::vms::NewVm;

/// Requests without a trace and without `--count`.
const COUNT: u32 = 10;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// When, counted from the start.
    pub at: Duration,
    /// For what.
    pub vm: NewVm,
    /// The group that it is to be in when all of it run, from 1.
    pub group: Option<usize>,
    /// The same as options of `tandem vm request`, for people.
    pub text: String,
}

/// A request while its fields are drawn.
#[derive(Default)]
struct Draft {
    vm: NewVm,
    words: Vec<String>,
}

impl Draft {
    fn cpu(&mut self, cores: f64) {
        self.vm.cpu = Some(cores as u32);
        self.words.push(format!("--cpu {cores}"));
    }

    fn ram(&mut self, gib: f64) {
        self.vm.ram = Some(bytes(gib));
        self.words.push(format!("--ram {gib} GiB"));
    }

    fn timeout(&mut self, lives: f64) {
        self.vm.timeout = Some(lives);
        self.words.push(format!("--timeout {lives}"));
    }

    /// What is chosen by weight.
    fn choose(&mut self, options: &Options, random: &mut ChaCha8Rng) {
        let choices = [
            ("--class", &options.class, &mut self.vm.class),
            ("--image", &options.image, &mut self.vm.image),
            ("--traffic", &options.traffic, &mut self.vm.traffic),
        ];
        for (name, choice, field) in choices {
            let Some(choice) = choice else { continue };
            let chosen = choice.sample(random).to_owned();
            self.words.push(format!("{name} {chosen}"));
            *field = Some(chosen);
        }
    }

    /// Disk and network, of a VM of a trace, which has none.
    fn rest(&mut self, options: &Options, random: &mut ChaCha8Rng) {
        if let Some(values) = options.disk {
            let gib = values.sample_size(random);
            self.vm.disk = Some(bytes(gib));
            self.words.push(format!("--disk {gib} GiB"));
        }
        if let Some(values) = options.net {
            let mbit = values.sample_size(random);
            self.vm.net = Some(bits(mbit));
            self.words.push(format!("--net {mbit} Mbit/s"));
        }
    }

    fn planned(self, at: f64, group: Option<usize>) -> Planned {
        Planned { at: seconds(at), vm: self.vm, group, text: self.words.join(" ") }
    }
}

/// The requests of a run.
///
/// # Errors
/// When the options do not fit together, or a trace cannot be read.
pub fn plan(options: &Options) -> anyhow::Result<Vec<Planned>> {
    let mut random = super::random(options.seed);
    match &options.trace {
        Some(file) => replay(options, file, &mut random),
        None => draw(options, &mut random),
    }
}

/// Requests at random. The order of draws is part of what a seed means: sizes, lifetime, choices,
/// then the time until the next request.
fn draw(options: &Options, random: &mut ChaCha8Rng) -> anyhow::Result<Vec<Planned>> {
    if options.fixed && options.interval.plain().is_none() {
        bail!("--fixed is for a plain --interval: a distribution, such as constant:1, says it by itself");
    }
    let size = options.group_size.unwrap_or(1);
    let count = options.count.unwrap_or(COUNT);
    let mut at = 0.0;
    let mut list = Vec::new();
    for n in 0..count {
        let mut draft = Draft::default();
        if let Some(values) = options.cpu {
            draft.cpu(values.sample_size(random));
        }
        if let Some(values) = options.ram {
            draft.ram(values.sample_size(random));
        }
        draft.rest(options, random);
        if let Some(values) = options.timeout {
            draft.timeout(values.sample(random) / options.speed_up);
        }
        draft.choose(options, random);
        // The members of a group are asked for at one moment.
        let group = options.group_size.map(|size| (n / size) as usize + 1);
        list.push(draft.planned(at, group));
        if (n + 1) % size == 0 {
            at += gap(options, options.interval, random) / options.speed_up;
        }
    }
    Ok(list)
}

fn gap(options: &Options, interval: Values, random: &mut ChaCha8Rng) -> f64 {
    match interval.plain().filter(|_| options.fixed) {
        Some(distance) => distance,
        None => interval.sample_gap(random),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    use std::io::Read;
    let name = || format!("reading {}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(name)?;
    file.take(trace::BYTES + 1).read_to_string(&mut text).with_context(name)?;
    if text.len() as u64 > trace::BYTES {
        bail!("{} has more than {} MiB: replay a part", path.display(), trace::BYTES >> 20);
    }
    Ok(text)
}

/// Requests as they were made of a public cloud.
fn replay(options: &Options, file: &Path, random: &mut ChaCha8Rng) -> anyhow::Result<Vec<Planned>> {
    let arrivals = read(file)?;
    let lifetimes = options.trace_lifetimes.as_deref().map(read).transpose()?;
    let flavours = options.trace_flavours.as_deref().map(read).transpose()?;
    let texts = Texts {
        arrivals: &arrivals,
        lifetimes: lifetimes.as_deref(),
        flavours: flavours.as_deref().unwrap_or(trace::FLAVOURS),
        bins: trace::BINS,
    };
    let all = trace::read(&texts, random).with_context(|| format!("the trace {}", file.display()))?;
    let count = options.count.map_or(all.len(), |count| count as usize);
    let first = all.first().map_or(0.0, |a| a.at);
    let mut list = Vec::new();
    for Arrival { at, cpu, ram, lifetime, batch } in all.into_iter().take(count) {
        let mut draft = Draft::default();
        draft.cpu(f64::from(cpu));
        draft.ram(ram);
        draft.rest(options, random);
        let lives = lifetime.or_else(|| options.timeout.map(|values| values.sample(random)));
        if let Some(lives) = lives {
            // The shortest that a request may ask for.
            draft.timeout((lives / options.speed_up).max(0.001));
        }
        draft.choose(options, random);
        list.push(draft.planned((at - first) / options.speed_up, options.batches.then_some(batch)));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use rand_distr::{Distribution, Exp, Poisson};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &str) -> Options {
        Cli::try_parse_from(std::iter::once("request").chain(words.split_whitespace())).expect(words).options
    }

    fn planned(words: &str) -> Vec<Planned> {
        plan(&options(words)).expect(words)
    }

    #[test]
    fn the_same_seed_requests_the_same() {
        let words = "--count 50 --cpu 2 --ram 2 --net 5 --seed 7";
        assert_eq!(planned(words), planned(words));
        assert_ne!(planned(words), planned("--count 50 --cpu 2 --ram 2 --net 5 --seed 8"));
        let mean = planned(words).last().map_or(0.0, |planned| planned.at.as_secs_f64()) / 49.0;
        assert!((0.5..2.0).contains(&mean), "arrivals a second apart on average, got {mean}");
    }

    /// Plain numbers mean what they did before there were distributions: the same draws in the same
    /// order.
    #[test]
    fn plain_numbers_request_what_they_always_did() {
        let mut random = crate::workload::random(7);
        let mut at = 0.0;
        for planned in planned("--count 40 --cpu 2 --ram 2.5 --net 5 --interval 2 --timeout 60 --seed 7") {
            let mut size = |mean: f64| -> f64 { Poisson::new(mean).expect("a mean").sample(&mut random) };
            let (cpu, ram, net) = (size(2.0).max(1.0), size(2.5).max(1.0), size(5.0).max(1.0));
            let expected = NewVm {
                cpu: Some(cpu as u32),
                ram: Some((ram * (1u64 << 30) as f64) as u64),
                net: Some((net * 1e6) as u64),
                timeout: Some(60.0),
                ..NewVm::default()
            };
            assert_eq!((planned.vm, planned.at), (expected, Duration::from_secs_f64(at)));
            let gap: f64 = Exp::new(1.0 / 2.0).expect("a rate").sample(&mut random);
            at += gap;
        }
        let fixed: Vec<Duration> = planned("--count 3 --interval 2 --fixed").iter().map(|p| p.at).collect();
        assert_eq!(fixed, [0, 2, 4].map(Duration::from_secs));
    }

    #[test]
    fn each_field_has_its_distribution_and_speed_up_shortens_times() {
        let all = planned(
            "--count 4 --cpu constant:4 --ram uniform:1GiB:2GiB --disk pareto:10GB:3 --net constant:500kbit/s \
             --lifetime constant:10min --interval constant:30s --speed-up 10 --class gold=1 --traffic poisson",
        );
        for (n, planned) in (0u32..).zip(&all) {
            assert_eq!((planned.at, planned.vm.timeout), (Duration::from_secs(3) * n, Some(60.0)));
            assert_eq!((planned.vm.cpu, planned.vm.net), (Some(4), Some(500_000)));
            assert!(planned.vm.ram.is_some_and(|ram| (1 << 30..=2 << 30).contains(&ram)));
            assert!(planned.vm.disk.is_some_and(|disk| disk >= 9_999_999_999));
            assert_eq!(planned.vm.class.as_deref(), Some("gold"));
            assert_eq!(planned.vm.traffic.as_deref(), Some("poisson"));
        }
        assert!(plan(&options("--interval constant:1 --fixed")).is_err());
    }

    #[test]
    fn members_of_a_group_are_asked_for_at_one_moment() {
        let all = planned("--count 6 --group-size 3 --interval 1 --fixed");
        let seen: Vec<(u64, Option<usize>)> = all.iter().map(|p| (p.at.as_secs(), p.group)).collect();
        assert_eq!(
            seen,
            [(0, Some(1)), (0, Some(1)), (0, Some(1)), (1, Some(2)), (1, Some(2)), (1, Some(2))]
        );
    }

    #[test]
    fn a_trace_is_replayed_faster_than_it_was() {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data/vm-traces");
        let words = format!(
            "--trace {data}/arrivals.txt --trace-lifetimes {data}/lifetimes.txt --speed-up 100 --count 500 --net 2"
        );
        let all = planned(&words);
        assert_eq!(all.len(), 500);
        assert_eq!(all[0].at, Duration::ZERO);
        assert!(all.iter().all(|p| p.vm.cpu.is_some() && p.vm.ram.is_some() && p.vm.net.is_some()));
        assert!(all.is_sorted_by_key(|p| p.at) && all[499].at < Duration::from_secs(450));
        let why = plan(&options("--trace /nowhere/arrivals.txt")).expect_err("no such file");
        assert!(format!("{why:#}").contains("/nowhere/arrivals.txt"), "{why:#}");
    }

    #[test]
    fn options_that_cannot_be_are_refused_where_they_are_read() {
        for words in [
            "--cpu normal:4:-1",
            "--ram uniform:2:1",
            "--interval 0",
            "--class gold=x",
            "--speed-up 0",
            "--group-size 0",
            "--trace a --cpu 2",
            "--trace-lifetimes a",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("request").chain(words.split_whitespace()));
            assert!(parsed.is_err(), "{words}");
        }
    }
}
