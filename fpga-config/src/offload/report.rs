//! Types of the offload's interface: options, errors, reports, places, counts.

use crate::codec::{RejectReason, Transport};
use crate::profile::RowCounters;
use crate::registers::AccessError;
use std::fmt;
use std::time::Duration;
use tandem_model::Time;

/// How a card is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Where rules on transport ports are executed.
    pub transport: Transport,
    /// The effect of reading a row's counters, if it differs from the profile's: in a simulation of
    /// the Verilog it clears them.
    pub row_counters: Option<RowCounters>,
    /// Idle time after which an exact entry of a packet is removed.
    pub idle: Duration,
    /// How often it is checked whether other rules are used more than those with rows.
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
    /// It could not be read or written. Its contents are read again at the next `sync`.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The exact table does not answer.
    #[error(
        "the exact table does not answer at 0x{0:07x}: the card is clearing it (4.2 ms after a reset), or has another bitfile; try again, then look at the bitfile"
    )]
    NoAnswer(u32),
}

/// The changes of a [`Offload::sync`](super::Offload::sync).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Row commits, with deletions.
    pub commits: usize,
    /// Exact entries written.
    pub exact_written: usize,
    /// Exact entries invalidated.
    pub exact_deleted: usize,
    /// Rows that were moved to software for a moment to make room. Without software they matched
    /// nothing for that moment.
    pub gaps: usize,
    /// Flows that neither the card nor software can execute, since there are no CPU ports: they
    /// have to be refused.
    pub rejected: Vec<(u64, RejectReason)>,
}

/// The place of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In these rows; empty if no packet can match.
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

/// The card's counts of a flow since the last sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterDelta {
    /// The flow's id.
    pub flow: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Time of its last use: never too early, at most two seconds too late.
    pub last_used: Option<Time>,
}

/// The result of [`Offload::packet_seen`](super::Offload::packet_seen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// An entry was made.
    Made,
    /// None is needed: the card has the rule, or does not support it.
    Nothing,
    /// Both of its rows in the exact table are taken by permanent entries.
    Full,
}
