//! How a client says which VM it means: by number, by name, or for a group by address.

use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use utoipa::ToSchema;

/// A VM as a client names it: its number (`7`, `"7"` or `"vm7"`), or the name that it was requested
/// with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Vm)]
pub enum VmRef {
    /// Its number.
    Number(u64),
    /// Its name, or its number as a text.
    Text(String),
}

/// What is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant<'a> {
    /// A VM's number.
    Number(u64),
    /// A VM's name.
    Name(&'a str),
}

impl VmRef {
    /// The number or the name that is meant. A text that can be a number is one: no VM gets such a
    /// name.
    pub fn meant(&self) -> Meant<'_> {
        match self {
            VmRef::Number(number) => Meant::Number(*number),
            VmRef::Text(text) => meant(text),
        }
    }

    /// What a path of the API has for it.
    pub fn segment(&self) -> String {
        match self.meant() {
            Meant::Number(number) => number.to_string(),
            Meant::Name(name) => name.to_owned(),
        }
    }
}

/// The number or the name that a text means.
pub fn meant(text: &str) -> Meant<'_> {
    match number(text) {
        Some(number) => Meant::Number(number),
        None => Meant::Name(text),
    }
}

fn number(text: &str) -> Option<u64> {
    text.strip_prefix("vm").unwrap_or(text).parse().ok()
}

/// True for a text that means something else than a name: a number or an address.
pub(crate) fn is_taken_otherwise(text: &str) -> bool {
    number(text).is_some() || text.parse::<Ipv4Addr>().is_ok()
}

impl From<u64> for VmRef {
    fn from(number: u64) -> VmRef {
        VmRef::Number(number)
    }
}

impl From<Ipv4Addr> for VmRef {
    fn from(address: Ipv4Addr) -> VmRef {
        VmRef::Text(address.to_string())
    }
}

impl FromStr for VmRef {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<VmRef, Infallible> {
        Ok(match meant(text) {
            Meant::Number(number) => VmRef::Number(number),
            Meant::Name(name) => VmRef::Text(name.to_owned()),
        })
    }
}

impl fmt::Display for VmRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meant() {
            Meant::Number(number) => write!(f, "vm{number}"),
            Meant::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_number_however_it_is_written() {
        for text in ["7", "vm7", "007"] {
            assert_eq!(meant(text), Meant::Number(7), "{text}");
            assert_eq!(text.parse::<VmRef>().map(|v| v.segment()), Ok("7".to_owned()));
        }
        for text in ["web", "vm", "vm7b", "10.0.0.1", "vm-7", "", "Vm7"] {
            assert_eq!(meant(text), Meant::Name(text));
        }
        let read = |json: &str| serde_json::from_str::<VmRef>(json).map(|v| v.to_string()).ok();
        assert_eq!(read("7").as_deref(), Some("vm7"));
        assert_eq!(read("\"vm7\"").as_deref(), Some("vm7"));
        assert_eq!(read("\"web\"").as_deref(), Some("web"));
        assert_eq!(read("-1").or(read("null")).or(read("{}")), None);
        assert_eq!(serde_json::to_string(&VmRef::from(7)).ok().as_deref(), Some("7"), "as before");
    }

    #[test]
    fn what_means_something_else_is_no_name() {
        assert!(["7", "vm7", "10.0.0.1"].iter().all(|text| is_taken_otherwise(text)));
        assert!(!["web", "vm", "web-7", "10.0.0", "7b"].iter().any(|text| is_taken_otherwise(text)));
    }
}
