//! Limits on the descriptors of a process, and on the processes of a user (getrlimit(2),
//! RLIMIT_NOFILE and RLIMIT_NPROC).

use crate::Error;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The hard limit on descriptors; `None` if there is none.
pub fn most_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// The hard limit on processes and threads of this user; `None` if there is none. It does not apply
/// to root (CAP_SYS_RESOURCE).
pub fn most_processes() -> Option<u64> {
    let limit = getrlimit(Resource::Nproc).current;
    limit.filter(|_| !rustix::process::geteuid().is_root())
}

/// Raises the limit on descriptors to the hard limit, for this process and those that it starts.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_descriptors() -> Result<(), Error> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .map_err(|e| Error::Io { what: "raising the limit of descriptors".into(), cause: e.into() })
}
