//! How many descriptors a process may have, and how many processes a user (getrlimit(2),
//! RLIMIT_NOFILE and RLIMIT_NPROC).

use crate::Error;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as may be had at most; `None` where nothing limits them.
pub fn most_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Processes and threads that this user may have; `None` where nothing limits them. It does not
/// hold root (CAP_SYS_RESOURCE).
pub fn most_processes() -> Option<u64> {
    let limit = getrlimit(Resource::Nproc).current;
    limit.filter(|_| !rustix::process::geteuid().is_root())
}

/// Lets this process, and those that it starts, have as many as may be had.
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
