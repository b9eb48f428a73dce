//! What makes the hosts, switches and links of an emulated data centre. Everything else of a lab is
//! the same for all engines: its sandbox, its agents, VMs, traffic, sockets.
//!
//! An engine is a variant of [`EngineKind`] and an implementation of [`Engine`]; why the line is
//! drawn here says `docs/adr/0019-engines-of-the-emulated-world.md`.

use crate::world::emulated::agents::Agents;
use crate::world::emulated::datapath::SwitchDatapaths;
use crate::world::emulated::lab_control::Start;
use crate::world::emulated::native::Native;
use crate::world::emulated::room::Required;
use crate::world::mininet::Mininet;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::time::Instant;
use tandem_linux::netns::NetNs;
use tandem_linux::ovs::Ovs;
use tandem_model::{PortNo, Site};

/// The engines that there are, as `--engine` has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Tandem's own: namespaces, cables and shaping over netlink, all at once.
    #[default]
    Native,
    /// Mininet 2.3, by its Python API, with Open vSwitch: slower to come up, and known to many.
    Mininet,
}

impl EngineKind {
    /// What does it.
    pub fn engine(self) -> &'static dyn Engine {
        match self {
            EngineKind::Native => &Native,
            EngineKind::Mininet => &Mininet,
        }
    }

    /// As `--engine` has it.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Native => "native",
            EngineKind::Mininet => "mininet",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Makes hosts, switches and links.
pub trait Engine: Sync {
    /// Refuses what cannot be, before anything is made: programs that are not installed, parts of
    /// the site that this engine does not have.
    ///
    /// # Errors
    /// With all that is missing, and what to do.
    fn check(&self, site: &Site, datapaths: &SwitchDatapaths) -> anyhow::Result<()>;

    /// Adds what this engine needs of the machine beside what every lab does.
    fn require(&self, _: &Site, _: &mut Required) {}

    /// True where switches take a controller by TCP only: the relay is there for them then, wherever
    /// the controller is.
    fn needs_tcp(&self) -> bool {
        false
    }

    /// Makes a site's hosts, switches and links, and starts the switches' agents. Called by the
    /// sandbox's own process, whose network namespace is the switches'; `folder` is its private
    /// one. What each step took is noted in `steps`.
    ///
    /// # Errors
    /// With the step that failed; what was made before is gone when the caller's namespaces are.
    fn build(&self, site: &Site, folder: &Path, start: &Start, steps: &mut Steps) -> anyhow::Result<Built>;
}

/// What an engine has made. Fields are dropped in this order: agents end before what they manage.
pub struct Built {
    /// The namespace of the switches.
    pub root: NetNs,
    /// Servers, by id.
    pub servers: Vec<Node>,
    /// Gateways, by id.
    pub gateways: Vec<Node>,
    /// The switches' agents, which have applied their first state.
    pub agents: Agents,
    /// The private Open vSwitch, where switches are its bridges.
    pub ovs: Option<Ovs>,
}

/// A server's or gateway's namespace. Its uplinks are up, shaped and have its MAC and IP address.
#[derive(Debug)]
pub struct Node {
    /// The namespace.
    pub ns: NetNs,
    /// Port, and interface number in the namespace.
    pub uplinks: Vec<(PortNo, u32)>,
}

/// What the steps of bringing a lab up took.
#[derive(Debug)]
pub struct Steps {
    list: Vec<(String, f64)>,
    last: Instant,
}

impl Steps {
    /// None yet; the first begins now.
    pub fn begin() -> Steps {
        Steps { list: Vec::new(), last: Instant::now() }
    }

    /// A step ends here, and the next begins.
    pub fn done(&mut self, name: &str) {
        self.list.push((name.to_owned(), self.last.elapsed().as_secs_f64() * 1e3));
        self.last = Instant::now();
    }

    /// A step took so many seconds, by somebody else's clock; the next begins now.
    pub fn took(&mut self, name: &str, seconds: f64) {
        self.list.push((name.to_owned(), seconds * 1e3));
        self.last = Instant::now();
    }

    /// Names and milliseconds, in order.
    pub fn into_list(self) -> Vec<(String, f64)> {
        self.list
    }
}
