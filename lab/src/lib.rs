//! The worlds that stand in for the testbed: simulated and emulated data centres, traffic, experiments and their figures.

pub mod experiment;
pub mod record;
pub mod sim;
