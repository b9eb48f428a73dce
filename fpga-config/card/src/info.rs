//! Properties of a card: board, bus FPGA, loaded bitfile and its profile, links, and the
//! capabilities of its device.

use crate::Card;
use crate::target::Target;
use serde::Serialize;
use tandem_fpga_config::device_id::DeviceId;
use tandem_fpga_config::profile::{KnownFault, LimiterKind, Profile, QueueKind, probe};
use tandem_fpga_config::registers::AccessError;

/// The properties of a card.
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    /// Its name.
    pub card: String,
    /// Its board.
    pub board: String,
    /// Jumper and rotary switch.
    pub board_id: u32,
    /// The bus FPGA.
    pub cpci: Cpci,
    /// The loaded bitfile's device id block; `None` if it has none or nothing is loaded.
    pub device_id: Option<DeviceId>,
    /// The profiles that fit; if there are several, `--profile` selects one.
    pub profiles: Vec<String>,
    /// Capabilities of the bitfile, by its profile.
    pub abilities: Vec<String>,
    /// Known faults of the bitfile, by its profile.
    pub faults: Vec<KnownFault>,
    /// The links of its ports.
    pub ports: Vec<Port>,
    /// Capabilities of its device.
    pub mode: Mode,
}

/// The bus FPGA.
#[derive(Debug, Clone, Serialize)]
pub struct Cpci {
    /// Its version.
    pub version: u32,
    /// Its revision.
    pub revision: u8,
    /// Whether it is the one that this program was written for.
    pub known: bool,
}

/// An Ethernet port.
#[derive(Debug, Clone, Serialize)]
pub struct Port {
    /// Its number, from 0.
    pub port: u8,
    /// Whether it has a link; `None` when the PHY does not answer.
    pub link: Option<bool>,
}

/// The capabilities of a kind of device.
#[derive(Debug, Clone, Serialize)]
pub struct Mode {
    /// `ioctl`, `mmap`, `cosim` or `model`.
    pub way: &'static str,
    /// Packets reach the CPU, so that software can be the slow path.
    pub cpu_ports: bool,
    /// A remark, as text.
    pub about: &'static str,
}

/// The capabilities of each kind: the supported matrix of kernel, driver and mode.
pub const MATRIX: [Mode; 4] = [
    Mode {
        way: "ioctl",
        cpu_ports: true,
        about: "kernel before 2.6.38 with nf2.ko: registers by the driver, packets by nf2c0..3; hardware and software switch",
    },
    Mode {
        way: "mmap",
        cpu_ports: false,
        about: "any kernel, no driver: registers only, no packets to or from the CPU; hardware-only switch",
    },
    Mode {
        way: "cosim",
        cpu_ports: true,
        about: "no card: a Verilog simulation or a served model behind a socket",
    },
    Mode { way: "model", cpu_ports: true, about: "no card: the model in this process" },
];

impl Mode {
    /// The capabilities of a card's device.
    pub const fn of(target: &Target) -> Mode {
        let [ioctl, mmap, cosim, model] = MATRIX;
        match target {
            Target::Ioctl(_) => ioctl,
            Target::Mmap(_) => mmap,
            Target::Cosim(_) => cosim,
            Target::Model => model,
        }
    }
}

/// The capabilities of a bitfile with this profile, as text.
pub fn abilities(profile: &Profile) -> Vec<String> {
    let mut can = Vec::new();
    if let Some(map) = profile.flow_table {
        let kept = if map.guard.is_some() { "; row 0 is kept against a known fault" } else { "" };
        can.push(format!("flow table: {} wildcard rows, {} exact entries{kept}", map.rows, map.exact_rows));
    }
    if let Some(queues) = &profile.queues {
        let kind = match queues.kind {
            QueueKind::Bram => "block RAM, 16 KB each",
            QueueKind::Sram => "SRAM",
        };
        can.push(format!("{} output queues ({kind})", queues.count));
    }
    match &profile.rate_limiter {
        Some(limiter) => {
            let kind = match limiter.kind {
                LimiterKind::Shift => "16 steps of about 8 Gbit/s / (1 + 2^n)",
                LimiterKind::Tokens => "token bucket",
            };
            can.push(format!("{} rate limiters ({kind})", limiter.at.len()));
        }
        None => can.push("no rate limiter: no class shares on a port, only marking".to_owned()),
    }
    if let Some(generator) = &profile.generator {
        let words = generator.ports.first().map_or(0, |p| p.queue.words);
        can.push(format!("replay from {words} words of 8 bytes per port, capture with times"));
    }
    if let Some(dog) = profile.watchdog {
        can.push(format!(
            "watchdog: flushes all flows after {:.1} s without a sign of life",
            dog.period.as_secs_f64()
        ));
    }
    can
}

/// Whether a port has a link; `None` when its PHY does not answer. Repeated while the PHY is busy.
///
/// When the card does not answer.
pub fn link(card: &mut dyn Card, profile: &Profile, port: u8) -> Result<Option<bool>, AccessError> {
    let Some(address) = profile.port_register("MDIO_PHY", port, "AUX_STATUS") else {
        return Ok(None);
    };
    Ok(phy(card, address)?.map(|value| value & 1 << 2 != 0))
}

/// A PHY's register; `None` when the PHY stays busy or nothing answers.
///
/// When the card does not answer.
pub fn phy(card: &mut dyn Card, address: u32) -> Result<Option<u16>, AccessError> {
    for _ in 0..100 {
        let value = card.read32(address)?;
        if tandem_fpga_config::registers::is_no_answer(value) {
            return Ok(None);
        }
        if value & 1 << 31 == 0 {
            return Ok(Some((value & 0xffff) as u16));
        }
        card.wait(std::time::Duration::from_micros(100));
    }
    Ok(None)
}

/// Reads the properties of a card. With `probing` the profile is probed, which writes a staging
/// register and restores it: only for a holder of the lock. Otherwise the profiles are those with
/// the directory in the device id block.
///
/// When the card does not answer.
pub fn inspect(
    card: &mut dyn Card,
    target: &Target,
    profiles: &[Profile],
    probing: bool,
) -> Result<Info, AccessError> {
    let (device_id, fits) = if probing {
        let probed = probe::probe(card, profiles)?;
        (probed.device_id, probed.fits)
    } else {
        let id = DeviceId::read(card)?;
        let named = |p: &Profile| {
            id.as_ref().zip(p.directory.as_ref()).is_some_and(|(id, d)| id.directory.eq_ignore_ascii_case(d))
        };
        (id.clone(), (0..profiles.len()).filter(|i| profiles.get(*i).is_some_and(named)).collect())
    };
    let fits: Vec<&Profile> = fits.iter().filter_map(|i| profiles.get(*i)).collect();
    let profile = fits.first().copied().or(profiles.first());
    let id = card.read32(0x000)?;
    let board_id = card.read32(0x004)?;
    let mut ports = Vec::new();
    if let Some(profile) = profile {
        for port in 0..profile.board.ports {
            ports.push(Port { port, link: link(card, profile, port)? });
        }
    }
    let bus = profile.and_then(|p| p.board.bus_fpga.as_ref());
    let (version, revision) = (id & 0x00ff_ffff, (id >> 24) as u8);
    Ok(Info {
        card: target.to_string(),
        board: profile.map_or_else(String::new, |p| p.board.about.clone()),
        board_id,
        cpci: Cpci {
            version,
            revision,
            known: bus.is_some_and(|b| (b.version, b.revision) == (version, revision)),
        },
        device_id,
        profiles: fits.iter().map(|p| p.name.clone()).collect(),
        abilities: fits.first().map(|p| abilities(p)).unwrap_or_default(),
        faults: fits.first().map(|p| p.faults.clone()).unwrap_or_default(),
        ports,
        mode: Mode::of(target),
    })
}
