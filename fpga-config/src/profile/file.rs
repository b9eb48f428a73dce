//! The form of profiles and boards in `profiles/*.toml`.
//!
//! A block has registers at offsets from its base. `count` repeats a block or a register, `stride`
//! bytes apart (4 by default), and `{}` in the name is replaced by the number. A profile has its
//! board's blocks too.

use super::faults::KnownFault;
use super::generator::GeneratorFile;
use serde::{Deserialize, Serialize};

/// A bitfile's file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// Its name.
    pub name: String,
    /// A description of one line.
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
    /// The registers that show whether its data path lags.
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
    /// A description of one line.
    pub about: String,
    /// Ethernet ports.
    pub ports: u8,
    /// Its PCI id.
    pub pci: Option<PciId>,
    /// How its driver is called.
    pub ioctl: Ioctl,
    /// The FPGA that its bitfiles are made for.
    pub user_fpga: Option<UserFpga>,
    /// Its bus FPGA.
    pub bus_fpga: Option<BusFpga>,
    /// The blocks that all its bitfiles have.
    #[serde(default, rename = "block")]
    pub blocks: Vec<Block>,
}

/// Registers of a common base.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Its name, with `{}` for the number if it is repeated.
    pub name: String,
    /// Byte address.
    pub base: u32,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Bytes between two.
    #[serde(default)]
    pub stride: u32,
    /// The registers in each repetition.
    pub registers: Vec<RegisterFile>,
}

/// A register, or several of the same kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterFile {
    /// Its name, with `{}` for the number if it is repeated.
    pub name: String,
    /// Bytes from the block's base.
    pub at: u32,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Bytes between two.
    #[serde(default = "four")]
    pub stride: u32,
    /// The allowed accesses.
    #[serde(default)]
    pub access: Mode,
    /// Its unit.
    pub is: Option<Meaning>,
    /// A remark for people.
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

/// The allowed accesses of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// Read only; a write has no effect.
    #[default]
    #[serde(rename = "r")]
    Read,
    /// Read and written.
    #[serde(rename = "rw")]
    ReadWrite,
    /// Only written.
    #[serde(rename = "w")]
    Write,
    /// Read only; reading resets it to 0.
    #[serde(rename = "clears")]
    Clears,
    /// Read only; both reading and writing reset it to 0.
    #[serde(rename = "clears on access")]
    ClearsOnAccess,
}

impl Mode {
    /// Whether reading resets it to 0: what one reader has read, no other reads again.
    pub const fn clears(self) -> bool {
        matches!(self, Mode::Clears | Mode::ClearsOnAccess)
    }
}

/// The effect of reading the counters of wildcard rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RowCounters {
    /// None: they accumulate, and wrap.
    #[default]
    #[serde(rename = "accumulate")]
    Accumulate,
    /// It resets them to 0.
    #[serde(rename = "clear on read")]
    ClearOnRead,
}

/// The unit of a register. The first five are cumulative and wrap after 2^32.
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
    /// Whether it is cumulative.
    pub const fn grows(self) -> bool {
        matches!(self, Meaning::Packets | Meaning::Bytes | Meaning::Words | Meaning::Events)
    }
}

/// The PCI id and BAR of a board.
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

/// The argument of the driver's ioctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Argument {
    /// On a socket, an ifreq whose data points at `{ u32 address; u32 value }`.
    Ifreq,
    /// On a device file: a write takes `address << 32 | value` by value, a read a pointer to a
    /// 64-bit word.
    U64,
}

/// How a board's driver is called. The numbers of the boards collide: 0x89F0 is a read on one only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ioctl {
    /// The first card's network interface or device file.
    pub device: String,
    /// The form of the argument.
    pub argument: Argument,
    /// Number of a read.
    pub read: u16,
    /// Number of a write.
    pub write: u16,
}

/// The FPGA that a bitfile has to be made for.
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
    /// The version that this project was written for.
    pub version: u32,
    /// Its revision.
    pub revision: u8,
}

/// The registers of the flow table.
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
    /// The effect of reading a row's counters.
    #[serde(default)]
    pub row_counters: RowCounters,
}

/// The registers that show whether the data path decides all frames that enter it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPathFile {
    /// The register that counts frames that enter.
    pub entered: String,
    /// The registers whose sum counts decisions.
    pub decided: Vec<String>,
    /// The register that shows whether the data path accepts words.
    pub ready: Option<String>,
    /// The bit of that register.
    #[serde(default)]
    pub ready_bit: u8,
}

/// The output queues.
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

/// The rate limiters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimiterFile {
    /// Their arithmetic.
    pub kind: LimiterKind,
    /// Name of their block.
    pub block: String,
    /// How many.
    pub count: u8,
    /// Distance from one port's limiter to the next's; those in between do not belong to ports.
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
    /// How long it waits for an access, in milliseconds.
    pub milliseconds: u64,
}
