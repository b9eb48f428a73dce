//! How people write rates, sizes and times: the units of this project's own files, and the
//! spellings of `tc`, `iperf` and those who type them.
//!
//! | | own | `tc` | `iperf` and others |
//! |---|---|---|---|
//! | rate | `10 Mbit/s` | `10mbit`, `10mibit` | `10M`, `10m`, `10Mbits/sec`, `1Gbps`, `2MB/s` |
//! | size | `512 MiB`, `20 GB` | `512m`, `10kb` (powers of 1024) | `512M`, `1G` (powers of 1024) |
//! | time | `500 ms`, `85 min` | `500msec`, `2secs`, `100us` | |
//!
//! What two of them read differently is refused, and the error says both readings: `1gbps` is a
//! gigabyte each second to `tc` and a gigabit to most people. With a capital prefix it is nobody's
//! but theirs (`1Gbps`). A plain number is refused too: `tc` takes it for bit/s, bytes or
//! microseconds, and who writes it mostly means something else.

use std::fmt;
use std::time::Duration;

/// So many characters of what was written are shown again.
const SHOWN: usize = 40;
/// The longest time: 100 years.
const LONGEST: u64 = 100 * 366 * 86_400_000_000_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Bits over time.
    Rate,
    /// Bytes.
    Size,
    /// A duration.
    Time,
}

impl Quantity {
    /// What is expected, with examples.
    fn wanted(self) -> &'static str {
        match self {
            Quantity::Rate => "a bit rate with its unit, such as \"10 Mbit/s\"",
            Quantity::Size => "a size with its unit, such as \"512 MiB\" or \"20 GB\"",
            Quantity::Time => "a time with its unit",
        }
    }

    /// What to write, with examples.
    fn instead(self) -> &'static str {
        match self {
            Quantity::Rate => "write a bit rate with its unit, such as \"10 Mbit/s\", \"10mbit\" or \"1.5G\"",
            Quantity::Size => "write a size with its unit, such as \"512 MiB\" or \"20 GB\"",
            Quantity::Time => "write a number and us, ms, s, min, h or d, such as \"500 ms\" or \"85 min\"",
        }
    }
}

/// A text that is not the rate, size or time that it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitError {
    text: String,
    quantity: Quantity,
    reason: Reason,
}

/// Why it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// Not a number with a unit.
    Malformed,
    /// A number alone.
    NoUnit,
    /// A unit that is read in two ways.
    Ambiguous { one: String, other: String },
    /// Not a whole number of bits, bytes or nanoseconds, or more of them than can be counted.
    NotWhole,
}

impl UnitError {
    fn new(text: &str, quantity: Quantity, reason: Reason) -> UnitError {
        UnitError { text: text.chars().take(SHOWN).collect(), quantity, reason }
    }

    /// What is wrong.
    pub fn problem(&self) -> String {
        let UnitError { text, quantity, reason } = self;
        match reason {
            Reason::Malformed => format!("{text:?} is not {}", quantity.wanted()),
            Reason::NoUnit => format!("{text:?} is not {}: it has no unit", quantity.wanted()),
            Reason::Ambiguous { one, other } => format!("{text:?} can be read as {one} and as {other}"),
            Reason::NotWhole => {
                let (unit, most) = match quantity {
                    Quantity::Rate => ("bits", "2^64"),
                    Quantity::Size => ("bytes", "2^64"),
                    Quantity::Time => ("nanoseconds", "100 years"),
                };
                format!("{text:?} is not {}: no whole number of {unit}, or beyond {most}", quantity.wanted())
            }
        }
    }

    /// What to write instead.
    pub fn instead(&self) -> String {
        match &self.reason {
            Reason::NoUnit => {
                let number = self.text.trim();
                let (one, other) = match self.quantity {
                    Quantity::Rate => ("Mbit/s", "bit/s"),
                    Quantity::Size => ("MiB", "GB"),
                    Quantity::Time => ("s", "ms"),
                };
                format!("write the unit, such as \"{number} {one}\" or \"{number} {other}\"")
            }
            Reason::Ambiguous { one, other } => format!("write \"{one}\" or \"{other}\""),
            Reason::Malformed | Reason::NotWhole => self.quantity.instead().to_owned(),
        }
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem(), self.instead())
    }
}

impl std::error::Error for UnitError {}

/// Bits per second.
///
/// # Errors
/// When it is no rate, or read as two.
pub fn bits_per_second(text: &str) -> Result<u64, UnitError> {
    let error = |reason| UnitError::new(text, Quantity::Rate, reason);
    let (number, unit) = split(text, Quantity::Rate)?;
    match rate_factor(unit) {
        Some(factor) => scaled(number, factor).ok_or_else(|| error(Reason::NotWhole)),
        None => Err(error(ambiguous_rate(number, unit).unwrap_or(Reason::Malformed))),
    }
}

/// Bits of a unit of a rate.
fn rate_factor(unit: &str) -> Option<u64> {
    let (amount, is_over_time) = match ["/sec", "/s"].iter().find_map(|per| unit.strip_suffix(per)) {
        Some(amount) => (amount, true),
        None => (unit, false),
    };
    // `Gbps`: nobody but people, who mean bits, writes the prefix large. `GBps` and `GB/s` are bytes.
    if let Some(prefix) = unit.strip_suffix("bps").filter(|p| p.starts_with(['K', 'M', 'G', 'T'])) {
        return decimal(prefix);
    }
    if let Some(prefix) = unit.strip_suffix("Bps").or(amount.strip_suffix('B').filter(|_| is_over_time)) {
        return binary_name(prefix).or_else(|| decimal(prefix)).and_then(|n| n.checked_mul(8));
    }
    if let Some(prefix) = amount.strip_suffix('b').filter(|_| is_over_time) {
        return decimal(prefix);
    }
    let lower = amount.to_ascii_lowercase();
    if let Some(prefix) = lower.strip_suffix("bits").or(lower.strip_suffix("bit")) {
        return binary_name(prefix).or_else(|| decimal(prefix));
    }
    // iperf's `10M`.
    (!is_over_time && amount.len() == 1).then(|| decimal(amount)).flatten()
}

/// `gbps`, `mbps`, `kbps`, `bps`: bytes to `tc`, bits to most people.
fn ambiguous_rate(number: &str, unit: &str) -> Option<Reason> {
    let prefix = unit.strip_suffix("bps").filter(|p| p.len() <= 1)?;
    let (bits, bytes) = match prefix {
        "" => ("bit/s", "B/s"),
        "k" => ("kbit/s", "kB/s"),
        "m" => ("Mbit/s", "MB/s"),
        "g" => ("Gbit/s", "GB/s"),
        "t" => ("Tbit/s", "TB/s"),
        _ => return None,
    };
    Some(Reason::Ambiguous { one: format!("{number} {bits}"), other: format!("{number} {bytes}") })
}

/// Bytes.
///
/// # Errors
/// When it is no size.
pub fn bytes(text: &str) -> Result<u64, UnitError> {
    let error = |reason| UnitError::new(text, Quantity::Size, reason);
    let (number, unit) = split(text, Quantity::Size)?;
    let factor = size_factor(unit).ok_or_else(|| error(Reason::Malformed))?;
    scaled(number, factor).ok_or_else(|| error(Reason::NotWhole))
}

/// Bytes of a unit of a size: `MB` is decimal as the standard has it (IEC 80000-13), `MiB` binary;
/// `M`, `m` and `mb` are as `tc`, QEMU and most tools of memory read them, binary.
fn size_factor(unit: &str) -> Option<u64> {
    match unit {
        "B" | "b" => return Some(1),
        "kB" | "KB" => return Some(1000),
        "MB" | "GB" | "TB" => return decimal(&unit[..1]),
        _ => {}
    }
    if let Some(prefix) = unit.strip_suffix('B') {
        return binary_name(prefix);
    }
    let letter = unit.strip_suffix('b').unwrap_or(unit);
    let is_small = unit.len() == 1 || letter.bytes().all(|b| b.is_ascii_lowercase());
    (letter.len() == 1 && is_small).then(|| binary(letter)).flatten()
}

/// A time, at most 100 years.
///
/// # Errors
/// When it is no time.
pub fn time(text: &str) -> Result<Duration, UnitError> {
    let error = |reason| UnitError::new(text, Quantity::Time, reason);
    let (number, unit) = split(text, Quantity::Time)?;
    let nanos: u64 = match unit {
        "ns" | "nsec" | "nsecs" => 1,
        "us" | "usec" | "usecs" => 1_000,
        "ms" | "msec" | "msecs" => 1_000_000,
        "s" | "sec" | "secs" => 1_000_000_000,
        "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        // Minutes to people, metres to nobody, and half of "ms".
        "m" => {
            let [one, other] = ["min", "ms"].map(|unit| format!("{number} {unit}"));
            return Err(error(Reason::Ambiguous { one, other }));
        }
        _ => return Err(error(Reason::Malformed)),
    };
    let total = scaled(number, nanos).filter(|n| *n <= LONGEST);
    total.map(Duration::from_nanos).ok_or_else(|| error(Reason::NotWhole))
}

/// Powers of 1000, by a prefix in any case; none for no prefix.
fn decimal(prefix: &str) -> Option<u64> {
    Some(match prefix {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        "t" | "T" => 1_000_000_000_000,
        _ => return None,
    })
}

/// Powers of 1024, by a letter in any case.
fn binary(letter: &str) -> Option<u64> {
    Some(match letter {
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        _ => return None,
    })
}

/// Powers of 1024, by the standard's names: `Ki`, `Mi`, in `tc` also small.
fn binary_name(prefix: &str) -> Option<u64> {
    prefix.strip_suffix('i').and_then(binary)
}

/// Splits `12.5 Mbit/s` into (`12.5`, `Mbit/s`).
fn split(text: &str, quantity: Quantity) -> Result<(&str, &str), UnitError> {
    let s = text.trim();
    let end = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
    let (number, unit) = s.split_at(end);
    match (number.is_empty(), unit.is_empty()) {
        (false, false) => Ok((number, unit.trim_start())),
        (false, true) if number != "." => Err(UnitError::new(s, quantity, Reason::NoUnit)),
        _ => Err(UnitError::new(text, quantity, Reason::Malformed)),
    }
}

/// A decimal number times a factor, exact, without floats; `None` when it is no number, has a
/// fraction of a unit, or overflows.
pub fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let digits = u32::try_from(fraction.len()).ok().filter(|d| *d <= 12)?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor);
    let scale = 10u128.pow(digits);
    if part % scale != 0 {
        return None;
    }
    whole.checked_add(u64::try_from(part / scale).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_means_what_its_users_mean() {
        let rates: [(&[&str], u64); 12] = [
            (
                &["10 Mbit/s", "10Mbit", "10mbit", "10MBIT", "10 Mbits/sec", "10M", "10m", "10Mbps"],
                10_000_000,
            ),
            (&["10 Mb/s", "10000k", "10000 kbit", "10000Kbps", "0.01G"], 10_000_000),
            (&["1Gbps", "1gbit", "1G", "1g", "1 Gbit/s", "1000Mbps"], 1_000_000_000),
            (&["512kbit", "512K", "512k", "512 kbit/s", "512Kbit/sec"], 512_000),
            (&["1Tbps", "1tbit", "1T"], 1_000_000_000_000),
            (&["1MBps", "1 MB/s", "8mbit"], 8_000_000),
            (&["1 MiB/s"], 8 << 20),
            (&["1mibit", "1Mibit", "1 Mibit/s"], 1 << 20),
            (&["9600bit", "9600 bit/s", "9600 bits/s", "9.6kbit"], 9600),
            (&["100 B/s"], 800),
            (&["100 b/s"], 100),
            (&["1.5Gbit"], 1_500_000_000),
        ];
        for (texts, wanted) in rates {
            texts.iter().for_each(|text| assert_eq!(bits_per_second(text), Ok(wanted), "{text}"));
        }
        let sizes: [(&[&str], u64); 7] = [
            (&["512M", "512m", "512mb", "512 MiB", "0.5G", "524288k"], 512 << 20),
            (&["10kb", "10k", "10K", "10 KiB"], 10 << 10),
            (&["10 kB", "10KB"], 10_000),
            (&["1G", "1g", "1gb", "1 GiB"], 1 << 30),
            (&["20 GB"], 20_000_000_000),
            (&["1T", "1tb", "1 TiB"], 1 << 40),
            (&["1500b", "1500 B"], 1500),
        ];
        for (texts, wanted) in sizes {
            texts.iter().for_each(|text| assert_eq!(bytes(text), Ok(wanted), "{text}"));
        }
        let times: [(&[&str], u64); 6] = [
            (&["10ms", "10 ms", "10msec", "10msecs", "0.01s", "10000us"], 10_000_000),
            (&["1s", "1sec", "1secs", "1000 ms"], 1_000_000_000),
            (&["100us", "100usec", "100 usecs"], 100_000),
            (&["7ns", "7nsecs"], 7),
            (&["85 min", "85min"], 85 * 60_000_000_000),
            (&["1.5 h", "5400 s"], 5_400_000_000_000),
        ];
        for (texts, wanted) in times {
            texts.iter().for_each(|text| assert_eq!(time(text), Ok(Duration::from_nanos(wanted)), "{text}"));
        }
    }

    #[test]
    fn what_is_read_in_two_ways_is_refused_with_both() {
        for (text, one, other) in [
            ("1gbps", "1 Gbit/s", "1 GB/s"),
            ("10 mbps", "10 Mbit/s", "10 MB/s"),
            ("64kbps", "64 kbit/s", "64 kB/s"),
            ("9600bps", "9600 bit/s", "9600 B/s"),
        ] {
            let error = bits_per_second(text).expect_err(text).to_string();
            let wanted =
                format!("{text:?} can be read as {one} and as {other}: write \"{one}\" or \"{other}\"");
            assert_eq!(error, wanted);
            // Both are taken as they are proposed.
            let [bits, bytes] = [one, other].map(|text| bits_per_second(text).expect(text));
            assert_eq!(bytes, bits * 8);
        }
        let error = time("5m").expect_err("minutes?").to_string();
        assert!(error.contains("5 min") && error.contains("5 ms"), "{error}");
    }

    #[test]
    fn a_plain_number_is_told_its_unit() {
        let error = |e: UnitError| e.to_string();
        assert_eq!(
            bits_per_second("10").map_err(error),
            Err("\"10\" is not a bit rate with its unit, such as \"10 Mbit/s\": it has no unit: write the unit, \
                 such as \"10 Mbit/s\" or \"10 bit/s\""
                .to_owned())
        );
        assert!(bytes(" 512 ").expect_err("no unit").to_string().contains("\"512 MiB\" or \"512 GB\""));
        assert!(time("90").expect_err("no unit").to_string().contains("\"90 s\" or \"90 ms\""));
    }

    #[test]
    fn what_is_nothing_is_refused() {
        for bad in [
            "",
            " ",
            ".",
            "Mbit/s",
            "-1 Mbit/s",
            "1e3 Mbit/s",
            "1. Mbit/s",
            "0.1 bit",
            "99999999999 Tbit/s",
            "1 Mb",
            "1 Mo",
            "1M/s",
            "1 m bit",
            "1bits/",
            "1kbitt",
            "1 Mbps/s",
            "1xbps",
            "1KKbps",
            "٣ Mbit/s",
            "1,5 Mbit/s",
        ] {
            assert!(bits_per_second(bad).is_err(), "{bad}");
        }
        for bad in
            ["", "1 Gigabyte", "1 Gb", "1 Mbit", "1MiBs", "1mB", "1 iB", "0.3B", "99999999T", "1Kb", "1i"]
        {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        for bad in ["", "1 week", "1S", "1Ms", "0.1ns", "101000 d", "1 M", "s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        let long = "9".repeat(5000);
        assert!(bits_per_second(&long).expect_err("too long").to_string().len() < 400);
    }

    proptest! {
        /// Whatever is read is what its number and its unit say.
        #[test]
        fn a_number_and_a_unit_are_exact(n in 0u64..1_000_000, unit in 0usize..6, space in any::<bool>()) {
            let (spelling, factor) =
                [("kbit", 1_000u64), ("mbit", 1_000_000), ("G", 1_000_000_000), ("Mbps", 1_000_000), ("bit/s", 1), ("KiB/s", 8 << 10)][unit];
            let text = format!("{n}{}{spelling}", if space { " " } else { "" });
            prop_assert_eq!(bits_per_second(&text), Ok(n * factor));
        }

        /// Any text is a value or an error of bounded length that says what to write.
        #[test]
        fn any_text_is_a_value_or_an_error(text in "[0-9.]{0,6} ?[a-zA-Z/.µ]{0,8}|\\PC{0,60}") {
            for error in [bits_per_second(&text).err(), bytes(&text).err(), time(&text).err()].into_iter().flatten() {
                prop_assert!(error.problem().len() < 1000 && error.instead().starts_with("write "));
            }
        }

        /// What an error proposes is taken, and the two are what they are said to be.
        #[test]
        fn proposals_are_taken(number in "[1-9][0-9]{0,3}", unit in "[kmgt]?bps") {
            let Reason::Ambiguous { one, other } = bits_per_second(&format!("{number}{unit}")).expect_err("two readings").reason
            else { return Err(TestCaseError::fail("not ambiguous")) };
            prop_assert_eq!(bits_per_second(&one).map(|n| n * 8), bits_per_second(&other));
        }
    }
}
