//! A testbed of real machines: which there are, how they are reached, who holds them, and how
//! agents get there.
//!
//! - [`inventory`]: `inventory.toml` as written and as checked.
//! - [`ssh`]: commands, files and streams on a machine, over the system's ssh.
//! - [`lease`]: who holds the testbed, kept on the machines themselves.
//! - [`deploy`]: from a binary and an inventory to running agents, and back.
//! - [`discover`]: a site file from what is there.

pub mod deploy;
pub mod discover;
pub mod inventory;
pub mod lease;
pub mod ssh;
