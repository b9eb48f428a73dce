//! Which VM leaves a hot place first: a file and a line each.

use crate::migration::policies::VmSelector;
use crate::policy::table::policies;

policies! { dyn VmSelector:
    least_volume::LeastVolume,
    least_memory::LeastMemory,
    fewest_moves::FewestMoves,
}
