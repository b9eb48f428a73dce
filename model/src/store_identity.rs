//! What tells one controller's store from every other's.
//!
//! A store belongs to a site, and whatever it was written down for (a hypervisor service, a Xen
//! host, agents) belongs to the store: the number is made once, with the store, and stays what it
//! is when the store's file is moved.

use crate::Time;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A random number of 128 bits; 32 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreUid(pub u128);

impl fmt::Display for StoreUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StoreUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no [`StoreUid`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a store's identity has 32 hexadecimal digits")]
pub struct NoStoreUid;

impl FromStr for StoreUid {
    type Err = NoStoreUid;
    fn from_str(text: &str) -> Result<StoreUid, NoStoreUid> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(StoreUid).ok_or(NoStoreUid)
    }
}

impl Serialize for StoreUid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreUid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<StoreUid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whose a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreIdentity {
    /// Its number.
    pub id: StoreUid,
    /// The site's name.
    pub site: String,
    /// SHA-256, in hexadecimal digits, of what the site is: its name, and whatever a record points
    /// to by its place in it (switches, servers, gateways, links, classes).
    pub fingerprint: String,
    /// When it was made.
    pub made_at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_with_all_its_digits_and_read_again() {
        let id = StoreUid(0xab);
        assert_eq!(id.to_string(), "000000000000000000000000000000ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("ab".parse::<StoreUid>(), Err(NoStoreUid));
        assert_eq!("+00000000000000000000000000000ab".parse::<StoreUid>(), Err(NoStoreUid));
        assert_eq!("é".repeat(16).parse::<StoreUid>(), Err(NoStoreUid));
    }
}
