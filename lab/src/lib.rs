//! The worlds that stand in for the testbed: simulated and emulated data centres, traffic, requester, experiments and their figures.

pub mod admission;
pub mod agent_bench;
pub mod bench;
pub mod calibrate;
pub mod client;
pub mod datapath_bench;
pub mod draw;
pub mod emulated;
pub mod experiment;
pub mod fuzz;
pub mod hosts;
pub mod lanes;
pub mod migration;
pub mod numbers;
pub mod peer_lines;
pub mod record;
pub mod requester;
pub mod scratch;
pub mod served;
pub mod service;
pub mod sim;
mod speaker;
pub mod tandem;
pub mod testbed;
pub mod vm_verbs;
pub mod xen;
