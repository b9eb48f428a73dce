//! The worlds that stand in for a data centre, and what an experiment sees of each of them.
//!
//! | world | made of | time |
//! |---|---|---|
//! | [`simulated`] | the core and flow-level links ([`tandem_sim`]) | virtual |
//! | [`emulated`] | network namespaces and switches of this machine | real |
//! | [`testbed`] | the machines of an inventory, by ssh | real |
//! | [`xen`] | Xen hosts under emulation | real |
//!
//! An experiment that only requests VMs and reads what the controller shows is written once,
//! against [`World`] and [`DataCentre`]. One that counts packets needs a [`packets::PacketWorld`].

pub mod emulated;
pub mod mininet;
pub mod packets;
pub mod run;
pub mod simulated;
pub mod testbed;
pub mod xen;

use crate::experiment::manifest::Manifest;
use crate::experiment::records::Records;
use crate::world::emulated::engine::EngineKind;
use std::path::Path;
use std::time::Duration;
use tandem_model::{ServerId, Site};

/// Where data centres come from.
pub trait World {
    /// `simulated`, `emulated` or `testbed`, for the manifest.
    fn kind(&self) -> &'static str;

    /// What makes hosts, switches and links, in the emulated world; `None` in the others.
    fn engine(&self) -> Option<EngineKind> {
        None
    }

    /// True where time is virtual: nobody waits, and no progress is worth showing.
    fn is_virtual(&self) -> bool {
        false
    }

    /// Brings up a data centre with a controller of its own: all switches are connected and have
    /// their rules, and the controller has found the hypervisors.
    ///
    /// # Errors
    /// With the step that failed; nothing is then left.
    fn start(&self, start: Start<'_>) -> anyhow::Result<Box<dyn DataCentre>>;
}

/// What a run is started with.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Names the run among those of the experiment.
    pub name: &'a str,
    /// The experiment, for the testbed's lock.
    pub experiment: &'a str,
    /// The site file's text.
    pub text: &'a str,
    /// Folder for the statistics' CSV files, which is there; none are written without it.
    pub csv: Option<&'a Path>,
    /// File for the recording; nothing is recorded without it.
    pub record: Option<&'a Path>,
}

/// A data centre and its controller while an experiment runs. It is gone when this is dropped.
///
/// Times are the experiment's own, from 0 at its first request or step; they must not decrease.
pub trait DataCentre {
    /// The site.
    fn site(&self) -> &Site;

    /// Lets time pass until `at`.
    ///
    /// # Errors
    /// When a part of the world is lost, or a VM that was requested does not run.
    fn advance_to(&mut self, at: Duration) -> anyhow::Result<()>;

    /// Requests a VM of the site's default size at `at`, without waiting for it to run; whether it
    /// does is known after [`finish`](Self::finish).
    ///
    /// # Errors
    /// When it cannot be requested.
    fn request_vm_at(&mut self, at: Duration) -> anyhow::Result<()>;

    /// How much of a server's first link is in use as the controller has measured it last, 0 to 1.
    ///
    /// # Errors
    /// When the controller does not show it.
    fn server_link_ratio(&mut self, server: ServerId) -> anyhow::Result<f64>;

    /// The same of every server's, in order of the site's servers.
    ///
    /// # Errors
    /// When the controller does not show one.
    fn server_link_ratios(&mut self) -> anyhow::Result<Vec<f64>> {
        let servers = 0..self.site().topology.servers.len() as u32;
        servers.map(|n| self.server_link_ratio(ServerId(n))).collect()
    }

    /// The processes that the data centre consists of, its controller among them; none where it is
    /// in this process.
    ///
    /// # Errors
    /// When they are not found.
    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(Vec::new())
    }

    /// How many VMs each server holds, in order of the site's servers.
    ///
    /// # Errors
    /// When the controller does not show it.
    fn occupation(&mut self) -> anyhow::Result<Vec<u32>>;

    /// Adds to the manifest what the world says of itself.
    fn describe(&self, _manifest: &mut Manifest) {}

    /// Puts the clocks and all raw counters of this moment into `records`, where there are machines
    /// that have any.
    ///
    /// # Errors
    /// With what the world or the controller says.
    fn note(&mut self, _moment: &str, _records: &mut Records) -> anyhow::Result<()> {
        Ok(())
    }

    /// Takes everything down.
    ///
    /// # Errors
    /// When a VM that was requested does not run, or a file could not be written.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}
