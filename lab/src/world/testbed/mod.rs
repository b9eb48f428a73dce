//! The testbed as a world: servers and gateways are interfaces of real machines, switches are real
//! switches with their own agents.
//!
//! ```text
//! tandem-lab up --inventory ... --> coordinator: sockets @tandem-lab/NAME and
//!                                   @tandem-lab/NAME/world, as every lab has them
//!      coordinator --ssh, a line asks, a line answers--> guard (`tandem-lab node`)
//!                                                           --> node, in namespaces of its own
//! ```
//! 1. The **guard** ([`lease_guard`], [`nic_lease`]) lends the machine's interfaces that the
//!    inventory names to a namespace for each server and gateway, and gives them back as they were
//!    when the node ends, however it ends.
//! 2. The **node** ([`node`]) does on them what an emulated lab does in its own namespaces
//!    ([`crate::node::hosts`]): bridges, VMs, traffic. If the guard dies, it gives the interfaces
//!    back itself; if both die at once, the kernel gives physical ones back.
//! 3. The **coordinator** ([`coordinator`], [`node_client`], [`lines`], [`clock_offset`]) serves
//!    the controller and the command line for all machines together.
//!
//! The control interface is never touched. A VM is what it is in an emulated lab: a namespace with
//! its own Ethernet address.

pub mod clock_offset;
pub mod coordinator;
pub mod lease_guard;
pub mod lines;
pub mod nic_lease;
pub mod node;
pub mod node_client;
pub mod node_protocol;
pub mod up;
