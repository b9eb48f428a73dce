//! Hotspots: servers and links of which too much is in use, or soon will be.
//!
//! Every sample of a server or link goes into its window of the last `[hotspot] of` samples, and the policy's [`When`] says what the place
//! is taken for. What changes is told (`hotspot`, `hotspot-cool`) and shown; what is done about it is `relief`'s business.
//!
//! [`When`]: super::When

use super::policies::{Heat, Hot, View, Watched};
use super::view::HotspotView;
use crate::context::Context;
use crate::live::is_openflow;
use crate::services::{MigrationMut, MigrationRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::{Level, LinkId, NodeId, PlanId, Resource, ServerId, SwitchId, Time};

/// What can be hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A server.
    Server(ServerId),
    /// A link.
    Link(LinkId),
}

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

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hotspots {
    windows: BTreeMap<Key, Vec<(Time, f64)>>,
    pub(crate) spots: BTreeMap<Key, Spot>,
    /// When a VM that was moved last came to a place, or went.
    steps: BTreeMap<Place, Time>,
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

    /// A VM has come or gone: a step, which the trend would take for a slope and send the next VM on.
    pub(crate) fn stepped(&mut self, place: Place, now: Time) {
        self.steps.insert(place, now);
    }
}

/// Where the least-squares line through the samples is `horizon` after the latest one; `None` where it does not rise, or for no horizon.
pub(crate) fn ahead(samples: &[(Time, f64)], horizon: Duration) -> Option<f64> {
    let (last, _) = samples.last()?;
    if samples.len() < 3 || horizon.is_zero() {
        return None;
    }
    let n = samples.len() as f64;
    let points = || samples.iter().map(|(at, y)| (-last.since(*at).as_secs_f64(), *y));
    let (sum_x, sum_y) = points().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (over, under) = points().fold((0.0, 0.0), |(o, u), (x, y)| {
        (o + (x - mean_x) * (y - mean_y), u + (x - mean_x) * (x - mean_x))
    });
    let slope = if under > 0.0 { over / under } else { 0.0 };
    (slope > 0.0).then_some(mean_y + slope * (horizon.as_secs_f64() - mean_x))
}

impl<'a> MigrationRef<'a> {
    /// What a server has of a resource, in the unit of its load: cores, bytes, bit/s.
    pub(crate) fn has(self, server: ServerId, resource: Resource) -> f64 {
        let capacity = self.cx.site.topology.server(server).map(|s| s.capacity).unwrap_or_default();
        match resource {
            Resource::Cpu => f64::from(capacity.cpu),
            Resource::Ram => capacity.ram.0 as f64,
            _ => capacity.net.0 as f64,
        }
    }

    pub(crate) fn hotspot_views(self) -> Vec<HotspotView> {
        let view = |s: &Spot| HotspotView {
            place: self.cx.place_name(s.hot.place),
            resource: s.hot.resource,
            ratio: s.hot.ratio,
            expected: s.hot.expected,
            since: self.cx.by_wall_clock(s.since),
        };
        self.migration.hotspots.spots.values().map(view).collect()
    }
}

impl MigrationMut<'_> {
    /// A server has told its load: are its CPU, memory or network hot?
    pub(crate) fn watch_server(&mut self, server: ServerId) {
        let Some(load) = self.compute().server_load(server) else { return };
        let used = [
            (Resource::Cpu, load.cpu),
            (Resource::Ram, load.ram.0 as f64),
            (Resource::Net, load.rx.0.max(load.tx.0) as f64),
        ];
        for (resource, used) in used {
            let has = self.migration().has(server, resource);
            if has > 0.0 {
                self.watch((Place::Server(server), resource), used / has);
            }
        }
    }

    /// A switch has told its counters: are links of it hot? A link between two switches is looked at once, by the upper one's samples.
    pub(crate) fn watch_links(&mut self, switch: SwitchId) {
        let node = NodeId::Switch(switch);
        let site = self.cx.site.clone();
        for (port, id) in site.topology.ports(node) {
            let Some(link) = site.topology.link(*id) else { continue };
            let upper = link.a.node == node || !is_openflow(&site.topology, link.a.node);
            if upper && self.net.statistics.of_port(switch, *port).is_some() {
                self.watch((Place::Link(*id), Resource::Link), self.net.links.ratio(*id));
            }
        }
    }

    fn watch(&mut self, key: Key, ratio: f64) {
        let cfg = &self.cx.site.migration.hotspot;
        let threshold = match key.0 {
            Place::Server(_) => cfg.server,
            Place::Link(_) => cfg.link,
        };
        let (of, horizon) = (cfg.of as usize, cfg.horizon);
        let so_far = match self.migration.hotspots.spots.get(&key) {
            None => Heat::Cool,
            Some(spot) if spot.hot.expected => Heat::Expected,
            Some(_) => Heat::Hot,
        };
        let window = self.migration.hotspots.windows.entry(key).or_default();
        if window.len() >= of {
            window.drain(..=window.len() - of);
        }
        window.push((self.cx.now, ratio));
        let samples = &self.migration.hotspots.windows[&key];
        let watched = Watched { place: key.0, resource: key.1, samples, threshold, so_far };
        let mut heat = self
            .migration
            .policies
            .when
            .heat(&watched, &View { core: self.migration(), inventory: &self.compute.inventory });
        // A trend is believed again once smoothing has forgotten the step, and the whole window is of later samples.
        let blind = self
            .migration
            .hotspots
            .steps
            .get(&key.0)
            .is_some_and(|at| self.cx.now.since(*at) < 2 * self.migration().settle());
        if blind && heat == Heat::Expected {
            heat = Heat::Cool;
        }
        let expected = heat == Heat::Expected;
        let ratio = if expected { ahead(samples, horizon).unwrap_or(ratio) } else { ratio };
        let hot = Hot { place: key.0, resource: key.1, ratio, expected };
        match (heat, self.migration.hotspots.spots.get_mut(&key)) {
            (Heat::Cool, None) => return,
            (Heat::Cool, Some(_)) => {
                self.migration.hotspots.spots.remove(&key);
                let text = format!(
                    "{} is cool again: {:.0}% of its {}",
                    self.cx.place_name(key.0),
                    ratio * 100.0,
                    key.1
                );
                self.cx.notice(Level::Info, "hotspot-cool", text);
            }
            (_, Some(spot)) => {
                let became_real = spot.hot.expected && !expected;
                spot.hot = hot;
                if became_real {
                    self.say_hot(&hot);
                }
            }
            (_, None) => {
                let spot = Spot { hot, since: self.cx.now, plan: None, not_before: self.cx.now, said: false };
                self.migration.hotspots.spots.insert(key, spot);
                self.say_hot(&hot);
            }
        }
        self.cx.dirty.hotspots = true;
        if heat != Heat::Cool {
            self.relieve(key);
        }
    }

    fn say_hot(&mut self, hot: &Hot) {
        let share = format!("{:.0}% of its {}", hot.ratio * 100.0, hot.resource);
        let name = self.cx.place_name(hot.place);
        let text = if hot.expected {
            format!("{name} is expected to use {share} within {:?}", self.cx.site.migration.hotspot.horizon)
        } else {
            format!("{name} is hot: it uses {share}")
        };
        self.cx.notice(Level::Warning, "hotspot", text);
    }

    /// A server tells nothing any more: whatever was thought of its load is void.
    pub(crate) fn forget_heat(&mut self, server: ServerId) {
        let place = Place::Server(server);
        self.migration.hotspots.windows.retain(|(p, _), _| *p != place);
        self.migration.hotspots.spots.retain(|(p, _), _| *p != place);
        self.cx.dirty.hotspots = true;
    }
}

impl Context {
    pub(crate) fn place_name(&self, place: Place) -> String {
        match place {
            Place::Server(id) => self.site.topology.name(NodeId::Server(id)).to_owned(),
            Place::Link(id) => self.link_name(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(ratios: &[f64]) -> Vec<(Time, f64)> {
        (0u64..).zip(ratios).map(|(n, r)| (Time::from_secs(n * 5), *r)).collect()
    }

    #[test]
    fn the_trend_goes_on_as_the_last_samples_did() {
        let rising = samples(&[0.1, 0.2, 0.3, 0.4]);
        let ahead_by = |s: &[(Time, f64)], secs| ahead(s, Duration::from_secs(secs));
        assert!(ahead_by(&rising, 10).is_some_and(|r| (r - 0.6).abs() < 1e-9), "0.02 a second from 0.4 on");
        assert_eq!(ahead_by(&rising, 0), None, "no horizon, no expectation");
        assert_eq!(ahead_by(&samples(&[0.4, 0.4, 0.4]), 60), None, "it does not rise");
        assert_eq!(ahead_by(&samples(&[0.9, 0.5, 0.1]), 60), None, "it falls");
        assert_eq!(ahead_by(&samples(&[0.1, 0.9]), 60), None, "two samples are no trend");
        let jagged = samples(&[0.0, 0.2, 0.1, 0.3]);
        assert!(
            ahead_by(&jagged, 5).is_some_and(|r| (r - 0.35).abs() < 1e-9),
            "0.08 a sample around 0.15: {jagged:?}"
        );
    }
}
