//! The path with the most bit/s free.

use crate::migration::policies::{TransferPathPolicy, View, Way};

/// Of the shortest paths the widest one, whose narrowest hop has the most bit/s left (widest
/// shortest path; Guerin, Orda and Williams, GLOBECOM 1997). The transfer is over the soonest.
/// It differs from `least-loaded` where links have different rates: a 10 Gbit/s link that is half
/// full is wider than an empty one of 1 Gbit/s.
#[derive(Debug, Clone, Copy, Default)]
pub struct Widest;

impl TransferPathPolicy for Widest {
    fn name(&self) -> &str {
        "widest"
    }

    fn rank(&self, way: &Way<'_>, _view: &View<'_>) -> f64 {
        -(way.free.0 as f64)
    }
}
