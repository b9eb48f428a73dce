//! A testbed of real machines: the inventory, access by ssh, the lock, and the deployment of
//! agents.
//!
//! - [`inventory`]: parses and checks `inventory.toml`.
//! - [`ssh`]: commands, files and streams on a machine, by the system's ssh.
//! - [`lease`]: the lock of the testbed, kept on the machines themselves.
//! - [`deploy`]: installs agents from a binary and an inventory, and removes them.
//! - [`discover`]: writes a site file for existing hardware.

pub mod deploy;
pub mod discover;
pub mod inventory;
pub mod lease;
pub mod ssh;
