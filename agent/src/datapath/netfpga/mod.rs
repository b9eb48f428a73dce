//! A switch with a NetFPGA card: the soft switch has the whole flow table and is the slow path; the
//! card forwards packets whose flows fit its rows and exact entries
//! (`tandem_fpga_config::offload`).
//!
//! ```text
//! wires <-> offload_io::CardIo (the card's look-up, its CPU queues) <-> engine (tables, controllers)
//! ```
//!
//! How frames reach the card's ports depends on its device:
//!
//! | way | frames |
//! |---|---|
//! | `ioctl:` | the driver's interfaces nf2c0..3 are the card's CPU queues; what the card decides never comes here |
//! | `mmap:` | none: the card forwards by its rows, what they cannot say is refused (no CPU ports) |
//! | `cosim:`, `model` | each port is an interface of this machine, whose frames are put into the card's look-up |
//!
//! With `cpu_ports = false` in `[switch.card]` every device behaves like `mmap:`: packets pass the
//! card by its ports only.
//!
//! Ports that are not the card's are plain NICs; packets between them and the card's ports go
//! through software.

mod config;
mod datapath;
mod doctor;
mod frames;
mod offload_io;
mod open;
mod recovery;
mod table_sync;
mod upkeep;

pub use config::{CardConfig, ClockChoice, RowCounters, TransportChoice};
pub use datapath::Netfpga;
pub use offload_io::CardIo;
pub use open::Opened;
pub(crate) use open::target;

use super::ovs;
use super::registry::DatapathEntry;
use crate::config::SwitchConfig;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tandem_agent_protocol::datapaths::{LabSetup, Management};
use tandem_fpga_card::info::Mode;
use tandem_fpga_card::target::Target;
use tandem_fpga_config::codec::entry::Row;
use tandem_fpga_config::profile::FlowMap;
use tandem_fpga_config::registers::{AccessError, Registers};

/// See [`crate::datapath::registry`].
pub(super) static ENTRY: DatapathEntry = DatapathEntry {
    about: "the agent's own switch with a NetFPGA card under it; in a lab each with a card in memory",
    has_settings: false,
    check: config::check,
    open: |config, switches, mode| Some(Box::new(Netfpga::new(config, switches, mode))),
    doctor: |_, findings| doctor::boards(Path::new("/sys/bus/pci/devices"), findings),
    // Its plain NICs are checked like ports of Open vSwitch.
    reads_in_user_space: ovs::reads_in_user_space,
    makes_bridges: false,
    records: |state| state.join("netfpga"),
    // A card in memory, which has four ports; further ports of a switch are plain NICs.
    lab: || LabSetup {
        title: "modelled card".into(),
        place: "modelled NetFPGA cards".into(),
        needs_open_vswitch: false,
        management: Management::State("netfpga".into()),
        switch: "[switch.card]\ndevice = \"model\"\nprofile = \"openflow-switch\"\n".into(),
        ports: (0..4).map(|n| format!("card_port = {n}\n")).collect(),
    },
};

/// State shared between the card's side and the datapath.
#[derive(Debug, Default)]
pub struct Shared {
    /// Link state of ports by OpenFlow number, as the PHY reports it. For ports that are missing
    /// here, the state of their interface counts.
    pub links: BTreeMap<u32, bool>,
    /// Rate limits of ports in bit/s by OpenFlow number, if the bitfile has limiters.
    pub rates: BTreeMap<u32, u64>,
    /// State of the card; `None` before it was opened.
    pub card: Option<CardState>,
    /// Notices, each reported once.
    pub notices: VecDeque<String>,
}

/// The most notices that wait for a reader; then the oldest are dropped. All of them are in the
/// log.
const NOTICES: usize = 64;

impl Shared {
    fn note(&mut self, notice: String) {
        if self.notices.len() >= NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }
}

/// The state of a card.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct CardState {
    /// State of its data path.
    pub path: DataPath,
    /// Number of outages since the agent's start.
    pub outages: u64,
    /// Total duration of outages, the present one included.
    #[serde(rename = "outage_ms", serialize_with = "milliseconds")]
    pub outage: Duration,
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64() * 1e3)
}

/// The state of a card's data path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataPath {
    /// It forwards packets.
    #[default]
    Working,
    /// It lags or has stopped.
    Stopped,
    /// It was reset, and its tables are being written.
    Recovering,
    /// The card does not answer.
    Unreachable,
}

/// See [`Shared`].
pub type Talk = Arc<Mutex<Shared>>;

/// Locks it, also after a panic of another holder.
pub fn shared(talk: &Talk) -> MutexGuard<'_, Shared> {
    talk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The card's ports in a switch: OpenFlow number and the card's own number.
pub fn card_ports(switch: &SwitchConfig) -> BTreeMap<u32, u8> {
    switch.ports.iter().filter_map(|p| Some((p.number, p.card_port?))).collect()
}

/// Whether packets reach the CPU, so that software can be the slow path.
pub fn cpu_ports(card: &CardConfig) -> bool {
    card.cpu_ports && target(card).is_ok_and(|t| Mode::of(&t).cpu_ports)
}

/// Whether frames are sent into the card by [`tandem_fpga_card::Card::inject`], from interfaces of
/// this machine that are its ports.
pub fn injects(card: &CardConfig) -> bool {
    matches!(target(card), Ok(Target::Cosim(_) | Target::Model))
}

/// Deletes every row and every exact entry.
///
/// # Errors
/// When the card cannot be written.
pub fn clear(map: &FlowMap, card: &mut dyn Registers) -> Result<(), AccessError> {
    for row in 0..u32::from(map.rows) {
        Row::deleted().commit(map, row, card)?;
    }
    for row in 0..map.exact_rows {
        let Some(at) = map.exact_entry(row) else { continue };
        let last = card.read32(at + 28)?;
        if last >> 31 == 1 {
            card.write32(at + 28, 0)?;
        }
    }
    Ok(())
}
