//! The trend of some samples: what it comes to within a time.

use std::time::Duration;
use tandem_model::Time;

/// Where the least-squares line through the samples is `horizon` after the latest one; `None` where
/// it does not rise, or for no horizon.
pub(crate) fn ahead(samples: &[(Time, f64)], horizon: Duration) -> Option<f64> {
    let (last, _) = samples.last()?;
    if samples.len() < 3 || horizon.is_zero() {
        return None;
    }
    let n = samples.len() as f64;
    let points = || samples.iter().map(|(at, y)| (-last.since(*at).as_secs_f64(), *y));
    let (sum_x, sum_y) = points().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (over, under) = points().fold((0.0, 0.0), |(o, u), (x, y)| {
        (o + (x - mean_x) * (y - mean_y), u + (x - mean_x) * (x - mean_x))
    });
    let slope = if under > 0.0 { over / under } else { 0.0 };
    (slope > 0.0).then_some(mean_y + slope * (horizon.as_secs_f64() - mean_x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(ratios: &[f64]) -> Vec<(Time, f64)> {
        (0u64..).zip(ratios).map(|(n, r)| (Time::from_secs(n * 5), *r)).collect()
    }

    #[test]
    fn the_trend_goes_on_as_the_last_samples_did() {
        let rising = samples(&[0.1, 0.2, 0.3, 0.4]);
        let ahead_by = |s: &[(Time, f64)], secs| ahead(s, Duration::from_secs(secs));
        assert!(ahead_by(&rising, 10).is_some_and(|r| (r - 0.6).abs() < 1e-9), "0.02 a second from 0.4 on");
        assert_eq!(ahead_by(&rising, 0), None, "no horizon, no expectation");
        assert_eq!(ahead_by(&samples(&[0.4, 0.4, 0.4]), 60), None, "it does not rise");
        assert_eq!(ahead_by(&samples(&[0.9, 0.5, 0.1]), 60), None, "it falls");
        assert_eq!(ahead_by(&samples(&[0.1, 0.9]), 60), None, "two samples are no trend");
        let jagged = samples(&[0.0, 0.2, 0.1, 0.3]);
        assert!(
            ahead_by(&jagged, 5).is_some_and(|r| (r - 0.35).abs() < 1e-9),
            "0.08 a sample around 0.15: {jagged:?}"
        );
    }
}
