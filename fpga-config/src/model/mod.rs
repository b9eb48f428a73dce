//! A card in memory, at the level of its registers: it does what is known of the OpenFlow switch bitfile, wherever a driver can tell. Other bitfiles have their registers here, and forward nothing.
//!
//! - Rows are built in staging registers and committed by a write of their number; the lowest that matches wins; an exact entry beats them.
//! - What is not mapped reads as 0xdeadbeef, and so does the exact table during the 4.2 ms after a reset in which it is cleared; writes
//!   are then lost in silence. The PHY answers "busy" once after a write.
//! - Counters wrap at 32 bits. Those of rows accumulate; those of exact entries are cleared by reading, except bit 24 of the packets.
//! - The watchdog flushes. The bus FPGA programs the user FPGA (`bus.rs`): a FIFO of 8 words that must not overflow, INIT, DONE.
//!
//! Time is passed in ([`Model::set_time`], [`Model::packet`]); accesses take none. The exact table takes memory only for the entries that
//! were written. Not modelled: packets that wait in a MAC's queue, collisions of CPU and port traffic, DMA.

mod bus;
mod reset;
mod table;

use crate::codec::Action;
use crate::device_id::DeviceId;
use crate::profile::{LimiterKind, Mode, Profile, QueueKind, RowCounters};
use crate::registers::{Access, AccessError, Registers, UNMAPPED, check};
use bus::Bus;
use reset::Places;
use std::collections::VecDeque;
use std::time::Duration;
use table::Tables;
use tandem_model::Time;

/// How long the exact table is cleared after a reset.
pub const CLEARING: Duration = Duration::from_micros(4_200);

/// One tick of the card's clock (125 MHz).
const TICK: Duration = Duration::from_nanos(8);

/// Bytes of an output queue in block RAM: 2048 words of 8 bytes.
const QUEUE_WORDS: u32 = 2048;

/// Where the user FPGA's addresses begin: below, address bits 26:22 are 0 and the bus FPGA answers.
const USER_FPGA: u32 = 0x40_0000;

/// A frame, and the queue that it leaves by.
pub type Sent = (u8, Vec<u8>);

/// A card.
#[derive(Debug, Clone)]
pub struct Model {
    profile: Profile,
    places: Places,
    /// The registers' values, in the order of [`Profile::registers`].
    values: Vec<u32>,
    tables: Option<Tables>,
    bus: Bus,
    /// What the bitfile says about itself; `None` for one without that block.
    device_id: Option<DeviceId>,
    links: [bool; 4],
    /// Per PHY: it still works on what was written.
    busy: [bool; 4],
    now: Time,
    /// The user FPGA's last reset.
    reset: Time,
    /// The last access that the watchdog noticed.
    kicked: Time,
    /// Frames in output queues that do not drain.
    held: [VecDeque<Vec<u8>>; 8],
    clears_rows: bool,
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
            places,
            profile,
        };
        model.reset_user();
        model
    }

    /// The same card before any bitfile was loaded; after programming it has the profile's.
    #[must_use]
    pub fn unloaded(mut self) -> Model {
        self.bus.unload();
        self
    }

    /// The same card with a bitfile that says this about itself, or nothing.
    #[must_use]
    pub fn saying(mut self, device_id: Option<DeviceId>) -> Model {
        self.device_id = device_id;
        self.reset_user();
        self
    }

    /// With row counters that are cleared by reading, as the simulated Verilog has them; the card's accumulate.
    #[must_use]
    pub fn clearing_row_counters(mut self) -> Model {
        self.clears_rows = true;
        self
    }

    /// What bitfile it has.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// How many rows of the exact table take memory: 128 bytes each, and what the map of them needs.
    pub fn exact_rows_in_memory(&self) -> usize {
        self.tables.as_ref().map_or(0, Tables::exact_rows_in_memory)
    }

    /// Its clock. It never goes back.
    pub fn set_time(&mut self, now: Time) {
        self.now = self.now.max(now);
        if let Some(watchdog) = self.profile.watchdog
            && self.places.watchdog.is_some_and(|w| self.value(w) & 1 == 1)
            && self.now.since(self.kicked) >= watchdog.period
        {
            self.kicked = self.now;
            self.flush();
        }
    }

    /// Plugs a cable in or out.
    pub fn set_link(&mut self, port: u8, up: bool) {
        if let Some(link) = self.links.get_mut(usize::from(port)) {
            *link = up;
        }
    }

    /// A frame from queue `queue` (2n: port n, 2n+1: CPU port n) goes through the look-up; what leaves the card, in the order of queues.
    /// Frames that were held in queues that drain again leave first.
    pub fn packet(&mut self, queue: u8, frame: &[u8], now: Time) -> Vec<Sent> {
        self.set_time(now);
        let mut sent = Vec::new();
        self.drain(&mut sent);
        if !self.bus.is_loaded() || queue >= 8 || !self.received(queue, frame.len()) {
            return sent;
        }
        let clearing = self.is_clearing();
        let second = self.second();
        let Some(tables) = &mut self.tables else {
            return sent;
        };
        let verdict = tables.look_up(frame, queue, second, clearing);
        let lookup = self.places.lookup;
        self.count(lookup.map(|l| l + if verdict.exact { 3 } else { 2 }), 1);
        if !verdict.exact {
            self.count(lookup.map(|l| usize::from(verdict.action.is_some()) + l), 1);
        }
        if let Some(row) = verdict.row {
            self.count(self.places.packets_hit.map(|p| p + row), 1);
            self.count(self.places.bytes_hit.map(|p| p + row), frame.len());
            if let Some(place) = self.places.last_seen {
                self.put(place + row, second);
            }
        }
        match verdict.action {
            Some(action) if action.ports & 0xff != 0 => self.send(action, frame, &mut sent),
            _ => self.count(lookup.map(|l| l + 4 + usize::from(queue)), 1),
        }
        sent
    }

    fn send(&mut self, action: Action, frame: &[u8], sent: &mut Vec<Sent>) {
        let mut changed = frame.to_vec();
        action.apply(&mut changed);
        let queues = (0..8).filter(|q| action.ports >> q & 1 == 1);
        let last = 7 - (action.ports as u8).leading_zeros() as u8;
        for queue in queues {
            let frame = if queue == last { std::mem::take(&mut changed) } else { changed.clone() };
            self.enqueue(queue, frame, sent);
        }
    }

    /// Into an output queue, and out of it unless it does not drain.
    fn enqueue(&mut self, queue: u8, frame: Vec<u8>, sent: &mut Vec<Sent>) {
        let q = usize::from(queue);
        let place = self.places.queues.map(|p| p + 4 * q);
        if self.places.disable.is_some_and(|d| self.value(d) >> queue & 1 == 1) {
            let words = words(frame.len());
            let in_queue = place.map_or(0, |p| self.value(p + 3));
            if in_queue + words > QUEUE_WORDS {
                self.count(place.map(|p| p + 2), 1);
                return;
            }
            self.count(place.map(|p| p + 3), words as usize);
            self.count(place, frame.len());
            self.count(place.map(|p| p + 1), 1);
            if let Some(held) = self.held.get_mut(q) {
                held.push_back(frame);
            }
            return;
        }
        self.count(place, frame.len());
        self.count(place.map(|p| p + 1), 1);
        self.transmit(queue, frame, sent);
    }

    /// What queues that drain again hold, leaves.
    fn drain(&mut self, sent: &mut Vec<Sent>) {
        for queue in 0..8u8 {
            let q = usize::from(queue);
            if self.held.get(q).is_none_or(VecDeque::is_empty)
                || self.places.disable.is_some_and(|d| self.value(d) >> queue & 1 == 1)
            {
                continue;
            }
            if let Some(place) = self.places.queues {
                self.put(place + 4 * q + 3, 0);
            }
            for frame in self.held.get_mut(q).map(std::mem::take).into_iter().flatten() {
                self.transmit(queue, frame, sent);
            }
        }
    }

    /// Out of the card; through its MAC where it is a port's.
    fn transmit(&mut self, queue: u8, frame: Vec<u8>, sent: &mut Vec<Sent>) {
        let port = usize::from(queue / 2);
        if queue % 2 == 1 {
            let place = self.places.cpu.get(port).copied().flatten();
            for (offset, by) in [(10, 1), (11, 1), (14, words(frame.len()) as usize), (15, frame.len())] {
                self.count(place.map(|p| p + offset), by);
            }
            sent.push((queue, frame));
            return;
        }
        let Some(place) = self.places.mac.get(port).copied().flatten() else {
            return;
        };
        let control = self.value(place);
        // TX queue off, MAC in reset, MAC TX off, or no cable: it does not leave.
        let off = control & 0b1101 != 0 || !self.is_up(port);
        self.count(Some(place + 9), 1);
        self.count(Some(place + 11), words(frame.len()) as usize);
        self.count(Some(place + 12), frame.len());
        if !off {
            self.count(Some(place + 10), 1);
            sent.push((queue, frame));
        }
    }

    /// Counts a frame that comes in; false when it does not.
    fn received(&mut self, queue: u8, length: usize) -> bool {
        let port = usize::from(queue / 2);
        let counts = if queue % 2 == 1 {
            let Some(place) = self.places.cpu.get(port).copied().flatten() else {
                return false;
            };
            [(place + 2, 1), (place + 4, 1), (place + 7, words(length) as usize), (place + 8, length)]
        } else {
            let Some(place) = self.places.mac.get(port).copied().flatten() else {
                return false;
            };
            // RX queue off, MAC in reset, MAC RX off, or no cable.
            if self.value(place) & 0b1_0110 != 0 || !self.is_up(port) {
                return false;
            }
            [(place + 2, 1), (place + 5, 1), (place + 6, words(length) as usize), (place + 7, length)]
        };
        for (place, by) in counts {
            self.count(Some(place), by);
        }
        self.count(self.places.arbiter, 1);
        true
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

    /// True when nothing answers at an address of the user FPGA.
    fn is_silent(&mut self, address: u32) -> bool {
        let in_exact = self.tables.as_ref().is_some_and(|t| t.has(address));
        let silent = !self.bus.is_loaded() || in_exact && self.is_clearing();
        if silent {
            self.bus.timed_out();
        }
        silent
    }
}

impl Registers for Model {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        check(Access::Read(address))?;
        if address < USER_FPGA {
            return Ok(self.bus.read(address & 0xffc, self.now));
        }
        if self.is_silent(address) {
            return Ok(UNMAPPED);
        }
        if let Some(tables) = &mut self.tables
            && let Some(value) = tables.read(address)
        {
            return Ok(value);
        }
        let Ok(place) = self.profile.registers.binary_search_by_key(&address, |r| r.address) else {
            return Ok(UNMAPPED);
        };
        Ok(self.read_user(place))
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        check(Access::Write(address, value))?;
        if address < USER_FPGA {
            match self.bus.write(address & 0xffc, value, self.now) {
                bus::Deed::None => {}
                bus::Deed::ResetUser => self.reset_user(),
            }
            return Ok(());
        }
        if self.is_silent(address) {
            return Ok(());
        }
        if self.tables.as_mut().is_some_and(|t| t.write(address, value)) {
            return Ok(());
        }
        if let Ok(place) = self.profile.registers.binary_search_by_key(&address, |r| r.address) {
            self.write_user(place, value);
        }
        Ok(())
    }
}

impl Model {
    fn read_user(&mut self, place: usize) -> u32 {
        let Some(register) = self.profile.registers.get(place) else {
            return UNMAPPED;
        };
        let mode = register.mode;
        if Some(place) == self.places.seconds {
            return self.second();
        }
        if Some(place) == self.places.watchdog.map(|w| w + 1) {
            let ticks = self.now.since(self.kicked).as_nanos() / TICK.as_nanos();
            self.kick(place);
            return u32::try_from(ticks).unwrap_or(u32::MAX);
        }
        self.kick(place);
        if let Some((port, offset)) = self.places.of_phy(place) {
            return self.read_phy(port, offset, place);
        }
        let value = self.value(place);
        let clears = mode.clears() || self.clears_rows && self.places.is_row_counter(place);
        if clears {
            self.put(place, 0);
        }
        value
    }

    fn read_phy(&mut self, port: usize, offset: usize, place: usize) -> u32 {
        if let Some(busy) = self.busy.get_mut(port)
            && std::mem::take(busy)
        {
            return 1 << 31;
        }
        // In the order of the registers: CONTROL, STATUS, PHY_ID_HI, PHY_ID_LO, AUX_STATUS, ...
        let link = if self.is_up(port) { 1 << 2 } else { 0 };
        match offset {
            1 => 0x7949 | link,
            4 => 0x8300 | link,
            _ => self.value(place),
        }
    }

    fn write_user(&mut self, place: usize, value: u32) {
        let Some(register) = self.profile.registers.get(place) else {
            return;
        };
        let mode = register.mode;
        self.kick(place);
        if mode == Mode::ClearsOnAccess {
            self.put(place, 0);
        }
        if !matches!(mode, Mode::ReadWrite | Mode::Write) {
            return;
        }
        if let Some((port, _)) = self.places.of_phy(place) {
            if let Some(busy) = self.busy.get_mut(port) {
                *busy = true;
            }
            // The reset bit clears itself, and takes everything else along.
            let value = if value & 0x8000 != 0 { reset::PHY_CONTROL } else { value & 0xffff };
            self.put(place, value);
            return;
        }
        let value = match self.places.limited(place, &self.profile) {
            Some(width) => value & ((1 << width) - 1),
            None => value,
        };
        self.put(place, value);
        if Some(place) == self.places.disable
            && self.profile.queues.as_ref().map(|q| q.kind) == Some(QueueKind::Bram)
        {
            self.put(place, value & 0xff);
        }
    }
}

/// Widths of a limiter's registers.
const fn limiter_widths(kind: LimiterKind) -> &'static [u32] {
    match kind {
        LimiterKind::Shift => &[1, 4],
        LimiterKind::Tokens => &[2, 20, 8],
    }
}

/// 8-byte words of a frame.
fn words(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(8)).unwrap_or(u32::MAX)
}
