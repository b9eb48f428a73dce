//! A site as files of other tools. What is written here, the readers beside read back to the same
//! nodes, links and rates.

mod clab;
mod dot;
mod mininet;

pub use clab::containerlab;
pub use dot::graphviz;
pub use mininet::script;

use tandem_model::{Endpoint, Link, Topology};

/// An end of a link: the node's name and the port's number.
fn end(topology: &Topology, end: Endpoint) -> (&str, u32) {
    (topology.name(end.node), end.port.0)
}

/// Both ends of a link.
fn ends<'t>(topology: &'t Topology, link: &Link) -> [(&'t str, u32); 2] {
    [end(topology, link.a), end(topology, link.b)]
}
