//! Access control on local sockets.
//!
//! The permissions of a folder protect a Unix socket in it, but nothing protects an abstract one:
//! any local user may connect to it, or listen on its name first. So both server and client ask the
//! kernel for the user at the other end (`SO_PEERCRED`, unix(7)).

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;

/// The users whose requests a service accepts: root, the user that it runs as, and optionally the
/// members of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPeers {
    owner: u32,
    group: Option<(String, u32)>,
}

/// Why a peer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The client is another ordinary user.
    #[error(
        "user {peer} may not use this service of user {owner}; ask that user or root{}",
        group.as_ref().map(|g| format!(", or join the group {g}")).unwrap_or_default()
    )]
    Client {
        /// The client's user id.
        peer: u32,
        /// The service's user id.
        owner: u32,
        /// The group that may use it too.
        group: Option<String>,
    },
    /// The service belongs to another ordinary user, who could read and answer what is sent to it.
    #[error("the service at the other end is user {server}'s, not yours or root's; nothing was sent to it")]
    Server {
        /// The service's user id.
        server: u32,
    },
    /// The group does not exist.
    #[error("there is no group {0} on this machine; make it with `groupadd {0}`, or name another")]
    NoGroup(String),
}

impl LocalPeers {
    /// Allows root and the user of this process.
    pub fn same_user() -> LocalPeers {
        LocalPeers { owner: Uid::effective().as_raw(), group: None }
    }

    /// Also allows the members of `group`.
    ///
    /// When the group does not exist.
    pub fn with_group(group: &str) -> Result<LocalPeers, NotAllowed> {
        let found = Group::from_name(group).ok().flatten();
        let found = found.ok_or_else(|| NotAllowed::NoGroup(group.to_owned()))?;
        let mut peers = LocalPeers::same_user();
        peers.group = Some((group.to_owned(), found.gid.as_raw()));
        Ok(peers)
    }

    /// The id of that group.
    pub fn group(&self) -> Option<u32> {
        self.group.as_ref().map(|(_, id)| *id)
    }

    /// Checks a client by the user and group ids that the kernel reports.
    ///
    /// # Errors
    /// When it is neither root, nor this user, nor of the group.
    pub fn check_client(&self, uid: u32, gid: u32) -> Result<(), NotAllowed> {
        let is_member = self.group.as_ref().is_some_and(|(_, g)| *g == gid || belongs_to(uid, gid, *g));
        if uid == 0 || uid == self.owner || is_member {
            return Ok(());
        }
        let group = self.group.as_ref().map(|(name, _)| name.clone());
        Err(NotAllowed::Client { peer: uid, owner: self.owner, group })
    }
}

/// Checks the user of a listening socket before anything is sent to it: it has to be root or the
/// user of this process; root also accepts a service of the user `of`.
///
/// # Errors
/// When it is another's.
pub fn check_server(server: u32, of: Option<u32>) -> Result<(), NotAllowed> {
    let own = Uid::effective().as_raw();
    let named = own == 0 && of == Some(server);
    if server == 0 || server == own || named { Ok(()) } else { Err(NotAllowed::Server { server }) }
}

/// Whether a user is in a group besides its primary one (`SO_PEERCRED` reports only that).
fn belongs_to(uid: u32, primary: u32, group: u32) -> bool {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.and_then(|u| CString::new(u.name).ok());
    let groups = name.and_then(|n| getgrouplist(&n, Gid::from_raw(primary)).ok()).unwrap_or_default();
    groups.contains(&Gid::from_raw(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_same_user_may_and_others_may_not() {
        let peers = LocalPeers { owner: 1000, group: None };
        assert_eq!(peers.check_client(0, 0), Ok(()));
        assert_eq!(peers.check_client(1000, 1000), Ok(()));
        let refused = peers.check_client(1001, 1000).expect_err("another user, whatever his group");
        assert_eq!(refused, NotAllowed::Client { peer: 1001, owner: 1000, group: None });
    }

    #[test]
    fn a_group_that_was_named_may_too() {
        let peers = LocalPeers { owner: 1000, group: Some(("lab".into(), 77)) };
        assert_eq!(peers.check_client(1001, 77), Ok(()));
        let text = peers.check_client(1001, 78).expect_err("of another group").to_string();
        assert!(text.contains("join the group lab"), "{text}");
        assert!(LocalPeers::with_group("no-such-group-here").is_err());
    }

    #[test]
    fn a_client_speaks_to_its_own_user_or_root_only() {
        let own = Uid::effective().as_raw();
        assert_eq!(check_server(own, None), Ok(()));
        assert_eq!(check_server(0, None), Ok(()));
        assert_eq!(check_server(own + 1, None).is_ok(), own + 1 == 0);
    }
}
