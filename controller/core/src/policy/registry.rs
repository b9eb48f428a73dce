//! The built-in policies by their names in `[policy]` of a site file: one line each.

use crate::policy::allocation::{AllocationPolicy, BestFit, FirstFit, LeastLoadedEdge, WorstFit};
use crate::policy::routing::{DefaultFirst, RoutingPolicy, WidestShortest};

type Make<P> = fn() -> Box<P>;

/// `[policy] allocation`: the first is what a site without the word gets.
pub const ALLOCATION: &[(&str, Make<dyn AllocationPolicy>)] = &[
    ("best-fit", || Box::new(BestFit)),
    ("first-fit", || Box::new(FirstFit)),
    ("worst-fit", || Box::new(WorstFit)),
    ("least-loaded-edge", || Box::new(LeastLoadedEdge)),
];

/// `[policy] routing`: the first is what a site without the word gets.
pub const ROUTING: &[(&str, Make<dyn RoutingPolicy>)] =
    &[("default-first", || Box::new(DefaultFirst)), ("widest-shortest", || Box::new(WidestShortest))];

/// The names of a table, for messages and for whoever reads site files.
pub fn names<P: ?Sized>(table: &[(&'static str, Make<P>)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}

/// The policy of that name; `None` where there is none of it.
pub fn find<P: ?Sized>(table: &[(&str, Make<P>)], name: &str) -> Option<Box<P>> {
    table.iter().find(|(known, _)| *known == name).map(|(_, make)| make())
}
