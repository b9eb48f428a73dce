//! The configuration of a driver's pools, made from the hypervisors file ([`crate::config`]).

use super::rpc::tls::Fingerprint;
use super::section::Pool;
use crate::config::{Image, SshTarget};
use std::fmt;
use std::time::Duration;
use tandem_model::{PortNo, ServerId};

/// The form of XAPI's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// JSON-RPC if the host supports it, otherwise XML-RPC.
    #[default]
    Auto,
    /// JSON-RPC.
    JsonRpc,
    /// XML-RPC.
    XmlRpc,
}

/// The transport of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// HTTP: the password can be read on the network.
    Plain,
    /// HTTPS to hosts with one of these certificates.
    Tls(Vec<Fingerprint>),
    /// HTTP through ssh to this host, and from there to itself or to other hosts of the pool.
    Ssh(SshTarget),
}

/// The address of a pool, and the login.
#[derive(Clone)]
pub struct Access {
    /// The pool's name, for people.
    pub name: String,
    /// Address of one of its hosts. Those of the master and the others are learnt from it.
    pub address: String,
    /// TCP port on all hosts.
    pub port: u16,
    /// Login user.
    pub user: String,
    /// Login password.
    pub password: String,
    /// Transport of calls.
    pub transport: Transport,
    /// Form of the protocol.
    pub protocol: Protocol,
    /// Time-out of a call.
    pub limit: Duration,
}

impl fmt::Debug for Access {
    /// Left out: the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("transport", &self.transport)
            .field("protocol", &self.protocol)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Time-outs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For each of cloning, provisioning and starting.
    pub make: Duration,
    /// For a VM's own shutdown before it is forced off, and for the forced one.
    pub shutdown: Duration,
    /// For a whole move. The core's time-out, the site's `[migration] timeout`, is shorter.
    pub migrate: Duration,
    /// For a task to end after it was cancelled.
    pub cancel: Duration,
    /// For a task to appear whose start was not confirmed.
    pub doubt: Duration,
}

/// A server of the site that is a host of the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The server.
    pub server: ServerId,
    /// Its name in the site.
    pub name: String,
    /// The host's name, UUID or address.
    pub host: String,
    /// The network's name or its bridge behind each of its ports.
    pub uplinks: Vec<(PortNo, String)>,
}

/// A pool.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Its address and login.
    pub access: Access,
    /// Its hosts that are servers of the site.
    pub servers: Vec<ServerConfig>,
    /// Its time-outs.
    pub limits: Limits,
}

/// Why a pool in the hypervisors file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Its password cannot be read.
    #[error(transparent)]
    Secret(#[from] crate::config::SecretError),
    /// Its URL is malformed.
    #[error(
        "pool {pool}: {url:?} is no URL of a host; write \"https://ADDRESS\" or \"http://ADDRESS\", with :PORT if need be"
    )]
    Url {
        /// The pool.
        pool: String,
        /// The URL in the file.
        url: String,
    },
    /// A fingerprint is malformed.
    #[error("pool {pool}: {why}")]
    Fingerprint {
        /// The pool.
        pool: String,
        /// What is wrong with it.
        why: String,
    },
}

impl PoolConfig {
    /// Made from the hypervisors file; reads the password.
    ///
    /// When the password cannot be read, or the URL or a fingerprint is malformed.
    pub fn of(pool: &Pool) -> Result<PoolConfig, ConfigError> {
        let bad = || ConfigError::Url { pool: pool.name.clone(), url: pool.url.clone() };
        let uri: hyper::Uri = pool.url.parse().map_err(|_| bad())?;
        let tls = uri.scheme_str() == Some("https");
        let address = uri.host().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let transport = match &pool.tunnel {
            Some(ssh) => Transport::Ssh(ssh.clone()),
            None if !tls => Transport::Plain,
            None => {
                let read = pool.fingerprints.iter().map(|f| f.parse());
                Transport::Tls(
                    read.collect::<Result<_, _>>()
                        .map_err(|why| ConfigError::Fingerprint { pool: pool.name.clone(), why })?,
                )
            }
        };
        let servers = pool.servers.iter().map(|s| ServerConfig {
            server: s.server,
            name: s.name.clone(),
            host: s.host.clone(),
            uplinks: s.uplinks.clone(),
        });
        Ok(PoolConfig {
            access: Access {
                name: pool.name.clone(),
                address,
                port,
                user: pool.user.clone(),
                password: pool.password()?,
                transport,
                protocol: Protocol::Auto,
                limit: pool.times.command,
            },
            servers: servers.collect(),
            limits: Limits {
                make: pool.times.start,
                shutdown: pool.times.shutdown,
                migrate: Duration::from_secs(4 * 3600),
                cancel: pool.times.command,
                doubt: Duration::from_secs(5),
            },
        })
    }
}

/// The image of a request, if it is in the hypervisors file.
pub fn image<'a>(images: &'a [Image], asked: Option<&str>) -> Option<&'a Image> {
    match asked {
        Some(name) => images.iter().find(|i| i.name == name),
        None => images.iter().find(|i| i.default && i.template.is_some()).or_else(|| images.first()),
    }
}

/// The template of a request's image in a pool: that in the hypervisors file, or the one with the
/// image's name. `None` without a default image.
///
/// When the file has the image without a template.
pub fn template<'a>(images: &'a [Image], asked: Option<&'a str>) -> Result<Option<&'a str>, &'a str> {
    match (image(images, asked), asked) {
        (Some(image), _) => image.template.as_deref().map(Some).ok_or(&image.name),
        (None, asked) => Ok(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Boot, Times};

    fn pool(url: &str, folder: &std::path::Path) -> Pool {
        let second = Duration::from_secs(1);
        Pool {
            name: "lab".into(),
            url: url.into(),
            user: "root".into(),
            password_file: folder.join("secret"),
            fingerprints: vec!["ab".repeat(32)],
            tunnel: None,
            servers: Vec::new(),
            times: Times { connect: second, command: second, start: second, shutdown: second },
        }
    }

    #[test]
    fn a_url_says_how_the_pool_is_reached_and_the_password_is_never_shown() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "hush hush\n").expect("written");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("closed");
        let cfg = PoolConfig::of(&pool("https://[::1]:4430", folder.path())).expect("a pool");
        assert_eq!((cfg.access.address.as_str(), cfg.access.port), ("::1", 4430));
        assert!(matches!(&cfg.access.transport, Transport::Tls(known) if known.len() == 1));
        assert_eq!(cfg.access.password, "hush hush");
        assert!(!format!("{cfg:?}").contains("hush"));
        let cfg = PoolConfig::of(&pool("http://192.0.2.1", folder.path())).expect("a pool");
        assert_eq!((cfg.access.port, &cfg.access.transport), (80, &Transport::Plain));
        assert!(
            PoolConfig::of(&pool("https://", folder.path())).is_err_and(|e| e.to_string().contains("no URL"))
        );
    }

    #[test]
    fn an_image_is_a_template_by_the_file_or_by_its_own_name() {
        let image = |name: &str, default, template: Option<&str>| Image {
            name: name.into(),
            default,
            boot: Boot::Disk { loader: None },
            disk: None,
            config: String::new(),
            template: template.map(str::to_owned),
            max_cpu: None,
            max_ram: None,
        };
        let images = [image("small", false, None), image("debian", true, Some("Debian 12"))];
        assert_eq!(template(&images, None), Ok(Some("Debian 12")));
        assert_eq!(template(&images, Some("debian")), Ok(Some("Debian 12")));
        assert_eq!(template(&images, Some("Other install media")), Ok(Some("Other install media")));
        assert_eq!(template(&images, Some("small")), Err("small"));
        assert_eq!(template(&[], None), Ok(None));
    }
}
