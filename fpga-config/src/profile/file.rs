//! Profiles and boards as they are written in `profiles/*.toml`.
//!
//! A block has registers at offsets from its base. `count` makes several of a block or a register,
//! `stride` bytes apart (4 where it is not said), and `{}` in the name is where the number goes. A
//! profile has its board's blocks too.

use super::faults::KnownFault;
use super::generator::GeneratorFile;
use serde::{Deserialize, Serialize};

/// A bitfile's file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// The board's name.
    pub board: String,
    /// The directory that the device id block names.
    pub directory: Option<String>,
    /// Its flow table.
    pub flow_table: Option<FlowTableFile>,
    /// Its output queues.
    pub queues: Option<QueuesFile>,
    /// Its rate limiters.
    pub rate_limiter: Option<RateLimiterFile>,
    /// Its watchdog.
    pub watchdog: Option<WatchdogFile>,
    /// Its replay and capture.
    pub generator: Option<GeneratorFile>,
    /// What shows that its data path lags.
    pub data_path: Option<DataPathFile>,
    /// Its known faults.
    #[serde(default, rename = "fault")]
    pub faults: Vec<KnownFault>,
    /// Its blocks.
    #[serde(default, rename = "block")]
    pub blocks: Vec<Block>,
}

/// A board's file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardFile {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Ethernet ports.
    pub ports: u8,
    /// How it is found.
    pub pci: Option<PciId>,
    /// How its driver is asked.
    pub ioctl: Ioctl,
    /// What its bitfiles are made for.
    pub user_fpga: Option<UserFpga>,
    /// Its bus FPGA.
    pub bus_fpga: Option<BusFpga>,
    /// The blocks that all its bitfiles have.
    #[serde(default, rename = "block")]
    pub blocks: Vec<Block>,
}

/// Registers that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// With `{}` for its number where there are several.
    pub name: String,
    /// Byte address.
    pub base: u32,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Bytes between two.
    #[serde(default)]
    pub stride: u32,
    /// What is in each.
    pub registers: Vec<RegisterFile>,
}

/// A register, or several alike.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterFile {
    /// With `{}` for its number where there are several.
    pub name: String,
    /// Bytes from the block's base.
    pub at: u32,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Bytes between two.
    #[serde(default = "four")]
    pub stride: u32,
    /// What may be done with it.
    #[serde(default)]
    pub access: Mode,
    /// What it counts.
    pub is: Option<Meaning>,
    /// For people.
    pub note: Option<String>,
}

fn one() -> u32 {
    1
}

fn one_step() -> u8 {
    1
}

fn four() -> u32 {
    4
}

/// What may be done with a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// Read; writing it does nothing.
    #[default]
    #[serde(rename = "r")]
    Read,
    /// Read and written.
    #[serde(rename = "rw")]
    ReadWrite,
    /// Only written.
    #[serde(rename = "w")]
    Write,
    /// Read, which sets it to 0.
    #[serde(rename = "clears")]
    Clears,
    /// Read; reading and writing it both set it to 0.
    #[serde(rename = "clears on access")]
    ClearsOnAccess,
}

impl Mode {
    /// True for a register that reading sets to 0: what one reader took, no other sees.
    pub const fn clears(self) -> bool {
        matches!(self, Mode::Clears | Mode::ClearsOnAccess)
    }
}

/// What reading the counters of wildcard rows does to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RowCounters {
    /// Nothing: they accumulate, and wrap.
    #[default]
    #[serde(rename = "accumulate")]
    Accumulate,
    /// It sets them to 0.
    #[serde(rename = "clear on read")]
    ClearOnRead,
}

/// What a register is a number of. The first five grow and wrap after 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Meaning {
    /// Packets so far.
    #[serde(rename = "packets")]
    Packets,
    /// Bytes so far.
    #[serde(rename = "bytes")]
    Bytes,
    /// 8-byte words so far.
    #[serde(rename = "words")]
    Words,
    /// Times that something happened.
    #[serde(rename = "events")]
    Events,
    /// Seconds of the card's clock.
    #[serde(rename = "seconds")]
    Seconds,
    /// Packets at the moment.
    #[serde(rename = "packets now")]
    PacketsNow,
    /// 8-byte words at the moment.
    #[serde(rename = "words now")]
    WordsNow,
}

impl Meaning {
    /// True for what only grows (and wraps).
    pub const fn grows(self) -> bool {
        matches!(self, Meaning::Packets | Meaning::Bytes | Meaning::Words | Meaning::Events)
    }
}

/// How a board is found on the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciId {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Size of BAR 0.
    pub bar_bytes: u32,
}

/// What the driver's ioctl takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Argument {
    /// On a socket, an ifreq whose data points at `{ u32 address; u32 value }`.
    Ifreq,
    /// On a device file: a write takes `address << 32 | value` by value, a read a pointer to a
    /// 64-bit word.
    U64,
}

/// How a board's driver is asked. The numbers of the boards collide: 0x89F0 is a read on one only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ioctl {
    /// The first card's network interface or device file.
    pub device: String,
    /// What is passed.
    pub argument: Argument,
    /// Number of a read.
    pub read: u16,
    /// Number of a write.
    pub write: u16,
}

/// What a bitfile must be made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserFpga {
    /// The part as bitfiles name it.
    pub part: String,
    /// Length of its configuration.
    pub bytes: u32,
}

/// The FPGA between bus and user FPGA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusFpga {
    /// The part as bitfiles name it.
    pub part: String,
    /// Length of its configuration.
    pub bytes: u32,
    /// The version that this was written for.
    pub version: u32,
    /// Its revision.
    pub revision: u8,
}

/// Where the flow table is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowTableFile {
    /// Name of the block with the wildcard rows.
    pub block: String,
    /// Name of the block that counts look-ups.
    pub lookup: String,
    /// Wildcard rows.
    pub rows: u16,
    /// Address of the first exact entry.
    pub exact: u32,
    /// Bytes per exact entry.
    pub exact_stride: u32,
    /// Exact entries.
    pub exact_rows: u32,
    /// What reading a row's counters does.
    #[serde(default)]
    pub row_counters: RowCounters,
}

/// Which registers say whether the data path decides about all frames that enter it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPathFile {
    /// The register that counts frames in.
    pub entered: String,
    /// Those that together count decisions.
    pub decided: Vec<String>,
    /// The register that says whether the data path takes words.
    pub ready: Option<String>,
    /// Which bit of it.
    #[serde(default)]
    pub ready_bit: u8,
}

/// Which output queues there are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueuesFile {
    /// Their kind.
    pub kind: QueueKind,
    /// Name of their block.
    pub block: String,
    /// How many.
    pub count: u8,
}

/// Kinds of output queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// 2048 words of 8 bytes each, in block RAM.
    Bram,
    /// In SRAM, with limits per queue.
    Sram,
}

/// Which rate limiters there are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimiterFile {
    /// Their arithmetic.
    pub kind: LimiterKind,
    /// Name of their block.
    pub block: String,
    /// How many.
    pub count: u8,
    /// From one port's limiter to the next's; those between are not a port's.
    #[serde(default = "one_step")]
    pub step: u8,
}

/// Kinds of rate limiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimiterKind {
    /// ENABLE, SHIFT.
    Shift,
    /// CTRL, TOKEN_INTERVAL, TOKEN_INC.
    Tokens,
}

/// The watchdog.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchdogFile {
    /// Name of its block.
    pub block: String,
    /// How long it waits.
    pub milliseconds: u64,
}
