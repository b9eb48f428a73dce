//! What a driver is told of its pools: the hypervisors file ([`crate::config`]) in the terms
//! that are used here.

use super::rpc::tls::Fingerprint;
use super::section::Pool;
use crate::config::{Image, SshTarget};
use std::fmt;
use std::time::Duration;
use tandem_model::{PortNo, ServerId};

/// Which form of XAPI is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// JSON-RPC where it is served, XML-RPC where not.
    #[default]
    Auto,
    /// JSON-RPC.
    JsonRpc,
    /// XML-RPC.
    XmlRpc,
}

/// What a call goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// HTTP: the password can be read on the way.
    Plain,
    /// HTTPS to hosts with one of these certificates.
    Tls(Vec<Fingerprint>),
    /// HTTP, through ssh to this host: from there to itself or to other hosts of the pool.
    Ssh(SshTarget),
}

/// How a pool is reached.
#[derive(Clone)]
pub struct Access {
    /// The pool's name, for people.
    pub name: String,
    /// Of one of its hosts. The master's and the others' are learnt from it.
    pub address: String,
    /// On all hosts.
    pub port: u16,
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
            .field("address", &self.address)
            .field("port", &self.port)
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
    /// A whole move. The core gives up earlier, by the site's `[migration] timeout`.
    pub migrate: Duration,
    /// For a task to end after it was cancelled.
    pub cancel: Duration,
    /// For a task to show itself whose beginning was not confirmed.
    pub doubt: Duration,
}

/// A server of the site that is a host of the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Which server.
    pub server: ServerId,
    /// Its name in the site.
    pub name: String,
    /// The host's name, UUID or address.
    pub host: String,
    /// Behind each of its ports: a network's name, or its bridge.
    pub uplinks: Vec<(PortNo, String)>,
}

/// A pool.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How it is reached.
    pub access: Access,
    /// Its hosts that are servers of the site.
    pub servers: Vec<ServerConfig>,
    /// How long things may take.
    pub limits: Limits,
}

/// Why a pool of the hypervisors file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Its password.
    #[error(transparent)]
    Secret(#[from] crate::config::SecretError),
    /// Its URL.
    #[error(
        "pool {pool}: {url:?} is no URL of a host; write \"https://ADDRESS\" or \"http://ADDRESS\", with :PORT if need be"
    )]
    Url {
        /// Which pool.
        pool: String,
        /// What was written.
        url: String,
    },
    /// A fingerprint.
    #[error("pool {pool}: {why}")]
    Fingerprint {
        /// Which pool.
        pool: String,
        /// What is wrong with it.
        why: String,
    },
}

impl PoolConfig {
    /// From the hypervisors file; reads the password.
    ///
    /// # Errors
    /// When the password cannot be read, or the URL or a fingerprint is none.
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

/// The image that a request means, where the hypervisors file has it.
pub fn image<'a>(images: &'a [Image], asked: Option<&str>) -> Option<&'a Image> {
    match asked {
        Some(name) => images.iter().find(|i| i.name == name),
        None => images.iter().find(|i| i.default && i.template.is_some()).or_else(|| images.first()),
    }
}

/// What a request's image is called in a pool: by the hypervisors file, or a template's own name.
/// `None` when there is no default.
///
/// # Errors
/// When the file has the image, but no template of it.
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
