//! Policies: what is decided by whoever runs a data centre, and not by the core.

pub mod allocation;
pub mod registry;
pub mod routing;
pub mod view;

pub use allocation::*;
