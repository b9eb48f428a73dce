//! A bitfile's registers and capabilities: one file per bitfile, because addresses depend on the
//! bitfile. The same sources of the OpenFlow switch give either of two maps.
//!
//! The files are in `profiles/`, their form in [`mod@file`]; those built in are listed in
//! [`builtin`]. A profile is read, checked as a whole (all [`Fault`]s at once, in `check.rs`) and
//! flattened: after that a register is a name and an address, and the parts that code works with
//! ([`FlowMap`], [`Queues`], [`RateLimiter`], [`Watchdog`]) hold addresses.
//!
//! Names are those of the public register definitions without the ending `_REG`, e.g.
//! `MAC_GRP_0_CONTROL`, so that other documentation of the cards applies.

pub mod builtin;
mod check;
pub mod faults;
pub mod file;
pub mod generator;
pub mod probe;

pub use check::{Fault, ProfileError};
pub use faults::{Detect, FaultKey, FaultKind, KnownFault, Remedy};
pub use file::{
    Argument, BusFpga, Ioctl, LimiterKind, Meaning, Mode, PciId, QueueKind, RowCounters, UserFpga,
};
pub use generator::{Generator, GeneratorPort, SramQueue};

use std::collections::BTreeMap;
use std::time::Duration;

/// The properties of a board, which do not depend on the bitfile.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Board {
    /// Its name in profiles.
    pub name: String,
    /// A description of one line.
    pub about: String,
    /// Number of its Ethernet ports.
    pub ports: u8,
    /// Its PCI id, if known.
    pub pci: Option<PciId>,
    /// How its driver is called.
    pub ioctl: Ioctl,
    /// The FPGA that its bitfiles have to be made for, if known.
    pub user_fpga: Option<UserFpga>,
    /// Its bus FPGA (CPCI), if it has one.
    pub bus_fpga: Option<BusFpga>,
}

/// One 32-bit register.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Register {
    /// Its name, e.g. `BRAM_OQ_QUEUE_3_NUM_PKTS_DROPPED`.
    pub name: String,
    /// Its byte address in BAR 0.
    pub address: u32,
    /// The allowed accesses.
    pub mode: Mode,
    /// Its unit; `None` if it is not a number of anything.
    pub is: Option<Meaning>,
    /// Its bits, or a remark on its behaviour.
    pub note: Option<String>,
}

/// Addresses of the wildcard rows and the exact entries of an OpenFlow switch bitfile. The address
/// of an array is that of its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FlowMap {
    /// Wildcard rows; the lowest that matches wins.
    pub rows: u16,
    /// Staging: 10 words of action.
    pub action: u32,
    /// Staging: 8 words of mask, 1 = don't care.
    pub mask: u32,
    /// Staging: 8 words of key.
    pub key: u32,
    /// Writing a row's number here loads it into the staging registers.
    pub read_row: u32,
    /// Writing a row's number here commits the staging registers to it, at once.
    pub write_row: u32,
    /// Bytes that hit, a word per row.
    pub bytes_hit: u32,
    /// Packets that hit, a word per row.
    pub packets_hit: u32,
    /// Time of the row's last hit, in seconds of [`FlowMap::seconds`], a word per row.
    pub last_seen: u32,
    /// The first exact entry.
    pub exact: u32,
    /// Bytes from one exact entry to the next.
    pub exact_stride: u32,
    /// Exact entries.
    pub exact_rows: u32,
    /// Packets that no row matched.
    pub wildcard_misses: u32,
    /// Packets that a row matched.
    pub wildcard_hits: u32,
    /// Packets without an exact entry; those that a row matched are among them.
    pub exact_misses: u32,
    /// Packets with an exact entry.
    pub exact_hits: u32,
    /// Packets dropped, a word per source queue (8).
    pub dropped: u32,
    /// The card's clock, seconds since its reset.
    pub seconds: u32,
    /// The effect of reading a row's counters.
    pub row_counters: RowCounters,
    /// The key that the first row drops: a fault of the bitfile makes it of other ports' frames.
    pub guard: Option<FaultKey>,
}

impl FlowMap {
    /// The address of exact entry `row`'s first word; `None` when there is no such entry.
    pub const fn exact_entry(&self, row: u32) -> Option<u32> {
        if row < self.exact_rows { Some(self.exact + row * self.exact_stride) } else { None }
    }
}

/// The output queues: queue 2n is port n's, queue 2n+1 is CPU port n's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Queues {
    /// In block RAM (OpenFlow switch) or in SRAM (reference designs).
    pub kind: QueueKind,
    /// Number of queues.
    pub count: u8,
}

/// The rate limiters of a bitfile.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RateLimiter {
    /// Their arithmetic.
    pub kind: LimiterKind,
    /// Distance from one port's limiter to the next's.
    pub step: u8,
    /// Address of each limiter's first register.
    pub at: Vec<u32>,
}

/// The watchdog of a bitfile: without an access to its block or to the input arbiter for
/// [`Watchdog::period`], all rows and the exact table are cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Watchdog {
    /// 1 turns it on.
    pub enable: u32,
    /// Reading it is an access that restarts the watchdog.
    pub counter: u32,
    /// How long it waits for an access.
    pub period: Duration,
}

/// The registers that show whether the data path lags or has stopped: shortly after the last frame,
/// all that entered are decided. A difference that stays is a frame that the look-up lost (see
/// [`FaultKind::HeaderBeyondFrame`] and [`FaultKind::TaggedThenShort`]).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DataPath {
    /// Address of the register that counts frames that entered the data path.
    pub entered: u32,
    /// Reading or writing that register resets it to 0, so that one reader sums its readings, and
    /// no other may read it.
    pub entered_clears: bool,
    /// Addresses of the registers whose sum is the number of decided frames: 32 bits each, which
    /// wrap.
    pub decided: Vec<u32>,
    /// Address and mask of the bit that is set while the data path accepts words. If it is clear in
    /// several readings while nothing is decided, the data path has stopped; a frame that is stuck
    /// half-way does not count as entered, so the counts alone may not show it.
    pub ready: Option<(u32, u32)>,
}

/// A bitfile: its board, registers and capabilities.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// A description of one line.
    pub about: String,
    /// The board it is for.
    pub board: Board,
    /// The directory in its device id block, by which a card is recognised.
    pub directory: Option<String>,
    /// All registers in the order of their addresses.
    pub registers: Vec<Register>,
    /// The flow table, if it has one.
    pub flow_table: Option<FlowMap>,
    /// The output queues, if known.
    pub queues: Option<Queues>,
    /// The rate limiters, if it has them.
    pub rate_limiter: Option<RateLimiter>,
    /// The watchdog, if it has one.
    pub watchdog: Option<Watchdog>,
    /// Replay and capture, if it has them.
    pub generator: Option<Generator>,
    /// The registers that show whether its data path lags, if known.
    pub data_path: Option<DataPath>,
    /// Its known faults.
    pub faults: Vec<KnownFault>,
    #[serde(skip)]
    by_name: BTreeMap<String, usize>,
}

impl Profile {
    /// Reads a profile as text (TOML) and checks it.
    ///
    /// # Errors With all its faults. `file` is its name in the message.
    pub fn parse(file: &str, text: &str) -> Result<Profile, ProfileError> {
        let written: file::ProfileFile = toml::from_str(text)
            .map_err(|e| ProfileError::new(file, vec![Fault::Unreadable(e.to_string())]))?;
        check::profile(written).map_err(|faults| ProfileError::new(file, faults))
    }

    /// The register of this name, in any case, with or without the ending `_REG`.
    pub fn register(&self, name: &str) -> Option<&Register> {
        let upper = name.to_ascii_uppercase();
        let found = self.by_name.get(&upper).or_else(|| self.by_name.get(upper.strip_suffix("_REG")?))?;
        self.registers.get(*found)
    }

    /// The register at this address.
    pub fn at(&self, address: u32) -> Option<&Register> {
        let found = self.registers.binary_search_by_key(&address, |r| r.address).ok()?;
        self.registers.get(found)
    }

    /// Whether reading the register resets it to 0.
    pub fn clears(&self, register: &Register) -> bool {
        let rows = self.flow_table.filter(|f| f.row_counters == RowCounters::ClearOnRead);
        let counts_row = |f: FlowMap| {
            let words = 4 * u32::from(f.rows);
            [f.bytes_hit, f.packets_hit].iter().any(|at| (*at..*at + words).contains(&register.address))
        };
        register.mode.clears() || rows.is_some_and(counts_row)
    }

    /// Its fault of this kind, if it has it.
    pub fn fault(&self, kind: FaultKind) -> Option<&KnownFault> {
        self.faults.iter().find(|f| f.kind == Some(kind))
    }

    /// Up to three names similar to `name`: those that contain all its parts, shortest first.
    pub fn like(&self, name: &str) -> Vec<&str> {
        let upper = name.to_ascii_uppercase();
        let parts: Vec<&str> = upper.split('_').filter(|p| !p.is_empty()).collect();
        let mut like: Vec<&str> =
            self.by_name.keys().map(String::as_str).filter(|n| parts.iter().all(|p| n.contains(p))).collect();
        like.sort_by_key(|n| n.len());
        like.truncate(3);
        like
    }

    /// The address of a register of port `port` in a block that the board has for each port, e.g.
    /// `("MAC_GRP", 2, "CONTROL")`.
    pub fn port_register(&self, block: &str, port: u8, name: &str) -> Option<u32> {
        self.register(&format!("{block}_{port}_{name}")).map(|r| r.address)
    }
}
