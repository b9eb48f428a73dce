//! Shapes of data centres: from a few counts in `[topology]` to a [`Topology`], in time linear in
//! its size.
//!
//! A shape is one file of this folder with a type that implements [`Shape`], and its line in
//! [`SHAPES`]: reading site files, checking addresses and building go by that list.

mod builder;
mod fat_tree;
mod free_form;
mod leaf_spine;
mod linear;
mod three_tier;

use crate::site::{Collector, Lists, Section};
use crate::{LinkConfig, Prefix, Resources, Topology};
use builder::Builder;

/// Every shape that a site file may name, in the order in which they are offered.
pub const SHAPES: &[Registered] = &[
    Registered::new::<three_tier::ThreeTier>(),
    Registered::new::<fat_tree::FatTree>(),
    Registered::new::<linear::Linear>(),
    Registered::new::<leaf_spine::LeafSpine>(),
    Registered::new::<free_form::FreeForm>(),
];

/// A kind of data centre: its name, what a site file says of it, and how it is built.
pub trait Shape: Sized + 'static {
    /// What a site file calls it: `shape = "NAME"`.
    const NAME: &'static str;

    /// Reads its counts from `[topology]`. What is missing or wrong is replaced by a default, and
    /// what is wrong is reported to `faults` too, so that one pass finds every fault of a file.
    fn read(section: &mut Section<'_>, faults: &mut Collector<'_>) -> Self;

    /// Takes what the site file declares by hand: `[[switch]]`, `[[server]]`, `[[gateway]]` and
    /// `[[link]]`. What is left in the lists are exceptions from the shape. A shape that is built
    /// from counts takes nothing.
    fn declare(&mut self, _lists: &mut Lists<'_>, _faults: &mut Collector<'_>) {}

    /// How large it is: the site's addresses are planned before it is built.
    fn size(&self) -> Size;

    /// Servers in all.
    fn servers(&self) -> u64 {
        let Size { edges, servers_per_edge, .. } = self.size();
        edges.saturating_mul(u64::from(servers_per_edge))
    }

    /// Builds it.
    fn build(&self, parameters: &Parameters) -> Topology;
}

/// How large a data centre is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Switches that own a prefix: the edge switches, and others with servers.
    pub edges: u64,
    /// Servers per edge switch, of the one with the most.
    pub servers_per_edge: u32,
    /// Gateways.
    pub gateways: u32,
}

/// A shape with its counts, as a site file has them.
pub struct Counted {
    /// How large it is.
    pub size: Size,
    /// Servers in all.
    pub servers: u64,
    build: Box<dyn Fn(&Parameters) -> Topology>,
}

impl Counted {
    /// Builds it.
    pub fn build(&self, parameters: &Parameters) -> Topology {
        (self.build)(parameters)
    }
}

/// A line of [`SHAPES`].
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    /// What a site file calls the shape.
    pub name: &'static str,
    read: fn(&mut Section<'_>, &mut Lists<'_>, &mut Collector<'_>) -> Counted,
}

/// What every shape needs besides its counts. Rates are per level; delay, loss and queue are the
/// same everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// Links between gateways and core switches.
    pub gateway_link: LinkConfig,
    /// Links between core and aggregation switches (two tiers: core and edge).
    pub core_link: LinkConfig,
    /// Links between aggregation and edge switches, and between the switches of a line.
    pub aggregation_link: LinkConfig,
    /// Links between edge switches and servers.
    pub edge_link: LinkConfig,
    /// What a server has.
    pub server: Resources,
    /// The site file says what the network of every server is: else it is its first uplink's rate.
    pub net_given: bool,
    /// Holds every edge's prefix.
    pub network: Prefix,
    /// Length of an edge's prefix.
    pub prefix_len: u8,
    /// Where gateways' addresses come from.
    pub gateways: Prefix,
}

impl Registered {
    const fn new<S: Shape>() -> Registered {
        Registered { name: S::NAME, read: read::<S> }
    }

    /// Reads the shape's counts from `[topology]`, and what it is declared by from the lists; see
    /// [`Shape::read`] and [`Shape::declare`].
    pub fn read(
        &self,
        section: &mut Section<'_>,
        lists: &mut Lists<'_>,
        faults: &mut Collector<'_>,
    ) -> Counted {
        (self.read)(section, lists, faults)
    }
}

fn read<S: Shape>(section: &mut Section<'_>, lists: &mut Lists<'_>, faults: &mut Collector<'_>) -> Counted {
    let mut shape = S::read(section, faults);
    shape.declare(lists, faults);
    Counted {
        size: shape.size(),
        servers: shape.servers(),
        build: Box::new(move |parameters| shape.build(parameters)),
    }
}
