//! Who may speak on a local socket.
//!
//! A Unix socket in a folder is guarded by that folder's permissions, an abstract one by nothing at
//! all: anybody on the machine may connect to it, or listen on its name first. So whoever serves
//! one asks the kernel who is at the other end (`SO_PEERCRED`, unix(7)), and so does whoever
//! connects.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;

/// Whose requests a service takes: root's, those of the user that it runs as, and those of one
/// group, if it was told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPeers {
    owner: u32,
    group: Option<(String, u32)>,
}

/// A peer that was turned away.
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
        /// The service's.
        owner: u32,
        /// The group that may use it too.
        group: Option<String>,
    },
    /// The service is another ordinary user's: what is sent to it could be read and answered by
    /// that user.
    #[error("the service at the other end is user {server}'s, not yours or root's; nothing was sent to it")]
    Server {
        /// The service's user id.
        server: u32,
    },
    /// There is no such group.
    #[error("there is no group {0} on this machine; make it with `groupadd {0}`, or name another")]
    NoGroup(String),
}

impl LocalPeers {
    /// The user that this process runs as, and root.
    pub fn same_user() -> LocalPeers {
        LocalPeers { owner: Uid::effective().as_raw(), group: None }
    }

    /// The members of `group`, too.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn with_group(group: &str) -> Result<LocalPeers, NotAllowed> {
        let found = Group::from_name(group).ok().flatten();
        let found = found.ok_or_else(|| NotAllowed::NoGroup(group.to_owned()))?;
        let mut peers = LocalPeers::same_user();
        peers.group = Some((group.to_owned(), found.gid.as_raw()));
        Ok(peers)
    }

    /// The id of the group whose members may, too.
    pub fn group(&self) -> Option<u32> {
        self.group.as_ref().map(|(_, id)| *id)
    }

    /// Checks a client by the user and group ids that the kernel gives for it.
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

/// Checks the user that listens on a socket before anything is sent to it: root, or the user that
/// this process runs as; root also takes a service of the user `of` that it named.
///
/// # Errors
/// When it is another's.
pub fn check_server(server: u32, of: Option<u32>) -> Result<(), NotAllowed> {
    let own = Uid::effective().as_raw();
    let named = own == 0 && of == Some(server);
    if server == 0 || server == own || named { Ok(()) } else { Err(NotAllowed::Server { server }) }
}

/// True when a user has a group beside the primary one that the kernel gave (`SO_PEERCRED` has no
/// others).
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
