//! VM arrivals of a public cloud, as `lab/data/vm-traces` has them: when batches of VMs arrived, of
//! which flavours, and how long each VM lived.
//!
//! The files are not trusted: what is wrong is said with its line and its place in the line.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardUniform};
use std::collections::BTreeMap;

/// Bytes of a file, and VMs of a trace, at most.
pub const BYTES: u64 = 64 << 20;
const VMS: usize = 1_000_000;
/// Seconds of a line: VMs arrive within them.
const PERIOD: f64 = 300.0;

/// A trace that cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}, entry {entry}: {problem}; {instead}")]
pub struct TraceError {
    /// Which of the files.
    pub file: &'static str,
    /// From 1.
    pub line: usize,
    /// From 1; the first is the second at which the line begins.
    pub entry: usize,
    /// What is wrong.
    pub problem: String,
    /// What to write.
    pub instead: &'static str,
}

/// A VM of the trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// Seconds from the first line's beginning.
    pub at: f64,
    /// Cores.
    pub cpu: u32,
    /// GiB.
    pub ram: f64,
    /// Seconds; `None` for one that still ran at the trace's end.
    pub lifetime: Option<f64>,
    /// VMs of one batch have the same number.
    pub batch: usize,
}

/// The files of a trace, as texts.
pub struct Texts<'a> {
    /// When what arrived.
    pub arrivals: &'a str,
    /// The same with lifetimes; `None`: all live until they are deleted.
    pub lifetimes: Option<&'a str>,
    /// What flavours are.
    pub flavours: &'a str,
    /// When bins of lifetimes begin.
    pub bins: &'a str,
}

/// The flavours of the Azure trace.
pub const FLAVOURS: &str = include_str!("../../data/vm-traces/flavours.txt");
/// When its bins of lifetimes begin.
pub const BINS: &str = include_str!("../../data/vm-traces/lifetime-bins.txt");

fn flavours(text: &str) -> Result<BTreeMap<&str, (u32, f64)>, TraceError> {
    let mut all = BTreeMap::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read = || {
            let (size, letter) = line.trim().split_once(' ')?;
            let (cpu, ram) = size.split_once(',')?;
            let cpu = cpu.parse::<u32>().ok().filter(|n| (1..=65_536).contains(n))?;
            let ram = ram.parse::<f64>().ok().filter(|n| *n > 0.0 && *n <= 1e6)?;
            Some((letter, (cpu, ram)))
        };
        let (letter, size) = read().ok_or_else(|| TraceError {
            file: "flavours",
            line: n + 1,
            entry: 1,
            problem: format!("{line:?} is no flavour"),
            instead: "write vCPUs,GiB and a letter, such as `2,3.5 g`",
        })?;
        all.insert(letter, size);
    }
    Ok(all)
}

/// Where each bin begins, and where the last one ends.
fn bins(text: &str) -> Result<Vec<f64>, TraceError> {
    let mut begins: Vec<f64> = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read = || {
            let (bin, second) = line.trim().split_once(' ')?;
            (bin.parse::<usize>().ok()? == begins.len()).then_some(())?;
            let second = second.parse::<f64>().ok().filter(|s| (0.0..1e9).contains(s))?;
            begins.last().is_none_or(|before| *before < second).then_some(second)
        };
        let begin = read().ok_or_else(|| TraceError {
            file: "bins",
            line: n + 1,
            entry: 1,
            problem: format!("{line:?} is not the next bin"),
            instead: "write the bin's number, from 0 on, and the second at which it begins, growing",
        })?;
        begins.push(begin);
    }
    // The last one is as long as the one before it.
    let length = match begins[..] {
        [.., before, last] => last - before,
        _ => PERIOD,
    };
    begins.push(begins.last().copied().unwrap_or(0.0) + length);
    Ok(begins)
}

/// Reads a trace: VMs in order of time. VMs of a batch arrive together, at a moment of their five
/// minutes that the seed chooses; how long a VM lived within its bin, too.
///
/// # Errors
/// With the first thing that is wrong and where.
pub fn read(texts: &Texts<'_>, random: &mut ChaCha8Rng) -> Result<Vec<Arrival>, TraceError> {
    let flavours = flavours(texts.flavours)?;
    let bins = bins(texts.bins)?;
    let mut lifetimes = texts.lifetimes.map(str::lines);
    let mut all: Vec<Arrival> = Vec::new();
    let mut first = None;
    let mut batch = 0;
    for (n, line) in texts.arrivals.lines().enumerate() {
        let line_number = n + 1;
        let fault = |file, entry, problem: String, instead| TraceError {
            file,
            line: line_number,
            entry,
            problem,
            instead,
        };
        let beside = lifetimes.as_mut().map(|lines| lines.next().unwrap_or_default());
        let (second, entries) = line.split_once(' ').unwrap_or((line, ""));
        let begin = second.parse::<f64>().ok().filter(|s| (0.0..1e12).contains(s)).ok_or_else(|| {
            fault(
                "arrivals",
                1,
                format!("{second:?} is no second"),
                "begin each line with the second of its period",
            )
        })?;
        let start = begin - *first.get_or_insert(begin);
        if start < 0.0 {
            return Err(fault(
                "arrivals",
                1,
                "the line is earlier than the first one".into(),
                "sort the lines",
            ));
        }
        let same = beside.map(|line| line.split_once(' ').unwrap_or((line, "")));
        if same.is_some_and(|(other, _)| other != second) {
            return Err(fault(
                "lifetimes",
                1,
                format!("the line is not that of second {second}"),
                "use the file of the same trace",
            ));
        }
        let mut ages = same.map(|(_, ages)| ages.split(','));
        let mut moment = None;
        for (m, entry) in entries.split(',').enumerate() {
            let age = ages.as_mut().map(|ages| ages.next().unwrap_or_default());
            let place = m + 2;
            match entry.trim() {
                "" => continue,
                "|" => {
                    moment = None;
                    continue;
                }
                letter => {
                    let (cpu, ram) = *flavours.get(letter).ok_or_else(|| {
                        fault(
                            "arrivals",
                            place,
                            format!("there is no flavour {letter:?}"),
                            "name one of the flavours' letters",
                        )
                    })?;
                    let lifetime = match age {
                        None => None,
                        Some(age) => life(age.trim(), &bins, random).map_err(|problem| {
                            fault(
                                "lifetimes",
                                place,
                                problem,
                                "write U and a bin, or C and a bin for one that was cut off",
                            )
                        })?,
                    };
                    let at = *moment.get_or_insert_with(|| {
                        batch += 1;
                        let part: f64 = StandardUniform.sample(random);
                        start + part * PERIOD
                    });
                    if all.len() >= VMS {
                        return Err(fault(
                            "arrivals",
                            place,
                            format!("more than {VMS} VMs"),
                            "replay a part",
                        ));
                    }
                    all.push(Arrival { at, cpu, ram, lifetime, batch });
                }
            }
        }
    }
    all.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.batch.cmp(&b.batch)));
    Ok(all)
}

/// `U4`: seen to end in the fourth bin; `C4`: it still ran.
fn life(age: &str, bins: &[f64], random: &mut ChaCha8Rng) -> Result<Option<f64>, String> {
    let bad = || format!("{age:?} is no lifetime");
    let (is_cut, bin) = match age.split_at_checked(1) {
        Some(("U", bin)) => (false, bin),
        Some(("C", bin)) => (true, bin),
        _ => return Err(bad()),
    };
    let bin = bin.parse::<usize>().map_err(|_| bad())?;
    let (Some(from), Some(to)) = (bins.get(bin), bin.checked_add(1).and_then(|n| bins.get(n))) else {
        return Err(format!("there is no bin {bin}"));
    };
    let part: f64 = StandardUniform.sample(random);
    Ok((!is_cut).then(|| (from + (to - from) * part).max(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::rand_core::SeedableRng;

    fn with(arrivals: &str, lifetimes: Option<&str>) -> Result<Vec<Arrival>, TraceError> {
        let texts = Texts { arrivals, lifetimes, flavours: FLAVOURS, bins: BINS };
        read(&texts, &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn batches_arrive_together_with_their_flavours_and_lifetimes() {
        let all = with("600 b,g,|,a\n900 |,k\n", Some("600 U0,U1,|,C45\n900 |,U13\n")).expect("a trace");
        assert_eq!(all.len(), 4);
        let of = |cpu, ram| all.iter().find(|a| (a.cpu, a.ram) == (cpu, ram)).expect("a VM");
        let (b, g, a, k) = (of(1, 1.75), of(2, 3.5), of(1, 0.75), of(4, 7.0));
        assert_eq!((b.at, b.batch), (g.at, g.batch));
        assert_ne!(b.batch, a.batch);
        assert!(b.at < 300.0 && a.at < 300.0 && (300.0..600.0).contains(&k.at));
        assert!(b.lifetime.is_some_and(|s| s < 300.0));
        assert!(g.lifetime.is_some_and(|s| (300.0..600.0).contains(&s)));
        assert!(k.lifetime.is_some_and(|s| (3900.0..7500.0).contains(&s)));
        assert_eq!(a.lifetime, None, "it still ran");
        assert!(with("600 b\n", None).expect("a trace")[0].lifetime.is_none());
    }

    /// Counted by `cut -d' ' -f2 arrivals.txt | tr ',' '\\n' | grep -c '^[a-p]$'`.
    #[test]
    fn the_public_trace_has_its_vms() {
        let arrivals = include_str!("../../data/vm-traces/arrivals.txt");
        let lifetimes = include_str!("../../data/vm-traces/lifetimes.txt");
        let all = with(arrivals, Some(lifetimes)).expect("a trace");
        assert_eq!(all.len(), 32199);
        assert!(all.is_sorted_by(|a, b| a.at <= b.at) && all.iter().all(|a| a.at < 150.0 * 300.0));
        assert_eq!(all, with(arrivals, Some(lifetimes)).expect("a trace"), "the same seed, the same trace");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (arrivals, lifetimes, file, line, entry, said) in [
            ("x b", None, "arrivals", 1, 1, "\"x\" is no second"),
            ("600 b\n300 b", None, "arrivals", 2, 1, "earlier"),
            ("600 b,z", None, "arrivals", 1, 3, "no flavour \"z\""),
            ("600 b,b", Some("600 U1"), "lifetimes", 1, 3, "\"\" is no lifetime"),
            ("600 b", Some("600 X1"), "lifetimes", 1, 2, "\"X1\" is no lifetime"),
            ("600 b", Some("600 U46"), "lifetimes", 1, 2, "no bin 46"),
            ("600 b\n900 b", Some("600 U1"), "lifetimes", 2, 1, "not that of second 900"),
        ] {
            let error = with(arrivals, lifetimes).expect_err(arrivals);
            assert_eq!((error.file, error.line, error.entry), (file, line, entry), "{error}");
            assert!(error.problem.contains(said), "{error}");
        }
        let texts = Texts { arrivals: "0 a", lifetimes: None, flavours: "1,2 a\n1;2 b", bins: BINS };
        let error = read(&texts, &mut ChaCha8Rng::seed_from_u64(1)).expect_err("a flavour");
        assert_eq!((error.file, error.line), ("flavours", 2));
        let texts = Texts { arrivals: "0 a", lifetimes: None, flavours: FLAVOURS, bins: "0 0\n2 300" };
        let error = read(&texts, &mut ChaCha8Rng::seed_from_u64(1)).expect_err("a bin");
        assert_eq!((error.file, error.line), ("bins", 2));
    }

    proptest! {
        #[test]
        fn any_texts_are_a_trace_or_an_error(
            arrivals in "([0-9 ]{0,6}[a-q,|\\n]{0,8}){0,6}",
            lifetimes in proptest::option::of("([0-9 ]{0,6}[UC0-9,|\\n]{0,8}){0,6}"),
        ) {
            let _ = with(&arrivals, lifetimes.as_deref());
        }
    }
}
