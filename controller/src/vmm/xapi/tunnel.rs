//! The way to hosts that are too old for today's TLS: ssh to one of them, and through it to the plain port of each.
//!
//! One ssh connection per address, by the system's ssh (so its configuration, keys and agent count). The near end of a tunnel is a Unix
//! socket in a folder that only we can enter; both are gone with the connection.

use super::config::SshAccess;
use super::session::CallError;
use openssh::{ForwardType, KnownHosts, SessionBuilder, Socket};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// To log in by ssh, at most.
const CONNECT: Duration = Duration::from_secs(30);

struct Tunnel {
    session: openssh::Session,
    socket: PathBuf,
    /// Holds the socket.
    _folder: TempDir,
}

/// The tunnels of a pool, by address.
#[derive(Default)]
pub(super) struct Tunnels {
    open: Mutex<BTreeMap<String, Tunnel>>,
}

impl Tunnels {
    /// The near end of a tunnel to this host's plain port.
    pub(super) async fn to(&self, ssh: &SshAccess, address: &str) -> Result<PathBuf, CallError> {
        let mut open = self.open.lock().await;
        if let Some(tunnel) = open.get(address) {
            if tunnel.session.check().await.is_ok() {
                return Ok(tunnel.socket.clone());
            }
            open.remove(address);
        }
        let tunnel = dig(ssh, address).await.map_err(|e| {
            CallError::Tunnel(format!("{}@{address}: {e}; does `ssh {}@{address} true` work?", ssh.user, ssh.user))
        })?;
        let socket = tunnel.socket.clone();
        open.insert(address.to_owned(), tunnel);
        Ok(socket)
    }

    /// Dug anew when it is needed again.
    pub(super) async fn forget(&self, address: &str) {
        self.open.lock().await.remove(address);
    }
}

async fn dig(ssh: &SshAccess, address: &str) -> Result<Tunnel, Box<dyn std::error::Error + Send + Sync>> {
    let folder = tempfile::Builder::new().prefix("tandem-xapi-").tempdir()?;
    let mut builder = SessionBuilder::default();
    builder
        .user(ssh.user.clone())
        .port(ssh.port)
        .known_hosts_check(KnownHosts::Strict)
        .connect_timeout(CONNECT)
        .control_directory(folder.path())
        .server_alive_interval(Duration::from_secs(10));
    if let Some(key) = &ssh.key {
        builder.keyfile(key);
    }
    if let Some(known) = &ssh.known_hosts {
        builder.user_known_hosts_file(known);
    }
    // Old hosts need old algorithms: those are said in an ssh configuration file.
    if let Some(file) = &ssh.config {
        builder.config_file(file);
    }
    let session = builder.connect(address).await?;
    let socket = folder.path().join("xapi");
    // The plain port listens on the host's loopback only, where it is careful.
    let far = Socket::TcpSocket { host: "127.0.0.1".into(), port: ssh.far_port };
    session.request_port_forward(ForwardType::Local, socket.as_path(), far).await?;
    Ok(Tunnel { session, socket, _folder: folder })
}
