//! Which kinds of datapaths a switch can be made of, by name.
//!
//! The names are all that is known of them here. The core decides nothing by them, since it speaks
//! with switches in rules and with agents in what they report. They are here because a site file
//! may name one (`datapath = "soft"`), and a name that nobody knows is a fault of the file. What a
//! kind is, how it is configured and opened, and what a lab sets up for it, is in its folder of the
//! agent; docs/howto/add-a-datapath.md adds one.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The registry of datapaths: hands all kinds to a macro, each as a constant of [`DatapathKind`]
/// and a name. They come in the order in which they are listed to people, opened by an agent, and
/// tried by a lab that may choose.
///
/// The name is that of the kind's folder (a Rust module) in `agent/src/datapath/` and the word in
/// site files, in agent.toml and behind the lab's `--datapath`. The agent's own registry is made
/// from this list, so that a name without a folder does not compile.
#[macro_export]
macro_rules! with_datapath_kinds {
    ($receiver:ident) => {
        $receiver! {
            OVS: ovs,
            SOFT: soft,
            NETFPGA: netfpga,
        }
    };
}

/// What a switch is made of: the name of a kind of datapath that the agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatapathKind(&'static str);

macro_rules! define_kinds {
    ($($constant:ident: $name:ident,)*) => {
        impl DatapathKind {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub const $constant: DatapathKind = DatapathKind(stringify!($name));
            )*

            /// Every kind, in the registry's order.
            pub const ALL: &'static [DatapathKind] = &[$(DatapathKind::$constant),*];

            /// The names of [`DatapathKind::ALL`].
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];
        }
    };
}

with_datapath_kinds!(define_kinds);

impl DatapathKind {
    /// Its name in site files and in agent.toml.
    pub fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for DatapathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A name that no kind of datapath has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no datapath {0:?}; write one of {names}", names = DatapathKind::NAMES.join(", "))]
pub struct UnknownDatapath(String);

impl FromStr for DatapathKind {
    type Err = UnknownDatapath;

    fn from_str(name: &str) -> Result<DatapathKind, UnknownDatapath> {
        let found = DatapathKind::ALL.iter().find(|kind| kind.0 == name);
        found.copied().ok_or_else(|| UnknownDatapath(name.to_owned()))
    }
}

impl Serialize for DatapathKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for DatapathKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DatapathKind, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| D::Error::unknown_variant(&name, DatapathKind::NAMES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_and_read_by_its_name() {
        for kind in DatapathKind::ALL {
            assert_eq!(kind.name().parse(), Ok(*kind));
            let text = serde_json::to_string(kind).expect("a string");
            assert_eq!(text, format!("{:?}", kind.name()));
            assert_eq!(serde_json::from_str::<DatapathKind>(&text).expect("reads back"), *kind);
        }
        let names: std::collections::BTreeSet<_> = DatapathKind::NAMES.iter().collect();
        assert_eq!(names.len(), DatapathKind::ALL.len(), "no two kinds share a name");
    }

    #[test]
    fn a_name_of_no_kind_is_refused_with_those_that_there_are() {
        let why = "asic".parse::<DatapathKind>().expect_err("no kind").to_string();
        assert!(why.starts_with("there is no datapath \"asic\"; write one of ovs, soft, netfpga"), "{why}");
        let why = serde_json::from_str::<DatapathKind>("\"asic\"").expect_err("no kind").to_string();
        assert!(why.contains("unknown variant `asic`, expected one of `ovs`, `soft`, `netfpga`"), "{why}");
    }
}
