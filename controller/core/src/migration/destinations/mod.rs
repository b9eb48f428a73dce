//! Where a VM that moves goes: a file and a line each.

use crate::migration::policies::DestinationSelector;
use crate::policy::table::policies;

policies! { dyn DestinationSelector:
    as_allocated::AsAllocated,
    lowest_volume::LowestVolume,
}
