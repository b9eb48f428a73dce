//! The worlds that stand in for a data centre.

pub mod emulated;
pub mod testbed;
pub mod xen;
