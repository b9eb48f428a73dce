//! The worlds that stand in for the testbed: simulated and emulated data centres, traffic, a
//! workload, experiments and their figures.
//!
//! | folder | what it answers |
//! |---|---|
//! | [`cli`] | what `tandem-lab` can be told |
//! | [`world`] | what a data centre is made of: namespaces, a testbed's machines, Xen hosts |
//! | [`node`] | what runs in a node: hosts, VMs, traffic, probes |
//! | [`control`] | how a lab is spoken to, and by whom |
//! | [`precopy`] | how the memory of a VM is moved |
//! | [`experiment`] | what is measured and drawn |
//! | [`bundle`] | how a run is handed on, and run again |
//! | [`mod@bench`] | how fast the parts are |
//! | [`fuzz`] | whether the core holds its invariants under any schedule of faults |

pub mod bench;
pub mod bundle;
pub mod cli;
pub mod control;
pub mod controller_process;
pub mod experiment;
pub mod fuzz;
pub mod node;
mod openflow_client;
pub mod precopy;
pub mod recorder;
pub mod temp_dir;
pub mod workload;
pub mod world;
