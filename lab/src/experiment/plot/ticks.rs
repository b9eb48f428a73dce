//! Where an axis has its ticks, and what they say.

use super::Axis;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Ticks at most.
const MOST: usize = 11;

/// An axis as it is drawn: a value's place on it, and its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    log2: bool,
    /// Places of its two ends.
    pub(super) from: f64,
    pub(super) to: f64,
    /// Places of the ticks.
    pub(super) ticks: Vec<f64>,
    digits: usize,
}

impl Scale {
    pub(super) fn of(axis: &Axis) -> Scale {
        match axis.log2_from.filter(|from| *from > 0.0 && axis.to > *from) {
            Some(from) => Scale::powers(from, axis.to),
            None => Scale::linear(axis.to, axis.counts),
        }
    }

    fn linear(to: f64, counts: bool) -> Scale {
        let to = if to.is_finite() && to > 0.0 { to } else { 1.0 };
        let step = step(to, counts);
        let count = (to / step + 1e-9) as usize;
        let ticks = (0..=count.min(MOST * 2)).map(|n| n as f64 * step).collect();
        let digits = (0..6).find(|d| (step * 10f64.powi(*d)).fract().abs() < 1e-9).unwrap_or(6) as usize;
        Scale { log2: false, from: 0.0, to, ticks, digits }
    }

    fn powers(from: f64, to: f64) -> Scale {
        let (low, high) = (from.log2().floor(), to.log2().ceil());
        let every = ((high - low) as usize / MOST + 1) as f64;
        let count = ((high - low) / every) as usize;
        let ticks = (0..=count).map(|n| low + n as f64 * every).collect();
        Scale { log2: true, from: low, to: high, ticks, digits: 0 }
    }

    /// A value's place; that of 0 by powers of two is the axis' begin.
    pub(super) fn place(&self, value: f64) -> f64 {
        if self.log2 { value.log2().max(self.from) } else { value }
    }

    /// What is written at a place.
    pub(super) fn text(&self, place: f64) -> String {
        let value = if self.log2 { place.exp2() } else { place };
        if self.log2 && value < 1.0 {
            return crate::experiment::table::number(value, 4);
        }
        format!("{value:.*}", self.digits)
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let share = (place - self.from) / (self.to - self.from);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, place: &f64) -> String {
        self.text(*place)
    }
}

/// The least of 1, 2, 5 times a power of ten by which there are not too many ticks; whole where the
/// axis counts.
fn step(to: f64, counts: bool) -> f64 {
    let rough = to / (MOST - 1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|s| *s >= rough * (1.0 - 1e-9));
    let step = nice.unwrap_or(power * 10.0);
    if counts { step.max(1.0) } else { step }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(axis: &Axis) -> Vec<String> {
        let scale = Scale::of(axis);
        scale.ticks.iter().map(|t| scale.text(*t)).collect()
    }

    #[test]
    fn an_axis_that_counts_has_whole_numbers_and_one_by_powers_of_two_has_those() {
        assert_eq!(said(&Axis::to("VMs", "", 3.3).counting()), ["0", "1", "2", "3"]);
        assert_eq!(said(&Axis::to("second", "", 48.0).counting()).join(" "), "0 5 10 15 20 25 30 35 40 45");
        assert_eq!(
            said(&Axis::to("ratio", "", 1.0)).join(" "),
            "0.0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0"
        );
        assert_eq!(said(&Axis::to("hosts", "", 128.0).powers_of_two(8.0)), ["8", "16", "32", "64", "128"]);
    }

    proptest! {
        #[test]
        fn whatever_is_shown_there_are_a_few_ticks_within(to in prop_oneof![1e-6f64..1e12, Just(f64::NAN), Just(0.0)], counts: bool) {
            let mut axis = Axis::to("x", "", to);
            axis.counts = counts;
            let scale = Scale::of(&axis);
            prop_assert!((1..=MOST * 2 + 1).contains(&scale.ticks.len()));
            prop_assert!(scale.ticks.iter().all(|t| *t <= scale.to * (1.0 + 1e-6)));
            if counts {
                prop_assert!(scale.ticks.iter().all(|t| t.fract() == 0.0));
            }
        }
    }
}
