//! Checks a profile after parsing, and reports all faults at once.

use super::file::{Block, BoardFile, ProfileFile};
use super::{
    Board, DataPath, Detect, FaultKey, FlowMap, KnownFault, LimiterKind, Profile, Queues, RateLimiter,
    Register, Remedy, Watchdog, builtin,
};
use crate::registers::{Access, check as check_address};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The most registers of a profile; more are a mistake in a `count`.
const MOST: u32 = 16_384;

/// A fault of a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not TOML of the right form.
    #[error("{0}")]
    Unreadable(String),
    /// No profile has this name.
    #[error("no such profile; there are {}, or give a file's path", known.join(", "))]
    NoSuchProfile {
        /// The names of all profiles.
        known: Vec<String>,
    },
    /// No board has this name.
    #[error("no board is called \"{board}\"; there are {}", known.join(", "))]
    NoSuchBoard {
        /// The name in the profile.
        board: String,
        /// The names of all boards.
        known: Vec<String>,
    },
    /// Two registers have the same name.
    #[error("two registers are called {name}: 0x{first:07x} and 0x{second:07x}")]
    SameName {
        /// Their name.
        name: String,
        /// The first's address.
        first: u32,
        /// The second's address.
        second: u32,
    },
    /// Two registers have the same address.
    #[error("{first} and {second} have the same address 0x{address:07x}")]
    SameAddress {
        /// The address.
        address: u32,
        /// The name of one register.
        first: String,
        /// The name of the other register.
        second: String,
    },
    /// An address is outside of the card or not aligned.
    #[error("{name}: {address} is no multiple of 4 below 0x8000000")]
    BadAddress {
        /// The register.
        name: String,
        /// Its address.
        address: String,
    },
    /// A `count` above 1 without `{}` in the name, or the reverse.
    #[error("{name}: count is {count}, so its name needs a {{}} for the number, and only then")]
    Numbering {
        /// The name in the profile.
        name: String,
        /// The count in the profile.
        count: u32,
    },
    /// More registers than any bitfile has.
    #[error("more than {MOST} registers; look at the counts")]
    TooMany,
    /// A part of the profile needs a register that does not exist.
    #[error("[{part}] needs the register {name}")]
    Missing {
        /// The TOML table.
        part: &'static str,
        /// The register's name.
        name: String,
    },
    /// A part of the profile has impossible values.
    #[error("[{part}] {why}")]
    Part {
        /// The TOML table.
        part: &'static str,
        /// The reason, as text.
        why: String,
    },
}

/// A profile that is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError {
    /// The requested file or name.
    pub file: String,
    /// All its faults.
    pub faults: Vec<Fault>,
}

impl ProfileError {
    pub(super) fn new(file: &str, faults: Vec<Fault>) -> ProfileError {
        ProfileError { file: file.to_owned(), faults }
    }
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "profile {}", self.file)?;
        self.faults.iter().try_for_each(|fault| write!(f, "; {fault}"))
    }
}

impl std::error::Error for ProfileError {}

pub(super) fn profile(written: ProfileFile) -> Result<Profile, Vec<Fault>> {
    let mut faults = Vec::new();
    let board = board(&written.board).map_err(|fault| vec![fault])?;
    let mut registers = Vec::new();
    for block in board.blocks.iter().chain(&written.blocks) {
        flatten(block, &mut registers, &mut faults);
    }
    registers.sort_by(|a, b| a.address.cmp(&b.address).then_with(|| a.name.cmp(&b.name)));
    same_addresses(&registers, &mut faults);
    let by_name = by_name(&registers, &mut faults);
    let mut parts = Parts { registers: &registers, by_name: &by_name, faults: &mut faults };
    let flow_table = written.flow_table.as_ref().map(|f| parts.flow_map(f));
    let data_path = written.data_path.as_ref().map(|d| parts.data_path(d));
    let guard = parts.known_faults(&written.faults, flow_table.is_some(), data_path.is_some());
    let flow_table = flow_table.map(|f| FlowMap { guard, ..f });
    let queues = written.queues.as_ref().map(|q| parts.queues(q));
    let rate_limiter = written.rate_limiter.as_ref().map(|r| parts.rate_limiter(r));
    let watchdog = written.watchdog.as_ref().map(|w| parts.watchdog(w));
    let generator = written.generator.as_ref().map(|g| parts.generator(g, board.ports));
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Profile {
        name: written.name,
        about: written.about,
        board: Board {
            name: board.name,
            about: board.about,
            ports: board.ports,
            pci: board.pci,
            ioctl: board.ioctl,
            user_fpga: board.user_fpga,
            bus_fpga: board.bus_fpga,
        },
        directory: written.directory,
        registers,
        flow_table,
        queues,
        rate_limiter,
        watchdog,
        generator,
        data_path,
        faults: written.faults,
        by_name,
    })
}

/// Reports registers at the same address; `registers` are in the order of their addresses.
fn same_addresses(registers: &[Register], faults: &mut Vec<Fault>) {
    for pair in registers.windows(2) {
        if let [a, b] = pair
            && a.address == b.address
        {
            let (first, second) = (a.name.clone(), b.name.clone());
            faults.push(Fault::SameAddress { address: a.address, first, second });
        }
    }
}

/// The places of the registers by their names; a name that two registers have is a fault.
fn by_name(registers: &[Register], faults: &mut Vec<Fault>) -> BTreeMap<String, usize> {
    let mut by_name = BTreeMap::new();
    for (i, register) in registers.iter().enumerate() {
        if let Some(first) = by_name.insert(register.name.clone(), i)
            && let Some(first) = registers.get(first)
        {
            let (name, first, second) = (register.name.clone(), first.address, register.address);
            faults.push(Fault::SameName { name, first, second });
        }
    }
    by_name
}

/// The board of this name, before its check.
fn board(name: &str) -> Result<BoardFile, Fault> {
    let mut known = Vec::new();
    for text in builtin::BOARDS {
        let board: BoardFile = toml::from_str(text).map_err(|e| Fault::Unreadable(e.to_string()))?;
        if board.name == name {
            return Ok(board);
        }
        known.push(board.name);
    }
    Err(Fault::NoSuchBoard { board: name.to_owned(), known })
}

fn flatten(block: &Block, into: &mut Vec<Register>, faults: &mut Vec<Fault>) {
    let mut numbered = |name: &str, count: u32| {
        let right = (count == 1) != name.contains("{}") && (1..=MOST).contains(&count);
        if !right {
            faults.push(Fault::Numbering { name: name.to_owned(), count });
        }
        right
    };
    if !numbered(&block.name, block.count) {
        return;
    }
    let usable: Vec<_> = block.registers.iter().filter(|r| numbered(&r.name, r.count)).collect();
    let each: u32 = usable.iter().fold(0, |sum, r| sum.saturating_add(r.count));
    let all = each.saturating_mul(block.count);
    if all.saturating_add(u32::try_from(into.len()).unwrap_or(u32::MAX)) > MOST {
        faults.push(Fault::TooMany);
        return;
    }
    for b in 0..block.count {
        let block_name = block.name.replace("{}", &b.to_string());
        for register in &usable {
            for r in 0..register.count {
                let name = format!("{block_name}_{}", register.name.replace("{}", &r.to_string()));
                let address = u64::from(block.base)
                    + u64::from(b) * u64::from(block.stride)
                    + u64::from(register.at)
                    + u64::from(r) * u64::from(register.stride);
                match u32::try_from(address).ok().filter(|a| check_address(Access::Read(*a)).is_ok()) {
                    Some(address) => into.push(Register {
                        name: name.to_ascii_uppercase(),
                        address,
                        mode: register.access,
                        is: register.is,
                        note: register.note.clone(),
                    }),
                    None => faults.push(Fault::BadAddress { name, address: format!("0x{address:x}") }),
                }
            }
        }
    }
}

/// Looks up the registers of a profile's parts.
pub(super) struct Parts<'a> {
    registers: &'a [Register],
    by_name: &'a BTreeMap<String, usize>,
    pub(super) faults: &'a mut Vec<Fault>,
}

impl Parts<'_> {
    pub(super) fn find(&mut self, part: &'static str, name: String) -> u32 {
        match self.by_name.get(&name.to_ascii_uppercase()).and_then(|i| self.registers.get(*i)) {
            Some(register) => register.address,
            None => {
                self.faults.push(Fault::Missing { part, name });
                0
            }
        }
    }

    /// The first of `count` consecutive registers.
    fn array(&mut self, part: &'static str, stem: &str, count: u16) -> u32 {
        let first = self.find(part, format!("{stem}_0"));
        for i in 1..count {
            let name = format!("{stem}_{i}");
            let address = self.find(part, name.clone());
            if address != 0 && first != 0 && address != first + 4 * u32::from(i) {
                let why = format!("{name} is at 0x{address:07x}: not {i} words after {stem}_0");
                self.faults.push(Fault::Part { part, why });
            }
        }
        first
    }

    fn flow_map(&mut self, f: &super::file::FlowTableFile) -> FlowMap {
        let part = "flow_table";
        let (w, l) = (&f.block, &f.lookup);
        let end = u64::from(f.exact) + u64::from(f.exact_rows) * u64::from(f.exact_stride);
        if f.exact_rows == 0 || !f.exact_rows.is_power_of_two() || f.exact_rows > 32_768 {
            let why = format!("exact_rows = {}: a power of two up to 32768 is needed", f.exact_rows);
            self.faults.push(Fault::Part { part, why });
        }
        if end > u64::from(crate::registers::BAR_BYTES) {
            self.faults.push(Fault::Part {
                part,
                why: format!("the exact table ends at 0x{end:x}, outside the card"),
            });
        }
        if f.rows == 0 || f.rows > 32 || f.exact_stride != 128 {
            let why =
                "1 to 32 rows, and exact entries 128 bytes apart, are what there is code for".to_owned();
            self.faults.push(Fault::Part { part, why });
        }
        let rows = f.rows.min(32);
        FlowMap {
            rows: f.rows,
            action: self.array(part, &format!("{w}_ACTION"), 10),
            mask: self.array(part, &format!("{w}_CMP_MASK"), 8),
            key: self.array(part, &format!("{w}_CMP"), 8),
            read_row: self.find(part, format!("{w}_READ_ADDR")),
            write_row: self.find(part, format!("{w}_WRITE_ADDR")),
            bytes_hit: self.array(part, &format!("{w}_BYTES_HIT"), rows),
            packets_hit: self.array(part, &format!("{w}_PKTS_HIT"), rows),
            last_seen: self.array(part, &format!("{w}_LAST_SEEN_TS"), rows),
            exact: f.exact,
            exact_stride: f.exact_stride,
            exact_rows: f.exact_rows,
            wildcard_misses: self.find(part, format!("{l}_WILDCARD_MISSES")),
            wildcard_hits: self.find(part, format!("{l}_WILDCARD_HITS")),
            exact_misses: self.find(part, format!("{l}_EXACT_MISSES")),
            exact_hits: self.find(part, format!("{l}_EXACT_HITS")),
            dropped: self.array(part, &format!("{l}_NUM_PKTS_DROPPED"), 8),
            seconds: self.find(part, format!("{l}_TIMER")),
            row_counters: f.row_counters,
            guard: None,
        }
    }

    fn data_path(&mut self, d: &super::file::DataPathFile) -> DataPath {
        let part = "data_path";
        if d.decided.is_empty() {
            let why =
                "decided = []: without a register that counts decisions nothing can be compared".to_owned();
            self.faults.push(Fault::Part { part, why });
        }
        let entered = self.find(part, d.entered.clone());
        let register = self.registers.iter().find(|r| r.address == entered);
        DataPath {
            entered,
            entered_clears: register.is_some_and(|r| r.mode.clears()),
            decided: d.decided.iter().map(|name| self.find(part, name.clone())).collect(),
            ready: self.ready(d),
        }
    }

    fn ready(&mut self, d: &super::file::DataPathFile) -> Option<(u32, u32)> {
        let part = "data_path";
        let mask = 1u32.checked_shl(d.ready_bit.into());
        if mask.is_none() {
            let why = format!("ready_bit = {}: a register has bits 0 to 31", d.ready_bit);
            self.faults.push(Fault::Part { part, why });
        }
        let address = self.find(part, d.ready.clone()?);
        Some((address, mask?))
    }

    /// Checks the faults in a profile; returns the key of the guard row.
    fn known_faults(&mut self, known: &[KnownFault], flow_table: bool, data_path: bool) -> Option<FaultKey> {
        let mut guard = None;
        for (at, fault) in known.iter().enumerate() {
            let mut wrong = |why: &str| {
                let why = format!("{}: {why}", fault.id);
                self.faults.push(Fault::Part { part: "fault", why });
            };
            if known.iter().take(at).any(|other| other.id == fault.id) {
                wrong("two have this id");
            }
            if fault.kind.is_some() && known.iter().take(at).any(|other| other.kind == fault.kind) {
                wrong("two are of this kind");
            }
            if fault.detect == Detect::DataPath && !data_path {
                wrong("detect = \"data path\" needs [data_path]");
            }
            if fault.remedy == Remedy::GuardRow {
                match fault.key {
                    Some(_) if guard.is_some() => wrong("there is code for one guard row only"),
                    Some(_) if !flow_table => wrong("a guard row needs [flow_table]"),
                    Some(key) => guard = Some(key),
                    None => wrong("a guard row needs the key that it drops"),
                }
            }
        }
        guard
    }

    fn queues(&mut self, q: &super::file::QueuesFile) -> Queues {
        for i in 0..q.count {
            let name = match q.kind {
                super::QueueKind::Bram => format!("{}_QUEUE_{i}_NUM_PKTS_DROPPED", q.block),
                super::QueueKind::Sram => {
                    format!("{}_NUM_PKTS_DROPPED", q.block.replace("{}", &i.to_string()))
                }
            };
            self.find("queues", name);
        }
        Queues { kind: q.kind, count: q.count }
    }

    fn rate_limiter(&mut self, r: &super::file::RateLimiterFile) -> RateLimiter {
        let names: &[&str] = match r.kind {
            LimiterKind::Shift => &["ENABLE", "SHIFT"],
            LimiterKind::Tokens => &["CTRL", "TOKEN_INTERVAL", "TOKEN_INC"],
        };
        let mut at = Vec::new();
        for i in 0..r.count {
            let block = r.block.replace("{}", &i.to_string());
            let found: Vec<u32> =
                names.iter().map(|n| self.find("rate_limiter", format!("{block}_{n}"))).collect();
            let first = found.first().copied().unwrap_or_default();
            if found.iter().zip(0..).any(|(a, i)| *a != first + 4 * i) && !found.contains(&0) {
                let why = format!("the registers of {block} do not follow each other");
                self.faults.push(Fault::Part { part: "rate_limiter", why });
            }
            at.push(first);
        }
        if r.step == 0 {
            let why = "step = 0: from one port's limiter to the next's is 1 or more".to_owned();
            self.faults.push(Fault::Part { part: "rate_limiter", why });
        }
        RateLimiter { kind: r.kind, step: r.step, at }
    }

    fn watchdog(&mut self, w: &super::file::WatchdogFile) -> Watchdog {
        if w.milliseconds == 0 {
            let why = "milliseconds = 0: it would flush at once".to_owned();
            self.faults.push(Fault::Part { part: "watchdog", why });
        }
        Watchdog {
            enable: self.find("watchdog", format!("{}_ENABLE_FLG", w.block)),
            counter: self.find("watchdog", format!("{}_COUNTER", w.block)),
            period: Duration::from_millis(w.milliseconds),
        }
    }
}
