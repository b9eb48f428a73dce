//! Numbers on the command line: what an option can mean is checked where it is read, so that no odd
//! one is computed with later.

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
