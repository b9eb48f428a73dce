//! Watches servers and links, and tells when one is hot.

use crate::context::Context;
use crate::migration::hotspots::{Key, Spot};
use crate::migration::policies::Place;
use crate::migration::policies::{Hot, HotspotState, ResourceSeries, View};
use crate::migration::trend::ahead;
use crate::migration::views::HotspotView;
use crate::migration::{MigrationMut, MigrationRef};
use crate::network::topology_state::is_openflow;
use tandem_model::{Level, NodeId, Resource, ServerId, SiteEvent, SwitchId};

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

    /// A switch has told its counters: are links of it hot? A link between two switches is looked
    /// at once, by the upper one's samples.
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

    pub(crate) fn watch(&mut self, key: Key, ratio: f64) {
        let cfg = &self.cx.site.migration.hotspot;
        let threshold = match key.0 {
            Place::Server(_) => cfg.server,
            Place::Link(_) => cfg.link,
        };
        let (of, horizon) = (cfg.of as usize, cfg.horizon);
        let so_far = match self.migration.hotspots.spots.get(&key) {
            None => HotspotState::Cool,
            Some(spot) if spot.hot.expected => HotspotState::Expected,
            Some(_) => HotspotState::Hot,
        };
        let window = self.migration.hotspots.windows.entry(key).or_default();
        if window.len() >= of {
            window.drain(..=window.len() - of);
        }
        window.push((self.cx.now, ratio));
        let samples = &self.migration.hotspots.windows[&key];
        let watched = ResourceSeries { place: key.0, resource: key.1, samples, threshold, so_far };
        let mut heat = self
            .migration
            .policies
            .when
            .heat(&watched, &View { compute: self.compute(), inventory: &self.compute.inventory });
        // A trend is believed again once smoothing has forgotten the step, and the whole window is
        // of later samples.
        let blind = self
            .migration
            .hotspots
            .steps
            .get(&key.0)
            .is_some_and(|at| self.cx.now.since(*at) < 2 * self.migration().settle());
        if blind && heat == HotspotState::Expected {
            heat = HotspotState::Cool;
        }
        let expected = heat == HotspotState::Expected;
        let ratio = if expected { ahead(samples, horizon).unwrap_or(ratio) } else { ratio };
        let hot = Hot { place: key.0, resource: key.1, ratio, expected };
        match (heat, self.migration.hotspots.spots.get_mut(&key)) {
            (HotspotState::Cool, None) => return,
            (HotspotState::Cool, Some(_)) => {
                self.migration.hotspots.spots.remove(&key);
                self.cx.tell(SiteEvent::HotspotCooled { place: key.0.into(), resource: key.1 });
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
        if heat != HotspotState::Cool {
            self.relieve(key);
        }
    }

    pub(crate) fn say_hot(&mut self, hot: &Hot) {
        let share = format!("{:.0}% of its {}", hot.ratio * 100.0, hot.resource);
        let name = self.cx.place_name(hot.place);
        let text = if hot.expected {
            format!("{name} is expected to use {share} within {:?}", self.cx.site.migration.hotspot.horizon)
        } else {
            format!("{name} is hot: it uses {share}")
        };
        self.cx.notice(Level::Warning, "hotspot", text);
        let Hot { place, resource, ratio, expected } = *hot;
        self.cx.tell(SiteEvent::HotspotFound { place: place.into(), resource, ratio, expected });
    }

    /// A server tells nothing any more: whatever was thought of its load is void.
    pub(crate) fn forget_heat(&mut self, server: ServerId) {
        let place = Place::Server(server);
        self.migration.hotspots.windows.retain(|(p, _), _| *p != place);
        self.migration.hotspots.spots.retain(|(p, resource), _| {
            if *p == place {
                self.cx.tell(SiteEvent::HotspotCooled { place: place.into(), resource: *resource });
            }
            *p != place
        });
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
