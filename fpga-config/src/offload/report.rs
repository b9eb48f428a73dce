//! What an offload is given and what it reports: options, errors, reports, places, counts.

use crate::codec::{RejectReason, Transport};
use crate::profile::RowCounters;
use crate::registers::AccessError;
use std::fmt;
use std::time::Duration;
use tandem_model::Time;

/// How a card is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What becomes of rules on transport ports.
    pub transport: Transport,
    /// What reading a row's counters does, where that is not what the profile says: behind a
    /// simulation of the Verilog they are cleared.
    pub row_counters: Option<RowCounters>,
    /// An exact entry that was made for a packet goes when it was not used for so long.
    pub idle: Duration,
    /// How often it is looked whether other rules are used more than those in rows.
    pub reconsider: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            transport: Transport::Software,
            row_counters: None,
            idle: Duration::from_secs(60),
            reconsider: Duration::from_secs(5),
        }
    }
}

/// Why a card cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OffloadError {
    /// It could not be read or written. What it holds is read again at the next `sync`.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Nothing answers where the exact table should be.
    #[error(
        "the exact table does not answer at 0x{0:07x}: the card is clearing it (4.2 ms after a reset), or has another bitfile; try again, then look at the bitfile"
    )]
    NoAnswer(u32),
}

/// What [`Offload::sync`](super::Offload::sync) did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Row commits, deletions among them.
    pub commits: usize,
    /// Exact entries written.
    pub exact_written: usize,
    /// Exact entries made not valid.
    pub exact_deleted: usize,
    /// Rows that went to software for a moment to make room. Without software they matched nothing
    /// for that moment.
    pub gaps: usize,
    /// Flows that neither the card nor any software does, because there are no CPU ports: they are
    /// to be refused.
    pub rejected: Vec<(u64, RejectReason)>,
}

/// Where a rule lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In these rows; none where no packet can match.
    Rows(Vec<usize>),
    /// In this many exact entries, the rest in software.
    Exact(usize),
    /// In software, for this reason.
    Software(RejectReason),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Rows(rows) if rows.is_empty() => f.write_str("hardware, no row needed"),
            Place::Rows(rows) => {
                f.write_str(if rows.len() == 1 { "hardware row " } else { "hardware rows " })?;
                for (at, row) in rows.iter().enumerate() {
                    write!(f, "{}{row}", if at > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Place::Exact(1) => f.write_str("exact table, 1 entry"),
            Place::Exact(n) => write!(f, "exact table, {n} entries"),
            Place::Software(reason) => write!(f, "software: {reason}"),
        }
    }
}

/// What the card counted for a flow since the last sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterDelta {
    /// The flow's id.
    pub flow: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When it was used last: never too early, at most two seconds too late.
    pub last_used: Option<Time>,
}

/// What [`Offload::packet_seen`](super::Offload::packet_seen) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// There is an entry now.
    Made,
    /// There is no need: the card has it, or cannot.
    Nothing,
    /// Both of its rows in the exact table are taken by entries that must stay.
    Full,
}
