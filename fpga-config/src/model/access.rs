//! Reads and writes of the card's registers.

use super::Model;
use super::bus::Deed;
use super::reset::PHY_CONTROL;
use super::table::Wrote;
use crate::profile::{LimiterKind, Mode};
use crate::registers::{Access, AccessError, Registers, UNMAPPED, check};
use std::time::Duration;

/// One tick of the card's clock (125 MHz).
const TICK: Duration = Duration::from_nanos(8);

/// The bits of the watchdog's counter.
const WATCHDOG: u32 = 0x3fff_ffff;

/// The bits of an output queue's word count: a full queue of 2048 words reads as 0.
const WORDS: u32 = 0x7ff;

/// First address of the user FPGA: below, address bits 26:22 are 0 and the bus FPGA answers.
const USER_FPGA: u32 = 0x40_0000;

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
        if let Some(value) = self.generator.as_ref().and_then(|g| g.read(address)) {
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
                Deed::None => {}
                Deed::ResetUser => self.reset_user(),
            }
            return Ok(());
        }
        if self.is_silent(address) {
            return Ok(());
        }
        match self.tables.as_mut().map_or(Wrote::Elsewhere, |t| t.write(address, value)) {
            Wrote::Elsewhere => {}
            Wrote::Done => return Ok(()),
            Wrote::Row(row) => {
                // Committing a row sets its time of the last hit.
                let second = self.second();
                if let Some(place) = self.places.last_seen {
                    self.put(place + row, second);
                }
                return Ok(());
            }
        }
        if self.generator.as_mut().is_some_and(|g| g.write(address, value)) {
            return Ok(());
        }
        if let Ok(place) = self.profile.registers.binary_search_by_key(&address, |r| r.address) {
            let before = self.value(place);
            self.write_user(place, value);
            self.generator_written(address, before, value);
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
            // The counter runs only while the watchdog is on.
            let on = self.places.watchdog.is_some_and(|w| self.value(w) & 1 == 1);
            let ticks = self.now.since(self.kicked).as_nanos() / TICK.as_nanos();
            self.kick(place);
            return if on { ticks as u32 & WATCHDOG } else { 0 };
        }
        self.kick(place);
        if let Some((port, offset)) = self.places.of_phy(place) {
            return self.read_phy(port, offset, place);
        }
        let value = self.value(place);
        let value = if self.places.counts_words(place) { value & WORDS } else { value };
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
            // The reset bit clears itself, and resets the other bits.
            let value = if value & 0x8000 != 0 { PHY_CONTROL } else { value & 0xffff };
            self.put(place, value);
            return;
        }
        let value = match self.places.limited(place, &self.profile) {
            Some(width) => value & ((1 << width) - 1),
            None => value,
        };
        self.put(place, value);
    }
}

/// Widths of a limiter's registers.
pub(super) const fn limiter_widths(kind: LimiterKind) -> &'static [u32] {
    match kind {
        LimiterKind::Shift => &[1, 4],
        LimiterKind::Tokens => &[2, 20, 8],
    }
}
