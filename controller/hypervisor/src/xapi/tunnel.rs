//! The way to hosts that are too old for today's TLS: ssh to one of them, and through it to the
//! plain port of each.
//!
//! One ssh connection, by the system's ssh (so its configuration, keys and agent count), with a
//! forwarding per host. The near end of each is a Unix socket in a folder that only we can enter;
//! all are gone with the connection.

use super::session::CallError;
use crate::config::{HostKeys, SshTarget};
use openssh::{ForwardType, KnownHosts, SessionBuilder, Socket};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// To log in by ssh, at most.
const CONNECT: Duration = Duration::from_secs(30);

type Trouble = Box<dyn std::error::Error + Send + Sync>;

struct Tunnel {
    session: openssh::Session,
    /// Near ends, by the address behind them.
    ends: BTreeMap<String, PathBuf>,
    /// Holds the sockets.
    folder: TempDir,
}

/// A pool's way through ssh.
#[derive(Default)]
pub(super) struct Tunnels {
    open: Mutex<Option<Tunnel>>,
}

impl Tunnels {
    /// The near end of a tunnel to this address's plain port.
    pub(super) async fn to(&self, ssh: &SshTarget, address: &str, port: u16) -> Result<PathBuf, CallError> {
        let mut open = self.open.lock().await;
        if let Some(tunnel) = &*open
            && tunnel.session.check().await.is_err()
        {
            *open = None;
        }
        let trouble = |e: Trouble| {
            let who = format!("{}@{}", ssh.user, ssh.address);
            CallError::Tunnel(format!("{who}: {e}; does `ssh -p {} {who} true` work?", ssh.port))
        };
        let tunnel = match &mut *open {
            Some(tunnel) => tunnel,
            none => none.insert(dig(ssh).await.map_err(trouble)?),
        };
        if let Some(end) = tunnel.ends.get(address) {
            return Ok(end.clone());
        }
        let end = tunnel.folder.path().join(format!("xapi{}", tunnel.ends.len()));
        let far = Socket::TcpSocket { host: address.into(), port };
        let forward = tunnel.session.request_port_forward(ForwardType::Local, end.as_path(), far).await;
        forward.map_err(|e| trouble(e.into()))?;
        tunnel.ends.insert(address.to_owned(), end.clone());
        Ok(end)
    }
}

async fn dig(ssh: &SshTarget) -> Result<Tunnel, Trouble> {
    let folder = tempfile::Builder::new().prefix("tandem-xapi-").tempdir()?;
    let mut builder = SessionBuilder::default();
    builder
        .user(ssh.user.clone())
        .port(ssh.port)
        .known_hosts_check(match ssh.host_keys {
            HostKeys::Strict => KnownHosts::Strict,
            HostKeys::AcceptNew => KnownHosts::Add,
        })
        .connect_timeout(CONNECT)
        .control_directory(folder.path())
        .server_alive_interval(Duration::from_secs(10));
    if let Some(key) = &ssh.key {
        builder.keyfile(key);
    }
    if let Some(known) = &ssh.known_hosts {
        builder.user_known_hosts_file(known);
    }
    if !ssh.options.is_empty() {
        // ssh takes the first value that it finds: ours go before the user's own.
        let file = folder.path().join("config");
        let lines = ssh.options.iter().map(|o| format!("{o}\n")).collect::<String>();
        std::fs::write(&file, lines + "Include ~/.ssh/config\n")?;
        builder.config_file(&file);
    }
    let session = builder.connect(&ssh.address).await?;
    Ok(Tunnel { session, ends: BTreeMap::new(), folder })
}
