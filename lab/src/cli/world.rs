//! In which world an experiment runs, and where its results go.

use crate::experiment::run_folder::OutputOptions;
use crate::world::World;
use crate::world::emulated::datapath::Choice;
use crate::world::emulated::engine::EngineKind;
use crate::world::packets::{Emulated, PacketWorld, Testbed};
use crate::world::simulated::Simulated;
use anyhow::bail;
use clap::ValueEnum;
use std::path::PathBuf;

/// The kinds of worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WorldKind {
    /// Virtual time, no privileges, milliseconds.
    Simulated,
    /// Real packets through Open vSwitch, real time; needs root.
    Emulated,
    /// The machines of an inventory, by ssh.
    Testbed,
    /// Xen hosts under emulation, by the real hypervisor; of the experiments only `live-migration`.
    Xen,
}

/// On what an experiment runs, and where its results go.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Where results go.
    #[command(flatten)]
    pub(super) output: OutputOptions,
    /// Another site file than the experiment's own; a testbed needs its own.
    #[arg(long)]
    pub(super) site: Option<PathBuf>,
    /// The testbed's machines (inventory.toml).
    #[arg(long, required_if_eq("world", "testbed"), requires = "site")]
    pub(super) inventory: Option<PathBuf>,
    /// Folder of the certificate authority that the testbed's agents were enrolled with: `agents`
    /// beside the controller's store.
    #[arg(long, default_value = "/var/lib/tandem/agents", requires = "inventory")]
    pub(super) authority: PathBuf,
    /// What runs on the testbed's machines, if not this program.
    #[arg(long, requires = "inventory")]
    pub(super) node_program: Option<PathBuf>,
    /// What the switches of the emulated world are made of.
    #[arg(long, value_enum, default_value = "auto", conflicts_with = "inventory")]
    pub(super) datapath: Choice,
    /// What makes the hosts, switches and links of the emulated world.
    #[arg(long, value_enum, default_value = "native", conflicts_with = "inventory")]
    pub(super) engine: EngineKind,
}

impl Place {
    /// The text of the site file, if one was given.
    pub(super) fn site(&self) -> anyhow::Result<Option<String>> {
        self.site.as_deref().map(super::read).transpose()
    }

    /// The world that is asked for.
    pub(super) fn world(self, world: WorldKind, protocols: &[&str]) -> anyhow::Result<Box<dyn World>> {
        if world == WorldKind::Simulated {
            return Ok(Box::new(Simulated));
        }
        Ok(self.packet_world(world, protocols)?)
    }

    /// The world that is asked for, for an experiment that counts packets.
    pub(super) fn packet_world(
        self,
        world: WorldKind,
        protocols: &[&str],
    ) -> anyhow::Result<Box<dyn PacketWorld>> {
        Ok(match (world, self.inventory) {
            (WorldKind::Testbed, Some(inventory)) => {
                Box::new(Testbed::new(inventory, self.authority, self.node_program)?)
            }
            (WorldKind::Testbed, None) => bail!("a testbed has an inventory: --inventory FILE"),
            (WorldKind::Simulated, _) => bail!("this experiment has no packets in the simulated world"),
            (WorldKind::Xen, _) => bail!("of the experiments only live-migration runs on the Xen lab"),
            (WorldKind::Emulated, _) => Box::new(Emulated {
                protocols: protocols.iter().map(|p| (*p).to_owned()).collect(),
                datapath: self.datapath,
                engine: self.engine,
            }),
        })
    }
}
