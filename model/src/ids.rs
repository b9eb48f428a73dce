//! Identifiers: small newtypes, so that a port can never be passed where a server is meant.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub $inner);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// An OpenFlow port number, version-neutral. Ports are 1-based; 1.0's 16-bit numbers fit.
    PortNo(u32), "");
id!(
    /// A switch's index in the site's topology (dense, 0-based).
    SwitchId(u32), "sw");
id!(
    /// A server's index in the site's topology (dense, 0-based). A server is a machine that holds
    /// VMs.
    ServerId(u32), "srv");
id!(
    /// A gateway's index (dense, 0-based). A gateway is the thesis's (Teixeira 2013) "outside
    /// host".
    GatewayId(u32), "gw");
id!(
    /// A link's index in the site's topology (dense, 0-based).
    LinkId(u32), "link");
id!(
    /// A virtual machine. Never reused within a store.
    VmId(u64), "vm");
id!(
    /// A VM group: VMs that may talk to each other.
    GroupId(u64), "grp");
id!(
    /// A service class's index in the site file.
    ClassId(u16), "class");
id!(
    /// A transaction over rules; answered per switch by `RulesApplied` or `RulesRefused`.
    TxnId(u64), "txn");
id!(
    /// A request from the API, answered by exactly one `Response`.
    RequestId(u64), "req");
id!(
    /// A write to the store, answered by `Stored` or `StoreFailed`.
    StoreId(u64), "st");
id!(
    /// A VM's way from one server to another. Never reused within a store.
    MigrationId(u64), "mig");
id!(
    /// A list of moves that was thought through as a whole.
    PlanId(u64), "plan");
id!(
    /// A traffic flow that the attached world was asked to generate.
    TrafficId(u64), "tf");

/// An OpenFlow datapath id: 64 bits, written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Dpid(pub u64);

impl fmt::Display for Dpid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct ParseError {
    /// What was given.
    pub text: String,
    /// What was expected, with an example.
    pub wanted: &'static str,
}

impl FromStr for Dpid {
    type Err = ParseError;
    /// Accepts 1 to 16 hexadecimal digits, with or without `0x` and colons.
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad = || ParseError { text: s.into(), wanted: "a datapath id such as 00000000000000a1" };
        let digits: String = s.strip_prefix("0x").unwrap_or(s).chars().filter(|c| *c != ':').collect();
        if digits.is_empty() || digits.len() > 16 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u64::from_str_radix(&digits, 16).map(Dpid).map_err(|_| bad())
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// True for group addresses (IEEE 802.3 3.2.3: the I/G bit), broadcast included.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad = || ParseError { text: s.into(), wanted: "an Ethernet address such as 02:00:00:00:00:01" };
        let mut mac = [0u8; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().ok_or_else(bad)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Mac(mac)) }
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

serde_as_text!(Dpid);
serde_as_text!(Mac);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datapath_id_reads_back_as_written_and_accepts_the_forms_people_use() {
        assert_eq!("a1".parse::<Dpid>(), Ok(Dpid(0xa1)));
        assert_eq!("0x00000000000000a1".parse::<Dpid>(), Ok(Dpid(0xa1)));
        assert_eq!("00:00:00:00:00:00:00:a1".parse::<Dpid>(), Ok(Dpid(0xa1)));
        assert_eq!(Dpid(0xa1).to_string().parse::<Dpid>(), Ok(Dpid(0xa1)));
        for bad in ["", "xyz", "11111111111111111", "+1", "-1"] {
            assert!(bad.parse::<Dpid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ethernet_address_has_six_bytes_no_more_no_less() {
        assert_eq!("02:00:00:00:00:0a".parse::<Mac>().map(|m| m.0[5]), Ok(10));
        for bad in ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "02:00:00:00:00:+1", "0200.0000.0001"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
