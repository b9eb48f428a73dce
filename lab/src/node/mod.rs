//! What runs in a node of a lab, wherever that is: servers and gateways as namespaces, VMs,
//! traffic, probes.
//!
//! An emulated lab holds all of a site's nodes ([`hosts::Hosts`]), each machine of a testbed a part
//! of them.

pub mod announce;
pub mod guest;
pub mod hosts;
pub mod loads;
pub mod migrate;
pub mod ping;
pub mod probe;
pub mod processes;
pub mod static_arp;
pub mod traffic;
pub mod vm_relocation;
pub mod vms;
