//! `list`, `profiles`, `info` and `selftest`.

use super::args::Cli;
use super::{Opened, given, loaded, print_json};
use anyhow::Context;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use tandem_fpga_card::info::{self, Info, MATRIX};
use tandem_fpga_card::pci;
use tandem_fpga_card::selftest::{self, Verdict};
use tandem_fpga_config::profile::{Detect, KnownFault, Profile, builtin};

pub(crate) fn list(cli: &Cli) -> anyhow::Result<()> {
    let board = loaded(cli)?.board;
    let id =
        board.pci.with_context(|| format!("how a {} is found on the PCI bus is not known", board.name))?;
    let found =
        pci::list(Path::new(pci::DEVICES), &id).with_context(|| format!("reading {}", pci::DEVICES))?;
    if cli.json {
        return print_json(&found);
    }
    let mut out = io::stdout().lock();
    if found.is_empty() {
        writeln!(out, "no {} (PCI {:04x}:{:04x}) in this machine", board.name, id.vendor, id.device)?;
    }
    for card in found {
        let ways = match (&card.driver, card.interfaces.first()) {
            (Some(driver), Some(interface)) => format!("driver {driver}: --card ioctl:{interface}"),
            (Some(driver), None) => format!("driver {driver}, without interfaces"),
            _ => "no driver: registers only".to_owned(),
        };
        writeln!(out, "{}  {}  --card mmap:{}  {ways}", card.address, board.name, card.address)?;
    }
    Ok(())
}

pub(crate) fn profiles(cli: &Cli) -> anyhow::Result<()> {
    let all = given(cli)?.map_or_else(builtin::all, |p| Ok(vec![p]))?;
    if cli.json {
        return print_json(&all);
    }
    let mut out = io::stdout().lock();
    for profile in all {
        writeln!(out, "{}: {}", profile.name, profile.about)?;
        for can in info::abilities(&profile) {
            writeln!(out, "    {can}")?;
        }
    }
    Ok(())
}

pub(crate) fn info(cli: &Cli) -> anyhow::Result<()> {
    let given = given(cli)?;
    let any = given.clone().map_or_else(|| builtin::named("openflow-switch"), Ok)?;
    let profiles: Vec<Profile> = given.map_or_else(builtin::all, |p| Ok(vec![p]))?;
    let mut card = cli.card.open(&any, cli.timeout)?;
    let lock = cli.card.lock("tandem-fpga info");
    let seen = info::inspect(&mut *card, &cli.card, &profiles, lock.is_ok())?;
    if cli.json {
        return print_json(&seen);
    }
    show(&seen, lock.err().map(|e| e.to_string()))?;
    Ok(())
}

fn show(info: &Info, held: Option<String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "card          {}", info.card)?;
    writeln!(out, "board         {} (board id 0x{:x})", info.board, info.board_id)?;
    let known = if info.cpci.known { "" } else { ", which is not the one that this is written for" };
    writeln!(out, "bus FPGA      version {}, revision {}{known}", info.cpci.version, info.cpci.revision)?;
    match &info.device_id {
        Some(id) => {
            let (major, minor, revision) = id.version;
            writeln!(
                out,
                "bitfile       {} {major}.{minor}.{revision}, device {}, directory {}",
                id.name, id.device, id.directory
            )?;
            writeln!(out, "              {}", id.description)?;
        }
        None => writeln!(
            out,
            "bitfile       says nothing about itself (no device id block): none loaded, or an old one"
        )?,
    }
    match &info.profiles[..] {
        [] => writeln!(out, "profile       none fits; give --profile with a file of your own")?,
        [one] => writeln!(out, "profile       {one}")?,
        several => writeln!(out, "profile       {}: give one by --profile", several.join(" or "))?,
    }
    if let Some(held) = held {
        writeln!(out, "              the map was not probed: {held}")?;
    }
    for can in &info.abilities {
        writeln!(out, "              {can}")?;
    }
    for port in &info.ports {
        let link = match port.link {
            Some(true) => "link",
            Some(false) => "no link",
            None => "the PHY does not answer",
        };
        writeln!(out, "port {}        {link}", port.port)?;
    }
    if !info.faults.is_empty() {
        writeln!(out, "known faults of the bitfile:")?;
    }
    info.faults.iter().try_for_each(|fault| show_fault(&mut out, fault))?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    writeln!(out, "kernel        {}", kernel.trim())?;
    writeln!(out, "ways to a card:")?;
    for mode in MATRIX {
        let here = if mode.way == info.mode.way { "*" } else { " " };
        let packets = if mode.cpu_ports { "packets" } else { "no packets" };
        writeln!(out, "  {here} {:<6} {packets:<11} {}", mode.way, mode.about)?;
    }
    Ok(())
}

fn show_fault(out: &mut impl Write, fault: &KnownFault) -> io::Result<()> {
    let seen = match fault.detect {
        Detect::DataPath => "registers show it: fewer look-ups than frames that entered",
        Detect::No => "registers do not show it",
    };
    writeln!(out, "    {}: {}", fault.id, fault.title)?;
    writeln!(out, "        when    {}", fault.trigger)?;
    writeln!(out, "        then    {}", fault.effect)?;
    writeln!(out, "        remedy  {} ({seen})", fault.advice)
}

pub(crate) fn selftest(cli: &Cli) -> anyhow::Result<ExitCode> {
    let mut opened = Opened::to_write(cli)?;
    let checks = selftest::run(&mut *opened.card, &opened.profile)?;
    let failed = checks.iter().filter(|c| c.verdict == Verdict::Fail).count();
    if cli.json {
        print_json(&checks)?;
    } else {
        let mut out = io::stdout().lock();
        for check in &checks {
            let verdict = match check.verdict {
                Verdict::Pass => "pass",
                Verdict::Warn => "WARN",
                Verdict::Fail => "FAIL",
                Verdict::Skip => "skip",
            };
            writeln!(out, "{verdict}  {:<42} {}", check.name, check.seen)?;
        }
        match failed {
            0 => writeln!(out, "{} checks, none failed", checks.len())?,
            n => writeln!(out, "{} checks, {n} FAILED", checks.len())?,
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
