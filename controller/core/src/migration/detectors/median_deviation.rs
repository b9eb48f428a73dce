//! A threshold that is lower for an uneven load.

use crate::migration::policies::{HotspotDetector, HotspotState, ResourceSeries, View};

/// The adaptive threshold of Beloglazov and Buyya (Concurrency and Computation 24(13), 2012,
/// section 4.1): the threshold of `[hotspot]` less 2.5 times the median absolute deviation
/// of the last `of` samples, and at least half of it. (The paper has 1 in place of the site's
/// threshold.) The more a load varies, the earlier its place is hot; the latest sample alone counts
/// against the threshold. It is cool again below the threshold times `cool`. It judges by a whole
/// window only, and expects nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct MedianDeviation;

/// How many deviations below the site's threshold: the paper's `s`, as in its experiments.
const SAFETY: f64 = 2.5;

/// The middle one of some values, the upper of two middle ones; 0 where there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl HotspotDetector for MedianDeviation {
    fn name(&self) -> &str {
        "median-deviation"
    }

    fn heat(&self, watched: &ResourceSeries<'_>, view: &View<'_>) -> HotspotState {
        let cfg = &view.site().migration.hotspot;
        let Some((_, latest)) = watched.samples.last().copied() else { return HotspotState::Cool };
        if watched.samples.len() < cfg.of as usize {
            return watched.so_far;
        }
        let ratios: Vec<f64> = watched.samples.iter().map(|(_, ratio)| *ratio).collect();
        let middle = median(ratios.clone());
        let deviation = median(ratios.iter().map(|ratio| (ratio - middle).abs()).collect());
        let threshold = (watched.threshold - SAFETY * deviation).max(watched.threshold / 2.0);
        let wanted = if watched.so_far == HotspotState::Hot { threshold * cfg.cool } else { threshold };
        if latest > wanted { HotspotState::Hot } else { HotspotState::Cool }
    }
}
