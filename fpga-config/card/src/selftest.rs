//! Harmless register checks of a card, each with a verdict. Registers that are written are scratch,
//! staging or unused ones, and are restored. No row, no entry and no counter changes, and packets
//! are forwarded. Only for a holder of the lock.

use crate::Card;
use crate::info;
use serde::Serialize;
use std::time::Duration;
use tandem_fpga_config::codec::{action, key};
use tandem_fpga_config::device_id::DeviceId;
use tandem_fpga_config::profile::{FlowMap, Profile};
use tandem_fpga_config::registers::{AccessError, UNMAPPED, is_no_answer};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As expected.
    Pass,
    /// Possible, but unusual.
    Warn,
    /// Wrong.
    Fail,
    /// Not run, with the reason.
    Skip,
}

/// A check with its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its subject.
    pub name: String,
    /// Its result.
    pub verdict: Verdict,
    /// The values seen.
    pub seen: String,
}

/// Patterns that show stuck and swapped bits and bytes.
const PATTERNS: [u32; 4] = [0x0000_0000, 0xffff_ffff, 0xa5a5_5a5a, 0x0123_4567];

/// Staging words of an action, and of a key or mask.
const ACTION_WORDS: u32 = action::WORDS as u32;
const KEY_WORDS: u32 = key::WORDS as u32;

struct Bench<'a> {
    card: &'a mut dyn Card,
    profile: &'a Profile,
    checks: Vec<Check>,
}

/// Runs all checks, in the order of their dependencies.
///
/// When the card stops answering; wrong values are verdicts, not errors.
pub fn run(card: &mut dyn Card, profile: &Profile) -> Result<Vec<Check>, AccessError> {
    let mut bench = Bench { card, profile, checks: Vec::new() };
    bench.bus_fpga()?;
    bench.device_id()?;
    bench.ports()?;
    bench.unmapped()?;
    bench.flow_table()?;
    bench.limiters()?;
    Ok(bench.checks)
}

impl Bench<'_> {
    fn say(&mut self, name: impl Into<String>, verdict: Verdict, seen: impl Into<String>) {
        self.checks.push(Check { name: name.into(), verdict, seen: seen.into() });
    }

    /// Writes patterns, reads them back, and restores the former value.
    fn scratch(&mut self, name: &str, address: u32) -> Result<(), AccessError> {
        let before = self.card.read32(address)?;
        if before == UNMAPPED {
            self.say(
                name,
                Verdict::Fail,
                format!("0x{address:07x} reads 0xdeadbeef: nothing is mapped there; another bitfile?"),
            );
            return Ok(());
        }
        let mut wrong = None;
        for pattern in PATTERNS {
            self.card.write32(address, pattern)?;
            let read = self.card.read32(address)?;
            if read != pattern {
                wrong = Some(format!("wrote 0x{pattern:08x} to 0x{address:07x}, read 0x{read:08x}"));
                break;
            }
        }
        self.card.write32(address, before)?;
        match wrong {
            Some(seen) => self.say(name, Verdict::Fail, seen),
            None => {
                self.say(name, Verdict::Pass, format!("{} patterns kept at 0x{address:07x}", PATTERNS.len()))
            }
        }
        Ok(())
    }

    fn bus_fpga(&mut self) -> Result<(), AccessError> {
        let id = self.card.read32(0x000)?;
        let (version, revision) = (id & 0x00ff_ffff, id >> 24);
        let seen = format!("version {version}, revision {revision}");
        match &self.profile.board.bus_fpga {
            Some(bus) if bus.version == version => self.say("bus FPGA", Verdict::Pass, seen),
            Some(bus) => {
                let seen = format!("{seen}; this is written for version {}: reprogram it", bus.version);
                self.say("bus FPGA", Verdict::Warn, seen);
            }
            None => self.say("bus FPGA", Verdict::Skip, "the board has none"),
        }
        self.scratch("bus FPGA's scratch register", 0x020)?;
        let error = self.card.read32(0x010)?;
        match error {
            0 => self.say("bus FPGA's errors", Verdict::Pass, "none"),
            e => self.say(
                "bus FPGA's errors",
                Verdict::Warn,
                format!("0x{e:08x} since they were read last (now cleared)"),
            ),
        }
        let status = self.card.read32(0x104)?;
        match status & 0x1_0100 {
            0x100 => self.say("user FPGA", Verdict::Pass, "programmed (DONE)"),
            _ => self.say(
                "user FPGA",
                Verdict::Fail,
                format!("not programmed (PROG_STATUS 0x{status:08x}); load a bitfile"),
            ),
        }
        Ok(())
    }

    fn device_id(&mut self) -> Result<(), AccessError> {
        match DeviceId::read(self.card)? {
            Some(id) => {
                let right =
                    self.profile.directory.as_ref().is_none_or(|d| d.eq_ignore_ascii_case(&id.directory));
                let verdict = if right { Verdict::Pass } else { Verdict::Fail };
                let more = if right { "" } else { "; the profile is for another design" };
                self.say("device id block", verdict, format!("{id}{more}"));
            }
            None => {
                let word = self.card.read32(tandem_fpga_config::device_id::BASE)?;
                self.say(
                    "device id block",
                    Verdict::Fail,
                    format!("none (first word 0x{word:08x}); is a bitfile loaded?"),
                );
            }
        }
        Ok(())
    }

    fn ports(&mut self) -> Result<(), AccessError> {
        for port in 0..self.profile.board.ports {
            let profile = self.profile;
            let at = |name: &str| profile.port_register("MDIO_PHY", port, name);
            let (Some(high), Some(low)) = (at("PHY_ID_HI"), at("PHY_ID_LO")) else {
                self.say(format!("port {port}: PHY"), Verdict::Skip, "the profile does not have it");
                continue;
            };
            let name = format!("port {port}: PHY");
            match (info::phy(self.card, high)?, info::phy(self.card, low)?) {
                (Some(high), Some(low)) => {
                    let id = u32::from(high) << 16 | u32::from(low);
                    let right = id & !0xf == 0x0020_60b0;
                    let verdict = if right { Verdict::Pass } else { Verdict::Fail };
                    let link = match info::link(self.card, self.profile, port)? {
                        Some(true) => "link",
                        Some(false) => "no link",
                        None => "no answer",
                    };
                    self.say(name, verdict, format!("id 0x{id:08x}, {link}"));
                }
                _ => self.say(name, Verdict::Fail, "does not answer"),
            }
            let Some(control) = profile.port_register("MAC_GRP", port, "CONTROL") else { continue };
            let value = self.card.read32(control)?;
            let name = format!("port {port}: MAC");
            match value {
                v if is_no_answer(v) => {
                    self.say(name, Verdict::Fail, format!("0x{control:07x} reads 0x{v:08x}"))
                }
                v if v & 0x1f == 0 => self.say(name, Verdict::Pass, format!("on (CONTROL 0x{v:03x})")),
                v => self.say(name, Verdict::Warn, format!("partly off (CONTROL 0x{v:03x})")),
            }
        }
        Ok(())
    }

    fn unmapped(&mut self) -> Result<(), AccessError> {
        // The address behind the last PHY, where no design of the reference library has a register.
        let value = self.card.read32(0x044_0200)?;
        let verdict = if is_no_answer(value) { Verdict::Pass } else { Verdict::Warn };
        self.say("unmapped address", verdict, format!("0x0440200 reads 0x{value:08x}"));
        Ok(())
    }

    fn flow_table(&mut self) -> Result<(), AccessError> {
        let Some(map) = self.profile.flow_table else {
            self.say("flow table", Verdict::Skip, "this bitfile has none");
            return Ok(());
        };
        self.scratch("look-up's scratch register", map.seconds - 8)?;
        self.scratch("staging: first word of the mask", map.mask)?;
        self.scratch("staging: last word of the key", map.key + 28)?;
        self.row_width(&map)?;
        // Words 20 to 31 of an exact entry's row are not used.
        let last = map.exact + (map.exact_rows - 1) * map.exact_stride;
        self.scratch("exact table: last row", last + 0x7c)?;
        let before = self.card.read32(map.seconds)?;
        self.card.wait(Duration::from_millis(1_100));
        let after = self.card.read32(map.seconds)?;
        match after.wrapping_sub(before) {
            1 | 2 => self.say("the card's clock", Verdict::Pass, format!("{after} s, running")),
            _ => {
                self.say("the card's clock", Verdict::Fail, format!("{before} s, and 1.1 s later {after} s"))
            }
        }
        if let Some(dog) = self.profile.watchdog {
            let enabled = self.card.read32(dog.enable)?;
            self.say("watchdog", Verdict::Pass, if enabled & 1 == 1 { "on" } else { "off" });
        }
        Ok(())
    }

    /// A row in the staging registers has 24 bits of the last words of key and mask; the registers
    /// hold 32. The number of the row can be read back. The former contents of the staging
    /// registers are restored.
    fn row_width(&mut self, map: &FlowMap) -> Result<(), AccessError> {
        let name = "a row has 24 bits of the last words";
        let staging: Vec<u32> = (0..ACTION_WORDS)
            .map(|n| map.action + 4 * n)
            .chain((0..KEY_WORDS).flat_map(|n| [map.mask + 4 * n, map.key + 4 * n]))
            .collect();
        let mut before = Vec::with_capacity(staging.len());
        for address in &staging {
            before.push((*address, self.card.read32(*address)?));
        }
        let last = [map.mask + 28, map.key + 28];
        let row = u32::from(map.rows).saturating_sub(1);
        let mut wrong = None;
        for word in last {
            self.card.write32(word, u32::MAX)?;
        }
        self.card.write32(map.read_row, row)?;
        let read = self.card.read32(map.read_row)?;
        if read != row {
            wrong = Some(format!("READ_ADDR was written {row}, and reads 0x{read:08x}"));
        }
        for word in last {
            let read = self.card.read32(word)?;
            if read >> 24 != 0 {
                wrong = Some(format!("row {row} was loaded, and 0x{word:07x} reads 0x{read:08x}"));
            }
        }
        for (address, value) in before {
            self.card.write32(address, value)?;
        }
        match wrong {
            Some(seen) => self.say(name, Verdict::Fail, seen),
            None => self.say(name, Verdict::Pass, format!("row {row} was loaded")),
        }
        Ok(())
    }

    fn limiters(&mut self) -> Result<(), AccessError> {
        let Some(limiter) = &self.profile.rate_limiter else {
            return Ok(());
        };
        for index in 0..u8::try_from(limiter.at.len()).unwrap_or(u8::MAX) {
            let name = format!("rate limiter {index}");
            match limiter.get(self.card, index) {
                Ok(setting) => {
                    let rate = setting.rate().map_or("off".to_owned(), |r| r.to_string());
                    self.say(name, Verdict::Pass, rate);
                }
                Err(tandem_fpga_config::limiter::LimitError::Access(e)) => return Err(e),
                Err(e) => self.say(name, Verdict::Fail, e.to_string()),
            }
        }
        Ok(())
    }
}
