//! What is said of a pool: its hosts, how they are reached and by whom, which of the site's servers they are, and what VMs are made from.
//!
//! ```toml
//! [[pool]]
//! name = "lab"
//! addresses = ["10.0.0.11", "10.0.0.12"]     # the master first; the others are asked when it does not answer
//! user = "root"
//! password_file = "lab.password"
//! transport = "tls"                           # or "plain", or "ssh": see [pool.ssh]
//! fingerprints = ["BA:78:16:..."]             # openssl s_client -connect HOST:443 </dev/null | openssl x509 -noout -fingerprint -sha256
//! template = "debian-12"                      # for VMs that name no image
//! networks = ["xenbr0"]                       # of uplink 1, 2 ...: a network's name or its bridge
//! [pool.servers]
//! srv1 = "xcp1"                               # the site's server = the host's name, UUID or address
//! ```

use super::rpc::tls::Fingerprint;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which form of XAPI is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// JSON-RPC where it is served, XML-RPC where not.
    #[default]
    Auto,
    /// JSON-RPC.
    JsonRpc,
    /// XML-RPC.
    XmlRpc,
}

/// How ssh is spoken to hosts that are too old for TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshAccess {
    /// Who logs in.
    pub user: String,
    /// Where sshd listens.
    #[serde(default = "ssh_port")]
    pub port: u16,
    /// A private key; ssh's own choice, if not said.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The hosts' keys; ssh's own file, if not said.
    #[serde(default)]
    pub known_hosts: Option<PathBuf>,
    /// A configuration file of ssh instead of the user's: where the algorithms that old hosts need are allowed.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// XAPI's plain port on the host itself.
    #[serde(default = "plain_port")]
    pub far_port: u16,
}

fn ssh_port() -> u16 {
    22
}

fn plain_port() -> u16 {
    80
}

/// What a call goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// HTTP: the password can be read on the way.
    Plain {
        /// Usually 80.
        port: u16,
    },
    /// HTTPS to hosts with one of these certificates.
    Tls {
        /// Usually 443.
        port: u16,
        /// The hosts' certificates.
        known: Vec<Fingerprint>,
    },
    /// HTTP through ssh.
    Ssh(SshAccess),
}

/// How a pool is reached.
#[derive(Clone)]
pub struct Access {
    /// The pool's name, for people.
    pub name: String,
    /// Its hosts.
    pub addresses: Vec<String>,
    /// Who logs in.
    pub user: String,
    /// With what.
    pub password: String,
    /// Through what.
    pub transport: Transport,
    /// In which form.
    pub protocol: Protocol,
    /// A call has to be answered in this time.
    pub limit: Duration,
}

impl fmt::Debug for Access {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .field("user", &self.user)
            .field("transport", &self.transport)
            .field("protocol", &self.protocol)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Cloning, provisioning, starting: each.
    pub make: Duration,
    /// A VM's own shutting down, before it is stopped hard; and the hard stop.
    pub shutdown: Duration,
    /// A whole move.
    pub migrate: Duration,
    /// For a task to end after it was cancelled.
    pub cancel: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            make: Duration::from_secs(600),
            shutdown: Duration::from_secs(60),
            migrate: Duration::from_secs(3600),
            cancel: Duration::from_secs(60),
        }
    }
}

/// A pool, as checked.
#[derive(Debug, Clone)]
pub struct PoolCfg {
    /// How it is reached.
    pub access: Access,
    /// The site's server by name, and its host by name, UUID or address.
    pub servers: BTreeMap<String, String>,
    /// What VMs without an image are made from.
    pub template: Option<String>,
    /// Of each uplink, from 1: the network's name or bridge.
    pub networks: Vec<String>,
    /// Where disks go that come from another pool or another host's own storage: an SR's name or UUID; the pool's default, if not said.
    pub storage: Option<String>,
    /// How long things may take.
    pub limits: Limits,
}

/// `[[pool]]`, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolFile {
    name: String,
    addresses: Vec<String>,
    user: String,
    password_file: PathBuf,
    #[serde(default)]
    transport: Word,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    fingerprints: Vec<String>,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    ssh: Option<SshAccess>,
    #[serde(default)]
    template: Option<String>,
    networks: Vec<String>,
    #[serde(default)]
    storage: Option<String>,
    servers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    #[default]
    Tls,
    Plain,
    Ssh,
}

impl PoolFile {
    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The site's servers that it has.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// Checked, with the password read. Paths are relative to `folder`, the file's own.
    ///
    /// # Errors
    /// Every fault, in words.
    pub fn check(self, folder: &Path) -> Result<PoolCfg, Vec<String>> {
        let mut faults = Vec::new();
        let pool = format!("pool {:?}", self.name);
        let mut fault = |what: String| faults.push(format!("{pool}: {what}"));
        if self.addresses.is_empty() {
            fault("it has no `addresses`; name at least its master's".to_owned());
        }
        if self.networks.is_empty() {
            fault("it has no `networks`; name the network of each uplink".to_owned());
        }
        if self.servers.is_empty() {
            fault("[pool.servers] is empty; say which hosts are which servers of the site".to_owned());
        }
        let file = folder.join(&self.password_file);
        let password = std::fs::read_to_string(&file).unwrap_or_else(|e| {
            fault(format!("its password_file {} cannot be read: {e}", file.display()));
            String::new()
        });
        let transport = match self.transport {
            Word::Plain => Transport::Plain { port: self.port.unwrap_or(80) },
            Word::Tls => {
                if self.fingerprints.is_empty() {
                    fault("transport \"tls\" needs the `fingerprints` of its hosts' certificates".to_owned());
                }
                let read = self.fingerprints.iter().filter_map(|t| t.parse().map_err(&mut fault).ok());
                Transport::Tls { known: read.collect(), port: self.port.unwrap_or(443) }
            }
            Word::Ssh => match self.ssh {
                Some(mut ssh) => {
                    for path in [&mut ssh.key, &mut ssh.known_hosts, &mut ssh.config].into_iter().flatten() {
                        *path = folder.join(&path);
                    }
                    Transport::Ssh(ssh)
                }
                None => {
                    fault("transport \"ssh\" needs [pool.ssh] with at least `user`".to_owned());
                    Transport::Plain { port: 80 }
                }
            },
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let access = Access {
            name: self.name,
            addresses: self.addresses,
            user: self.user,
            password: password.trim_end_matches(['\r', '\n']).to_owned(),
            transport,
            protocol: self.protocol,
            limit: Duration::from_secs(30),
        };
        Ok(PoolCfg {
            access,
            servers: self.servers,
            template: self.template,
            networks: self.networks,
            storage: self.storage,
            limits: Limits::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        pool: Vec<PoolFile>,
    }

    fn check(text: &str, folder: &Path) -> Result<PoolCfg, Vec<String>> {
        let mut file: File = toml::from_str(text).expect("TOML");
        file.pool.remove(0).check(folder)
    }

    #[test]
    fn all_faults_are_said_at_once() {
        let text = "[[pool]]\nname = \"lab\"\naddresses = []\nuser = \"root\"\npassword_file = \"none\"\nfingerprints = [\"12:34\"]\nnetworks = []\n[pool.servers]\n";
        let faults = check(text, Path::new("/nonexistent")).expect_err("faults");
        assert_eq!(faults.len(), 5, "{faults:#?}");
        assert!(faults.iter().all(|f| f.starts_with("pool \"lab\": ")));
    }

    #[test]
    fn the_password_is_read_and_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("secret"), "hush hush\n").expect("written");
        let text = "[[pool]]\nname = \"lab\"\naddresses = [\"h1\"]\nuser = \"root\"\npassword_file = \"secret\"\ntransport = \"ssh\"\nnetworks = [\"xenbr0\"]\n[pool.ssh]\nuser = \"root\"\nkey = \"id\"\n[pool.servers]\nsrv1 = \"xcp1\"\n";
        let cfg = check(text, folder.path()).expect("a pool");
        assert_eq!(cfg.access.password, "hush hush");
        assert!(!format!("{cfg:?}").contains("hush"));
        let Transport::Ssh(ssh) = cfg.access.transport else { panic!("not by ssh") };
        assert_eq!((ssh.port, ssh.far_port, ssh.key), (22, 80, Some(folder.path().join("id"))));
    }
}
