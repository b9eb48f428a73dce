//! The driver's sections of the hypervisors file: `[[host]]`, one for each host with `xl`.

use super::Xl;
use crate::Driver;
use crate::config::read::{Shared, options, plain, remote_path};
use crate::config::{Image, SshTarget, Times};
use crate::registry::{DriverConfig, DriverKind};
use std::sync::Arc;
use tandem_model::site::{Collector, Section};
use tandem_model::{PortNo, ServerId};

/// Plain Xen.
pub const DRIVER: DriverKind = DriverKind {
    name: "xl",
    section: "host",
    parts: "hosts",
    read: |root, c, shared| {
        let hosts = root.list(c, "host").into_iter().map(|s| host(s, c, shared)).collect();
        Box::new(XlSection { hosts })
    },
};

/// All sections `[[host]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XlSection {
    /// The hosts.
    pub hosts: Vec<Host>,
}

impl DriverConfig for XlSection {
    fn parts(&self) -> usize {
        self.hosts.len()
    }

    fn servers(&self) -> Vec<ServerId> {
        self.hosts.iter().map(|h| h.server).collect()
    }

    fn open(&self, site: &str, images: &[Image]) -> anyhow::Result<Vec<Driver>> {
        Ok(vec![Driver::Called(Arc::new(Xl::new(site, &self.hosts, images)?))])
    }
}

/// The transport of a VM's memory between hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By ssh from dom0 to dom0: encrypted and slow.
    Ssh,
    /// By a TCP connection of its own: unencrypted and fast, for a network of hypervisors only.
    Tcp,
}

/// A host with `xl`: plain Xen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The server that it is.
    pub server: ServerId,
    /// Its name in the site.
    pub name: String,
    /// Its ssh target.
    pub ssh: SshTarget,
    /// The bridge behind each of the server's ports.
    pub uplinks: Vec<(PortNo, String)>,
    /// An existing vif script; `None` for ours, which is installed.
    pub vif_script: Option<String>,
    /// The folder for files that may vanish with a reboot, as the domains do.
    pub run: String,
    /// The folder for files that must survive a reboot: cold moves under way.
    pub keep: String,
    /// The transport of memory to and from it.
    pub transport: Transport,
    /// Its address for other hosts' migrations.
    pub migration_address: String,
    /// The first TCP port for migrations; one for each simultaneous migration from there on.
    pub migration_port: u16,
    /// Options of the ssh between hosts, as after ssh's `-o`.
    pub migration_options: Vec<String>,
    /// The time-outs of its calls.
    pub times: Times,
}

fn host(mut s: Section<'_>, c: &mut Collector<'_>, shared: &mut Shared<'_>) -> Host {
    s.word(c, "driver", &[("xl", ())]);
    let (server, name) = shared.server(&mut s, c);
    if !s.has("ssh") {
        s.fault(c, "ssh", "how it is reached is not said", "write ssh = \"root@192.0.2.11:22\"");
    }
    let ssh = shared.ssh(&mut s, c, "ssh");
    let uplinks = shared.uplinks(&mut s, c, "bridges", server, 15);
    let vif_script = remote_path(&mut s, c, "vif_script");
    let run = remote_path(&mut s, c, "run").unwrap_or_else(|| "/run/tandem-xl".to_owned());
    let keep = remote_path(&mut s, c, "keep").unwrap_or_else(|| "/var/lib/tandem".to_owned());
    let words = [("ssh", Transport::Ssh), ("tcp", Transport::Tcp)];
    let transport = s.word(c, "migration", &words).unwrap_or(Transport::Tcp);
    let migration_address = s.text(c, "migration_address").unwrap_or_else(|| ssh.address.clone());
    if s.has("migration_address") && !plain(&migration_address.replace(':', ""), 253) {
        let instead = "write the address at which the other hosts reach it";
        s.fault(c, "migration_address", format!("{migration_address:?} is no address"), instead);
    }
    let port = s.count(c, "migration_port", 1..=65_000).unwrap_or(8900);
    let migration_options = options(&mut s, c, "migration_options").unwrap_or_default();
    let times = shared.times(&mut s, c);
    s.finish(c);
    let migration_port = u16::try_from(port).unwrap_or(u16::MAX);
    Host {
        server,
        name,
        ssh,
        uplinks,
        vif_script,
        run,
        keep,
        transport,
        migration_address,
        migration_port,
        migration_options,
        times,
    }
}
