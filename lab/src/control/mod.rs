//! How a lab is spoken to: the control socket of its command line, the hypervisor service of its
//! controller, and who is let in at both.

pub mod admission;
pub mod client;
pub mod keyed_queue;
pub mod labs;
pub mod messages;
pub mod peer_lines;
pub mod served;
pub mod service;
