//! Opens a switch's card: takes the writer's lock, finds the bitfile, and determines its
//! capabilities.

use super::config::CardConfig;
use crate::config::SwitchConfig;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Duration;
use tandem_fpga_card::Card;
use tandem_fpga_card::lock::Lock;
use tandem_fpga_card::target::Target;
use tandem_fpga_config::profile::{Profile, builtin, probe};
use tandem_fpga_config::registers::{AccessError, is_no_answer};

/// How long a co-simulation may take for one reply, for which the engine waits.
const WITHIN: Duration = Duration::from_secs(2);

/// A card with an OpenFlow switch in it.
pub struct Opened {
    /// Its device.
    pub target: Target,
    /// The card.
    pub card: Box<dyn Card + Send>,
    /// Its register map.
    pub profile: Profile,
}

impl Opened {
    /// Opens the card of a switch and determines its register map, if the configuration does not
    /// name it.
    ///
    /// When it does not exist, or has no OpenFlow switch in it; with what to do.
    pub fn open(switch: &SwitchConfig) -> Result<Opened, String> {
        let config = switch.card.as_ref().ok_or("it has no [switch.card] in agent.toml")?;
        let target = target(config)?;
        let candidates = candidates(config)?;
        let first = candidates.first().ok_or("there are no profiles")?;
        let mut card = target.open(first, WITHIN).map_err(|e| chain(&e))?;
        let found =
            probe::probe(&mut card, &candidates).map_err(|e| format!("probing {target}: {}", chain(&e)))?;
        let fits = found.fits.iter().filter_map(|n| candidates.get(*n));
        let profile = fits.into_iter().find(|p| p.flow_table.is_some()).cloned().ok_or_else(|| {
            let has = found.device_id.map_or_else(
                || "says nothing of its bitfile".to_owned(),
                |id| format!("has the bitfile {:?} (version {}.{}.{})", id.name, id.version.0, id.version.1, id.version.2),
            );
            format!("{target} {has} and answers to no register map with a flow table; load the OpenFlow switch with `tandem-fpga load FILE.bit --card {target}`, or name its map with `profile`")
        })?;
        if let Some(map) = profile.flow_table {
            wait_cleared(card.as_mut(), map.exact).map_err(|e| format!("{target}: {}", chain(&e)))?;
        }
        Ok(Opened { target, card, profile })
    }

    /// Takes the lock for writing to the card of a switch.
    ///
    /// When another process holds it.
    pub fn lock(switch: &SwitchConfig) -> Result<Option<Lock>, String> {
        let config = switch.card.as_ref().ok_or("it has no [switch.card] in agent.toml")?;
        target(config)?.lock(&format!("tandem-agent, switch {}", switch.name)).map_err(|e| chain(&e))
    }
}

/// Opens a card on a thread of its own, so that a card that hangs blocks only that thread.
pub(super) struct Opening(Receiver<Result<Opened, String>>);

impl Opening {
    /// Starts it.
    ///
    /// When the thread cannot be started.
    pub(super) fn begin(switch: &SwitchConfig) -> Result<Opening, String> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let switch = switch.clone();
        let open = move || drop(sender.send(Opened::open(&switch)));
        let thread = std::thread::Builder::new().name("card".into()).stack_size(512 << 10);
        thread.spawn(open).map_err(|e| format!("starting a thread: {e}"))?;
        Ok(Opening(receiver))
    }

    /// The result, once, when it is there.
    pub(super) fn outcome(&self) -> Option<Result<Opened, String>> {
        match self.0.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("opening the card has failed".into())),
        }
    }
}

/// Waits until the exact table answers: after a reset a card clears it for 4.2 ms. If it never
/// answers, it is not an exact table, which shows when it is read.
fn wait_cleared(card: &mut (dyn Card + Send), exact: u32) -> Result<(), AccessError> {
    for _ in 0..20 {
        if !is_no_answer(card.read32(exact)?) {
            break;
        }
        card.wait(Duration::from_millis(1));
    }
    Ok(())
}

/// The device in a configuration.
///
/// When it is malformed.
pub(crate) fn target(config: &CardConfig) -> Result<Target, String> {
    config.device.parse().map_err(|e: tandem_fpga_card::target::TargetError| e.to_string())
}

/// The profiles that the bitfile may have. A card in memory has the first.
fn candidates(config: &CardConfig) -> Result<Vec<Profile>, String> {
    match &config.profile {
        None => builtin::all().map_err(|e| chain(&e)),
        Some(name) if name.ends_with(".toml") => {
            let text =
                std::fs::read_to_string(Path::new(name)).map_err(|e| format!("reading {name}: {e}"))?;
            Ok(vec![Profile::parse(name, &text).map_err(|e| chain(&e))?])
        }
        Some(name) => Ok(vec![builtin::named(name).map_err(|e| chain(&e))?]),
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
