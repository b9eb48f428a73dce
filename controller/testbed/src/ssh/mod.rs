//! Access to other machines: the system's ssh, by the crate `openssh`.
//!
//! ```text
//! target      who is reached and how: ssh's configuration file
//! connection  one multiplexed connection: commands with a time limit and bounded output (async)
//! machine     the same for threads, with files and long-running programs whose input we hold
//! error       why not, in words for whoever must act
//! ```
//!
//! There is one connection per machine: ssh's master, over which everything is multiplexed, so that
//! a command costs one round trip instead of a key exchange. Its control socket is in a folder that
//! only this user can enter.
//!
//! A command must not contain secrets, because `ps` shows it: secrets go over standard input. A
//! command that is abandoned at its time-out may go on there, unless it ends itself (timeout(1)).

mod connection;
mod error;
mod machine;
mod target;

pub use connection::{Call, Connection, Output};
pub use error::SshError;
pub use machine::{Remote, Ssh, connect_all};
pub use target::Target;

use std::path::Path;
use std::time::Duration;

/// How long a machine may take to accept a connection, and for the login.
pub const CONNECT: Duration = Duration::from_secs(15);
/// How long an ordinary command may take.
pub const COMMAND: Duration = Duration::from_secs(60);
/// How long the transfer of a file may take.
pub const FILE: Duration = Duration::from_secs(600);

/// A text as one word for `sh`.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path as one word for `sh`.
pub fn quote_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}
