//! An empirical distribution of sizes: points of its cumulative distribution function, between
//! which the size is interpolated linearly.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardUniform};

/// Points of a file at most.
const POINTS: usize = 10_000;
/// Bytes of the largest flow: a terabyte.
const LARGEST: f64 = 1e12;

/// A file of sizes that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}; {instead}")]
pub(super) struct SizesError {
    /// From 1.
    line: usize,
    problem: String,
    instead: &'static str,
}

/// How large flows are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sizes {
    /// Size in bytes and the share of flows that are no larger, both growing; the last share is 1.
    points: Vec<(f64, f64)>,
}

impl Sizes {
    /// Reads lines of a size and a share, 0 to 1 or, where the last one is 100, percent.
    pub(super) fn parse(text: &str) -> Result<Sizes, SizesError> {
        const LINE: &str = "write a size in bytes and the share of flows that are no larger";
        const GROW: &str = "sort the lines; sizes and shares grow";
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut line = 0;
        for (n, words) in text.lines().enumerate() {
            line = n + 1;
            let fault = |problem: String, instead| SizesError { line, problem, instead };
            let words = words.split('#').next().unwrap_or_default();
            let mut words = words.split_whitespace();
            let Some(first) = words.next() else { continue };
            let number = |word: &str| word.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
            let size = number(first).filter(|size| *size <= LARGEST);
            let size = size.ok_or_else(|| fault(format!("{first:?} is no size in bytes"), LINE))?;
            let second = words.next().ok_or_else(|| fault("a size without a share".into(), LINE))?;
            let share = number(second).filter(|share| *share <= 100.0);
            let share = share.ok_or_else(|| fault(format!("{second:?} is no share"), LINE))?;
            if let Some(more) = words.next() {
                return Err(fault(format!("{more:?} behind the share"), LINE));
            }
            if points.last().is_some_and(|before| size < before.0 || share < before.1) {
                return Err(fault("smaller than the line before".into(), GROW));
            }
            if points.len() >= POINTS {
                return Err(fault(format!("more than {POINTS} points"), "leave some out"));
            }
            points.push((size, share));
        }
        let last = points.last().copied().unwrap_or_default();
        let whole = if last.1 > 1.0 { 100.0 } else { 1.0 };
        if (last.1 - whole).abs() > 1e-9 || last.0 <= 0.0 {
            let problem = "the last share is not that of all flows".into();
            return Err(SizesError {
                line,
                problem,
                instead: "let the last line have the share 1, or 100 percent",
            });
        }
        points.iter_mut().for_each(|point| point.1 /= whole);
        Ok(Sizes { points })
    }

    /// Bytes, by a random number from 0 to 1.
    fn at(&self, share: f64) -> f64 {
        let after = self.points.partition_point(|point| point.1 < share);
        let Some(to) = self.points.get(after) else { return self.points.last().map_or(0.0, |p| p.0) };
        let Some(from) = after.checked_sub(1).and_then(|n| self.points.get(n)) else { return to.0 };
        let part = (share - from.1) / (to.1 - from.1);
        from.0 + (to.0 - from.0) * part
    }

    /// Bytes of the next flow; at least one.
    pub(super) fn sample(&self, random: &mut ChaCha8Rng) -> u64 {
        let share: f64 = StandardUniform.sample(random);
        self.at(share).round().max(1.0) as u64
    }

    /// Bytes of a flow on average: each segment is uniform.
    pub(super) fn mean(&self) -> f64 {
        let first = self.points.first().map_or(0.0, |p| p.0 * p.1);
        let segments = self.points.windows(2).map(|pair| match pair {
            [from, to] => (to.1 - from.1) * f64::midpoint(from.0, to.0),
            _ => 0.0,
        });
        first + segments.sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::schedule::random;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_follow_the_measured_distribution() {
        let sizes = Sizes::parse("0 0\n1000 0.5\n\n3000 1\n").expect("sizes");
        assert_eq!(
            (sizes.at(0.0), sizes.at(0.25), sizes.at(0.5), sizes.at(0.75)),
            (0.0, 500.0, 1000.0, 2000.0)
        );
        assert!((sizes.mean() - 1250.0).abs() < 1e-9);
        let mut numbers = random(1, 1);
        let drawn: Vec<f64> = (0..100_000).map(|_| sizes.sample(&mut numbers) as f64).collect();
        let below = drawn.iter().filter(|s| **s <= 1000.0).count() as f64 / 1e5;
        let mean = drawn.iter().sum::<f64>() / 1e5;
        assert!((below - 0.5).abs() < 0.01, "{below}");
        assert!((mean / 1250.0 - 1.0).abs() < 0.01, "{mean}");
        // Percent are shares, and the same seed draws the same.
        assert_eq!(Sizes::parse("0 0\n1000 50\n3000 100").as_ref(), Ok(&sizes));
        let first = |seed| sizes.sample(&mut random(seed, 1));
        assert_eq!(first(4), first(4));
    }

    #[test]
    fn a_file_that_cannot_be_says_which_line() {
        for (text, line, problem) in [
            ("", 0, "the last share"),
            ("0 0\n10", 2, "a size without a share"),
            ("0 0\nx 1", 2, "\"x\" is no size"),
            ("0 0\n-1 1", 2, "\"-1\" is no size"),
            ("0 0\n10 NaN", 2, "\"NaN\" is no share"),
            ("0 0\n10 101", 2, "\"101\" is no share"),
            ("0 0\n10 1 2", 2, "\"2\" behind"),
            ("0 0\n10 0.5\n9 1", 3, "smaller"),
            ("0 0\n10 0.5\n11 0.4", 3, "smaller"),
            ("0 0\n10 0.5", 2, "the last share"),
            ("0 0\n10 50", 2, "the last share"),
            ("0 1", 1, "the last share"),
        ] {
            let error = Sizes::parse(text).expect_err(text);
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.problem.starts_with(problem), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_distribution_or_an_error(text in "([0-9. eE#x-]{0,12}\n){0,8}", share in 0.0..1.0f64) {
            if let Ok(sizes) = Sizes::parse(&text) {
                let size = sizes.at(share);
                prop_assert!((0.0..=LARGEST).contains(&size));
                prop_assert!(sizes.mean() <= LARGEST);
            }
        }
    }
}
