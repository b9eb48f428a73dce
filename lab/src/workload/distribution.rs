//! What a field of a request is: a number, or a distribution by its spelling, such as
//! `normal:4GiB:1GiB`.
//!
//! A plain number means what it always did: a mean of the field's own distribution, or the value
//! itself. Units are those of site files; a number without one has the field's.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, LogNormal, Normal, OpenClosed01, Pareto, Poisson, Weibull};
use std::time::Duration;
use tandem_model::{BitRate, Bytes};

/// Bytes.
const GIB: f64 = (1u64 << 30) as f64;
/// Bits a second.
const MBIT: f64 = 1e6;
/// No field is larger, in its own unit; values beyond are cut to it.
const MOST: f64 = 1e9;

/// What a field counts, and its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Whole things.
    Count,
    /// GiB.
    Size,
    /// Mbit/s.
    Rate,
    /// Seconds.
    Time,
}

impl Unit {
    /// A number with or without a unit, in the field's unit.
    fn number(self, text: &str) -> Option<f64> {
        let plain = text.parse::<f64>().ok();
        let number = plain.or_else(|| match self {
            Unit::Count => None,
            Unit::Size => text.parse::<Bytes>().ok().map(|b| b.0 as f64 / GIB),
            Unit::Rate => text.parse::<BitRate>().ok().map(|r| r.0 as f64 / MBIT),
            Unit::Time => tandem_model::spellings::time(text).ok().map(|d| d.as_secs_f64()),
        });
        number.filter(|n| n.is_finite())
    }

    fn example(self) -> &'static str {
        match self {
            Unit::Count => "2",
            Unit::Size => "2 or 512MiB (without a unit: GiB)",
            Unit::Rate => "5 or 500kbit/s (without a unit: Mbit/s)",
            Unit::Time => "60 or 85min (without a unit: seconds)",
        }
    }

    /// The least that a field can be.
    fn least(self) -> f64 {
        match self {
            Unit::Count => 1.0,
            // 1 MiB, 1 kbit/s.
            Unit::Size => 1.0 / 1024.0,
            Unit::Rate => 0.001,
            Unit::Time => 0.001,
        }
    }
}

/// A distribution of a field's values, in the field's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Values {
    kind: Kind,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A number without more.
    Plain(f64),
    Constant(f64),
    Uniform(f64, f64),
    Poisson(Poisson<f64>),
    Exponential(f64),
    Normal(Normal<f64>),
    LogNormal(LogNormal<f64>),
    Pareto(Pareto<f64>),
    Weibull(Weibull<f64>),
}

/// The distributions: name, what its numbers are called.
const KINDS: [(&str, &[&str]); 8] = [
    ("constant", &["value"]),
    ("uniform", &["least", "most"]),
    ("poisson", &["mean"]),
    ("exponential", &["mean"]),
    ("normal", &["mean", "sd"]),
    ("log-normal", &["mean", "sd"]),
    ("pareto", &["least", "shape"]),
    ("weibull", &["scale", "shape"]),
];

impl Values {
    /// Reads a field: `NUMBER`, or `KIND:NUMBER` with as many numbers as the kind has.
    ///
    /// # Errors
    /// With what is wrong, which number it is and what to write.
    pub fn parse(text: &str, unit: Unit) -> Result<Values, String> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once(':') else {
            let number = unit.number(text).filter(|n| *n > 0.0 && *n <= MOST);
            return number.map(|n| Values { kind: Kind::Plain(n), unit }).ok_or_else(|| {
                let kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
                format!(
                    "{text:?} is neither a number above 0 nor a distribution; write {}, or one of {} such as normal:4:1",
                    unit.example(),
                    kinds.join(", ")
                )
            });
        };
        let Some((_, parts)) = KINDS.iter().find(|(kind, _)| *kind == name) else {
            let kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no distribution {name:?}; write one of {}", kinds.join(", ")));
        };
        let words: Vec<&str> = rest.split(':').collect();
        let spelling = format!("{name}:{}", parts.join(":"));
        if words.len() != parts.len() {
            return Err(format!("{name} has {} numbers, not {}; write {spelling}", parts.len(), words.len()));
        }
        let mut numbers = [0.0; 2];
        for (n, (word, part)) in words.iter().zip(*parts).enumerate() {
            let own = if *part == "shape" { Unit::Count } else { unit };
            let bad = |why: &str| {
                format!(
                    "number {} of {name} ({part}), {word:?}, {why}; write {spelling} with {}",
                    n + 1,
                    own.example()
                )
            };
            let number = own.number(word.trim()).ok_or_else(|| bad("is no number"))?;
            if number < 0.0 {
                return Err(bad("is below 0"));
            }
            let may_be_zero = matches!(*part, "sd" | "least") && name != "pareto";
            if number == 0.0 && !may_be_zero {
                return Err(bad("must be above 0"));
            }
            if number > MOST {
                return Err(bad("is more than 1e9"));
            }
            numbers[n] = number;
        }
        let [a, b] = numbers;
        let impossible =
            |why: &dyn std::fmt::Display| format!("{text:?} is no distribution: {why}; write {spelling}");
        let kind = match name {
            "constant" => Kind::Constant(a),
            "uniform" if a > b => {
                return Err(impossible(&format_args!("its least, {a}, is more than its most, {b}")));
            }
            "uniform" => Kind::Uniform(a, b),
            "poisson" => Kind::Poisson(Poisson::new(a).map_err(|e| impossible(&e))?),
            "exponential" => Kind::Exponential(a),
            "normal" => Kind::Normal(Normal::new(a, b).map_err(|e| impossible(&e))?),
            "log-normal" => Kind::LogNormal(log_normal(a, b).map_err(|e| impossible(&e))?),
            "pareto" => Kind::Pareto(Pareto::new(a, b).map_err(|e| impossible(&e))?),
            _ => Kind::Weibull(Weibull::new(a, b).map_err(|e| impossible(&e))?),
        };
        Ok(Values { kind, unit })
    }

    /// A number without more, if that is what it is.
    pub fn plain(self) -> Option<f64> {
        match self.kind {
            Kind::Plain(number) => Some(number),
            _ => None,
        }
    }

    /// The next value, in the field's unit; a plain number is itself. What a distribution gives
    /// below the least that a field can be is that least: a normal distribution has no end.
    pub fn sample(self, random: &mut ChaCha8Rng) -> f64 {
        let value = match self.kind {
            Kind::Plain(number) | Kind::Constant(number) => number,
            Kind::Uniform(least, most) => {
                let part: f64 = OpenClosed01.sample(random);
                least + (most - least) * part
            }
            Kind::Poisson(poisson) => poisson.sample(random),
            Kind::Exponential(mean) => {
                let unit: f64 = Exp1.sample(random);
                mean * unit
            }
            Kind::Normal(normal) => normal.sample(random),
            Kind::LogNormal(log_normal) => log_normal.sample(random),
            Kind::Pareto(pareto) => pareto.sample(random),
            Kind::Weibull(weibull) => weibull.sample(random),
        };
        let value = if self.unit == Unit::Count { value.round() } else { value };
        let least = self.unit.least();
        if value.is_nan() { least } else { value.clamp(least, MOST) }
    }

    /// The next value of a field whose plain number is the mean of a Poisson distribution, at least
    /// 1.
    pub fn sample_size(self, random: &mut ChaCha8Rng) -> f64 {
        match self.plain().map(Poisson::new) {
            Some(Ok(poisson)) => poisson.sample(random).max(1.0),
            _ => self.sample(random),
        }
    }

    /// Seconds until the next request: a plain number is the mean of exponential distances.
    pub fn sample_gap(self, random: &mut ChaCha8Rng) -> f64 {
        match self.plain() {
            Some(mean) => {
                // As rand_distr's Exp has it, so that the same seed gives the same requests.
                let unit: f64 = Exp1.sample(random);
                unit * (1.0 / (1.0 / mean))
            }
            None => self.sample(random),
        }
    }
}

/// By mean and standard deviation of the values, not of their logarithms.
fn log_normal(mean: f64, sd: f64) -> Result<LogNormal<f64>, rand_distr::NormalError> {
    let variance = (sd / mean).powi(2).ln_1p();
    LogNormal::new(mean.ln() - variance / 2.0, variance.sqrt())
}

/// Cores.
///
/// # Errors
/// As [`Values::parse`].
pub fn count(text: &str) -> Result<Values, String> {
    Values::parse(text, Unit::Count)
}

/// RAM and disk.
///
/// # Errors
/// As [`Values::parse`].
pub fn size(text: &str) -> Result<Values, String> {
    Values::parse(text, Unit::Size)
}

/// Network.
///
/// # Errors
/// As [`Values::parse`].
pub fn rate(text: &str) -> Result<Values, String> {
    Values::parse(text, Unit::Rate)
}

/// Times.
///
/// # Errors
/// As [`Values::parse`].
pub fn time(text: &str) -> Result<Values, String> {
    Values::parse(text, Unit::Time)
}

/// Names of which one is chosen, each as often as its weight says.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice(Vec<(String, f64)>);

/// Names of a choice at most.
const NAMES: usize = 1000;

impl Choice {
    /// The next name.
    pub fn sample(&self, random: &mut ChaCha8Rng) -> &str {
        let [(only, _)] = &self.0[..] else {
            let whole: f64 = self.0.iter().map(|(_, weight)| weight).sum();
            let part: f64 = OpenClosed01.sample(random);
            let mut left = part * whole;
            let found = self.0.iter().find(|(_, weight)| {
                left -= weight;
                left <= 0.0
            });
            return found.or(self.0.last()).map_or("", |(name, _)| name);
        };
        only
    }
}

/// Reads `gold=1,silver=3`; a name without a weight has 1.
///
/// # Errors
/// With which of them is wrong and what to write.
pub fn choice(text: &str) -> Result<Choice, String> {
    let mut names: Vec<(String, f64)> = Vec::new();
    for (n, word) in text.split(',').enumerate() {
        let (name, weight) = word.split_once('=').unwrap_or((word, "1"));
        let bad = |why: String| format!("choice {}, {word:?}: {why}; write NAME=WEIGHT,NAME=WEIGHT", n + 1);
        let weight = weight.trim().parse::<f64>().ok().filter(|w| w.is_finite() && *w >= 0.0 && *w <= MOST);
        let weight = weight.ok_or_else(|| bad("its weight is no number from 0 to 1e9".into()))?;
        let name = name.trim();
        if name.is_empty() {
            return Err(bad("it has no name".into()));
        }
        if names.iter().any(|(other, _)| other == name) {
            return Err(bad(format!("{name:?} is there twice")));
        }
        if names.len() >= NAMES {
            return Err(bad(format!("there are more than {NAMES} names")));
        }
        names.push((name.to_owned(), weight));
    }
    if names.iter().all(|(_, weight)| *weight == 0.0) {
        return Err(format!("{text:?}: all weights are 0; give one of them more"));
    }
    names.retain(|(_, weight)| *weight > 0.0);
    Ok(Choice(names))
}

/// A time, from seconds.
pub fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value.clamp(0.0, MOST))
}

/// What sizes are in bytes and bit/s.
pub fn bytes(gib: f64) -> u64 {
    (gib * GIB) as u64
}

/// As [`bytes`].
pub fn bits(mbit: f64) -> u64 {
    (mbit * MBIT) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::rand_core::SeedableRng;

    fn mean(text: &str, unit: Unit) -> f64 {
        let values = Values::parse(text, unit).expect(text);
        let mut random = ChaCha8Rng::seed_from_u64(3);
        (0..100_000).map(|_| values.sample(&mut random)).sum::<f64>() / 100_000.0
    }

    #[test]
    fn each_distribution_has_the_mean_that_its_numbers_say() {
        for (text, unit, expected) in [
            ("constant:2", Unit::Count, 2.0),
            ("uniform:1:4", Unit::Size, 2.5),
            ("poisson:20", Unit::Rate, 20.0),
            ("exponential:85min", Unit::Time, 5100.0),
            ("normal:4GiB:512MiB", Unit::Size, 4.0),
            ("log-normal:4:2", Unit::Size, 4.0),
            // Least times shape / (shape - 1).
            ("pareto:1Mbit/s:3", Unit::Rate, 1.5),
            // Scale times Gamma(1 + 1/2).
            ("weibull:2:2", Unit::Time, 1.772_454),
            ("500kbit/s", Unit::Rate, 0.5),
        ] {
            let got = mean(text, unit);
            assert!((got / expected - 1.0).abs() < 0.02, "{text}: {got}");
        }
    }

    #[test]
    fn impossible_distributions_are_refused_at_their_place() {
        for (text, said) in [
            ("normal:4:-1", "number 2 of normal (sd), \"-1\", is below 0"),
            ("normal:NaN:1", "number 1 of normal (mean), \"NaN\", is no number"),
            ("uniform:4:1", "its least, 4, is more than its most, 1"),
            ("uniform:1", "uniform has 2 numbers, not 1; write uniform:least:most"),
            ("poisson:0", "number 1 of poisson (mean), \"0\", must be above 0"),
            ("exponential:inf", "\"inf\", is no number"),
            ("pareto:0:2", "number 1 of pareto (least), \"0\", must be above 0"),
            ("pareto:1:0", "number 2 of pareto (shape), \"0\", must be above 0"),
            ("weibull:1GiB:1GiB", "number 2 of weibull (shape), \"1GiB\", is no number"),
            ("constant:1e10", "is more than 1e9"),
            ("gauss:1:2", "there is no distribution \"gauss\""),
            ("-1", "neither a number above 0"),
            ("NaN", "neither a number above 0"),
            ("", "neither a number above 0"),
        ] {
            let why = Values::parse(text, Unit::Size).expect_err(text);
            assert!(why.contains(said), "{text}: {why}");
        }
    }

    #[test]
    fn choices_are_as_often_as_their_weights() {
        let choice = choice("gold=1,silver=3,none=0").expect("a choice");
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let gold = (0..40_000).filter(|_| choice.sample(&mut random) == "gold").count();
        assert!((9_500..10_500).contains(&gold), "{gold}");
        for (text, said) in [
            ("gold=x", "choice 1, \"gold=x\": its weight"),
            ("gold=1,=2", "choice 2, \"=2\": it has no name"),
            ("gold=1,gold=2", "choice 2, \"gold=2\": \"gold\" is there twice"),
            ("gold=-1", "its weight"),
            ("gold=NaN", "its weight"),
            ("gold=0", "all weights are 0"),
        ] {
            let why = super::choice(text).expect_err(text);
            assert!(why.contains(said), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn any_spelling_is_values_in_bounds_or_an_error(
            name in "constant|uniform|poisson|exponential|normal|log-normal|pareto|weibull|x",
            numbers in proptest::collection::vec("-?[0-9]{0,3}(\\.[0-9])?(e-?[0-9]{1,3}|GiB|NaN)?", 0..4),
        ) {
            let text = format!("{name}:{}", numbers.join(":"));
            for unit in [Unit::Count, Unit::Size, Unit::Rate, Unit::Time] {
                let Ok(values) = Values::parse(&text, unit) else { continue };
                let mut random = ChaCha8Rng::seed_from_u64(1);
                for _ in 0..20 {
                    let value = values.sample(&mut random);
                    prop_assert!((unit.least()..=MOST).contains(&value), "{}: {}", text, value);
                }
            }
        }
    }
}
