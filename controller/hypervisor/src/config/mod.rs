//! The hypervisors file: which of the site's servers are which hypervisor hosts, how they are
//! reached, and what VMs are made from.
//!
//! ```toml
#![doc = include_str!("../../../../docs/hypervisors/hypervisors.toml")]
//! ```
//!
//! Images, ssh and times are for all drivers and read here; each driver reads its own sections, with
//! what [`read::Shared`] has for it. All faults are reported at once, with line, column and what to write instead. No secret is in it: it names files, and those that
//! others may read are refused.

pub mod read;
#[cfg(test)]
mod tests;

use crate::Driver;
use crate::registry::{DRIVERS, DriverConfig};
use std::any::Any;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem_model::site::Faults;
use tandem_model::{Bytes, ServerId, Site};
pub use tandem_testbed::inventory::HostKeys;
use tandem_testbed::inventory::SshConfig;
use tandem_testbed::ssh::Target;

/// The hypervisors as checked.
#[derive(Debug)]
pub struct Hypervisors {
    /// What VMs are made from.
    pub images: Vec<Image>,
    /// What each driver has read, in the order of [`DRIVERS`].
    pub sections: Vec<Box<dyn DriverConfig>>,
}

/// What a VM is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name, as requests say it.
    pub name: String,
    /// For requests that name none.
    pub default: bool,
    /// What boots, under `xl`.
    pub boot: Boot,
    /// Its disk, under `xl`; none where it runs from its ramdisk.
    pub disk: Option<Disk>,
    /// Further lines of the guest's configuration, with placeholders, under `xl`.
    pub config: String,
    /// VMs can grow to so much memory while they run; `None`: to no more than they are made with.
    pub max_ram: Option<Bytes>,
    /// VMs can grow to so many CPUs while they run.
    pub max_cpu: Option<u32>,
    /// The template's name, under XAPI.
    pub template: Option<String>,
}

/// What boots in a VM under `xl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// A kernel in dom0's files.
    Kernel {
        /// Its file.
        kernel: String,
        /// Its ramdisk's file.
        ramdisk: Option<String>,
        /// Its command line, with placeholders.
        cmdline: String,
    },
    /// A boot loader that looks into the disk, such as `pygrub`; or what `config` says.
    Disk {
        /// Its name or file.
        loader: Option<String>,
    },
}

/// A disk that is cloned for each VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// How.
    pub clone: CloneBy,
    /// Of what: a file, or a logical volume `/dev/GROUP/VOLUME`.
    pub source: String,
    /// Where the clones go: a folder; the volume group's for snapshots.
    pub folder: String,
    /// What the VM calls it.
    pub device: String,
}

/// How a disk is cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneBy {
    /// A snapshot of a logical volume.
    LvmSnapshot,
    /// A qcow2 file on top of the source.
    Qcow2,
    /// A copy of a raw file.
    Copy,
}

/// How ssh reaches a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// Who logs in.
    pub user: String,
    /// Name or address.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// The private key's file; `None` is ssh's own choice.
    pub key: Option<PathBuf>,
    /// The file of known host keys; `None` is ssh's own.
    pub known_hosts: Option<PathBuf>,
    /// What becomes of a host key that is not known.
    pub host_keys: HostKeys,
    /// Further options, as after ssh's `-o`: algorithms of old hosts.
    pub options: Vec<String>,
}

/// A connection to a host that nobody uses ends after so many seconds.
const IDLE: NonZeroUsize = NonZeroUsize::new(120).expect("it is more than 0");

impl SshTarget {
    /// As the ssh layer has it. `name` is what errors call the host, `connect` how long it may take
    /// to accept a connection.
    pub(crate) fn to_target(&self, name: &str, connect: Duration) -> Target {
        Target {
            name: name.to_owned(),
            address: self.address.clone(),
            ssh: SshConfig {
                user: self.user.clone(),
                port: self.port,
                key: self.key.clone(),
                known_hosts: self.known_hosts.clone(),
                host_keys: self.host_keys,
                options: self.options.clone(),
            },
            connect,
            idle: IDLE,
            // A controller is no user: how it reaches hosts is said in its own files.
            reads_user_configuration: false,
        }
    }
}

/// How long calls may take before they are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Letting us in.
    pub connect: Duration,
    /// A question, a small change.
    pub command: Duration,
    /// Making and starting a VM, its disk included.
    pub start: Duration,
    /// A VM's own shutdown, before it is stopped hard.
    pub shutdown: Duration,
}

/// Why there are no hypervisors.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the hypervisors file {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It has faults.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// A secret is missing, or open to others.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// What is wrong with a file that holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read the password of {pool} from {}", file.display())]
    Read {
        /// Whose.
        pool: String,
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("{} holds a password and others may read it (mode {mode:04o}); `chmod 600 {}`", file.display(), file.display())]
    Open {
        /// Which.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl Hypervisors {
    /// Reads and checks a file, and that its secrets are there and nobody else's.
    ///
    /// # Errors
    /// When it cannot be read, or with all its faults.
    pub fn load(path: &Path, site: &Site) -> Result<Hypervisors, LoadError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LoadError::Read { file: path.to_owned(), source })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let all = Hypervisors::read(&text, &path.display().to_string(), folder, site)?;
        for section in &all.sections {
            section.check_secrets()?;
        }
        Ok(all)
    }

    /// Reads and checks a text; files that it names are relative to `folder`.
    ///
    /// # Errors
    /// All faults, each with its line and column.
    pub fn read(text: &str, file: &str, folder: &Path, site: &Site) -> Result<Hypervisors, Faults> {
        tandem_model::site::read_by(text, file, |root, c| read::root(root, c, DRIVERS, folder, site))
    }

    /// What a driver has read: `file.section::<xl::section::XlSection>()`. `None` for a type that is
    /// no driver's.
    pub fn section<T: DriverConfig>(&self) -> Option<&T> {
        self.sections.iter().find_map(|s| (&**s as &dyn Any).downcast_ref())
    }

    /// The drivers; nothing is connected yet. `site` is the site's name, which marks its VMs.
    ///
    /// # Errors
    /// When a driver cannot be made: a secret cannot be read, or no folder can be had.
    pub fn drivers(&self, site: &str) -> anyhow::Result<Vec<Driver>> {
        let used = self.sections.iter().filter(|s| s.parts() > 0);
        let drivers: Vec<Vec<Driver>> =
            used.map(|s| s.open(site, &self.images)).collect::<anyhow::Result<_>>()?;
        Ok(drivers.into_iter().flatten().collect())
    }

    /// Servers of the site that are on no hypervisor.
    pub fn missing<'s>(&self, site: &'s Site) -> Vec<&'s str> {
        let there: BTreeSet<ServerId> = self.sections.iter().flat_map(|s| s.servers()).collect();
        (0..)
            .zip(&site.topology.servers)
            .filter(|(n, _)| !there.contains(&ServerId(*n)))
            .map(|(_, s)| s.name.as_str())
            .collect()
    }
}
