//! Numbers on the command line: what an option can mean is checked where it is read, so that no odd
//! one is computed with later.

use tandem_model::spellings::{self, UnitError};

/// A duration or amount: above 0, and not beyond what anything here could be (a billion: seconds
/// are 32 years).
///
/// # Errors
/// When the text is no such number.
pub fn positive(text: &str) -> Result<f64, String> {
    within(text, f64::MIN_POSITIVE, 1e9, "a number above 0, at most 1e9")
}

/// The same, or 0.
///
/// # Errors
/// When the text is no such number.
pub fn amount(text: &str) -> Result<f64, String> {
    within(text, 0.0, 1e9, "a number from 0 to 1e9")
}

/// Seconds: a plain number, or a time with its unit, such as `500ms` or `"2 min"`; above 0.
///
/// # Errors
/// When the text is no such time.
pub fn seconds(text: &str) -> Result<f64, String> {
    with_unit(text, |text| spellings::time(text).map(|t| t.as_secs_f64()), "seconds")
}

/// Mbit/s: a plain number, or a rate with its unit, such as `10mbit` or `"1.5 Gbit/s"`; above 0.
///
/// # Errors
/// When the text is no such rate.
pub fn mbit(text: &str) -> Result<f64, String> {
    with_unit(text, |text| spellings::bits_per_second(text).map(|n| n as f64 / 1e6), "Mbit/s")
}

/// GiB: a plain number, or a size with its unit, such as `512M` or `"2 GB"`; above 0.
///
/// # Errors
/// When the text is no such size.
pub fn gib(text: &str) -> Result<f64, String> {
    with_unit(text, |text| spellings::bytes(text).map(|n| n as f64 / (1u64 << 30) as f64), "GiB")
}

fn with_unit(text: &str, read: impl Fn(&str) -> Result<f64, UnitError>, unit: &str) -> Result<f64, String> {
    if text.trim().parse::<f64>().is_ok() {
        return positive(text).map_err(|why| format!("{why} ({unit})"));
    }
    let number = read(text).map_err(|why| format!("{why}, or a number of {unit}"))?;
    positive(&number.to_string()).map_err(|why| format!("{why} ({unit})"))
}

/// Hours of a simulated time that its events fit into memory: a year at most.
///
/// # Errors
/// When the text is no such number.
pub fn hours(text: &str) -> Result<f64, String> {
    within(text, f64::MIN_POSITIVE, 8784.0, "a number of hours above 0, at most 8784 (a year)")
}

/// A part of a whole.
///
/// # Errors
/// When the text is no number from 0 to 1.
pub fn part(text: &str) -> Result<f64, String> {
    within(text, 0.0, 1.0, "a number from 0 to 1")
}

fn within(text: &str, least: f64, most: f64, what: &str) -> Result<f64, String> {
    // "not a number" is in no range.
    let number = text.trim().parse::<f64>().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("write {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_unit_of_its_option_or_its_own() {
        assert_eq!((seconds("90"), seconds("1.5 min"), seconds("500ms")), (Ok(90.0), Ok(90.0), Ok(0.5)));
        assert_eq!((mbit("10"), mbit("10mbit"), mbit("1Gbps")), (Ok(10.0), Ok(10.0), Ok(1000.0)));
        assert_eq!((gib("2"), gib("512M"), gib("2 GiB")), (Ok(2.0), Ok(0.5), Ok(2.0)));
        for (bad, said) in [
            (seconds("5m"), "5 min"),
            (seconds("0 s"), "at most 1e9 (seconds)"),
            (seconds("-1"), "at most 1e9 (seconds)"),
            (mbit("1gbps"), "as 1 Gbit/s and as 1 GB/s"),
            (gib("lots"), "or a number of GiB"),
            (seconds("nan"), "(seconds)"),
        ] {
            let text = bad.expect_err(said);
            assert!(text.contains(said), "{text}");
        }
    }
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn odd_numbers_are_refused_in_words() {
        for odd in ["NaN", "inf", "-inf", "-1", "1e300", "1e10", "", "x", "0x10"] {
            assert!(positive(odd).is_err() && amount(odd).is_err() && part(odd).is_err(), "{odd}");
        }
        assert!(positive("0").is_err() && positive("-0").is_err() && positive("1e-400").is_err());
        assert_eq!((positive("2.5"), amount("0"), part("1")), (Ok(2.5), Ok(0.0), Ok(1.0)));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_a_duration(text in "[-+]?[0-9a-zA-Z.]{0,12}(e[-+]?[0-9]{1,4})?") {
            for taken in [positive(&text), amount(&text), part(&text)].into_iter().flatten() {
                prop_assert!(Duration::try_from_secs_f64(taken).is_ok());
            }
        }
    }
}
