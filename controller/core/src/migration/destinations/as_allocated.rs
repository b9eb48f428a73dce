//! As new VMs are placed.

use crate::migration::policies::DestinationSelector;

/// As the allocation policy places new VMs.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsAllocated;

impl DestinationSelector for AsAllocated {
    fn name(&self) -> &str {
        "as-allocated"
    }
}
