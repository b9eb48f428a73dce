//! The emulated world: network namespaces, Open vSwitch or the agent's own switches, real packets,
//! real time.
//!
//! ```text
//! tandem-lab up --+-- binds the abstract sockets @tandem-lab/NAME
//!                 |   (a second lab of that name finds them taken)
//!                 +-- starts __outer in new namespaces
//!                        --> __init, their first process --> __inside
//! __inside: builds the network, serves the control socket and the hypervisor service
//! ```
//! Nothing of a lab is a file outside: its sockets are abstract, its files lie in a file system in
//! memory that only it sees. When its first process ends, however it ends, the kernel takes
//! everything.

pub mod agents;
pub mod datapath;
pub mod engine;
pub mod lab_control;
pub mod lab_process;
pub mod native;
pub mod network;
pub mod relay;
pub mod room;
pub mod shortcomings;
pub mod static_forwarding;
