//! The routing policies that there are: a file and a line each.

use crate::policy::routing::RoutingPolicy;
use crate::policy::table::policies;

policies! { dyn RoutingPolicy:
    default_first::DefaultFirst,
    widest_shortest::WidestShortest,
    avoid_flapping::AvoidFlapping,
    quietest::Quietest,
    by_level::ByLevel,
}
