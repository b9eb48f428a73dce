//! The built-in policies: a file each, and one line of the table in the `mod.rs` beside it. A
//! policy is named in a site file by what its `name` says; the first of a table is what a site
//! without a word gets.

use crate::policy::allocation::AllocationPolicy;
use crate::policy::allocation_policies;
use crate::policy::routing::RoutingPolicy;
use crate::policy::routing_policies;
use tandem_model::site::PolicyName;

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

/// A site names a policy that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the site has `{key} = \"{name}\"`, but there is no such policy; \
     name one of {}, or hand your own to `Core::with_policy`",
    .known.join(", ")
)]
pub struct UnknownPolicy {
    /// The key of the site file, such as `policy.routing`.
    pub key: &'static str,
    /// What it says.
    pub name: String,
    /// The policies that there are.
    pub known: Vec<String>,
}

/// The names of a table, for messages and for whoever reads site files.
pub fn names<P: Named + ?Sized>(table: &[Make<P>]) -> Vec<String> {
    table.iter().map(|make| make().named().to_owned()).collect()
}

/// The policy of that name; `None` where there is none of it.
pub fn find<P: Named + ?Sized>(table: &[Make<P>], name: &str) -> Option<Box<P>> {
    table.iter().map(|make| make()).find(|policy| policy.named() == name)
}

/// The policy that a site names under `key`; the first of the table where it names none.
///
/// # Errors
/// Nobody knows the name.
pub fn named<P: Named + ?Sized>(
    table: &[Make<P>],
    key: &'static str,
    name: &PolicyName,
) -> Result<Box<P>, UnknownPolicy> {
    let first = || table.first().filter(|_| name.0.is_empty()).map(|make| make());
    let unknown = || UnknownPolicy { key, name: name.0.clone(), known: names(table) };
    first().or_else(|| find(table, &name.0)).ok_or_else(unknown)
}
