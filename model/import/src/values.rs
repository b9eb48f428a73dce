//! Rates, times and losses: from how other tools write them, and to how a site file does, exactly.

use std::time::Duration;
use tandem_model::BitRate;

/// The rates that a site takes: from a byte per millisecond to 4 Tbit/s.
pub(crate) const RATES: std::ops::RangeInclusive<u64> = 8_000..=4_000_000_000_000;
/// The longest delay of a link.
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// A rate as a site file has it, to the last bit.
pub(crate) fn rate_text(rate: BitRate) -> String {
    let units = [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s"), (1_000, "kbit/s"), (1, "bit/s")];
    decimal(rate.0, &units)
}

/// A time as a site file has it, to the last nanosecond.
pub(crate) fn time_text(time: Duration) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")];
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 { "0 ms".to_owned() } else { decimal(nanos, &units) }
}

/// Parts per million as percent.
pub(crate) fn percent_text(ppm: u32) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

/// A number in the largest unit of which it has at least one, and at most three decimals.
fn decimal(n: u64, units: &[(u64, &str)]) -> String {
    for (unit, name) in units {
        let thousandth = (unit / 1000).max(1);
        if n < *unit || !n.is_multiple_of(thousandth) {
            continue;
        }
        let rest = n % unit / thousandth;
        if rest == 0 {
            return format!("{} {name}", n / unit);
        }
        let text = format!("{}.{rest:03}", n / unit);
        return format!("{} {name}", text.trim_end_matches('0'));
    }
    format!("{n} {}", units.last().map_or("", |(_, name)| name))
}

/// A number of `unit` bit/s each as a rate that a site takes.
pub(crate) fn rate_of(number: f64, unit: f64) -> Option<BitRate> {
    let bits = (number * unit).round();
    // The comparison is false for NaN, and beyond it the cast would saturate.
    let fits = bits >= *RATES.start() as f64 && bits <= *RATES.end() as f64;
    fits.then_some(BitRate(bits as u64))
}

/// A time as tc writes it (tc(8), "TIMES"): a number and s, ms or us, in several spellings; a bare
/// number is microseconds.
pub(crate) fn tc_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let micros = match unit.trim().to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" => 1e6,
        "ms" | "msec" | "msecs" => 1e3,
        "" | "us" | "usec" | "usecs" => 1.0,
        "ns" | "nsec" | "nsecs" => 1e-3,
        _ => return None,
    };
    time_of(number.parse().ok()?, micros)
}

/// A number of `micros` microseconds each as a delay that a site takes.
pub(crate) fn time_of(number: f64, micros: f64) -> Option<Duration> {
    let nanos = (number * micros * 1e3).round();
    let fits = nanos >= 0.0 && nanos <= LONGEST_DELAY.as_nanos() as f64;
    fits.then(|| Duration::from_nanos(nanos as u64))
}

/// Percent as parts per million.
pub(crate) fn loss_of(percent: f64) -> Option<u32> {
    (0.0..=100.0).contains(&percent).then(|| (percent * 10_000.0).round() as u32)
}

/// Signals in fibre go two thirds as fast as light: 200 km a millisecond.
pub(crate) fn fibre_delay(km: f64) -> Option<Duration> {
    // To whole microseconds: a distance on a map is no better than that.
    let micros = (km / 0.2).round();
    time_of(micros, 1.0)
}

/// The distance of two places on the globe in km (haversine formula, mean radius 6,371 km).
pub(crate) fn distance_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lon_a, lat_a) = (a.0.to_radians(), a.1.to_radians());
    let (lon_b, lat_b) = (b.0.to_radians(), b.1.to_radians());
    let half = |x: f64| (x / 2.0).sin().powi(2);
    let h = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * half(lon_b - lon_a);
    2.0 * 6371.0 * h.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_written_short_and_exactly() {
        assert_eq!(rate_text(BitRate(10_000_000)), "10 Mbit/s");
        assert_eq!(rate_text(BitRate(1_500_000_000)), "1.5 Gbit/s");
        assert_eq!(rate_text(BitRate(9_953_280_001)), "9953280.001 kbit/s");
        assert_eq!(time_text(Duration::from_micros(5_731)), "5.731 ms");
        assert_eq!(time_text(Duration::ZERO), "0 ms");
        assert_eq!(percent_text(10_000), "1.0");
        assert_eq!(percent_text(1), "0.0001");
        assert_eq!(tc_time("5ms"), Some(Duration::from_millis(5)));
        assert_eq!(tc_time("10"), Some(Duration::from_micros(10)), "tc(8)");
        assert_eq!(tc_time("11s"), None, "longer than a site takes");
        // New York - Los Angeles: 3,936 km by the great circle.
        let km = distance_km((-74.006, 40.7128), (-118.2437, 34.0522));
        assert!((km - 3936.0).abs() < 5.0, "{km}");
        assert_eq!(fibre_delay(200.0), Some(Duration::from_millis(1)));
    }

    proptest! {
        #[test]
        fn a_rate_is_read_back_as_it_was(bits in RATES) {
            prop_assert_eq!(rate_text(BitRate(bits)).parse(), Ok(BitRate(bits)));
        }

        #[test]
        fn whatever_the_numbers_nothing_overflows(a in any::<f64>(), b in any::<f64>()) {
            let _ = (rate_of(a, b), time_of(a, b), loss_of(a), fibre_delay(a), distance_km((a, b), (b, a)));
        }
    }
}
