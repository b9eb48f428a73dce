//! What is known to be wrong with a bitfile, as its profile says it.

use serde::{Deserialize, Serialize};

/// A known fault of a bitfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFault {
    /// A short name, the only one of its profile.
    pub id: String,
    /// What code that knows it calls it; `None` for one that only people are told of.
    pub kind: Option<FaultKind>,
    /// One line for people.
    pub title: String,
    /// Which frames bring it about.
    pub trigger: String,
    /// What the card does then.
    pub effect: String,
    /// Whether the registers show that it happened.
    pub detect: Detect,
    /// What helps.
    pub remedy: Remedy,
    /// The remedy, as text.
    pub advice: String,
    /// The key that the look-up sees instead of the frame's.
    pub key: Option<FaultKey>,
}

/// Faults that code knows: the model can have them, and the agent looks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FaultKind {
    /// A frame that ends before its header parser has found all fields makes the look-up lag, or
    /// stop.
    #[serde(rename = "header beyond frame")]
    HeaderBeyondFrame,
    /// A short frame close behind a tagged one of a certain length stops the data path.
    #[serde(rename = "tagged then short")]
    TaggedThenShort,
    /// An IPv4 header length below 5 gives a key that is not the frame's.
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

/// What helps against a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
    /// A reset of the user FPGA, after which everything must be written again.
    #[serde(rename = "reset")]
    Reset,
    /// The first wildcard row drops [`KnownFault::key`].
    #[serde(rename = "guard row")]
    GuardRow,
    /// Nothing.
    #[serde(rename = "none")]
    None,
}

/// A key that only a fault makes: these fields, and zero in all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultKey {
    /// The queue it seems to come from.
    pub source: u8,
    /// The VLAN field.
    pub vlan: u16,
}
