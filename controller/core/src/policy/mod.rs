//! Policies: what is decided by whoever runs a data centre, and not by the core.

pub mod allocation;

pub use allocation::*;
