//! Known faults of a bitfile, as its profile describes them.

use serde::{Deserialize, Serialize};

/// A known fault of a bitfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFault {
    /// A short name, unique in its profile.
    pub id: String,
    /// The kind that the code handles; `None` for a fault that is only documented.
    pub kind: Option<FaultKind>,
    /// A description of one line.
    pub title: String,
    /// The frames that trigger it.
    pub trigger: String,
    /// The card's behaviour then.
    pub effect: String,
    /// Whether the registers show it.
    pub detect: Detect,
    /// The remedy.
    pub remedy: Remedy,
    /// The remedy, as text.
    pub advice: String,
    /// The key that the look-up gets instead of the frame's.
    pub key: Option<FaultKey>,
}

/// Faults that the code handles: the model can simulate them, and the agent detects them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FaultKind {
    /// A frame that ends before its header parser has all fields makes the look-up lag or stop.
    #[serde(rename = "header beyond frame")]
    HeaderBeyondFrame,
    /// A short frame close behind a tagged one of a certain length stops the data path.
    #[serde(rename = "tagged then short")]
    TaggedThenShort,
    /// An IPv4 header length below 5 gives a wrong key.
    #[serde(rename = "short header")]
    ShortHeader,
}

/// Whether the registers show that a fault happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detect {
    /// Fewer decisions than frames that entered, for good: see [`DataPath`](super::DataPath).
    #[serde(rename = "data path")]
    DataPath,
    /// They do not.
    #[serde(rename = "no")]
    No,
}

/// The remedy against a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
    /// A reset of the user FPGA, after which everything has to be written again.
    #[serde(rename = "reset")]
    Reset,
    /// The first wildcard row drops [`KnownFault::key`].
    #[serde(rename = "guard row")]
    GuardRow,
    /// There is none.
    #[serde(rename = "none")]
    None,
}

/// A key that only a fault makes: these fields, and zero in all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultKey {
    /// The source queue in the key.
    pub source: u8,
    /// The VLAN field.
    pub vlan: u16,
}
