//! Benchmarks: how long a lab takes to come up, what an agent costs, how fast switches forward.

pub mod agent;
pub mod bring_up;
pub mod datapath;
pub mod engines;
