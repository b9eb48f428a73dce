//! The worlds in which packets are real: namespaces of this machine, and a testbed's machines.

use super::run::PacketRun;
use super::{DataCentre, Start, World};
use crate::control::messages::Status;
use crate::controller_process;
use crate::world::emulated::datapath::Choice;
use crate::world::emulated::engine::EngineKind;
use crate::world::emulated::lab_control;
use crate::world::testbed::up;
use anyhow::bail;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem_testbed::inventory::Inventory;

/// A world with real packets: it is a lab of its own, with a control socket and a hypervisor
/// service.
///
/// Flows are measured and VMs are moved over the control socket
/// ([`ask`](crate::control::messages::ask)), in each such world by the same messages. This trait is
/// what differs: where switches find the controller, and how the rest is brought up.
pub trait PacketWorld: World {
    /// How long switches may take to find the controller.
    fn patience(&self) -> Duration;
    /// What the controller is told besides its usual options: where this world's switches and
    /// agents look for it.
    fn controller_options(&self) -> Vec<String>;
    /// Brings up the servers and gateways (and switches, where they are not there already) of a
    /// site under a name.
    ///
    /// # Errors
    /// With the step that failed; nothing is then left.
    fn up(&self, name: &str, text: &str, folder: &Path, purpose: &str) -> anyhow::Result<Status>;
}

/// Namespaces of this machine.
pub struct Emulated {
    /// OpenFlow versions that the switches offer.
    pub protocols: Vec<String>,
    /// What they are made of.
    pub datapath: Choice,
    /// What makes hosts, switches and links.
    pub engine: EngineKind,
}

impl World for Emulated {
    fn kind(&self) -> &'static str {
        "emulated"
    }

    fn engine(&self) -> Option<EngineKind> {
        Some(self.engine)
    }

    fn start(&self, start: Start<'_>) -> anyhow::Result<Box<dyn DataCentre>> {
        Ok(Box::new(PacketRun::start(self, start)?))
    }
}

impl PacketWorld for Emulated {
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn controller_options(&self) -> Vec<String> {
        Vec::new()
    }

    fn up(&self, name: &str, text: &str, folder: &Path, _: &str) -> anyhow::Result<Status> {
        let up = lab_control::up(&lab_control::Plan {
            group: None,
            name: Some(name.to_owned()),
            text: text.to_owned(),
            file: "the experiment's site".into(),
            controller: controller_process::openflow(folder),
            agents: controller_process::agents(folder),
            agent_per_switch: false,
            protocols: self.protocols.clone(),
            datapath: self.datapath,
            engine: self.engine,
        })?;
        Ok(up.status)
    }
}

/// Machines of an inventory.
pub struct Testbed {
    /// The inventory's file.
    pub inventory: PathBuf,
    /// Folder of the certificate authority that the agents were enrolled with.
    pub authority: PathBuf,
    /// What runs on the machines, if not this program.
    pub program: Option<PathBuf>,
    checked: Inventory,
}

impl Testbed {
    /// Of an inventory's file.
    ///
    /// # Errors
    /// With its faults, or when there is no authority.
    pub fn new(inventory: PathBuf, authority: PathBuf, program: Option<PathBuf>) -> anyhow::Result<Testbed> {
        let checked = Inventory::load(&inventory, None)?;
        if !authority.is_dir() {
            bail!(
                "{} is not there: the agents trust the controller that they were enrolled with, and an experiment's must be that; \
                 name the folder `agents` beside that controller's store with --authority",
                authority.display()
            );
        }
        Ok(Testbed { inventory, authority, program, checked })
    }
}

impl World for Testbed {
    fn kind(&self) -> &'static str {
        "testbed"
    }

    fn start(&self, start: Start<'_>) -> anyhow::Result<Box<dyn DataCentre>> {
        Ok(Box::new(PacketRun::start(self, start)?))
    }
}

impl PacketWorld for Testbed {
    // Open vSwitch tries again after 8 s at most, an agent after half a minute.
    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn controller_options(&self) -> Vec<String> {
        let c = &self.checked.controller;
        vec![
            "--openflow".into(),
            format!("tcp:{}:{}", c.listen, c.openflow),
            "--agents".into(),
            format!("tcp:{}:{}", c.listen, c.agents),
            "--authority".into(),
            self.authority.display().to_string(),
        ]
    }

    fn up(&self, name: &str, text: &str, _: &Path, purpose: &str) -> anyhow::Result<Status> {
        up::up(&up::Plan {
            group: None,
            name: Some(name.to_owned()),
            text: text.to_owned(),
            file: "the experiment's site".into(),
            inventory: self.inventory.clone(),
            program: self.program.clone(),
            purpose: purpose.to_owned(),
        })
    }
}
