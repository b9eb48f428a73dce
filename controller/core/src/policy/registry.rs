//! The built-in policies: a file each, and one line of a table here. A policy is named in a site
//! file by what its `name` says; the first of a table is what a site without a word gets.

use crate::policy::allocation::AllocationPolicy;
use crate::policy::allocation_policies;
use crate::policy::routing::RoutingPolicy;
use crate::policy::routing_policies;

/// Makes a policy.
pub type Make<P> = fn() -> Box<P>;

/// For `[policy] allocation`.
pub const ALLOCATION: &[Make<dyn AllocationPolicy>] = allocation_policies::ALL;

/// For `[policy] routing`.
pub const ROUTING: &[Make<dyn RoutingPolicy>] = routing_policies::ALL;

/// A policy that has a name.
pub trait Named {
    /// Its name in a site file.
    fn named(&self) -> &str;
}

impl Named for dyn AllocationPolicy {
    fn named(&self) -> &str {
        self.name()
    }
}

impl Named for dyn RoutingPolicy {
    fn named(&self) -> &str {
        self.name()
    }
}

/// The names of a table, for messages and for whoever reads site files.
pub fn names<P: Named + ?Sized>(table: &[Make<P>]) -> Vec<String> {
    table.iter().map(|make| make().named().to_owned()).collect()
}

/// The policy of that name; `None` where there is none of it.
pub fn find<P: Named + ?Sized>(table: &[Make<P>], name: &str) -> Option<Box<P>> {
    table.iter().map(|make| make()).find(|policy| policy.named() == name)
}
