//! `[[server]]`, `[[link]]`, `[[legacy]]` and `[[switch]]`: what differs from the shape, node by
//! node and link by link.
//!
//! 1. `[[server]]` changes a server's resources.
//! 2. `[[link]]` between two nodes of the shape changes their link; a legacy switch put into it
//!    later inherits the change on both of its sides.
//! 3. `[[legacy]]` puts a switch that does not speak OpenFlow into the middle of a link. Two of
//!    them in the same link make a chain, the first one nearer to the gateways.
//! 4. `[[link]]` with a legacy switch at an end changes that side only.
//! 5. `[[switch]]` says what a switch is made of.
//! 6. A server whose `net` is written nowhere has its primary uplink's rate.
//!
//! A shape that is declared by hand (free-form) takes its own tables out of the lists first.

use super::faults::Collector;
use super::read::{check_delay, check_rate, loss, resources};
use super::section::Section;
use crate::topology::{Endpoint, Link, LinkConfig, NodeId, Resources, Role, Switch, Topology};
use crate::{DatapathKind, Dpid, GatewayId, LinkId, PortNo, ServerId, SwitchId};
use std::collections::{BTreeMap, BTreeSet};

/// The lists, as they stand in the file.
pub struct Lists<'a> {
    /// `[[switch]]`.
    pub(crate) switches: Vec<Section<'a>>,
    /// `[[server]]`.
    pub(crate) servers: Vec<Section<'a>>,
    /// `[[gateway]]`: only a shape that is declared by hand has them.
    pub(crate) gateways: Vec<Section<'a>>,
    /// `[[link]]`.
    pub(crate) links: Vec<Section<'a>>,
    legacy: Vec<Section<'a>>,
    /// Servers whose `net` is written in a table that a shape has taken.
    pub(crate) net_written: BTreeSet<String>,
}

type Names = BTreeMap<String, NodeId>;

impl<'a> Lists<'a> {
    pub(super) fn read(root: &mut Section<'a>, c: &mut Collector<'_>) -> Lists<'a> {
        Lists {
            switches: root.list(c, "switch"),
            servers: root.list(c, "server"),
            gateways: root.list(c, "gateway"),
            links: root.list(c, "link"),
            legacy: root.list(c, "legacy"),
            net_written: BTreeSet::new(),
        }
    }

    /// The names of `[[legacy]]` switches, as far as they can be read.
    pub(crate) fn legacy_names(&mut self, c: &mut Collector<'_>) -> BTreeSet<String> {
        self.legacy.iter_mut().filter_map(|s| s.text(c, "name")).collect()
    }

    /// Applies the lists. Without a topology (the shape or the addresses have faults) the keys are
    /// still checked, but not the names; the result is of no use then.
    pub(super) fn apply(
        self,
        topology: Option<Topology>,
        net_given: bool,
        c: &mut Collector<'_>,
    ) -> Topology {
        let resolve = topology.is_some();
        let mut t = topology.unwrap_or_default();
        let lists = [&self.servers, &self.gateways, &self.links, &self.legacy, &self.switches];
        if lists.iter().all(|l| l.is_empty()) {
            return t;
        }
        let mut names = names_of(&t);
        let mut described_switches = BTreeSet::new();
        for s in self.switches {
            switch(s, c, &mut t, &names, resolve, &mut described_switches);
        }
        for s in &self.gateways {
            let instead = "write gateways = 2 under [topology], or declare all of it (shape = \"free-form\")";
            s.fault(c, "name", "a shape that is built from counts has its gateways by their number", instead);
        }
        let any_link = !self.links.is_empty();

        let written = self.net_written.iter().filter_map(|name| match names.get(name) {
            Some(NodeId::Server(id)) => Some(*id),
            _ => None,
        });
        let mut has_net: BTreeSet<ServerId> = written.collect();
        let mut described = BTreeSet::new();
        for s in self.servers {
            server(s, c, &mut t, &names, resolve, (&mut described, &mut has_net));
        }

        let is_new = |n: &String| !names.contains_key(n);
        let mut seen = BTreeSet::new();
        let mut first = Vec::new();
        let mut after = Vec::new();
        let legacy: Vec<(String, Section<'a>)> =
            (self.legacy.into_iter()).map(|mut s| (s.text(c, "name").unwrap_or_default(), s)).collect();
        for mut s in self.links {
            let ends = pair(&mut s, c, &mut seen);
            let touches = |n: &String| is_new(n) && legacy.iter().any(|(name, _)| name == n);
            match &ends {
                Some((a, b)) if touches(a) || touches(b) => after.push((s, ends)),
                _ => first.push((s, ends)),
            }
        }
        for (s, ends) in first {
            link(s, c, &mut t, &names, ends, resolve);
        }

        let before = t.switches.len();
        if !legacy.is_empty() {
            let Topology { mut switches, servers, gateways, mut links, .. } = t.clone();
            for (name, mut s) in legacy {
                let ends = pair(&mut s, c, &mut BTreeSet::new());
                let ids = ends.map_or(Vec::new(), |ends| between(&s, c, &t, &names, &ends, resolve));
                let usable = !name.is_empty()
                    && name.len() <= 10
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                let taken = names.contains_key(&name) || switches[before..].iter().any(|s| s.name == name);
                if !usable || taken {
                    let problem = match (taken, s.has("name")) {
                        (true, _) => format!("{name:?} is taken"),
                        (false, true) => format!("{name:?} cannot be a name"),
                        (false, false) => "the switch has no name".to_owned(),
                    };
                    s.fault(c, "name", problem, "write up to 10 letters, digits or '-', used nowhere else");
                } else {
                    insert_legacy(&mut switches, &mut links, &name, &ids);
                }
                s.finish(c);
            }
            t = Topology::new(switches, servers, gateways, links);
        }
        for (n, switch) in (0u32..).zip(&t.switches).skip(before) {
            names.insert(switch.name.clone(), NodeId::Switch(SwitchId(n)));
        }
        for (s, ends) in after {
            link(s, c, &mut t, &names, ends, resolve);
        }

        if any_link && !net_given {
            for (n, server) in (0u32..).zip(&mut t.servers) {
                let uplink = server.uplinks.first().and_then(|id| t.links.get(id.0 as usize));
                if let Some(uplink) = uplink.filter(|_| !has_net.contains(&ServerId(n))) {
                    server.capacity.net = uplink.cfg.rate;
                }
            }
        }
        t
    }
}

fn names_of(t: &Topology) -> Names {
    let switches = (0u32..).zip(&t.switches).map(|(n, x)| (x.name.clone(), NodeId::Switch(SwitchId(n))));
    let servers = (0u32..).zip(&t.servers).map(|(n, x)| (x.name.clone(), NodeId::Server(ServerId(n))));
    let gateways = (0u32..).zip(&t.gateways).map(|(n, x)| (x.name.clone(), NodeId::Gateway(GatewayId(n))));
    switches.chain(servers).chain(gateways).collect()
}

fn switch(
    mut s: Section<'_>,
    c: &mut Collector<'_>,
    t: &mut Topology,
    names: &Names,
    resolve: bool,
    described: &mut BTreeSet<String>,
) {
    let kinds: Vec<(&str, DatapathKind)> = DatapathKind::ALL.iter().map(|k| (k.name(), *k)).collect();
    let name = s.text(c, "name").unwrap_or_default();
    let datapath = s.word(c, "datapath", &kinds);
    let id = match names.get(&name) {
        Some(NodeId::Switch(id)) => Some(*id),
        _ => None,
    };
    match id.and_then(|id| t.switches.get_mut(id.0 as usize)) {
        Some(switch) => switch.datapath = datapath,
        None => {
            let problem = match s.has("name") {
                true => format!("there is no switch {name:?}"),
                false => "it is not said which switch".to_owned(),
            };
            if resolve || !s.has("name") {
                s.fault(
                    c,
                    "name",
                    problem,
                    "write the name of a switch of the shape, such as name = \"core1\"",
                );
            }
        }
    }
    if !name.is_empty() && !described.insert(name.clone()) {
        s.fault(c, "name", format!("{name:?} is described twice"), "write all of it under one [[switch]]");
    }
    s.finish(c);
}

fn server(
    mut s: Section<'_>,
    c: &mut Collector<'_>,
    t: &mut Topology,
    names: &Names,
    resolve: bool,
    (described, has_net): (&mut BTreeSet<String>, &mut BTreeSet<ServerId>),
) {
    let name = s.text(c, "name").unwrap_or_default();
    let id = match names.get(&name) {
        Some(NodeId::Server(id)) => Some(*id),
        _ => None,
    };
    if let (Some(id), true) = (id, s.has("net")) {
        has_net.insert(id);
    }
    match id.and_then(|id| t.servers.get_mut(id.0 as usize)) {
        Some(server) => server.capacity = resources(&mut s, c, server.capacity),
        None => {
            resources(&mut s, c, Resources::default());
            let problem = match s.has("name") {
                true => format!("there is no server {name:?}"),
                false => "it is not said which server".to_owned(),
            };
            if resolve || !s.has("name") {
                s.fault(c, "name", problem, "write the name of a server, such as name = \"srv1\"");
            }
        }
    }
    if !name.is_empty() && !described.insert(name.clone()) {
        s.fault(c, "name", format!("{name:?} is described twice"), "write all of it under one [[server]]");
    }
    s.finish(c);
}

fn link(
    mut l: Section<'_>,
    c: &mut Collector<'_>,
    t: &mut Topology,
    names: &Names,
    ends: Option<(String, String)>,
    resolve: bool,
) {
    let ids = ends.map_or(Vec::new(), |ends| between(&l, c, t, names, &ends, resolve));
    let rate = l.rate(c, "rate");
    if let Some(rate) = rate {
        check_rate(&l, c, "rate", rate);
    }
    let delay = l.duration(c, "delay");
    let loss = loss(&mut l, c);
    let queue = l.count(c, "queue", 1..=100_000);
    check_delay(&l, c, delay.unwrap_or_default());
    for id in ids {
        let Some(link) = t.links.get_mut(id.0 as usize) else { continue };
        link.cfg = LinkConfig {
            rate: rate.unwrap_or(link.cfg.rate),
            delay: delay.unwrap_or(link.cfg.delay),
            loss_ppm: loss.unwrap_or(link.cfg.loss_ppm),
            queue: queue.unwrap_or(link.cfg.queue),
        };
    }
    l.finish(c);
}

/// The two names of `between = ["a", "b"]`; a pair that was `seen` before, either way round, is a
/// fault.
fn pair(
    s: &mut Section<'_>,
    c: &mut Collector<'_>,
    seen: &mut BTreeSet<(String, String)>,
) -> Option<(String, String)> {
    let given = s.has("between");
    let names = s.texts(c, "between");
    let Some([a, b]) = names.as_deref() else {
        if names.is_some() || !given {
            s.fault(c, "between", "two nodes are needed", "write between = [\"edge1\", \"srv1\"]");
        }
        return None;
    };
    if !seen.insert((a.min(b).clone(), a.max(b).clone())) {
        let problem = format!("the link between {a:?} and {b:?} is described twice");
        s.fault(c, "between", problem, "write all of it under one [[link]]");
    }
    Some((a.clone(), b.clone()))
}

/// The links between two nodes.
fn between(
    s: &Section<'_>,
    c: &mut Collector<'_>,
    t: &Topology,
    names: &Names,
    (a, b): &(String, String),
    resolve: bool,
) -> Vec<LinkId> {
    if !resolve {
        return Vec::new();
    }
    let found: Vec<LinkId> = match (names.get(a), names.get(b)) {
        (Some(x), Some(y)) => (t.ports(*x).iter())
            .filter(|(_, l)| t.link(*l).and_then(|l| l.other(*x)).is_some_and(|e| e.node == *y))
            .map(|(_, l)| *l)
            .collect(),
        _ => Vec::new(),
    };
    if found.is_empty() {
        let (problem, instead) =
            match names.get(a).map_or(Some(a), |_| names.get(b).map_or(Some(b), |_| None)) {
                Some(unknown) => (
                    format!("there is no node {unknown:?}"),
                    "write names such as \"gw1\", \"core1\", \"agg1\", \"edge1\" or \"srv1\"".to_owned(),
                ),
                None => (format!("there is no link between {a:?} and {b:?}"), neighbours(t, names, a)),
            };
        s.fault(c, "between", problem, instead);
    }
    found
}

/// Names whom a node is linked to, the first few of them.
fn neighbours(t: &Topology, names: &Names, name: &str) -> String {
    let Some(node) = names.get(name) else { return "write the names of two linked nodes".to_owned() };
    let ports = t.ports(*node);
    let ends = ports.iter().filter_map(|(_, l)| t.link(*l).and_then(|l| l.other(*node)));
    let some: Vec<&str> = ends.take(8).map(|e| t.name(e.node)).collect();
    let more = if ports.len() > some.len() { ", ..." } else { "" };
    format!("{name} is linked to {}{more}", some.join(", "))
}

/// Puts a legacy switch into the middle of links: the half at a server or gateway keeps the link's
/// number, because the server or gateway counts it as its uplink; the other half is a new link.
fn insert_legacy(switches: &mut Vec<Switch>, links: &mut Vec<Link>, name: &str, ends: &[LinkId]) {
    let id = SwitchId(switches.len() as u32);
    let dpid = Dpid(0x400_0001 + u64::from(id.0));
    switches.push(Switch {
        name: name.to_owned(),
        dpid,
        role: Role::Edge,
        legacy: true,
        prefix: None,
        datapath: None,
    });
    let mut port = 0;
    let mut end = || {
        port += 1;
        Endpoint { node: NodeId::Switch(id), port: PortNo(port) }
    };
    for link in ends {
        let Some(link) = links.get_mut(link.0 as usize) else { continue };
        let a = link.a;
        let b = link.b;
        let cfg = link.cfg;
        let upper = end();
        let lower = end();
        if matches!(a.node, NodeId::Gateway(_)) {
            *link = Link { a, b: upper, cfg };
            links.push(Link { a: lower, b, cfg });
        } else {
            *link = Link { a: lower, b, cfg };
            links.push(Link { a, b: upper, cfg });
        }
    }
}
