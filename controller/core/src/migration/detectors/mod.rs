//! When a server or link is hot: a file and a line each.

use crate::migration::policies::HotspotDetector;
use crate::policy::table::policies;

policies! { dyn HotspotDetector:
    over_threshold::OverThreshold,
    median_deviation::MedianDeviation,
}
