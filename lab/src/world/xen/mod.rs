//! The Xen lab: real Xen hosts under QEMU's emulation, with Open vSwitch in their domain 0, as one
//! small data centre.
//!
//! ```text
//!   tandem-lab xen up --> __xen (holds the name, a control socket) --> QEMU of xen1, xen2 ...     supervisor.rs, host.rs
//!                                                                         |
//!   xen1, in its domain 0                                  xen2           |
//!     gw1 (a namespace) --- core1 ----- data card ~~~~~~~ data card --- edge2 --- srv2 (a bridge) --- guests
//!                             +--- edge1 --- srv1 (a bridge) --- guests
//! ```
//!
//! A server of the site is a bridge in domain 0 into which Xen plugs the guests' interfaces; it has
//! the server's own address, by which hosts reach each other. Switches are Open vSwitch bridges
//! that agents make (`scripts/deploy` with the lab's `inventory.toml`), and the controller runs
//! outside, where QEMU's control network finds it on loopback. Everything that `up` writes is in
//! the lab's folder.
//!
//! The lab ends with its holder, also when that is killed: each QEMU asks the kernel for it. The
//! image is `tests/xen/image`'s.

pub mod check;
pub mod cli;
pub mod control;
pub mod data_centre;
pub mod experiment;
pub mod files;
pub mod host;
pub mod network;
pub mod pings;
pub mod supervisor;
pub mod watch;

use anyhow::{Context, bail};
use std::time::{Duration, Instant};

/// How long a host may take to boot; emulated on a busy computer it needs minutes.
pub const BOOT: Duration = Duration::from_secs(900);

/// Waits until `ready` gives a value, and shows the last error when it does not within `limit`.
///
/// # Errors
/// See above.
pub fn wait<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        let last = match ready() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() > limit {
            let last = last.map(|e| format!(": {e:#}")).unwrap_or_default();
            bail!("{what}: not within {} s{last}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Runs a program and gives what it writes.
fn output(command: &mut std::process::Command, what: &str) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{what}: cannot start {name}"))?;
    if !output.status.success() {
        bail!("{what}: {} ({})", String::from_utf8_lossy(&output.stderr).trim(), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
