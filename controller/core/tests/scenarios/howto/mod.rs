//! The policies of the how-tos: what the pages show is what is compiled here, and it works.

#![allow(unreachable_pub, reason = "inside the core these are public")]

mod big_memory_first;
mod fewest_links;

use crate::world::{SMALL, World, read};
use tandem_core::{Core, Policy};
use tandem_model::PersistedState;

/// A file of this folder as it would be inside the core.
fn inside(text: &str) -> String {
    text.replace("use tandem_core::", "use crate::")
}

#[test]
fn the_pages_show_what_is_compiled() {
    let routing = include_str!("../../../../../docs/howto/add-a-routing-policy.md");
    assert!(routing.contains(&inside(include_str!("fewest_links.rs"))));
    let allocation = include_str!("../../../../../docs/howto/add-an-allocation-policy.md");
    assert!(allocation.contains(&inside(include_str!("big_memory_first.rs"))));
}

#[test]
fn they_place_a_vm_that_is_reached() {
    let mut world = World::dark(read(SMALL), PersistedState::default());
    let policy = Policy {
        routing: Box::new(fewest_links::FewestLinks),
        ..Policy::new(Box::new(big_memory_first::BigMemoryFirst))
    };
    world.core = Core::with_policy(world.site.clone(), PersistedState::default(), world.now, policy);
    world.connect_all();
    world.attach(Vec::new());
    let vm = world.vm();
    world.assert_reachable(&vm);
}
