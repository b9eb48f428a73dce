//! The Sandpiper rule: k of the last n samples over a threshold.

use crate::migration::policies::{HotspotDetector, HotspotState, ResourceSeries, View};
use crate::migration::trend::ahead;

/// The Sandpiper rule (Wood et al., NSDI 2007, section 4.1): `[hotspot] over` of the last `of`
/// samples above the threshold and the latest one too. It is cool again once the latest one is
/// below the threshold times `cool`. Expected is what the least-squares line through the last `of`
/// samples brings above the threshold within `horizon`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OverThreshold;

impl HotspotDetector for OverThreshold {
    fn name(&self) -> &str {
        "sandpiper"
    }

    fn heat(&self, watched: &ResourceSeries<'_>, view: &View<'_>) -> HotspotState {
        let cfg = &view.site().migration.hotspot;
        let Some((_, latest)) = watched.samples.last().copied() else { return HotspotState::Cool };
        let above = watched.samples.iter().filter(|(_, ratio)| *ratio > watched.threshold).count();
        let cool = watched.threshold * cfg.cool;
        if latest > watched.threshold && above >= cfg.over as usize {
            return HotspotState::Hot;
        }
        if watched.so_far == HotspotState::Hot && latest >= cool {
            return HotspotState::Hot;
        }
        let full = watched.samples.len() >= cfg.of as usize;
        let ahead = ahead(watched.samples, cfg.horizon).filter(|_| full);
        let wanted = if watched.so_far == HotspotState::Expected { cool } else { watched.threshold };
        if ahead.is_some_and(|ratio| ratio > wanted) { HotspotState::Expected } else { HotspotState::Cool }
    }
}
