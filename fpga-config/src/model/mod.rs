//! A card in memory, at the level of its registers: it behaves like the Verilog of the OpenFlow
//! switch bitfile wherever a driver can see a difference. The packet generator replays and captures
//! (`replay.rs`); other bitfiles have registers only, and forward nothing.
//!
//! - Rows are written to staging registers and committed by a write of their number; the lowest
//!   that matches wins; an exact entry beats them (`table.rs`). Frames are looked up, changed and
//!   sent (`forward.rs`), and wait in output queues that do not drain (`queues.rs`).
//! - Unmapped addresses read as 0xdeadbeef, and so does the exact table while it is cleared in the
//!   4.2 ms after a reset; writes are lost silently then. The PHY answers "busy" once after a write
//!   (`access.rs`).
//! - Counters wrap at 32 bits. Those of rows accumulate; those of exact entries are cleared by
//!   reading, except the time and bit 24 of the packets; that of the input arbiter is cleared by
//!   any access.
//! - The watchdog clears the tables. The bus FPGA programs the user FPGA (`bus.rs`): a FIFO of 8
//!   words that must not overflow, INIT, DONE.
//! - The bitfile's known faults: an IPv4 header length below 5 always gives the same key as on a
//!   card. The two that disturb other frames occur [`Model::with_faults`] only (`path.rs`); without
//!   it, a frame that ends before all its fields has zeros in the others and disturbs no other
//!   frame, and frames may follow each other at any distance.
//!
//! The caller passes in the time ([`Model::set_time`], [`Model::packet`]); accesses take no time.
//! The exact table takes memory only for the entries that were written. Not modelled: packets that
//! wait in a MAC's queue, collisions of CPU and port traffic, DMA.

mod access;
mod bus;
mod forward;
mod parser;
mod path;
mod queues;
mod replay;
mod reset;
mod schedule;
mod table;

use crate::device_id::DeviceId;
use crate::profile::{FaultKind, Profile, RowCounters};
use bus::Bus;
use path::Path;
use replay::Engine;
pub use replay::WAITING;
use reset::Places;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use table::Tables;
use tandem_model::Time;

/// How long the exact table is being cleared after a reset.
pub const CLEARING: Duration = Duration::from_micros(4_200);

/// A frame, and the queue that it leaves by.
pub type Sent = (u8, Vec<u8>);

/// A card in memory.
#[derive(Debug, Clone)]
pub struct Model {
    /// Shared by the copies of a card.
    profile: Arc<Profile>,
    places: Places,
    /// The registers' values, in the order of [`Profile::registers`].
    values: Vec<u32>,
    tables: Option<Tables>,
    bus: Bus,
    /// The bitfile's device id block; `None` for one without.
    device_id: Option<DeviceId>,
    links: [bool; 4],
    /// For each PHY, whether it is still busy with a write.
    busy: [bool; 4],
    now: Time,
    /// The user FPGA's last reset.
    reset: Time,
    /// The last access that restarted the watchdog.
    kicked: Time,
    /// Frames in output queues that do not drain.
    held: [VecDeque<Vec<u8>>; 8],
    clears_rows: bool,
    /// A word is left over behind the end of the last frame; it precedes the next.
    rest: bool,
    /// The pass of frames to the look-up word by word, if the faults that disturb other frames are
    /// enabled.
    path: Option<Path>,
    /// Replay and capture, if the bitfile has them.
    generator: Option<Box<Engine>>,
}

impl Model {
    /// A card with this bitfile loaded and reset at `now`, all links up.
    pub fn new(profile: Profile, now: Time) -> Model {
        let id = profile.board.bus_fpga.as_ref().map_or(0, |b| u32::from(b.revision) << 24 | b.version);
        let device_id = profile.directory.as_ref().map(|directory| DeviceId {
            device: 0,
            version: (1, 0, 0),
            cpci: id,
            directory: directory.clone(),
            name: profile.name.clone(),
            description: "a card in memory".to_owned(),
        });
        let places = Places::of(&profile);
        let words = profile.board.user_fpga.as_ref().map_or(0, |f| f.bytes.div_ceil(4));
        let mut model = Model {
            values: vec![0; profile.registers.len()],
            tables: profile.flow_table.map(|f| Tables::new(&f)),
            bus: Bus::loaded(id, words),
            device_id,
            links: [true; 4],
            busy: [false; 4],
            now,
            reset: now,
            kicked: now,
            held: Default::default(),
            clears_rows: profile.flow_table.is_some_and(|f| f.row_counters == RowCounters::ClearOnRead),
            rest: false,
            path: None,
            generator: profile.generator.clone().map(|g| Box::new(Engine::new(g))),
            places,
            profile: Arc::new(profile),
        };
        model.reset_user();
        model
    }

    /// The same card without a loaded bitfile; after programming it has the profile's.
    #[must_use]
    pub fn unloaded(mut self) -> Model {
        self.bus.unload();
        self
    }

    /// The same card with this device id block, or without one.
    #[must_use]
    pub fn saying(mut self, device_id: Option<DeviceId>) -> Model {
        self.device_id = device_id;
        self.reset_user();
        self
    }

    /// With row counters that are cleared by reading, as in the simulated Verilog; the card's
    /// accumulate.
    #[must_use]
    pub fn clearing_row_counters(mut self) -> Model {
        self.clears_rows = true;
        self
    }

    /// With the known faults of its bitfile ([`Profile::faults`]): a frame with headers beyond its
    /// end makes the look-up lag or stop, and so does a short frame close behind a tagged one of a
    /// certain length ([`Model::burst`]). A reset of the user FPGA makes it forward again.
    #[must_use]
    pub fn with_faults(mut self) -> Model {
        let has = |kind| self.profile.fault(kind).is_some();
        let (lags, stops) = (has(FaultKind::HeaderBeyondFrame), has(FaultKind::TaggedThenShort));
        self.path = (lags || stops).then(|| Path::new(lags, stops));
        self
    }

    /// The profile of its bitfile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Number of rows of the exact table that take memory: 128 bytes each, plus the map's overhead.
    pub fn exact_rows_in_memory(&self) -> usize {
        self.tables.as_ref().map_or(0, Tables::exact_rows_in_memory)
    }

    /// Sets its clock, which never goes back.
    pub fn set_time(&mut self, now: Time) {
        self.now = self.now.max(now);
        if let Some(watchdog) = self.profile.watchdog
            && self.places.watchdog.is_some_and(|w| self.value(w) & 1 == 1)
            && self.now.since(self.kicked) >= watchdog.period
        {
            self.kicked = self.now;
            self.flush();
        }
        self.replay();
    }

    /// Sets a port's link up or down.
    pub fn set_link(&mut self, port: u8, up: bool) {
        if let Some(link) = self.links.get_mut(usize::from(port)) {
            *link = up;
        }
    }

    fn is_up(&self, port: usize) -> bool {
        let powered =
            self.places.phy.get(port).copied().flatten().is_none_or(|p| self.value(p) & 0x0800 == 0);
        powered && self.links.get(port).copied().unwrap_or(false)
    }

    fn is_clearing(&self) -> bool {
        self.tables.as_ref().is_some_and(|t| self.now.since(t.cleared) < CLEARING && t.cleared <= self.now)
    }

    fn second(&self) -> u32 {
        u32::try_from(self.now.since(self.reset).as_secs()).unwrap_or(u32::MAX)
    }

    fn value(&self, place: usize) -> u32 {
        self.values.get(place).copied().unwrap_or_default()
    }

    fn put(&mut self, place: usize, value: u32) {
        if let Some(to) = self.values.get_mut(place) {
            *to = value;
        }
    }

    fn count(&mut self, place: Option<usize>, by: usize) {
        if let Some(to) = place.and_then(|p| self.values.get_mut(p)) {
            *to = to.wrapping_add(by as u32);
        }
    }

    fn kick(&mut self, place: usize) {
        if self.places.kicks(place) {
            self.kicked = self.now;
        }
    }

    /// Whether nothing answers at an address of the user FPGA.
    fn is_silent(&mut self, address: u32) -> bool {
        let in_exact = self.tables.as_ref().is_some_and(|t| t.has(address));
        let silent = !self.bus.is_loaded() || in_exact && self.is_clearing();
        if silent {
            self.bus.timed_out();
        }
        silent
    }
}

/// 8-byte words of a frame.
fn words(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(8)).unwrap_or(u32::MAX)
}
