//! The path whose fullest link is the least full.

use crate::migration::policies::{TransferPathPolicy, View, Way};

/// Of the shortest paths the one whose fullest hop is the least full, as a share of what it may
/// carry.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastLoaded;

impl TransferPathPolicy for LeastLoaded {
    fn name(&self) -> &str {
        "least-loaded"
    }

    fn rank(&self, way: &Way<'_>, _view: &View<'_>) -> f64 {
        way.load
    }
}
