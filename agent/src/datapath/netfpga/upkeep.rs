//! The upkeep of a card, once a second: reads counters, clock and links, triggers its watchdog,
//! checks that its tables are intact, and sets the limiters.

use super::config::ClockChoice;
use super::offload_io::CardIo;
use super::shared;
use super::table_sync::add_counters;
use tandem_fpga_card::info;
use tandem_fpga_config::counters::Reading;
use tandem_fpga_config::limiter::Setting;
use tandem_fpga_config::offload::Place;
use tandem_fpga_config::registers::{AccessError, Registers, is_no_answer};
use tandem_model::{BitRate, Time};
use tandem_openflow::switch::Switch;

impl CardIo {
    /// Adds the card's counts to the flows.
    pub(super) fn sweep(&mut self, switch: &mut Switch, now: Time) {
        let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return };
        self.swept = now;
        match offload.sweep(now, &mut opened.card) {
            Ok(deltas) => add_counters(switch, deltas),
            Err(error) => return self.fail("reading the card's counters", &error, now),
        }
        if self.switch.card.as_ref().is_some_and(|c| c.clock == ClockChoice::Card) {
            self.keep_by_its_clock(switch, now);
        }
    }

    /// Restarts idle time-outs by the card's clock, if that is slow: a flow was idle only as long
    /// as that clock says.
    fn keep_by_its_clock(&mut self, switch: &mut Switch, now: Time) {
        let (Some(opened), Some(offload)) = (&mut self.card, &self.offload) else { return };
        let Some(rows) = opened.profile.flow_table else { return };
        let seconds = match opened.card.read32(rows.seconds) {
            Ok(seconds) => seconds,
            Err(error) => return self.fail("reading the card's clock", &error, now),
        };
        let behind = self.clock.reading(now, seconds);
        if behind.is_zero() {
            return;
        }
        let flows = switch.pipeline().tables.iter().flat_map(|t| t.iter());
        let kept: Vec<(u64, Time)> = flows
            .filter(|f| !f.idle.is_zero())
            .filter(|f| matches!(offload.place(f.id), Some(Place::Rows(_) | Place::Exact(_))))
            .map(|f| (f.id, (f.used + behind).min(now)))
            .collect();
        for (id, used) in kept {
            switch.credit(id, 0, 0, Some(used));
        }
    }

    /// Reads the MACs' counters. If another process has reset the card they start at 0, which shows
    /// in its clock going back.
    pub(super) fn read_macs(&mut self) -> Result<(), AccessError> {
        if let (Some(opened), Some(macs)) = (&mut self.card, &mut self.macs) {
            if let Some(rows) = opened.profile.flow_table {
                let seconds = Some(opened.card.read32(rows.seconds)?).filter(|s| !is_no_answer(*s));
                if seconds.is_some_and(|s| s < self.seconds) {
                    macs.restart();
                }
                self.seconds = seconds.unwrap_or(self.seconds);
            }
            let readings = macs.read(&mut opened.card)?;
            self.counted = readings.into_iter().map(|Reading { name, value, .. }| (name, value)).collect();
        }
        Ok(())
    }

    /// Once a period: counters of the ports, links, watchdog, limiters, and a check that the card
    /// still holds its tables.
    pub(super) fn look_after(&mut self, now: Time) {
        if let Err(error) = self.read_macs() {
            return self.fail("reading the card's counters", &error, now);
        }
        let Some(opened) = &mut self.card else { return };
        let watched = self.switch.card.as_ref().is_some_and(|c| c.watchdog);
        let mut was_reset = false;
        let result = (|| {
            if let Some(dog) = opened.profile.watchdog.filter(|_| watched) {
                opened.card.read32(dog.counter)?;
                // A card that was reset has lost the setting.
                if opened.card.read32(dog.enable)? & 1 == 0 {
                    opened.card.write32(dog.enable, 1)?;
                    was_reset = self.offload.is_some();
                }
            }
            if !self.injects {
                for (number, at) in &self.card_ports {
                    if let Some(up) = info::link(opened.card.as_mut(), &opened.profile, *at)? {
                        shared(&self.talk).links.insert(*number, up);
                    }
                }
            }
            Ok::<(), tandem_fpga_config::registers::AccessError>(())
        })();
        if let Err(error) = result {
            return self.fail("looking after the card", &error, now);
        }
        if was_reset {
            self.rates.clear();
        }
        self.limit(now);
        let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return };
        match offload.verify(&mut opened.card) {
            Ok(true) if !was_reset => {}
            Ok(_) => {
                self.flushed += 1;
                tracing::warn!(
                    "switch {}: the card has lost its rows (a reset, its watchdog, or another writer); they are written again",
                    self.switch.name
                );
                // The next `follow` writes the tables again.
                self.offload = None;
            }
            Err(error) => self.fail("reading the card's rows back", &error, now),
        }
    }

    /// Limits ports to their rates, if the bitfile has limiters.
    fn limit(&mut self, now: Time) {
        let wanted = shared(&self.talk).rates.clone();
        let Some(opened) = &mut self.card else { return };
        let Some(limiter) = opened.profile.rate_limiter.clone().filter(|_| wanted != self.rates) else {
            return;
        };
        for (number, at) in &self.card_ports {
            let setting = match wanted.get(number).map(|r| Setting::at_most(limiter.kind, BitRate(*r))) {
                Some(Ok(setting)) => setting,
                None => Setting::Off,
                Some(Err(error)) => {
                    self.lines.warn(|| format!("switch {} port {number}: {error}", self.switch.name));
                    continue;
                }
            };
            if let Err(error) = limiter.set(&mut opened.card, *at, setting) {
                return self.fail("setting a rate limiter", &error, now);
            }
        }
        self.rates = wanted;
    }
}
