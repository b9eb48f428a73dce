//! The hypervisors file: the hypervisor hosts of the site's servers, how they are reached, and the
//! images of VMs.
//!
//! ```toml
#![doc = include_str!("../../../../docs/hypervisors/hypervisors.toml")]
//! ```
//!
//! Images, ssh and times are common to all drivers and read here; each driver reads its own
//! sections, with [`read::Shared`]. All faults are reported at once, with line, column and what to
//! write instead. The file has no secrets: it names files with them, and a file that other users
//! may read is refused.

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

/// The checked contents of a hypervisors file.
#[derive(Debug)]
pub struct Hypervisors {
    /// The images of VMs.
    pub images: Vec<Image>,
    /// The sections of each driver, in the order of [`DRIVERS`].
    pub sections: Vec<Box<dyn DriverConfig>>,
}

/// The image of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name in requests.
    pub name: String,
    /// It is used by requests without an image.
    pub default: bool,
    /// How it boots, under `xl`.
    pub boot: Boot,
    /// Its disk, under `xl`; `None` if it runs from its ramdisk.
    pub disk: Option<Disk>,
    /// Additional lines of the guest's configuration, with placeholders, under `xl`.
    pub config: String,
    /// The most memory that a running VM can be given; `None`: as much as it was created with.
    pub max_ram: Option<Bytes>,
    /// The most CPUs that a running VM can be given.
    pub max_cpu: Option<u32>,
    /// The template's name, under XAPI.
    pub template: Option<String>,
}

/// How a VM boots under `xl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// From a kernel in dom0's files.
    Kernel {
        /// Its file.
        kernel: String,
        /// Its ramdisk's file.
        ramdisk: Option<String>,
        /// Its command line, with placeholders.
        cmdline: String,
    },
    /// By a boot loader that reads the disk, such as `pygrub`; or as `config` says.
    Disk {
        /// Its name or file.
        loader: Option<String>,
    },
}

/// A disk that is cloned for each VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// How it is cloned.
    pub clone: CloneBy,
    /// Its source: a file, or a logical volume `/dev/GROUP/VOLUME`.
    pub source: String,
    /// The folder of the clones; for snapshots that of the volume group.
    pub folder: String,
    /// Its device name in the VM.
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
    /// Login user.
    pub user: String,
    /// Host name or address.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// The private key's file; `None` for ssh's default.
    pub key: Option<PathBuf>,
    /// The file of known host keys; `None` for ssh's default.
    pub known_hosts: Option<PathBuf>,
    /// The policy for unknown host keys.
    pub host_keys: HostKeys,
    /// Additional options, as after ssh's `-o`, such as algorithms of old hosts.
    pub options: Vec<String>,
}

/// Seconds after which an unused connection to a host is closed.
const IDLE: NonZeroUsize = NonZeroUsize::new(120).expect("it is more than 0");

impl SshTarget {
    /// The ssh layer's form of it. `name` is the host's name in errors, `connect` the time-out for
    /// connecting.
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
            // A controller is not a user: only its own files say how it reaches hosts.
            reads_user_configuration: false,
        }
    }
}

/// Time-outs of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Connecting and logging in.
    pub connect: Duration,
    /// A query or a small change.
    pub command: Duration,
    /// Creating and starting a VM, with its disk.
    pub start: Duration,
    /// A VM's own shutdown, before it is forced off.
    pub shutdown: Duration,
}

/// Why the hypervisors file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the hypervisors file {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It has faults.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// A secret is missing, or readable by other users.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Why a file with a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read the password of {pool} from {}", file.display())]
    Read {
        /// The pool that it belongs to.
        pool: String,
        /// The file.
        file: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// Other users may read it.
    #[error("{} holds a password and others may read it (mode {mode:04o}); `chmod 600 {}`", file.display(), file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl Hypervisors {
    /// Reads and checks a file, and checks that its secrets exist and are readable by the
    /// controller's user only.
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

    /// The sections of a driver: `file.section::<xl::section::XlSection>()`. `None` if no driver
    /// has this type.
    pub fn section<T: DriverConfig>(&self) -> Option<&T> {
        self.sections.iter().find_map(|s| (&**s as &dyn Any).downcast_ref())
    }

    /// Creates the drivers, without connecting. `site` is the site's name, which marks its VMs.
    ///
    /// When a driver cannot be created: a secret cannot be read, or a folder cannot be created.
    pub fn drivers(&self, site: &str) -> anyhow::Result<Vec<Driver>> {
        let used = self.sections.iter().filter(|s| s.parts() > 0);
        let drivers: Vec<Vec<Driver>> =
            used.map(|s| s.open(site, &self.images)).collect::<anyhow::Result<_>>()?;
        Ok(drivers.into_iter().flatten().collect())
    }

    /// Servers of the site that belong to no hypervisor.
    pub fn missing<'s>(&self, site: &'s Site) -> Vec<&'s str> {
        let there: BTreeSet<ServerId> = self.sections.iter().flat_map(|s| s.servers()).collect();
        (0..)
            .zip(&site.topology.servers)
            .filter(|(n, _)| !there.contains(&ServerId(*n)))
            .map(|(_, s)| s.name.as_str())
            .collect()
    }
}
