//! Names of a lab's local sockets, and connections to them.
//!
//! A lab's sockets are abstract (unix(7)): they vanish when the lab is killed, but no permissions
//! protect them, and any user may listen on a name first. So names are per user, a server checks
//! its clients ([`crate::local_peers`]), and a client ([`connect`]) checks the server before it
//! sends anything.
//!
//! | owner | control socket | hypervisor service |
//! |---|---|---|
//! | root | `@tandem-lab/NAME` | `@tandem-lab/NAME/world` |
//! | another user | `@tandem-lab/UID/NAME` | `@tandem-lab/UID/NAME/world` |

use crate::local_peers::{NotAllowed, check_server};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, getsockopt, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::Uid;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

/// The emulated worlds and the testbeds.
pub const LAB: &str = "tandem-lab";
/// Xen labs.
pub const XEN: &str = "tandem-xen";
/// Suffix of the socket of a lab's hypervisor service.
pub const WORLD: &str = "/world";

/// The longest wait in seconds for a listener that does not accept the connection.
const CONNECT_S: i64 = 5;

/// A lab of a user, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lab {
    /// Its owner's user id.
    pub owner: u32,
    /// Its name, unique among that user's labs.
    pub name: String,
}

/// A text that is not a valid name of a lab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} cannot be a lab's name; choose up to 64 letters, digits, '-', '_' or '.' with --name (but not \"world\")",
    shown(.0)
)]
pub struct BadName(String);

/// Foreign text in an error: escaped and truncated.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(64).collect();
    format!("{cut:?}")
}

/// Why there is no connection to a lab.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No process listens, or it does not accept the connection.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A process of a user who is not trusted listens.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
}

impl Lab {
    /// The lab of this name that belongs to the user of this process.
    pub fn own(name: &str) -> Lab {
        Lab { owner: Uid::effective().as_raw(), name: name.to_owned() }
    }

    /// A lab of the user of this process (`NAME`), or of another one (`UID/NAME`).
    ///
    /// When it is not a valid name.
    pub fn named(text: &str) -> Result<Lab, BadName> {
        let bad = || BadName(text.to_owned());
        let (owner, name) = match text.split_once('/') {
            Some((owner, name)) => (owner.parse().map_err(|_| bad())?, name),
            None => (Uid::effective().as_raw(), text),
        };
        // The sockets' names contain it: with a slash, or as "world", it could be the name of
        // another lab's socket.
        let usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_good = !name.is_empty() && name.len() <= 64 && name != "world" && name.chars().all(usable);
        if is_good { Ok(Lab { owner, name: name.to_owned() }) } else { Err(bad()) }
    }

    /// The name of one of its sockets, without the `@`; `kind` is [`LAB`] or [`XEN`], `suffix` is
    /// empty or [`WORLD`].
    pub fn socket(&self, kind: &str, suffix: &str) -> String {
        match self.owner {
            0 => format!("{kind}/{}{suffix}", self.name),
            owner => format!("{kind}/{owner}/{}{suffix}", self.name),
        }
    }

    /// Address of its hypervisor service for `tandem serve --world`.
    pub fn world(&self) -> String {
        format!("@{}", self.socket(LAB, WORLD))
    }

    /// The lab whose socket has this name (without the `@`), and the suffix behind the lab's name.
    /// `None` for other sockets.
    pub fn of_socket(kind: &str, socket: &str) -> Option<(Lab, String)> {
        let rest = socket.strip_prefix(kind)?.strip_prefix('/')?;
        let (rest, suffix) = match rest.strip_suffix(WORLD) {
            Some(rest) => (rest, WORLD),
            None => (rest, ""),
        };
        // The first part is the owner; root's labs have no number.
        let text = if rest.contains('/') { rest.to_owned() } else { format!("0/{rest}") };
        let lab = Lab::named(&text).ok()?;
        Some((lab, suffix.to_owned())).filter(|(lab, suffix)| lab.socket(kind, suffix) == socket)
    }
}

/// User and group of the process at the other end of a connected socket.
///
/// When the kernel does not report them.
pub fn peer(stream: &impl AsFd) -> std::io::Result<(u32, u32)> {
    let said = getsockopt(&stream.as_fd(), sockopt::PeerCredentials)?;
    Ok((said.uid(), said.gid()))
}

/// Connects to an abstract socket of root or of this user, or, as root, of the user `owner`.
/// Nothing is sent to a socket of another user.
///
/// When no process listens, it does not accept the connection in time, or it belongs to another
/// user.
pub fn connect(name: &str, owner: Option<u32>) -> Result<UnixStream, ConnectError> {
    let io = |errno: nix::errno::Errno| ConnectError::Io(errno.into());
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(io)?;
    // It also limits how long connect(2) waits for a listener whose queue is full.
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(CONNECT_S, 0)).map_err(io)?;
    let address = UnixAddr::new_abstract(name.as_bytes()).map_err(io)?;
    connect_socket(fd.as_raw_fd(), &address).map_err(io)?;
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(0, 0)).map_err(io)?;
    let (user, _) = peer(&fd)?;
    check_server(user, owner)?;
    Ok(UnixStream::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_labs_share_a_socket() {
        let mut seen = std::collections::BTreeMap::new();
        for owner in [0, 1, 1000] {
            for name in ["a", "1000", "1", "0", "a.b-c_d"] {
                let lab = Lab::named(&format!("{owner}/{name}")).expect("a name");
                for suffix in ["", WORLD] {
                    let socket = lab.socket(LAB, suffix);
                    assert_eq!(Lab::of_socket(LAB, &socket), Some((lab.clone(), suffix.to_owned())));
                    assert_eq!(seen.insert(socket.clone(), (owner, name, suffix)), None, "{socket}");
                }
            }
        }
    }

    #[test]
    fn what_could_be_another_labs_socket_is_no_name() {
        for bad in ["", "world", "a/b", "1000/world", "x/y/z", "a b", "\u{1b}[2J", "é", &"n".repeat(65)] {
            assert!(Lab::named(bad).is_err(), "{bad:?}");
        }
        for foreign in
            ["tandem-lab/", "tandem-lab/world", "tandem-lab/01/a", "tandem-labs/a", "tandem-lab/1/2/3/world"]
        {
            assert_eq!(Lab::of_socket(LAB, foreign), None, "{foreign}");
        }
        let shown = Lab::named("\u{1b}[2J").expect_err("no name").to_string();
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn a_socket_is_connected_to_and_its_listener_is_known() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let name = format!("tandem-lab/test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let _listener = UnixListener::bind_addr(&address).expect("a listener");
        let stream = connect(&name, None).expect("our own");
        assert_eq!(peer(&stream).expect("the kernel says").0, Uid::effective().as_raw());
        assert!(matches!(connect("tandem-lab/nobody-listens", None), Err(ConnectError::Io(_))));
    }
}
