//! Units: time in nanoseconds since the epoch, bit rates in bit/s, sizes in bytes, address
//! prefixes.

use crate::ids::{ParseError, serde_as_text};
use crate::spellings::{self, UnitError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

/// A moment: nanoseconds since the Unix epoch. Passed in, never read; never decreases.
///
/// What is passed in as `now` is the wall clock when the program started and what has passed since
/// by a monotonic clock, so that a wall clock that is set moves no timer. Moments that are stored
/// or shown are by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// The epoch.
    pub const ZERO: Time = Time(0);

    /// The moment `seconds` after the epoch.
    pub const fn from_secs(seconds: u64) -> Time {
        Time(seconds.saturating_mul(1_000_000_000))
    }

    /// Seconds since the epoch, as a float (for reports only).
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How many nanoseconds `self` is after `other`, or, below zero, before it; saturates at 292
    /// years.
    pub const fn ahead_of(self, other: Time) -> i64 {
        let wide = self.0 as i128 - other.0 as i128;
        if wide > i64::MAX as i128 {
            i64::MAX
        } else if wide < i64::MIN as i128 {
            i64::MIN
        } else {
            wide as i64
        }
    }

    /// The moment `by` nanoseconds later, or, below zero, earlier; saturates at both ends of time.
    pub const fn moved(self, by: i64) -> Time {
        Time(self.0.saturating_add_signed(by))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;
    /// Saturates at the end of time (year 2554).
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A bit rate in bit/s, counted in layer-2 bits (Ethernet frame without preamble, gap and FCS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct BitRate(pub u64);

impl BitRate {
    /// `n` bit/s times 10^6.
    pub const fn mbit(n: u64) -> BitRate {
        BitRate(n.saturating_mul(1_000_000))
    }

    /// Mbit/s, as a float (for reports only).
    pub fn as_mbit(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The rate of `bytes` transferred over `period`; zero for an empty period.
    pub fn over(bytes: u64, period: Duration) -> BitRate {
        let nanos = period.as_nanos();
        if nanos == 0 {
            return BitRate(0);
        }
        let bits = u128::from(bytes) * 8 * 1_000_000_000;
        BitRate(u64::try_from(bits / nanos).unwrap_or(u64::MAX))
    }

    /// `self - other`, not below zero.
    pub const fn saturating_sub(self, other: BitRate) -> BitRate {
        BitRate(self.0.saturating_sub(other.0))
    }

    /// `self + other`, not above the largest rate.
    pub const fn saturating_add(self, other: BitRate) -> BitRate {
        BitRate(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for BitRate {
    /// The largest unit that leaves an exact, short number: `3 Mbit/s`, `1.5 Gbit/s`, `64 kbit/s`,
    /// `999 bit/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            n if n >= 1_000_000_000 => (1e9, "Gbit/s"),
            n if n >= 1_000_000 => (1e6, "Mbit/s"),
            n if n >= 1_000 => (1e3, "kbit/s"),
            n => return write!(f, "{n} bit/s"),
        };
        let text = format!("{:.3}", self.0 as f64 / unit);
        write!(f, "{} {name}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for BitRate {
    type Err = UnitError;
    /// A number and a unit: see [`crate::spellings`].
    fn from_str(s: &str) -> Result<Self, UnitError> {
        spellings::bits_per_second(s).map(BitRate)
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` MiB (2^20 bytes).
    pub const fn mib(n: u64) -> Bytes {
        Bytes(n.saturating_mul(1 << 20))
    }

    /// `n` GiB (2^30 bytes).
    pub const fn gib(n: u64) -> Bytes {
        Bytes(n.saturating_mul(1 << 30))
    }
}

/// Sum of memory-like amounts, for reports; it stays at the largest number there is.
impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(iter: I) -> Bytes {
        Bytes(iter.map(|b| b.0).fold(0, u64::saturating_add))
    }
}

impl fmt::Display for Bytes {
    /// Binary units: `512 MiB`, `1.5 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, name) = match self.0 {
            n if n >= 1 << 40 => (40, "TiB"),
            n if n >= 1 << 30 => (30, "GiB"),
            n if n >= 1 << 20 => (20, "MiB"),
            n if n >= 1 << 10 => (10, "KiB"),
            n => return write!(f, "{n} B"),
        };
        let text = format!("{:.2}", self.0 as f64 / (1u64 << shift) as f64);
        write!(f, "{} {name}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    /// A number and a unit: see [`crate::spellings`].
    fn from_str(s: &str) -> Result<Self, UnitError> {
        spellings::bytes(s).map(Bytes)
    }
}

/// An IPv4 prefix with its host bits zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: Ipv4Addr,
    len: u8,
}

impl Prefix {
    /// Every IPv4 address.
    pub const ALL: Prefix = Prefix { address: Ipv4Addr::UNSPECIFIED, len: 0 };

    /// The prefix of `len` bits that holds `address`; host bits are cleared. `None` when
    /// `len > 32`.
    pub const fn new(address: Ipv4Addr, len: u8) -> Option<Prefix> {
        if len > 32 {
            return None;
        }
        let bits = address.to_bits() & Self::mask_bits(len);
        Some(Prefix { address: Ipv4Addr::from_bits(bits), len })
    }

    /// The /32 of one address.
    pub const fn host(address: Ipv4Addr) -> Prefix {
        Prefix { address, len: 32 }
    }

    const fn mask_bits(len: u8) -> u32 {
        if len == 0 { 0 } else { u32::MAX << (32 - len as u32) }
    }

    /// The lowest address of the prefix.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Number of leading bits, 0 to 32.
    #[expect(clippy::len_without_is_empty, reason = "a prefix length, not a container's")]
    pub const fn len(self) -> u8 {
        self.len
    }

    /// The netmask, e.g. 255.255.255.0.
    pub const fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(Self::mask_bits(self.len))
    }

    /// The highest address of the prefix.
    pub const fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !Self::mask_bits(self.len))
    }

    /// Number of addresses.
    pub const fn size(self) -> u64 {
        1u64 << (32 - self.len as u32)
    }

    /// True when `address` lies in the prefix.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & Self::mask_bits(self.len) == self.address.to_bits()
    }

    /// True when every address of `other` lies in `self`.
    pub const fn covers(self, other: Prefix) -> bool {
        self.len <= other.len && self.contains(other.address)
    }

    /// True when some address lies in both.
    pub const fn overlaps(self, other: Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The `n`th address; `None` past the end.
    pub fn nth(self, n: u64) -> Option<Ipv4Addr> {
        let offset = u32::try_from(n).ok().filter(|_| n < self.size())?;
        self.address.to_bits().checked_add(offset).map(Ipv4Addr::from_bits)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl FromStr for Prefix {
    type Err = ParseError;
    /// `address/len`, host bits zero.
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad =
            || ParseError { text: s.into(), wanted: "a prefix with its host bits zero, such as 10.0.1.0/24" };
        let (address, len) = s.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let len: u8 = len.parse().map_err(|_| bad())?;
        Prefix::new(address, len).filter(|p| p.address == address).ok_or_else(bad)
    }
}

serde_as_text!(Prefix);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_sizes_are_exact_and_refuse_what_is_not_a_whole_bit() {
        assert_eq!("10 Mbit/s".parse(), Ok(BitRate::mbit(10)));
        assert_eq!("1.5Gbit".parse(), Ok(BitRate(1_500_000_000)));
        assert_eq!("0.0001 kbit/s".parse::<BitRate>().ok(), None);
        assert_eq!("512 MiB".parse(), Ok(Bytes::mib(512)));
        assert_eq!("20 GB".parse(), Ok(Bytes(20_000_000_000)));
        for bad in
            ["", "10", "Mbit/s", "-1 Mbit/s", "1e3 Mbit/s", "10 mbps", "99999999999 Tbit/s", "1. Mbit/s"]
        {
            assert!(bad.parse::<BitRate>().is_err(), "{bad}");
        }
        assert_eq!(BitRate(1_500_000).to_string(), "1.5 Mbit/s");
        assert_eq!(BitRate::mbit(100).to_string(), "100 Mbit/s");
        assert_eq!(Bytes::gib(20).to_string(), "20 GiB");
    }

    #[test]
    fn a_rate_is_bits_over_time() {
        assert_eq!(BitRate::over(125_000, Duration::from_secs(1)), BitRate::mbit(1));
        assert_eq!(BitRate::over(1, Duration::ZERO), BitRate(0));
        assert_eq!(BitRate::over(u64::MAX, Duration::from_nanos(1)), BitRate(u64::MAX));
    }

    #[test]
    fn prefixes_contain_cover_and_end_where_they_should() {
        let p: Prefix = "10.0.1.0/24".parse().expect("a prefix");
        assert!(p.contains(Ipv4Addr::new(10, 0, 1, 255)) && !p.contains(Ipv4Addr::new(10, 0, 2, 0)));
        assert_eq!(p.nth(255), Some(Ipv4Addr::new(10, 0, 1, 255)));
        assert_eq!(p.nth(256), None);
        assert!(Prefix::ALL.covers(p) && !p.covers(Prefix::ALL) && p.overlaps(Prefix::ALL));
        assert_eq!(Prefix::ALL.size(), 1 << 32);
        assert_eq!(Prefix::ALL.nth(u64::MAX), None);
        for bad in ["10.0.1.1/24", "10.0.1.0", "10.0.1.0/33", "/8"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }
}
