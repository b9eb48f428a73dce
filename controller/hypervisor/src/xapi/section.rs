//! The driver's sections of the hypervisors file: `[[pool]]`, one for each pool with XAPI.

use super::Xapi;
use super::config::PoolConfig;
use crate::Driver;
use crate::config::read::{Shared, required};
use crate::config::{Image, SecretError, SshTarget, Times};
use crate::registry::{DriverConfig, DriverKind};
use std::path::PathBuf;
use std::sync::Arc;
use tandem_model::site::{Collector, Section};
use tandem_model::{PortNo, ServerId};

/// XCP, XenServer, XCP-ng.
pub const DRIVER: DriverKind = DriverKind {
    name: "xapi",
    section: "pool",
    parts: "pools",
    read: |root, c, shared| {
        let pools = root.list(c, "pool").into_iter().map(|s| pool(s, c, shared)).collect();
        Box::new(XapiSection { pools })
    },
};

/// All sections `[[pool]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XapiSection {
    /// The pools.
    pub pools: Vec<Pool>,
}

impl DriverConfig for XapiSection {
    fn parts(&self) -> usize {
        self.pools.len()
    }

    fn servers(&self) -> Vec<ServerId> {
        self.pools.iter().flat_map(|p| p.servers.iter().map(|s| s.server)).collect()
    }

    fn check_secrets(&self) -> Result<(), SecretError> {
        self.pools.iter().try_for_each(|pool| pool.password().map(drop))
    }

    fn open(&self, site: &str, images: &[Image]) -> anyhow::Result<Vec<Driver>> {
        let pools = self.pools.iter().map(PoolConfig::of).collect::<Result<_, _>>()?;
        Ok(vec![Driver::Called(Arc::new(Xapi::new(site, pools, images.to_vec())))])
    }
}

/// A pool with XAPI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// A name for people.
    pub name: String,
    /// `https://ADDRESS` or `http://ADDRESS` of one of its hosts.
    pub url: String,
    /// Login user.
    pub user: String,
    /// The file with the password.
    pub password_file: PathBuf,
    /// SHA-256 of the accepted certificates, lower-case hexadecimal without colons.
    pub fingerprints: Vec<String>,
    /// The ssh host for a tunnel to the plain port, for hosts with outdated TLS.
    pub tunnel: Option<SshTarget>,
    /// Its hosts.
    pub servers: Vec<PoolServer>,
    /// The time-outs of its calls.
    pub times: Times,
}

/// A host of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolServer {
    /// The server that it is.
    pub server: ServerId,
    /// Its name in the site.
    pub name: String,
    /// Its name in the pool (`name_label`).
    pub host: String,
    /// The network (`name_label`) behind each of the server's ports.
    pub uplinks: Vec<(PortNo, String)>,
}

impl Pool {
    /// Its password, without the end of line.
    ///
    /// When it cannot be read, or other users may read it.
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

fn pool(mut s: Section<'_>, c: &mut Collector<'_>, shared: &mut Shared<'_>) -> Pool {
    let name = required(&mut s, c, "name", "the pool's name", "name = \"pool1\"");
    let url = required(&mut s, c, "url", "where it is", "url = \"https://192.0.2.21\"");
    let tls = url.starts_with("https://");
    if s.has("url") && !tls && !url.starts_with("http://") {
        s.fault(
            c,
            "url",
            format!("{url:?} is no URL of a pool"),
            "write \"https://ADDRESS\" or \"http://ADDRESS\"",
        );
    }
    let user = s.text(c, "user").unwrap_or_else(|| "root".to_owned());
    let file = required(
        &mut s,
        c,
        "password_file",
        "the file of the password",
        "password_file = \"pool1.password\"",
    );
    let fingerprints: Vec<String> = s
        .texts(c, "fingerprints")
        .unwrap_or_default()
        .iter()
        .map(|f| f.replace([':', ' '], "").to_ascii_lowercase())
        .collect();
    if fingerprints.iter().any(|f| f.len() != 64 || !f.bytes().all(|b| b.is_ascii_hexdigit())) {
        let instead = "write what `openssl x509 -noout -fingerprint -sha256` prints: 64 hexadecimal digits";
        s.fault(c, "fingerprints", "this is no SHA-256 of a certificate", instead);
    }
    if tls && fingerprints.is_empty() {
        let instead =
            "write fingerprints = [\"5F:0C: ...\"]: pools have certificates that nobody else has signed";
        s.fault(c, "fingerprints", "which certificates are believed is not said", instead);
    }
    let tunnel = shared.ssh(&mut s, c, "tunnel");
    let tunnel = s.has("tunnel").then_some(tunnel);
    let times = shared.times(&mut s, c);
    let mut servers = Vec::new();
    for mut p in s.list(c, "server") {
        let (server, name) = shared.server(&mut p, c);
        let host = p.text(c, "host").unwrap_or_else(|| name.clone());
        let uplinks = shared.uplinks(&mut p, c, "networks", server, 255);
        p.finish(c);
        servers.push(PoolServer { server, name, host, uplinks });
    }
    if servers.is_empty() {
        s.fault(
            c,
            "server",
            "the pool has no server",
            "write a section [[pool.server]] for each of its hosts",
        );
    }
    s.finish(c);
    Pool { name, url, user, password_file: shared.folder.join(file), fingerprints, tunnel, servers, times }
}
