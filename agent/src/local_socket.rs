//! Unix sockets of this host's agent, and their access control.
//!
//! A socket appears at its path with its permissions set: it is bound in a folder that no other
//! user may enter, and moved from there, so that others cannot connect in between. Besides the
//! permissions, the kernel's credentials of the peer are checked (`SO_PEERCRED`, unix(7)), which do
//! not depend on the folders above.

use crate::config::Config;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Group, chown};
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use tandem_agent_protocol::local_peers::{LocalPeers, NotAllowed, check_server};

/// The users who may use the agent's sockets.
///
/// When the group does not exist.
pub fn peers(group: Option<&str>) -> Result<LocalPeers, NotAllowed> {
    group.map_or_else(|| Ok(LocalPeers::same_user()), LocalPeers::with_group)
}

/// Listens at a path for the agent's user, root, and a group; replaces an existing socket.
///
/// When it cannot be created, or the group does not exist.
pub fn listen(path: &Path, group: Option<&str>) -> io::Result<UnixListener> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Short: a socket's path may have 107 bytes (unix(7)).
    let private = folder.join(format!(".{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let made = bind(&private.join("s"), path, group);
    let _ = std::fs::remove_dir_all(&private);
    made
}

fn bind(at: &Path, path: &Path, group: Option<&str>) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(at)?;
    let mode = match group {
        None => 0o600,
        Some(name) => {
            let found = Group::from_name(name)?
                .ok_or_else(|| io::Error::other(NotAllowed::NoGroup(name.to_owned()).to_string()))?;
            chown(at, None, Some(found.gid))?;
            0o660
        }
    };
    std::fs::set_permissions(at, Permissions::from_mode(mode))?;
    std::fs::rename(at, path)?;
    Ok(listener)
}

/// Checks the user of a client.
///
/// With the reason for the refusal.
pub fn check_peer(stream: &impl AsFd, peers: &LocalPeers) -> Result<(), String> {
    let who = getsockopt(stream, PeerCredentials)
        .map_err(|e| format!("the kernel does not say who is at the other end: {e}"))?;
    peers.check_client(who.uid(), who.gid()).map_err(|e| e.to_string())
}

/// Connects to an agent's own socket, and checks its user before anything is sent.
///
/// When no process listens, or one of a user who is neither this one, nor root, nor (for root) the
/// owner of agent.toml's state folder.
pub fn connect(config: &Config, path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    check_listener(config, &stream)?;
    Ok(stream)
}

/// Checks the user who listens at the other end of a new connection.
///
/// # Errors
/// As [`connect`].
pub fn check_listener(config: &Config, stream: &impl AsFd) -> io::Result<()> {
    let who = getsockopt(stream, PeerCredentials)?;
    // Root with a configuration of another user means that user's agent.
    let owner = std::fs::metadata(&config.state).ok().map(|m| m.uid());
    check_server(who.uid(), owner).map_err(|e| io::Error::new(io::ErrorKind::PermissionDenied, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_its_permissions_from_the_first_moment_and_takes_the_place_of_an_old_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).expect("one that a killed agent has left"));
        let listener = listen(&path, None).expect("a socket");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        let _client = UnixStream::connect(&path).expect("by its path");
        let (stream, _) = listener.accept().expect("a client");
        check_peer(&stream, &peers(None).expect("no group")).expect("the same user");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing beside it");
        let error = listen(&path, Some("no-such-group-here")).expect_err("no group").to_string();
        assert!(error.contains("groupadd no-such-group-here"), "{error}");
        assert!(path.exists(), "and the old one is still there");
    }
}
