//! Hotspots: servers and links of which too much is in use, or soon will be.
//!
//! Every sample of a server or link goes into its window of the last `[hotspot] of` samples, and
//! the policy's [`HotspotDetector`] says what the place is taken for. What changes is told
//! (`hotspot`, `hotspot-cool`) and shown; what is done about it is `relief`'s business.
//!
//! [`HotspotDetector`]: crate::migration::policies::HotspotDetector

use crate::migration::policies::Hot;
use crate::migration::policies::Place;
use std::collections::BTreeMap;
use tandem_model::{PlanId, Resource, Time};

/// A place and which resource of it.
pub(crate) type Key = (Place, Resource);

/// A place that is hot or expected to be, and what is done about it.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    pub(crate) hot: Hot,
    pub(crate) since: Time,
    /// The plan that relieves it, while it is under way.
    pub(crate) plan: Option<PlanId>,
    /// Not before this is a plan made again.
    pub(crate) not_before: Time,
    /// It was said that nothing can be done.
    pub(crate) said: bool,
}

/// The state of each server and link that is watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hotspots {
    pub(crate) windows: BTreeMap<Key, Vec<(Time, f64)>>,
    pub(crate) spots: BTreeMap<Key, Spot>,
    /// When a VM that was moved last came to a place, or went.
    pub(crate) steps: BTreeMap<Place, Time>,
}

impl Hotspots {
    /// What is hot, in the order of places.
    pub(crate) fn hot(&self) -> impl Iterator<Item = Hot> + '_ {
        self.spots.values().map(|s| s.hot)
    }

    /// True for a place that is hot or expected to be, in whatever resource.
    pub(crate) fn is_hot(&self, place: Place) -> bool {
        self.spots.keys().any(|(p, _)| *p == place)
    }

    /// Forgets the samples of a place, so that it is judged by new ones only.
    pub(crate) fn look_anew(&mut self, key: Key) {
        self.windows.remove(&key);
    }

    /// A VM has come or gone: a step, which the trend would take for a slope and send the next VM
    /// on.
    pub(crate) fn stepped(&mut self, place: Place, now: Time) {
        self.steps.insert(place, now);
    }
}
