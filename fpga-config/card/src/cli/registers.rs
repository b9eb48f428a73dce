//! `reg`, `counters` and `limit`.

use super::args::{Cli, Reg};
use super::{Opened, print_json};
use anyhow::{Context, bail};
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;
use tandem_fpga_card::Card;
use tandem_fpga_card::cosim::protocol::Request;
use tandem_fpga_card::lock::Lock;
use tandem_fpga_config::counters::Sweep;
use tandem_fpga_config::limiter::Setting;
use tandem_fpga_config::profile::{Mode, Profile};
use tandem_fpga_config::registers::{Access, check, is_no_answer};
use tandem_model::BitRate;

/// A number, decimal or hexadecimal with `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The address of a register's name or number.
fn address(profile: &Profile, text: &str) -> anyhow::Result<u32> {
    if let Some(address) = number(text) {
        check(Access::Read(address))?;
        return Ok(address);
    }
    if let Some(register) = profile.register(text) {
        return Ok(register.address);
    }
    match &profile.like(text)[..] {
        [] => bail!(
            "{} has no register {text}; `tandem-fpga --json profiles --profile {}` lists them",
            profile.name,
            profile.name
        ),
        like => bail!("{} has no register {text}; did you mean {}?", profile.name, like.join(", ")),
    }
}

pub(crate) fn reg(cli: &Cli, reg: &Reg) -> anyhow::Result<()> {
    let register = match reg {
        Reg::Read { register } | Reg::Write { register, .. } | Reg::Watch { register, .. } => register,
        Reg::Apply { file } => return apply(cli, file),
    };
    // An address needs no profile, so that a card can be read whatever bitfile is loaded.
    let raw = number(register).is_some() && cli.profile.is_none();
    let (mut card, profile, _lock) = open(cli, matches!(reg, Reg::Write { .. }), raw)?;
    let address = address(&profile, register)?;
    let known = profile.at(address).filter(|_| !raw);
    let name = known.map_or_else(|| format!("0x{address:07x}"), |r| r.name.clone());
    let clears = known.is_some_and(|r| profile.clears(r));
    let card = &mut *card;
    match reg {
        Reg::Read { .. } => {
            let value = card.read32(address)?;
            if cli.json {
                return print_json(&json!({ "register": name, "address": address, "value": value }));
            }
            let mut more = String::new();
            if is_no_answer(value) {
                more.push_str("  (nothing answered)");
            }
            if clears {
                more.push_str("  (reading has cleared it)");
            }
            if let Some(note) = known.and_then(|r| r.note.as_deref()) {
                more.push_str(&format!("  ({note})"));
            }
            writeln!(io::stdout(), "{name} = 0x{value:08x} {value}{more}")?;
            Ok(())
        }
        Reg::Write { value, .. } => {
            let value = number(value)
                .with_context(|| format!("\"{value}\" is no 32-bit number, such as 12 or 0xc"))?;
            write(card, &name, address, value, known.is_some_and(|r| r.mode == Mode::Write))
        }
        Reg::Apply { .. } => Ok(()),
        Reg::Watch { every, .. } if clears => watch_clearing(card, &name, address, *every),
        Reg::Watch { every, .. } => watch(card, &name, address, *every),
    }
}

/// Opens the card; `raw` for an address, which needs no profile of the loaded bitfile.
fn open(cli: &Cli, writes: bool, raw: bool) -> anyhow::Result<(Box<dyn Card + Send>, Profile, Option<Lock>)> {
    if raw {
        let profile = super::loaded(cli)?;
        let card = cli.card.open(&profile, cli.timeout)?;
        let lock = writes.then(|| cli.card.lock("tandem-fpga")).transpose()?.flatten();
        return Ok((card, profile, lock));
    }
    let opened = if writes { Opened::to_write(cli)? } else { Opened::to_read(cli)? };
    Ok((opened.card, opened.profile, opened.lock))
}

/// Writes a register, and reads it back if it can be read.
fn write(card: &mut dyn Card, name: &str, address: u32, value: u32, write_only: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    card.write32(address, value)?;
    if write_only {
        writeln!(out, "{name}: wrote 0x{value:08x}; it cannot be read back")?;
        return Ok(());
    }
    let read = card.read32(address)?;
    let more = if read == value {
        ""
    } else {
        ": not what was written (a part of it, a time-out, or a register that acts)"
    };
    writeln!(out, "{name}: wrote 0x{value:08x}, reads 0x{read:08x}{more}")?;
    Ok(())
}

/// Prints a register that reading clears: each value adds to a sum.
fn watch_clearing(card: &mut dyn Card, name: &str, address: u32, every: u64) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{name} is cleared by each reading: nobody else sees what is counted here")?;
    let mut sum = 0u64;
    loop {
        let value = card.read32(address)?;
        if value != 0 && !is_no_answer(value) {
            sum = sum.saturating_add(value.into());
            writeln!(out, "{name} +{value}, {sum} since the watch began")?;
        }
        out.flush()?;
        card.wait(Duration::from_millis(every.max(1)));
    }
}

/// Prints a register whenever its value has changed.
fn watch(card: &mut dyn Card, name: &str, address: u32, every: u64) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut last = None;
    loop {
        let value = card.read32(address)?;
        if last != Some(value) {
            let by = last.map_or_else(String::new, |l| format!("  ({:+})", i64::from(value) - i64::from(l)));
            writeln!(out, "{name} = 0x{value:08x} {value}{by}")?;
            out.flush()?;
            last = Some(value);
        }
        card.wait(Duration::from_millis(every.max(1)));
    }
}

/// Executes the writes in a file, after all of them were parsed.
fn apply(cli: &Cli, file: &Path) -> anyhow::Result<()> {
    let text = super::text(file)?;
    let mut writes = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match Request::parse(line) {
            Ok(Request::Write(address, value)) => {
                check(Access::Write(address, value))
                    .with_context(|| format!("{}, line {number}", file.display()))?;
                writes.push((address, value));
            }
            Ok(_) => bail!("{}, line {number}: only `w ADDR VALUE` is carried out here", file.display()),
            Err(error) => return Err(error).with_context(|| format!("{}, line {number}", file.display())),
        }
    }
    let mut card = cli.card.open(&super::loaded(cli)?, cli.timeout)?;
    let _lock = cli.card.lock("tandem-fpga reg apply")?;
    for (address, value) in &writes {
        card.write32(*address, *value)?;
    }
    writeln!(io::stdout(), "{} registers written", writes.len())?;
    Ok(())
}

pub(crate) fn counters(cli: &Cli, part: &str, watch: bool, all: bool, clearing: bool) -> anyhow::Result<()> {
    // Counters that reading clears have only one reader.
    let mut opened = if clearing { Opened::to_write(cli)? } else { Opened::to_read(cli)? };
    let whole = Sweep::with_clearing(&opened.profile, part);
    let mut left_out = if clearing { 0 } else { whole.clearing() };
    let mut sweep = if clearing { whole } else { Sweep::new(&opened.profile, part) };
    if sweep.is_empty() && left_out > 0 {
        bail!("reading clears every counter with \"{part}\" in its name; --clearing reads them all the same");
    }
    if sweep.is_empty() {
        bail!("{} has no counter with \"{part}\" in its name", opened.profile.name);
    }
    let mut first = true;
    loop {
        let readings = sweep.read(&mut *opened.card)?;
        if cli.json {
            print_json(&readings)?;
        } else {
            let mut out = io::stdout().lock();
            let shown = readings.iter().filter(|r| {
                all || r.raw.is_none() || if first { r.value != 0 } else { r.delta.is_some_and(|d| d != 0) }
            });
            let mut none = true;
            for r in shown {
                none = false;
                let mut line = format!("{:<44} {:>20}", r.name, r.value);
                match (r.raw, r.delta) {
                    (None, _) => line.push_str("  no answer"),
                    (_, Some(delta)) if !first => line.push_str(&format!("  +{delta}")),
                    _ => {}
                }
                writeln!(out, "{line}")?;
            }
            if none {
                writeln!(out, "{} counters, {}", sweep.len(), if first { "all 0" } else { "none changed" })?;
            }
            match std::mem::take(&mut left_out) {
                0 => {}
                n => writeln!(out, "{n} more that reading clears, left out; --clearing reads them too")?,
            }
            out.flush()?;
        }
        if !watch {
            return Ok(());
        }
        first = false;
        opened.card.wait(Duration::from_secs(1));
        if !cli.json {
            writeln!(io::stdout())?;
        }
    }
}

pub(crate) fn limit(cli: &Cli, port: u8, rate: Option<&str>) -> anyhow::Result<()> {
    let mut opened = if rate.is_some() { Opened::to_write(cli)? } else { Opened::to_read(cli)? };
    let Some(limiter) = opened.profile.rate_limiter.clone() else {
        bail!(
            "the bitfile {} has no rate limiter; router-buffer-sizing, tutorial-router and packet-generator have. On this card a class can only be marked, and shaped by the next Linux hop",
            opened.profile.name
        );
    };
    if let Some(rate) = rate {
        let setting = match rate {
            "off" => Setting::Off,
            rate => Setting::at_most(limiter.kind, rate.parse::<BitRate>()?)?,
        };
        limiter.set(&mut *opened.card, limiter.of_port(port), setting)?;
    }
    let setting = limiter.get(&mut *opened.card, limiter.of_port(port))?;
    if cli.json {
        let bits = setting.rate().map(|r| r.0);
        return print_json(&json!({ "port": port, "setting": setting, "bit_per_second": bits }));
    }
    match setting.rate() {
        Some(rate) => writeln!(io::stdout(), "port {port}: at most {rate} ({setting:?})")?,
        None => writeln!(io::stdout(), "port {port}: not limited")?,
    }
    Ok(())
}
