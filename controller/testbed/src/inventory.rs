//! The inventory: the testbed's machines, how they are reached, and the site's nodes on each of
//! them.
//!
//! ```toml
#![doc = include_str!("../inventory.toml")]
//! ```
//!
//! All faults are reported at once, with line, column and what to write instead. A machine with a
//! server or a gateway holds VMs or outside traffic; a switch becomes a `[[switch]]` in the agent's
//! configuration of its machine.

mod machine;
mod node;
mod value;

use std::path::{Path, PathBuf};
use tandem_model::Site;
use tandem_model::site::{Faults, read_by};

/// A checked inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// A name for people.
    pub name: String,
    /// The controller's addresses.
    pub controller: Controller,
    /// The machines, at least one.
    pub machines: Vec<Machine>,
}

/// The addresses at which machines reach the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its address on the control network.
    pub address: String,
    /// The address at which it listens, if it differs: behind an address translation.
    pub listen: String,
    /// TCP port of OpenFlow.
    pub openflow: u16,
    /// TCP port of the agents' server.
    pub agents: u16,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name, also its agent's.
    pub name: String,
    /// Where ssh reaches it.
    pub address: String,
    /// The ssh settings.
    pub ssh: SshConfig,
    /// The supervisor of the agent.
    pub service: Service,
    /// A prefix of the path of every installed file.
    pub root: PathBuf,
    /// The interface of the control network, which is never a port.
    pub control: String,
    /// Its Open vSwitch, if it is not in the place of Debian's package.
    pub ovs: OvsConfig,
    /// Its switches.
    pub switches: Vec<Node>,
    /// Its servers of the site; several may share a machine.
    pub servers: Vec<Node>,
    /// Its gateways of the site.
    pub gateways: Vec<Node>,
}

/// The ssh settings of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshConfig {
    /// Login user.
    pub user: String,
    /// TCP port.
    pub port: u16,
    /// The private key's file; `None` for ssh's default.
    pub key: Option<PathBuf>,
    /// The file of known host keys; `None` for ssh's default.
    pub known_hosts: Option<PathBuf>,
    /// The policy for unknown host keys.
    pub host_keys: HostKeys,
    /// Additional options, as after ssh's `-o`.
    pub options: Vec<String>,
}

/// The policy for unknown host keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeys {
    /// They are refused.
    Strict,
    /// A key is accepted and stored at the first connection; a changed one is refused.
    AcceptNew,
}

/// The supervisor of the agent on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// systemd.
    Systemd,
    /// None: the agent is a process of its own with a pid file.
    Process,
}

/// The settings of Open vSwitch; `None` for the agent's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OvsConfig {
    /// Path of the database's socket.
    pub database: Option<PathBuf>,
    /// Path of vswitchd's pid file.
    pub pid_file: Option<PathBuf>,
    /// `auto`, `kernel` or `userspace`.
    pub datapath: Option<&'static str>,
    /// Adopt foreign bridges with the switches' names.
    pub adopt: bool,
    /// Also adopt those whose flows are deleted by that for a moment.
    pub adopt_with_gap: bool,
}

/// A node of the site on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in the site file.
    pub name: String,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// A port of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its number in the site's topology.
    pub number: u32,
    /// Its interface on the machine.
    pub interface: String,
}

impl Inventory {
    /// Reads and checks a file; with a `site`, also whether it matches that.
    ///
    /// # Errors
    /// When it cannot be read, or with all its faults.
    pub fn load(path: &Path, site: Option<&Site>) -> Result<Inventory, LoadError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LoadError::Read { file: path.to_owned(), source })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Inventory::read(&text, &path.display().to_string(), folder, site)?)
    }

    /// Reads and checks a text; file names in it are relative to `folder`. With a `site`, names and
    /// port numbers are compared with it.
    ///
    /// # Errors
    /// All faults, each with its line and column.
    pub fn read(text: &str, file: &str, folder: &Path, site: Option<&Site>) -> Result<Inventory, Faults> {
        read_by(text, file, |root, c| machine::inventory(root, c, folder, site))
    }

    /// A machine by its name.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines.iter().find(|m| m.name == name)
    }

    /// The machine and node of a switch, server or gateway.
    pub fn node(&self, name: &str) -> Option<(&Machine, &Node)> {
        self.machines.iter().find_map(|m| m.nodes().find(|n| n.name == name).map(|n| (m, n)))
    }

    /// Switches, servers and gateways of the site without a machine; legacy switches are left out.
    pub fn missing<'s>(&self, site: &'s Site) -> Vec<&'s str> {
        let t = &site.topology;
        let switches = t.switches.iter().filter(|s| !s.legacy).map(|s| s.name.as_str());
        let servers = t.servers.iter().map(|s| s.name.as_str());
        let gateways = t.gateways.iter().map(|g| g.name.as_str());
        switches.chain(servers).chain(gateways).filter(|n| self.node(n).is_none()).collect()
    }
}

impl Machine {
    /// All its nodes: switches, servers, gateways.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.switches.iter().chain(&self.servers).chain(&self.gateways)
    }

    /// An absolute path on the machine, below its root.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}

/// Why an inventory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the inventory {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It has faults.
    #[error(transparent)]
    Faults(#[from] Faults),
}

#[cfg(test)]
mod tests;
