//! The hypervisors file: which of the site's servers are which hypervisor hosts, how they are
//! reached, and what VMs are made from.
//!
//! ```toml
#![doc = include_str!("../../../../docs/hypervisors/hypervisors.toml")]
//! ```
//!
//! All faults are reported at once, with line, column and what to write instead. No secret is in it: it names files, and those that
//! others may read are refused.

mod read;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem_model::site::Faults;
use tandem_model::{Bytes, PortNo, ServerId, Site};
pub use tandem_testbed::inventory::HostKeys;
use tandem_testbed::inventory::SshConfig;
use tandem_testbed::ssh::Target;

/// The hypervisors as checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hypervisors {
    /// What VMs are made from.
    pub images: Vec<Image>,
    /// Hosts with `xl`.
    pub hosts: Vec<Host>,
    /// Pools with XAPI.
    pub pools: Vec<Pool>,
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

/// How a VM's memory goes from host to host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By ssh from dom0 to dom0: encrypted, slow.
    Ssh,
    /// By a TCP connection of its own: plain, quick, for a network that only hypervisors are on.
    Tcp,
}

/// A host with `xl`: plain Xen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Which server it is.
    pub server: ServerId,
    /// Its name in the site.
    pub name: String,
    /// How it is reached.
    pub ssh: SshTarget,
    /// The bridge behind each of the server's ports.
    pub uplinks: Vec<(PortNo, String)>,
    /// A vif script that is there; `None` is ours, which is put there.
    pub vif_script: Option<String>,
    /// Where what runs for us is, on the host: gone when it is started anew, as its domains are.
    pub run: String,
    /// Where what must outlive that is: cold moves under way.
    pub keep: String,
    /// How memory goes to and from it.
    pub transport: Transport,
    /// Where other hosts reach it for that.
    pub migration_address: String,
    /// The first TCP port for that; as many more as there are migrations at once.
    pub migration_port: u16,
    /// Options of the ssh between hosts, as after ssh's `-o`.
    pub migration_options: Vec<String>,
    /// How long its calls may take.
    pub times: Times,
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

/// A pool with XAPI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name, for people.
    pub name: String,
    /// `https://ADDRESS` or `http://ADDRESS` of any of its hosts.
    pub url: String,
    /// Who logs in.
    pub user: String,
    /// The file with the password.
    pub password_file: PathBuf,
    /// SHA-256 of the certificates that are believed, lower-case hexadecimal without colons.
    pub fingerprints: Vec<String>,
    /// A way through ssh to the plain port, for hosts that are too old for today's TLS.
    pub tunnel: Option<SshTarget>,
    /// Its hosts.
    pub servers: Vec<PoolServer>,
    /// How long its calls may take.
    pub times: Times,
}

/// A host of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolServer {
    /// Which server it is.
    pub server: ServerId,
    /// Its name in the site.
    pub name: String,
    /// Its name in the pool (`name_label`).
    pub host: String,
    /// The network (`name_label`) behind each of the server's ports.
    pub uplinks: Vec<(PortNo, String)>,
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
        for pool in &all.pools {
            pool.password()?;
        }
        Ok(all)
    }

    /// Reads and checks a text; files that it names are relative to `folder`.
    ///
    /// # Errors
    /// All faults, each with its line and column.
    pub fn read(text: &str, file: &str, folder: &Path, site: &Site) -> Result<Hypervisors, Faults> {
        tandem_model::site::read_by(text, file, |root, c| read::root(root, c, folder, site))
    }

    /// Servers of the site that are on no hypervisor.
    pub fn missing<'s>(&self, site: &'s Site) -> Vec<&'s str> {
        let there: Vec<ServerId> = self
            .hosts
            .iter()
            .map(|h| h.server)
            .chain(self.pools.iter().flat_map(|p| p.servers.iter().map(|s| s.server)))
            .collect();
        (0..)
            .zip(&site.topology.servers)
            .filter(|(n, _)| !there.contains(&ServerId(*n)))
            .map(|(_, s)| s.name.as_str())
            .collect()
    }
}

impl Pool {
    /// Its password, without the line's end.
    ///
    /// # Errors
    /// When it cannot be read, or others may read it.
    pub fn password(&self) -> Result<String, SecretError> {
        use std::os::unix::fs::PermissionsExt;
        let fail =
            |source| SecretError::Read { pool: self.name.clone(), file: self.password_file.clone(), source };
        let mode = std::fs::metadata(&self.password_file).map_err(fail)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Open { file: self.password_file.clone(), mode });
        }
        let text = std::fs::read_to_string(&self.password_file).map_err(fail)?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}
