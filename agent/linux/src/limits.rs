//! How many descriptors a process may have (getrlimit(2), RLIMIT_NOFILE).

use crate::Error;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as may be had at most; `None` where nothing limits them.
pub fn most_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
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
        .map_err(|e| Error::Io { what: "raising the limit of descriptors".into(), source: e.into() })
}
