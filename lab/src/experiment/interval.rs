//! Means of repeated measurements with their 95% intervals (Student's t).

/// Two-sided 95% quantiles of Student's t for 1 to 30 degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// The normal distribution's, which Student's approaches.
const NORMAL: f64 = 1.960;

/// A mean, and half the width of its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// The true mean is within so much of it, 19 times of 20; 0 for a single value, of which
    /// nothing can be said.
    pub half: f64,
}

impl Interval {
    /// Of values that were measured independently of each other; not a number where there is none.
    pub fn of(values: &[f64]) -> Interval {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        if values.len() < 2 {
            return Interval { mean, half: 0.0 };
        }
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let freedom = values.len() - 1;
        // Beyond the table the first terms of the expansion around the normal quantile are right to
        // 0.001 (Abramowitz and Stegun 26.7.5).
        let (z, nu) = (NORMAL, freedom as f64);
        let expanded = z
            + (z.powi(3) + z) / (4.0 * nu)
            + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * nu * nu);
        let t = T.get(freedom - 1).copied().unwrap_or(expanded);
        Interval { mean, half: t * (variance / n).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_students() {
        assert_eq!(Interval::of(&[5.0]), Interval { mean: 5.0, half: 0.0 });
        let of = Interval::of(&[69.0, 70.0, 71.0]);
        assert!((of.mean - 70.0).abs() < 1e-9 && (of.half - 4.303 / 3f64.sqrt()).abs() < 1e-9, "{of:?}");
        assert!(Interval::of(&[]).mean.is_nan());
    }

    #[test]
    fn beyond_the_table_it_goes_on_where_the_table_ends() {
        // Half the values at 1, half at -1: the standard deviation is sqrt(n / (n - 1)).
        let t = |n: usize| {
            let values: Vec<f64> = (0..n).map(|k| if k < n / 2 { 1.0 } else { -1.0 }).collect();
            Interval::of(&values).half * ((n - 1) as f64).sqrt()
        };
        // 2.042 at 30 degrees of freedom, 2.040 at 31, 2.000 at 60 (a printed table's values).
        assert!((t(32) - 2.040).abs() < 2e-3, "{}", t(32));
        assert!((Interval::of(&[1.0, -1.0].repeat(30)).half * 59f64.sqrt() - 2.001).abs() < 2e-3);
    }
}
